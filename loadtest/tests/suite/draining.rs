//! Workers that drain while clients go on asking.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use common::kernel::uninterrupted::uninterrupted;
use nix::sys::signal::Signal;

use crate::load::request;
use crate::support::{PATIENCE, RawClient, SERVERS, Server, runs, send, stop, wait_for};

/// One request to a handler that blocks its worker, on a connection of its own.
fn ask_slowly(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /block/20000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Set when it goes, also when a test fails.
struct OnEnd<'a>(&'a AtomicBool);

impl Drop for OnEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// While so many clients do nothing but that.
fn while_clients_ask<T>(address: SocketAddr, clients: usize, what: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                while !is_over.load(Relaxed) {
                    if ask_slowly(address).is_err() {
                        sleep(Duration::from_millis(1)); // the server has ended
                    }
                }
            });
        }
        let _clients_end = OnEnd(&is_over);
        what()
    })
}

/// Each kind of socket, and each way to end the waiting for it.
const WAYS: [[&str; 3]; 4] = [
    ["reuseport-server", "--steer", "hash"],
    ["shared-fd-server", "--accept", "epoll"],
    ["shared-fd-server", "--accept", "blocking"],
    ["shared-fd-server", "--accept", "least-conn"],
];

fn start([name, option, policy]: [&str; 3]) -> Server {
    // A drain that does not end by itself lasts for longer than the test waits.
    let timeout = ["--drain-timeout", "1h"];
    Server::start(name, &[&[option, policy, "--workers", "2", "--lab"], &timeout[..]].concat())
}

#[test]
fn a_server_ends_although_clients_that_are_answered_connect_again_at_once() {
    for way in WAYS {
        let mut server = start(way);
        while_clients_ask(server.address(), 40, || {
            wait_for("some answers", || (server.scoreboard.total_requests() > 40).then_some(()));
            server.signal(Signal::SIGTERM);
            assert_eq!(server.ended().code(), Some(0), "{way:?}");
        });
    }
}

#[test]
fn workers_are_replaced_although_clients_that_are_answered_connect_again_at_once() {
    for way in WAYS {
        let server = start(way);
        while_clients_ask(server.address(), 40, || {
            wait_for("some answers", || (server.scoreboard.total_requests() > 40).then_some(()));
            let before = server.workers();
            server.signal(Signal::SIGHUP);
            wait_for("two new workers", || server.all_replaced(&before));
        });
    }
}

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// Longer than a drain leaves a connection idle, and than the age of a second is noticed.
const IDLE: Duration = Duration::from_secs(2);

/// Connections of clients that have all been answered, and then idle.
fn idle(server: &Server) -> Vec<RawClient> {
    let mut clients: Vec<_> = (0..8).map(|_| RawClient::connect(server.address())).collect();
    for client in &mut clients {
        client.send(REQUEST).unwrap();
        assert_eq!(client.answer().unwrap().unwrap().status, 200);
    }
    sleep(IDLE);
    clients
}

#[test]
fn requests_that_came_over_idle_connections_before_a_worker_drains_are_answered() {
    for name in SERVERS {
        let server = Server::start(name, &["--workers", "1"]);
        let mut clients = idle(&server);
        let worker = server.workers()[0];
        stop(worker);
        server.signal(Signal::SIGTERM);
        clients.iter().for_each(|client| client.send(REQUEST).unwrap());
        send(worker, Signal::SIGCONT);
        for client in &mut clients {
            assert_eq!(client.answer().unwrap().expect("an answer").status, 200, "{name}");
        }
    }
}

#[test]
fn a_drain_leaves_connections_open_for_a_while_however_long_they_have_been_idle() {
    const FOR: Duration = Duration::from_millis(350); // of 500
    for name in SERVERS {
        let server = Server::start(name, &["--workers", "1"]);
        let mut clients = idle(&server);
        server.signal(Signal::SIGTERM);
        let start = Instant::now();
        for client in &mut clients {
            sleep(Duration::from_millis(40));
            let sent = client.send(REQUEST);
            let is_in_time = start.elapsed() < FOR;
            let answer = sent.and_then(|()| client.answer());
            if is_in_time {
                assert_eq!(answer.unwrap().expect("an answer").status, 200, "{name}");
            }
        }
    }
}

#[test]
fn a_client_that_pipelines_gets_the_last_answer_of_its_connection_and_no_reset() {
    for name in SERVERS {
        let server =
            Server::start(name, &["--workers", "1", "--lab", "--max-connection-age", "1s"]);
        let mut client = RawClient::connect(server.address());
        client.send(REQUEST).unwrap();
        assert_eq!(client.answer().unwrap().unwrap().status, 200);
        sleep(IDLE);
        let slot = || server.scoreboard.workers().next().unwrap().1;
        client.send("GET /block/300000 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        wait_for("the worker to be blocked", || {
            (slot().silence()? > Duration::from_millis(280)).then_some(())
        });
        client.send(REQUEST).unwrap(); // nobody will read it
        assert_eq!(client.answer().unwrap().expect("the last answer").status, 200, "{name}");
        assert!(client.answer().unwrap().is_none(), "{name}: the end, and not a reset");
    }
}

#[test]
fn a_worker_that_waits_for_the_sockets_of_another_that_stands_still_ends_at_once_when_told() {
    let (mut server, log) = Server::start_with_log("reuseport-server", &["--workers", "3"]);
    let workers = server.workers();
    let (gives, others) = workers.split_last().unwrap(); // who came last is who leaves
    stop(*gives);
    server.signal(Signal::SIGTTOU);
    wait_for("the order", || log.text().contains("changes from 3 to 2").then_some(()));
    let start = Instant::now();
    server.signal(Signal::SIGTERM);
    wait_for("the others' end", || (!others.iter().any(|&it| runs(it))).then_some(()));
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    send(*gives, Signal::SIGCONT);
    assert_eq!(server.ended().code(), Some(0));
}

#[test]
fn sigterm_closes_a_hundred_idle_connections_without_waiting_for_the_drain_timeout() {
    for name in SERVERS {
        let mut server = Server::start(name, &[]);
        let mut kept: Vec<Option<TcpStream>> = (0..100).map(|_| None).collect();
        for connection in &mut kept {
            request(server.address(), connection, true).unwrap();
        }
        let start = Instant::now();
        server.signal(Signal::SIGTERM);
        for mut connection in kept.into_iter().flatten() {
            assert_eq!(
                uninterrupted(|| connection.read(&mut [0])).unwrap(),
                0,
                "closed, not reset"
            );
        }
        assert_eq!(server.ended().code(), Some(0));
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(500), "not at once: {took:?}");
        assert!(took < Duration::from_secs(8), "the drain's own limit is 10 s: {took:?}");
    }
}

#[test]
fn stuck_clients_hold_a_drain_until_its_deadline_and_no_longer() {
    for name in SERVERS {
        let mut server = Server::start(name, &["--drain-timeout", "1s"]);
        let _stuck: Vec<TcpStream> = (0..100)
            .map(|_| {
                let mut stream = TcpStream::connect(server.address()).unwrap();
                stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
                stream
            })
            .collect();
        wait_for("them to be accepted", || {
            (server.scoreboard.total_connections() == 100).then_some(())
        });
        let start = Instant::now();
        server.signal(Signal::SIGTERM);
        assert_eq!(server.ended().code(), Some(0));
        let took = start.elapsed();
        // If it were not heeded, the limit would be 10 s.
        assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(8), "{took:?}");
    }
}
