//! Workers that are stopped, killed, full or draining leave nobody waiting.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use common::scoreboard::State;
use nix::sys::signal::Signal;

use super::{POLICIES, accepted, kept, open, per_worker, slow_answers, start, wait_until_idle};
use crate::load::Load;
use crate::steer::quiet;
use crate::support::{runs, send, stop, wait_for};

#[test]
fn the_last_worker_that_is_not_stopped_serves_everybody() {
    let _quiet = quiet();
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
    let _quiet = quiet();
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
    // Each of the other three has some all the same, however busy their cores are; without the policy one
    // would have all.
    for open in &per_worker(&server, open)[1..] {
        assert!((3..=20).contains(open), "{:?}", per_worker(&server, super::open));
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
        assert!(more.len() < 60, "{:?}", per_worker(&server, open));
    }
    drop((all, meanwhile, more));
    server.stop();
}

#[test]
fn killed_workers_leave_nobody_waiting() {
    let _quiet = quiet();
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
fn a_worker_that_may_not_accept_leaves_nobody_waiting() {
    let _quiet = quiet();
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
