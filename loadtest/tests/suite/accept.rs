//! The ways of shared-fd-server to wait for connections: `--accept`. Here is what holds for all of them.

mod event_loop;
mod missing;
mod shares;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use common::platform::affinity;
use common::scoreboard::Slot;
use nix::sys::signal::Signal;
use procfs::process::Process;

use crate::load::{Load, request};
use crate::steer::quiet;
use crate::support::{
    RawClient, Server, ask, assert_refused, listening_sockets, program, run, wait_for,
};

const NAME: &str = "shared-fd-server";
const POLICIES: [&str; 4] = ["epoll", "blocking", "exclusive", "least-conn"];

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
                wait_for("four new workers", || server.all_replaced(&before));
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
fn with_any_policy_a_server_without_work_uses_next_to_no_cpu_time() {
    let _quiet = quiet();
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

/// Scheduling policies, as /proc shows them.
const NORMAL: u32 = 0;
const BATCH: u32 = 3;

fn scheduled(process: u32) -> u32 {
    Process::new(process as i32).unwrap().stat().unwrap().policy.unwrap()
}

#[test]
fn workers_are_scheduled_as_the_option_says() {
    let normal = ["--accept", "least-conn", "--schedule", "normal"];
    for (program, arguments, wanted) in [
        (NAME, &[][..], NORMAL),
        (NAME, &normal, NORMAL),
        (NAME, &["--schedule", "batch"], BATCH),
        (NAME, &["--schedule", "batch", "--exec"], BATCH),
        ("reuseport-server", &[], NORMAL),
        ("reuseport-server", &["--schedule", "batch"], BATCH),
    ] {
        let server = Server::start(program, arguments);
        for worker in server.workers() {
            assert_eq!(scheduled(worker), wanted, "{program} {arguments:?}");
        }
        assert_eq!(scheduled(server.pid()), NORMAL, "the parent is to act at once");
        server.stop();
    }
    let output = run(NAME, &["--schedule", "fifo"]);
    assert_refused(&output, &["'fifo'", "--schedule", "normal", "batch"], "fifo");
}

#[test]
fn workers_under_least_conn_do_not_preempt_while_their_core_is_busy() {
    // Four workers on one core, which eight clients keep busy.
    affinity::pin_to(affinity::cpus().unwrap()[0]).unwrap();
    for more in [&[][..], &["--exec"]] {
        let server = start("least-conn", &[&["--handler-cost", "2ms"], more].concat());
        let all_are = |wanted| {
            server.workers().iter().all(|&worker| scheduled(worker) == wanted).then_some(())
        };
        let load = Load::on(server.address(), true);
        wait_for("workers that wait for their turn", || all_are(BATCH));
        assert_eq!(load.end(), [""; 0]);
        wait_for("workers that preempt again", || all_are(NORMAL));
        server.stop();
    }
}
