//! The ways of shared-fd-server to wait for connections: `--accept`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use common::scoreboard::{Slot, State};
use nix::libc::{SYS_accept4, SYS_epoll_wait, c_long};
use nix::sys::signal::Signal;
use procfs::process::Process;

use crate::load::{Load, request};
use crate::support::{
    RawClient, Server, ask, assert_refused, listening_sockets, program, run, runs, send, skip,
    wait_for,
};

const NAME: &str = "shared-fd-server";
const POLICIES: [&str; 4] = ["epoll", "blocking", "exclusive", "least-conn"];

/// Those in which one worker at a time is woken for a connection.
const ONE_WOKEN: [&str; 3] = ["blocking", "exclusive", "least-conn"];

/// Longer than a connection ever waits that somebody was woken for, shorter than it takes until
/// somebody looks at the queue who was not.
const PROMPT: Duration = Duration::from_millis(500);

fn start(policy: &str, arguments: &[&str]) -> Server {
    Server::start(NAME, &[&["--accept", policy], arguments].concat())
}

fn accepted(slot: &Slot) -> u64 {
    slot.connections_accepted.load(Relaxed)
}

fn open(slot: &Slot) -> u64 {
    slot.connections_open.load(Relaxed)
}

/// What the workers' slots say, in their order.
fn per_worker(server: &Server, what: impl Fn(&Slot) -> u64) -> Vec<u64> {
    server.scoreboard.workers().map(|(_, slot)| what(slot)).collect()
}

fn wait_until_idle(server: &Server) {
    wait_for("all connections to end", || {
        (per_worker(server, open).iter().sum::<u64>() == 0).then_some(())
    });
}

/// A connection that is kept, after one request on it.
fn kept(address: SocketAddr) -> TcpStream {
    let mut connection = None;
    request(address, &mut connection, true).unwrap();
    connection.unwrap()
}

/// Stops a worker, and waits until each of its threads has stopped: one goes on for a moment.
fn stop(worker: u32) {
    send(worker, Signal::SIGSTOP);
    wait_for("its threads to stop", || {
        let tasks = Process::new(worker as i32).unwrap().tasks().unwrap().flatten();
        let states: Vec<char> = tasks.map(|task| task.stat().unwrap().state).collect();
        states.iter().all(|&state| state == 'T').then_some(())
    });
}

/// Asks so many times, on a connection of its own each, one after the other; counts the answers
/// that were not prompt. Not none but few: the machine may be busy with other things.
fn slow_answers(address: SocketAddr, times: usize) -> usize {
    let is_slow = |_: &usize| {
        let start = Instant::now();
        assert!(ask(address, "GET /").ends_with("hello"));
        start.elapsed() > PROMPT
    };
    (0..times).filter(is_slow).count()
}

/// Waits until the waiting threads of these workers all sleep in this system call. False if that
/// cannot be seen here.
fn all_wait_in(workers: &[u32], call: c_long) -> bool {
    let current = |pid: &u32| -> Option<String> {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
        // The thread that waits, where there is one; it was started last.
        let waiter = tasks.map(|task| task.path()).max()?;
        std::fs::read_to_string(waiter.join("syscall")).ok()
    };
    if std::fs::read_to_string("/proc/self/syscall").is_err() {
        return false;
    }
    wait_for("the threads to wait", || {
        let waits = |pid| current(pid).is_some_and(|now| now.starts_with(&format!("{call} ")));
        workers.iter().all(waits).then_some(())
    });
    true
}

#[test]
fn with_every_policy_requests_are_answered_and_counted() {
    for policy in POLICIES {
        for arguments in [&[][..], &["--exec"]] {
            let server = start(policy, arguments);
            let address = server.address();
            let kept: Vec<TcpStream> = (0..8).map(|_| kept(address)).collect();
            for _ in 0..25 {
                assert!(ask(address, "GET /").ends_with("hello"), "{policy}");
            }
            assert_eq!(server.scoreboard.total_requests(), 33, "{policy}");
            assert_eq!(server.scoreboard.total_connections(), 33, "{policy}");
            drop(kept);
            wait_until_idle(&server);
            for worker in server.workers() {
                assert_eq!(listening_sockets(worker), listening_sockets(server.pid()));
            }
            server.stop();
        }
    }
}

#[test]
fn an_unknown_policy_is_refused_and_the_line_names_those_there_are() {
    let output = run(NAME, &["--accept", "fifo"]);
    assert_refused(&output, &[&["'fifo'", "--accept"], &POLICIES[..]].concat(), "fifo");
    let output = run("reuseport-server", &["--accept", "epoll"]);
    assert_refused(&output, &["'--accept'"], "the other server");
}

#[test]
fn a_reload_loses_nothing_with_any_policy() {
    for policy in POLICIES {
        for keep_alive in [false, true] {
            let server = start(policy, &[]);
            let load = Load::on(server.address(), keep_alive);
            for _ in 0..3 {
                load.wait_for_more(50);
                let before = server.workers();
                server.signal(Signal::SIGHUP);
                wait_for("four new workers", || {
                    let now = server.workers();
                    let new = now.len() == 4 && now.iter().all(|pid| !before.contains(pid));
                    (new && server.scoreboard.is_serving()).then_some(())
                });
            }
            load.wait_for_more(50);
            let lost = load.end();
            assert!(lost.is_empty(), "{policy}, keep-alive {keep_alive}: {lost:?}");
        }
    }
}

#[test]
fn workers_come_and_go_and_lose_nothing_with_any_policy() {
    for policy in POLICIES {
        let server = start(policy, &["--workers", "2"]);
        let load = Load::on(server.address(), false);
        for (signal, wanted) in [
            (Signal::SIGTTIN, 3),
            (Signal::SIGTTOU, 2),
            (Signal::SIGTTOU, 1),
            (Signal::SIGTTIN, 2),
            (Signal::SIGTTOU, 1),
        ] {
            load.wait_for_more(50);
            server.signal(signal);
            wait_for("that many workers", || {
                (server.workers().len() == wanted && server.scoreboard.is_serving()).then_some(())
            });
        }
        load.wait_for_more(50);
        let lost = load.end();
        assert!(lost.is_empty(), "{policy}: {lost:?}");
    }
}

#[test]
fn the_last_worker_that_is_not_stopped_serves_everybody() {
    for policy in POLICIES {
        let server = start(policy, &["--hang-timeout", "0s"]);
        let workers = server.workers();
        for alive in 0..workers.len() {
            wait_until_idle(&server); // or a stopped worker may have somebody's connection
            for (_, &worker) in workers.iter().enumerate().filter(|&(place, _)| place != alive) {
                stop(worker);
            }
            let slow = slow_answers(server.address(), 20);
            assert!(slow <= 2, "{policy}: {slow} of 20 answers came late");
            workers.iter().for_each(|&worker| send(worker, Signal::SIGCONT));
        }
        assert_eq!(server.scoreboard.total_requests(), 80, "{policy}");
        server.stop();
    }
}

#[test]
fn with_least_conn_a_stopped_worker_that_has_the_fewest_holds_nobody_up() {
    let server = start("least-conn", &["--hang-timeout", "0s"]);
    let idle = server.workers()[0];
    stop(idle);
    let slow = slow_answers(server.address(), 50);
    assert!(slow <= 2, "{slow} of 50 answers came late");
    wait_for("its heart to be missed", || {
        let silence = server.scoreboard.slot(0).silence().unwrap();
        (silence > Duration::from_secs(1)).then_some(())
    });
    let all: Vec<TcpStream> = (0..30).map(|_| kept(server.address())).collect();
    assert_eq!(per_worker(&server, open)[0], 0);
    // The other three are even all the same.
    for open in &per_worker(&server, open)[1..] {
        assert!((7..=13).contains(open), "{:?}", per_worker(&server, self::open));
    }
    let slow = slow_answers(server.address(), 50);
    assert!(slow <= 2, "{slow} of 50 answers came late");
    send(idle, Signal::SIGCONT);
    // Back again, it is waited for again after a second at the latest, or when it gets a connection.
    let mut meanwhile = Vec::new();
    wait_for("it to get a connection", || {
        meanwhile.push(kept(server.address()));
        (per_worker(&server, open)[0] > 0).then_some(())
    });
    // From then on it gets the next ones, or most of them.
    let mut more = Vec::new();
    while per_worker(&server, open)[0] < 6 {
        more.push(kept(server.address()));
        assert!(more.len() < 20, "{:?}", per_worker(&server, open));
    }
    drop((all, meanwhile, more));
    server.stop();
}

#[test]
fn killed_workers_leave_nobody_waiting() {
    for policy in POLICIES {
        let server = start(policy, &[]);
        let load = Load::on(server.address(), false);
        for round in 0..8 {
            load.wait_for_more(20);
            let worker = wait_for("four workers", || {
                let workers = server.workers();
                (workers.len() == 4 && server.scoreboard.is_serving()).then(|| workers[round % 4])
            });
            send(worker, Signal::SIGKILL);
            wait_for("its end", || (!runs(worker)).then_some(()));
        }
        load.wait_for_more(50);
        let lost = load.end();
        // Only what the dead had accepted; and nobody has waited in vain, which would be an error.
        assert!(lost.len() <= 8 * Load::CLIENTS, "{policy}: {lost:?}");
        let slow = slow_answers(server.address(), 20);
        assert!(slow <= 2, "{policy}: {slow} of 20 answers came late");
    }
}

#[test]
fn what_waits_in_the_accept_queue_when_the_server_ends_is_answered_with_any_policy() {
    for policy in POLICIES {
        for workers in ["1", "3"] {
            let mut server = start(policy, &["--workers", workers, "--max-connections", "1"]);
            let address = server.address();
            let many = workers.parse().unwrap();
            let first: Vec<TcpStream> = (0..many).map(|_| kept(address)).collect();
            let mut queued: Vec<RawClient> = (0..50).map(|_| RawClient::connect(address)).collect();
            for client in &mut queued {
                client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            }
            assert_eq!(server.scoreboard.total_connections(), many as u64, "{policy}");
            server.signal(Signal::SIGTERM);
            for client in &mut queued {
                let answer = client.answer().unwrap().expect("an answer");
                assert_eq!(answer.status, 200, "{policy}");
            }
            drop(first);
            assert_eq!(server.ended().code(), Some(0), "{policy}");
        }
    }
}

#[test]
fn beyond_their_limit_connections_wait_in_the_accept_queue_with_any_policy() {
    for policy in POLICIES {
        let server = start(policy, &["--workers", "2", "--max-connections", "3"]);
        let address = server.address();
        let mut clients: Vec<RawClient> = (0..10).map(|_| RawClient::connect(address)).collect();
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        }
        // In the order of the queue: the next one is answered once another has gone.
        for answered in 0..10 {
            assert_eq!(clients[answered].answer().unwrap().expect("an answer").status, 200);
            clients[answered].send("GET / HTTP/1.1\r\n").unwrap(); // an idle one would be closed
            if answered >= 5 {
                wait_for("both to be full", || {
                    let now = per_worker(&server, open);
                    assert!(now.iter().all(|&open| open <= 3), "{policy}: {now:?}");
                    (now == [3, 3]).then_some(())
                });
                assert_eq!(server.scoreboard.total_connections(), answered as u64 + 1, "{policy}");
                clients[answered - 5].stream().shutdown(std::net::Shutdown::Both).unwrap();
            }
        }
        drop(clients);
        server.stop();
    }
}

#[test]
fn a_worker_that_may_not_accept_leaves_nobody_waiting() {
    for policy in POLICIES {
        // One of two is at its limit.
        let server = start(policy, &["--workers", "2", "--max-connections", "1"]);
        let _held = kept(server.address());
        let slow = slow_answers(server.address(), 30);
        assert!(slow <= 2, "{policy}, at its limit: {slow} of 30 answers came late");

        // One of two drains, and may do so for long.
        let server = start(policy, &["--workers", "2", "--drain-timeout", "60s"]);
        let mut stuck: Vec<TcpStream> = Vec::new();
        wait_for("a connection at each worker", || {
            // Together, or an idle worker in front of the others gets all of them.
            let mut burst: Vec<TcpStream> =
                (0..8).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
            for stream in &mut burst {
                stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
            }
            stuck.extend(burst);
            wait_for("them to be accepted", || {
                let total = per_worker(&server, accepted).iter().sum::<u64>();
                (total == stuck.len() as u64).then_some(())
            });
            per_worker(&server, open).iter().all(|&open| open > 0).then_some(())
        });
        server.signal(Signal::SIGTTOU);
        wait_for("one of them to drain", || {
            let mut workers = server.scoreboard.workers();
            workers.any(|(_, slot)| slot.state() == State::Draining).then_some(())
        });
        let slow = slow_answers(server.address(), 30);
        assert!(slow <= 2, "{policy}, draining: {slow} of 30 answers came late");
    }
}

#[test]
fn idle_workers_that_sit_in_accept_take_turns() {
    let server = start("blocking", &[]);
    let workers = server.workers();
    let mut turns = Vec::new();
    for _ in 0..12 {
        if !all_wait_in(&workers, SYS_accept4) {
            return skip("/proc does not say what a thread waits for");
        }
        let before = per_worker(&server, accepted);
        ask(server.address(), "GET /");
        let after = per_worker(&server, accepted);
        turns.push((0..4).find(|&place| after[place] > before[place]).unwrap());
    }
    let mut all = turns[..4].to_vec();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3], "{turns:?}");
    assert!(turns.chunks(4).all(|round| *round == turns[..4]), "{turns:?}");
    let woken_in_vain = |slot: &Slot| slot.wakeups_without_connection.load(Relaxed);
    assert_eq!(per_worker(&server, woken_in_vain), [0; 4]);
}

#[test]
fn an_idle_worker_that_waits_exclusively_in_front_of_the_others_gets_everything() {
    let server = start("exclusive", &[]);
    let workers = server.workers();
    for _ in 0..20 {
        if !all_wait_in(&workers, SYS_epoll_wait) {
            return skip("/proc does not say what a thread waits for");
        }
        ask(server.address(), "GET /");
    }
    let shares = per_worker(&server, accepted);
    // But for a connection that came in the moment in which it looked at the queue by itself.
    assert!(shares.iter().any(|&share| share >= 18), "{shares:?}");
    let woken_in_vain = |slot: &Slot| slot.wakeups_without_connection.load(Relaxed);
    assert!(per_worker(&server, woken_in_vain).iter().sum::<u64>() <= 2);
}

#[test]
fn least_conn_spreads_a_burst_of_kept_connections_evenly() {
    // Five bursts: a worker that gets no core for long enough is rightly not waited for.
    let bursts: Vec<Vec<u64>> = (0..5)
        .map(|_| {
            let server = start("least-conn", &[]);
            let mut clients: Vec<RawClient> =
                (0..96).map(|_| RawClient::connect(server.address())).collect();
            for client in &mut clients {
                client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            }
            for client in &mut clients {
                assert_eq!(client.answer().unwrap().expect("an answer").status, 200);
            }
            let shares = per_worker(&server, open);
            assert_eq!(shares.iter().sum::<u64>(), 96, "{shares:?}");
            shares
        })
        .collect();
    let even = bursts.iter().filter(|shares| shares.iter().all(|n| (20..=29).contains(n)));
    assert!(even.count() >= 3, "{bursts:?}");
}

#[test]
fn least_conn_spreads_connections_that_come_one_by_one_evenly_and_fills_gaps() {
    let server = start("least-conn", &[]);
    let mut clients = Vec::new();
    let mut shares = vec![0; 4];
    // Which worker has which of them: the one whose share has grown.
    for _ in 0..40 {
        let client = kept(server.address());
        let now = per_worker(&server, open);
        let place = (0..4).find(|&place| now[place] > shares[place]).unwrap();
        shares = now;
        clients.push((place, client));
    }
    assert!(shares.iter().all(|n| (7..=13).contains(n)), "{shares:?}");
    assert!(per_worker(&server, |slot| slot.gated.load(Relaxed)).iter().sum::<u64>() > 0);

    // One worker loses all of its own; the next ones are for it.
    clients.retain(|&(place, _)| place != 2);
    wait_for("its connections to end", || (per_worker(&server, open)[2] == 0).then_some(()));
    let _more: Vec<TcpStream> = (0..8).map(|_| kept(server.address())).collect();
    let shares = per_worker(&server, open);
    // The others may each have been waiting already, and then take one.
    assert!(shares[2] >= 4, "{shares:?}");
}

#[test]
fn with_any_policy_a_server_without_work_uses_next_to_no_cpu_time() {
    for policy in POLICIES {
        let server = start(policy, &[]);
        // Uneven, so that with least-conn somebody stands back.
        let all: Vec<TcpStream> = (0..13).map(|_| kept(server.address())).collect();
        let _some: Vec<TcpStream> = all.into_iter().step_by(2).collect();
        let ticks = || -> u64 {
            let stats = server.workers().into_iter().map(|pid| Process::new(pid as i32)?.stat());
            stats.flatten().map(|stat| stat.utime + stat.stime).sum()
        };
        let (before, start) = (ticks(), Instant::now());
        std::thread::sleep(Duration::from_secs(1));
        let used = Duration::from_millis(10) * (ticks() - before) as u32; // USER_HZ is 100
        assert!(used <= start.elapsed() / 20, "{policy}: {used:?} in {:?}", start.elapsed());
    }
}

#[test]
fn a_socket_that_systemd_passes_is_served_with_any_policy() {
    for policy in POLICIES {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let script =
            "exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" --accept \"$1\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, program(NAME).to_str().unwrap(), policy]);
        command.stdin(Stdio::from(OwnedFd::from(listener)));
        let server = Server::from(command);
        for _ in 0..10 {
            assert!(ask(address, "GET /").ends_with("hello"), "{policy}");
        }
        server.stop();
    }
}

#[test]
fn one_busy_event_loop_takes_no_more_than_the_connection_it_has_not_fetched_yet() {
    for policy in ONE_WOKEN {
        let server = start(policy, &["--workers", "2", "--lab"]);
        let mut blocker = TcpStream::connect(server.address()).unwrap();
        blocker.write_all(b"GET /block/1000000 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        wait_for("it to be accepted", || {
            (server.scoreboard.total_connections() == 1).then_some(())
        });
        std::thread::sleep(Duration::from_millis(20)); // it blocks by now, or does so later
        let blocked = per_worker(&server, accepted).iter().position(|&n| n == 1).unwrap();
        let clients: Vec<_> = (0..30)
            .map(|_| {
                let mut client = TcpStream::connect(server.address()).unwrap();
                client
                    .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    .unwrap();
                client
            })
            .collect();
        wait_for("the others' answers", || {
            (server.scoreboard.total_connections() == 31).then_some(())
        });
        let taken = per_worker(&server, accepted)[blocked];
        assert!(taken <= 4, "{policy}: {taken}");
        for mut client in clients {
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert!(answer.ends_with("hello"), "{policy}: {answer}");
        }
    }
}

#[test]
fn the_event_loop_waits_itself_and_a_thread_does_with_blocking_alone() {
    for (policy, threads) in [("epoll", 1), ("blocking", 2), ("exclusive", 1), ("least-conn", 1)] {
        let server = start(policy, &[]);
        assert!(ask(server.address(), "GET /").ends_with("hello"));
        for worker in server.workers() {
            let tasks = Process::new(worker as i32).unwrap().tasks().unwrap().count();
            assert_eq!(tasks, threads, "{policy}");
        }
        server.stop();
    }
}

#[test]
fn with_least_conn_an_event_loop_that_never_rests_accepts_all_the_same() {
    let server = start("least-conn", &["--workers", "1", "--lab"]);
    // Ten requests of half a millisecond on each of so many connections, sent without waiting for an
    // answer: there is always one more to serve, for two seconds.
    const CLIENTS: usize = 400;
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| kept(server.address())).collect();
    for client in &mut clients {
        client.write_all(&b"GET /spin/500 HTTP/1.1\r\nHost: x\r\n\r\n".repeat(10)).unwrap();
    }
    let before = server.scoreboard.total_connections();
    let _late: Vec<TcpStream> =
        (0..20).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    wait_for("the late ones to be accepted", || {
        (server.scoreboard.total_connections() == before + 20).then_some(())
    });
    let answered = server.scoreboard.total_requests();
    assert!(answered < 11 * CLIENTS as u64, "it was not busy any more: {answered}");
}

#[test]
fn with_least_conn_and_many_workers_few_accept_short_connections_until_these_cannot() {
    let cpus = std::thread::available_parallelism().unwrap().get();
    let server = start("least-conn", &["--workers", &(8 * cpus).to_string()]);
    let load = Load::on(server.address(), false);
    let few = cpus + 1;
    let mut busiest = Vec::new();
    wait_for("a few workers to get four fifths of 400 connections", || {
        let before = per_worker(&server, accepted);
        load.wait_for_more(400);
        let after = per_worker(&server, accepted);
        let mut got: Vec<(u64, usize)> = after
            .iter()
            .zip(before)
            .zip(0..)
            .map(|((after, before), i)| (after - before, i))
            .collect();
        got.sort_unstable_by(|a, b| b.cmp(a));
        let sum = |got: &[(u64, usize)]| got.iter().map(|&(got, _)| got).sum::<u64>();
        busiest = got[..few].iter().map(|&(_, place)| place).collect();
        (sum(&got[..few]) * 5 >= sum(&got) * 4).then_some(())
    });
    let workers = server.workers();
    let stopped: Vec<u32> = busiest.iter().map(|&place| workers[place]).collect();
    stopped.iter().for_each(|&worker| stop(worker));
    // The clients whose connections these have wait; anybody else is served at once.
    let slow = slow_answers(server.address(), 50);
    assert!(slow <= 2, "{slow} of 50 answers came late");
    stopped.iter().for_each(|&worker| send(worker, Signal::SIGCONT));
    assert_eq!(load.end(), [""; 0]);
    server.stop();
}

#[test]
fn workers_are_scheduled_as_the_policy_or_the_option_says() {
    const NORMAL: u32 = 0;
    const BATCH: u32 = 3;
    let least_conn = ["--accept", "least-conn"];
    let normal = ["--accept", "least-conn", "--schedule", "normal"];
    for (program, arguments, wanted) in [
        (NAME, &[][..], NORMAL),
        (NAME, &least_conn, BATCH),
        (NAME, &["--accept", "least-conn", "--exec"], BATCH),
        (NAME, &normal, NORMAL),
        (NAME, &["--schedule", "batch"], BATCH),
        ("reuseport-server", &[], NORMAL),
        ("reuseport-server", &["--schedule", "batch"], BATCH),
    ] {
        let server = Server::start(program, arguments);
        for worker in server.workers() {
            let found = Process::new(worker as i32).unwrap().stat().unwrap().policy;
            assert_eq!(found, Some(wanted), "{program} {arguments:?}");
        }
        let parent = Process::new(server.pid() as i32).unwrap().stat().unwrap().policy;
        assert_eq!(parent, Some(NORMAL), "the parent is to act at once");
        server.stop();
    }
    let output = run(NAME, &["--schedule", "fifo"]);
    assert_refused(&output, &["'fifo'", "--schedule", "normal", "batch"], "fifo");
}
