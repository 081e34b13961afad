//! Clients that stall or flood, and what a worker holds while they do.
//!
//! Times are the subject here. A limit is never cut short, which is asserted exactly; that it is
//! not overrun for long is asserted with much room for a busy machine.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use common::platform::limits::raise_open_files;
use nix::sys::signal::Signal;
use procfs::process::{FDTarget, Process};

use crate::support::{
    RawClient, SERVERS, Server, ask, listening_sockets, program, send, skip, soaking, wait_for,
};

const GOOD: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

const SECOND: Duration = Duration::from_secs(1);

/// How much later than its limit a stalled connection may end.
const GRACE: Duration = Duration::from_secs(5);

/// Waits until the server ends a connection, and asserts that this took `limit`.
fn assert_ended_after(limit: Duration, since: Instant, client: &RawClient, what: &str) {
    let ended = client.stream().read(&mut [0; 1024]);
    let took = since.elapsed();
    let reset = |error: &std::io::Error| error.kind() == ErrorKind::ConnectionReset;
    let ended = matches!(ended, Ok(0)) || ended.as_ref().is_err_and(reset);
    assert!(ended && took >= limit && took < limit + GRACE, "{what}: {ended}, after {took:?}");
}

/// Checks both servers at the same time: there is nothing to do but to wait.
fn both(check: impl Fn(&str) + Sync) {
    std::thread::scope(|scope| {
        for name in SERVERS {
            let check = &check;
            scope.spawn(move || check(name));
        }
    });
}

fn assert_served(client: &mut RawClient) {
    client.send(GOOD).unwrap();
    assert_eq!(client.answer().unwrap().unwrap().status, 200);
}

/// Open connections of all workers, as they count them.
fn open_connections(server: &Server) -> u64 {
    let workers = server.scoreboard.workers();
    workers.map(|(_, slot)| slot.connections_open.load(Relaxed)).sum()
}

#[test]
fn a_client_that_sends_nothing_has_the_header_timeout_from_its_connecting_on() {
    both(|name| {
        let server = Server::start(name, &["--header-timeout", "1s"]);
        let start = Instant::now();
        let client = RawClient::connect(server.address());
        assert_ended_after(SECOND, start, &client, name);
    });
}

#[test]
fn a_client_that_sends_a_head_byte_by_byte_has_no_more_than_the_header_timeout() {
    both(|name| {
        let server = Server::start(name, &["--header-timeout", "1s"]);
        let start = Instant::now();
        let client = RawClient::connect(server.address());
        let mut head = b"GET /".iter().chain(std::iter::repeat(&b'b'));
        client.stream().set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        while let Err(error) = client.stream().read(&mut [0]) {
            let waits = error.kind() == ErrorKind::WouldBlock;
            if !waits || client.send([*head.next().unwrap()]).is_err() {
                break;
            }
        }
        let took = start.elapsed();
        assert!(took >= SECOND && took < SECOND + GRACE, "{name}: {took:?}");
    });
}

#[test]
fn the_header_timeout_of_a_later_request_runs_from_its_first_byte_and_not_from_the_answer() {
    both(|name| {
        let server = Server::start(name, &["--header-timeout", "1s", "--idle-timeout", "9s"]);
        let mut client = RawClient::connect(server.address());
        for _ in 0..2 {
            assert_served(&mut client);
            std::thread::sleep(SECOND * 3 / 2); // idle, and not for too long
        }
        let start = Instant::now();
        client.send("G").unwrap();
        assert_ended_after(SECOND, start, &client, name);
    });
}

#[test]
fn the_beginning_of_a_request_that_comes_with_the_one_before_has_the_header_timeout() {
    both(|name| {
        let server = Server::start(name, &["--header-timeout", "1s", "--idle-timeout", "20s"]);
        let clients = ["G", "GET / HTTP/1.1\r\nHost: a\r\n"].map(|beginning| {
            let mut client = RawClient::connect(server.address());
            let start = Instant::now();
            client.send(format!("{GOOD}{beginning}")).unwrap();
            assert_eq!(client.answer().unwrap().unwrap().status, 200);
            (client, start)
        });
        for (client, start) in &clients {
            assert_ended_after(SECOND, *start, client, name);
        }
    });
}

#[test]
fn an_idle_connection_has_the_idle_timeout_from_its_last_answer_on() {
    both(|name| {
        let server = Server::start(name, &["--header-timeout", "200ms", "--idle-timeout", "1s"]);
        // However the request came: at once, in pieces, with a body, with another at its heels.
        let clients = [
            &[GOOD][..],
            &["GET / HTTP/1.1\r\nHost: a\r\n\r", "\n"],
            &["POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"],
            &["POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", "hello"],
            &["GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /", " HTTP/1.1\nHost: a\n\n"],
        ]
        .map(|pieces| {
            let mut client = RawClient::connect(server.address());
            let mut start = Instant::now();
            for piece in pieces {
                std::thread::sleep(Duration::from_millis(20)); // a packet of its own
                start = Instant::now();
                client.send(piece).unwrap();
            }
            for _ in pieces.concat().matches("Host") {
                assert!(client.answer().unwrap().is_some());
            }
            (client, start, pieces)
        });
        for (client, start, pieces) in &clients {
            assert_ended_after(SECOND, *start, client, &format!("{name}, {pieces:?}"));
        }
    });
}

#[test]
fn a_client_that_does_not_finish_its_body_has_the_body_timeout() {
    both(|name| {
        let server = Server::start(name, &["--body-timeout", "1s"]);
        let clients = ["Content-Length: 5", "Transfer-Encoding: chunked"].map(|field| {
            let start = Instant::now();
            let client = RawClient::connect(server.address());
            client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n1")).unwrap();
            (client, start)
        });
        for (client, start) in &clients {
            assert_ended_after(SECOND, *start, client, name);
        }
    });
}

/// Asks without reading, until nothing more can be sent.
fn ask_without_reading(server: &Server) -> RawClient {
    let client = RawClient::connect(server.address());
    let timeout = Duration::from_millis(200);
    client.stream().set_write_timeout(Some(timeout)).unwrap();
    let many = GOOD.repeat(1000);
    while client.send(&many).is_ok() {}
    client
}

#[test]
fn a_client_that_reads_no_answer_has_the_write_timeout() {
    both(|name| {
        let server = Server::start(name, &["--write-timeout", "1s", "--workers", "1"]);
        let start = Instant::now();
        let client = ask_without_reading(&server);
        // It is stuck when no more of its requests are answered: between two looks, that was.
        let (mut answered, mut look, mut before, mut after) = (0, start, start, start);
        wait_for("the server's end of it", || {
            let now = Instant::now();
            let total = server.scoreboard.total_requests();
            if total != answered {
                (answered, before, after) = (total, look, now);
            }
            look = now;
            (open_connections(&server) == 0).then_some(())
        });
        assert!(answered > 1000, "{name}: {answered}");
        assert!(before.elapsed() >= SECOND, "{name}: {:?}", before.elapsed());
        assert!(after.elapsed() < SECOND + GRACE, "{name}: {:?}", after.elapsed());
        drop(client);
    });
}

#[test]
fn a_thousand_stalled_clients_delay_no_honest_one() {
    raise_open_files();
    let limit = Process::myself().unwrap().limits().unwrap().max_open_files.soft_limit;
    if matches!(limit, procfs::process::LimitValue::Value(files) if files < 2000) {
        return skip("a thousand clients need more open files");
    }
    for name in SERVERS {
        let server = Server::start(name, &["--workers", "2"]);
        let connect = || RawClient::connect(server.address());
        let mut stalled = Vec::new();
        for i in 0..995 {
            let mut client = connect();
            match i % 5 {
                0 => {}
                1 => client.send("GET / HTTP/1.1\r\nHost: a\r\n").unwrap(),
                2 => {
                    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nh").unwrap()
                }
                3 => client
                    .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
                    .unwrap(),
                _ => assert_served(&mut client),
            }
            stalled.push(client);
        }
        stalled.extend((0..5).map(|_| ask_without_reading(&server)));
        wait_for("a thousand clients", || (open_connections(&server) == 1000).then_some(()));
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let slow = stalled.iter().skip(1).step_by(5);
            scope.spawn(|| {
                let slow: Vec<_> = slow.collect();
                while !done.load(Relaxed) {
                    for client in &slow {
                        let _ = client.send("b");
                    }
                    std::thread::sleep(Duration::from_millis(100));
                }
            });
            let mut slowest = Duration::ZERO;
            let mut answers = Vec::new();
            for _ in 0..200 {
                let start = Instant::now();
                answers.push(ask(server.address(), "GET /"));
                slowest = slowest.max(start.elapsed());
            }
            done.store(true, Relaxed); // before anything can fail, or the scope would never end
            assert!(answers.iter().all(|answer| answer.ends_with("hello")), "{name}");
            // Beside other tests on the same cores a bound on behaviour; alone, the promise itself.
            let promise = if soaking() { SECOND } else { 5 * SECOND };
            assert!(slowest < promise, "{name}: {slowest:?}");
        });
        assert_eq!(open_connections(&server), 1000, "all of them are still there");
    }
}

#[test]
fn beyond_max_connections_clients_wait_until_another_one_leaves() {
    for name in SERVERS {
        let server = Server::start(name, &["--workers", "1", "--max-connections", "4"]);
        let mut clients: Vec<_> = (0..4).map(|_| RawClient::connect(server.address())).collect();
        // In the middle of the next request, or they would be idle, and closed for others.
        let begin = |client: &RawClient| client.send("GET / HTTP/1.1\r\n").unwrap();
        clients.iter_mut().for_each(assert_served);
        clients.iter().for_each(begin);
        for _ in 0..3 {
            let mut next = RawClient::connect(server.address());
            next.send(GOOD).unwrap();
            let patience = next.stream().read_timeout().unwrap();
            next.stream().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            let early = next.answer();
            assert!(early.is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "{name}");
            assert_eq!(open_connections(&server), 4);
            next.stream().set_read_timeout(patience).unwrap();
            drop(clients.remove(0));
            assert_eq!(next.answer().unwrap().unwrap().status, 200, "{name}");
            begin(&next);
            clients.push(next);
        }
    }
}

/// Both servers, and the shared one with every way to wait.
const WAYS: [[&str; 3]; 5] = [
    ["reuseport-server", "--steer", "hash"],
    ["shared-fd-server", "--accept", "epoll"],
    ["shared-fd-server", "--accept", "blocking"],
    ["shared-fd-server", "--accept", "exclusive"],
    ["shared-fd-server", "--accept", "least-conn"],
];

/// Checks all of them at the same time.
fn all_ways(check: impl Fn(&Server, &str) + Sync, limit: &str) {
    std::thread::scope(|scope| {
        for [name, option, policy] in WAYS {
            let check = &check;
            let arguments = [option, policy, "--workers", "1", "--max-connections", limit];
            scope.spawn(move || check(&Server::start(name, &arguments), policy));
        }
    });
}

#[test]
fn at_the_limit_connections_that_were_idle_for_a_second_make_room_the_longest_idle_first() {
    let check = |server: &Server, policy: &str| {
        let apart = || std::thread::sleep(Duration::from_millis(300)); // more than a tick
        let mut clients: Vec<_> = (0..4).map(|_| RawClient::connect(server.address())).collect();
        clients.iter_mut().for_each(assert_served);
        clients[3].send("GET / HTTP/1.1\r\n").unwrap(); // never idle
        let mut idle_since = Vec::new();
        for client in [1, 2, 0] {
            apart();
            idle_since.push(Instant::now());
            assert_served(&mut clients[client]);
        }
        for (client, since) in [1, 2, 0].into_iter().zip(idle_since) {
            let mut next = RawClient::connect(server.address());
            assert_served(&mut next);
            assert!(since.elapsed() >= SECOND, "{policy}: {:?}", since.elapsed());
            next.send("GET / HTTP/1.1\r\n").unwrap();
            assert!(clients[client].answer().unwrap().is_none(), "{policy}: closed, not reset");
            clients.push(next);
        }
        assert_eq!(open_connections(server), 4, "{policy}");
        clients[3].send("Host: a\r\n\r\n").unwrap();
        assert_eq!(clients[3].answer().unwrap().unwrap().status, 200, "{policy}");
    };
    all_ways(check, "4");
}

#[test]
fn a_request_that_has_come_when_its_idle_connection_is_to_make_room_is_answered() {
    let check = |server: &Server, policy: &str| {
        let mut clients: Vec<_> = (0..8).map(|_| RawClient::connect(server.address())).collect();
        clients.iter_mut().for_each(assert_served);
        std::thread::sleep(2 * SECOND);
        let [worker] = server.workers()[..] else { panic!("one worker") };
        send(worker, Signal::SIGSTOP);
        let mut next: Vec<_> = (0..8).map(|_| RawClient::connect(server.address())).collect();
        next.iter().for_each(|client| client.send(GOOD).unwrap());
        clients.iter().for_each(|client| client.send(GOOD).unwrap());
        send(worker, Signal::SIGCONT);
        for client in &mut clients {
            let answer = client.answer().unwrap();
            assert_eq!(answer.expect("it was there first").status, 200, "{policy}");
        }
        for client in &mut next {
            assert_eq!(client.answer().unwrap().unwrap().status, 200, "{policy}");
        }
    };
    all_ways(check, "8");
}

/// The race that is left: the request is sent when the connection is being closed. A client that looks
/// whether its connection has ended before it sends, as they do, loses next to nothing.
#[test]
fn few_requests_race_with_the_end_of_their_idle_connection() {
    const CLIENTS: usize = 64;
    let check = |server: &Server, policy: &str| {
        let mut clients: Vec<_> =
            (0..CLIENTS).map(|_| RawClient::connect(server.address())).collect();
        clients.iter_mut().for_each(assert_served);
        std::thread::sleep(Duration::from_millis(1600));
        let mut rng = fastrand::Rng::with_seed(1);
        let (mut answered, mut closed, mut lost) = (0, 0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut next = Vec::new();
                for _ in 0..CLIENTS / 2 {
                    next.push(RawClient::connect(server.address()));
                    next.last_mut().map(assert_served).unwrap();
                }
            });
            for client in &mut clients {
                std::thread::sleep(Duration::from_micros(rng.u64(0..4000)));
                client.stream().set_nonblocking(true).unwrap();
                let has_ended = client.stream().peek(&mut [0]).is_ok();
                client.stream().set_nonblocking(false).unwrap();
                match (has_ended, client.send(GOOD).and_then(|()| client.answer())) {
                    (true, _) => closed += 1,
                    (false, Ok(Some(answer))) if answer.status == 200 => answered += 1,
                    (false, _) => lost += 1,
                }
            }
        });
        println!("{policy}: {answered} answered, {closed} seen to be closed, {lost} lost");
        assert!(lost <= CLIENTS / 8, "{policy}: {lost} of {CLIENTS} requests were lost");
    };
    all_ways(check, "64");
}

/// CPU time that a process has used, in clock ticks.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = Process::new(pid as i32).unwrap().stat().unwrap();
    stat.utime + stat.stime
}

#[test]
fn out_of_descriptors_workers_neither_die_nor_spin_and_serve_again_afterwards() {
    both(|name| {
        let mut command = Command::new("sh");
        // Soft and hard, or the server would raise the one to the other.
        let script = "ulimit -n 64; exec \"$0\" --port 0 --workers 2 2>/dev/null";
        command.args(["-c", script, program(name).to_str().unwrap()]);
        let server = Server::from(command);
        let workers = server.workers();
        let clients: Vec<_> = (0..200).map(|_| RawClient::connect(server.address())).collect();
        // An inherited descriptor may have a number beyond the limit.
        let files = |pid: u32| Process::new(pid as i32).unwrap().fd().unwrap().flatten();
        let is_full = |pid: &u32| files(*pid).filter(|file| file.fd < 64).count() == 64;
        wait_for("full workers", || workers.iter().all(is_full).then_some(()));

        let everybody =
            || workers.iter().chain([&server.child.id()]).map(|&pid| cpu_ticks(pid)).sum();
        let before: u64 = everybody();
        let start = Instant::now();
        std::thread::sleep(SECOND * 3 / 2);
        let used = (everybody() - before) as f64 / procfs::ticks_per_second() as f64;
        let share = used / start.elapsed().as_secs_f64();
        assert!(share < 0.05, "{name}: {:.0} % of a core", share * 100.0);

        drop(clients);
        let start = Instant::now();
        for _ in 0..10 {
            assert!(ask(server.address(), "GET /").ends_with("hello"));
        }
        assert!(start.elapsed() < 3 * SECOND, "{name}: {:?}", start.elapsed());
        assert_eq!(server.workers(), workers, "{name}: a worker died");
    });
}

/// A process's descriptors beyond its standard streams: what they are, as /proc names it.
fn descriptors(pid: u32) -> Vec<(i32, FDTarget)> {
    let all = Process::new(pid as i32).unwrap().fd().unwrap().map(Result::unwrap);
    all.filter(|fd| fd.fd > 2).map(|fd| (fd.fd, fd.target)).collect()
}

#[test]
fn a_worker_holds_its_socket_its_line_to_the_parent_and_what_its_event_loop_needs() {
    // What this test's own environment gives to every child is none of the server's doing.
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let inherited: BTreeSet<String> = wait_for("the child's own program", || {
        let name = std::fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap();
        (name.trim() == "sleep").then(|| {
            let all = descriptors(child.id()).into_iter();
            all.map(|descriptor| format!("{descriptor:?}")).collect()
        })
    });
    child.kill().unwrap();
    child.wait().unwrap();

    for (name, arguments) in [(SERVERS[0], &[][..]), (SERVERS[0], &["--exec"]), (SERVERS[1], &[])] {
        let server = Server::start(name, arguments);
        for worker in server.workers() {
            let listening = listening_sockets(worker);
            let (mut listeners, mut lines, mut other) = (0, 0, Vec::new());
            for descriptor in descriptors(worker) {
                match &descriptor.1 {
                    FDTarget::Socket(inode) if listening.contains(inode) => listeners += 1,
                    FDTarget::Socket(_) => lines += 1,
                    FDTarget::AnonInode(kind)
                        if ["eventpoll", "eventfd", "signalfd"]
                            .iter()
                            .any(|it| kind.contains(it)) => {}
                    _ if inherited.contains(&format!("{descriptor:?}")) => {}
                    _ => other.push(descriptor),
                }
            }
            // The line twice: the second descriptor keeps room for one that an order may bring.
            assert_eq!((listeners, lines, other), (1, 2, vec![]), "{name} {arguments:?}");
        }
    }
}
