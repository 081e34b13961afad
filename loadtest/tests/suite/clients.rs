//! Clients that stall or flood, and what a worker holds while they do.
//!
//! Times are the subject here. A limit is never cut short, which is asserted exactly; that it is
//! not overrun for long is asserted with much room for a busy machine.

mod at_limit;
mod descriptors;

use std::io::{ErrorKind, Read};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use common::kernel::uninterrupted::uninterrupted;
use common::platform::limits::raise_open_files;
use procfs::process::Process;

use crate::support::{RawClient, SERVERS, Server, ask, skip, soaking, wait_for};

const GOOD: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

const SECOND: Duration = Duration::from_secs(1);

/// How much later than its limit a stalled connection may end.
const GRACE: Duration = Duration::from_secs(5);

/// Waits until the server ends a connection, and asserts that this took `limit`.
fn assert_ended_after(limit: Duration, since: Instant, client: &RawClient, what: &str) {
    let ended = uninterrupted(|| client.stream().read(&mut [0; 1024]));
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
fn a_client_that_is_silent_from_the_start_counts_as_kept_after_half_a_second_and_only_once() {
    both(|name| {
        let server = Server::start(name, &["--workers", "1"]);
        let kept = || {
            let workers = server.scoreboard.workers();
            workers.map(|(_, slot)| slot.connections_kept.load(Relaxed)).sum::<u64>()
        };
        let start = Instant::now();
        let mut client = RawClient::connect(server.address());
        wait_for("it to count", || (kept() == 1).then_some(()));
        assert!(start.elapsed() >= Duration::from_millis(500), "{name}: {:?}", start.elapsed());
        assert_served(&mut client);
        assert_eq!(kept(), 1, "{name}");
        drop(client);
        wait_for("its end", || (kept() == 0).then_some(()));
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
        while let Err(error) = uninterrupted(|| client.stream().read(&mut [0])) {
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
        // The first is long enough for the pieces on a busy machine, and shorter than the second.
        let server = Server::start(name, &["--header-timeout", "2s", "--idle-timeout", "4s"]);
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
            assert_ended_after(4 * SECOND, *start, client, &format!("{name}, {pieces:?}"));
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
        // Nobody is to be ended for being slow: on a busy machine the test itself takes long.
        let limits = ["--header-timeout", "--body-timeout", "--write-timeout", "--idle-timeout"];
        let limits = limits.map(|limit| [limit, "120s"]).concat();
        let server = Server::start(name, &[&["--workers", "2"], &limits[..]].concat());
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
        // The last of those that were answered may be about to end.
        wait_for("all of them, and no other", || (open_connections(&server) == 1000).then_some(()));
    }
}
