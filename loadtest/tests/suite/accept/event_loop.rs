//! Who waits, a thread or the event loop itself, and what a busy event loop takes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use procfs::process::Process;

use super::{accepted, kept, per_worker, start};
use crate::steer::quiet;
use crate::support::{ask, wait_for};

/// Those in which one worker at a time is woken for a connection.
const ONE_WOKEN: [&str; 3] = ["blocking", "exclusive", "least-conn"];

#[test]
fn one_busy_event_loop_takes_no_more_than_the_connection_it_has_not_fetched_yet() {
    let _quiet = quiet();
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
    let _quiet = quiet();
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
