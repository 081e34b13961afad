//! Kept connections find new workers: at a reload, and by `--max-connection-age` and `--rebalance`.

use std::sync::atomic::Ordering::Relaxed;
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::scoreboard::{Slot, State};
use nix::sys::signal::Signal;

use crate::load::Load;
use crate::steer::{quiet, wait_for_workers};
use crate::support::{PATIENCE, RawClient, SERVERS, Server, may_load, wait_up_to};

const CONNECTIONS: usize = 64;

/// The busiest worker, in averages.
const SPREAD: f64 = 1.2;

/// Each server with the policy that looks at load, and these options; as far as they can run here.
fn servers<'a>(options: &'a [&str]) -> impl Iterator<Item = Server> + 'a {
    [["--accept", "least-conn"], ["--steer", "least-conn"]]
        .into_iter()
        .zip(SERVERS)
        .filter(|([option, _], _)| *option != "--steer" || may_load())
        .map(move |(policy, name)| Server::start(name, &[&policy, options].concat()))
}

fn each(server: &Server, number: impl Fn(&Slot) -> u64) -> Vec<u64> {
    let serving = server.scoreboard.workers().filter(|(_, slot)| slot.state() == State::Serving);
    serving.map(|(_, slot)| number(slot)).collect()
}

fn open(server: &Server) -> Vec<u64> {
    each(server, |slot| slot.connections_open.load(Relaxed))
}

/// Waits until so many workers hold all connections, nearly equally many each; but for those whose clients
/// are about to connect anew.
fn wait_for_even(server: &Server, workers: usize, what: &str) {
    let start = Instant::now();
    let mut last = Vec::new();
    let is_even = |open: &[u64]| {
        let all: u64 = open.iter().sum();
        let average = all as f64 / workers as f64;
        let (Some(&least), Some(&most)) = (open.iter().min(), open.iter().max()) else {
            return false;
        };
        open.len() == workers
            && all as usize >= CONNECTIONS - Load::CLIENTS
            && most as f64 <= SPREAD * average
            && least as f64 >= average / SPREAD - 1.0
    };
    while !is_even(&last) {
        assert!(start.elapsed() < PATIENCE, "{what}: {last:?} after {PATIENCE:?}");
        sleep(Duration::from_millis(10));
        last = open(server);
    }
    println!("{what}: {last:?} after {:?}", start.elapsed());
}

/// 100 000 requests while a worker is added and all are replaced.
fn nothing_is_lost_and_all_come_to_the_average(options: &[&str]) {
    let _quiet = quiet();
    for server in servers(options) {
        let what = format!("{} {options:?}", server.lines[0]);
        let load = Load::over(server.address(), CONNECTIONS, true);
        load.wait_for_more(40_000);

        load.slow_down_to(1_000);
        server.signal(Signal::SIGTTIN);
        wait_for_workers(&server, 5, &[]);
        wait_for_even(&server, 5, &format!("{what}, a worker more"));
        load.speed_up();
        load.wait_for_more(30_000);

        load.slow_down_to(1_000);
        let before = server.workers();
        server.signal(Signal::SIGHUP);
        wait_for_workers(&server, 5, &before);
        println!("{what}: {:?} after the reload", open(&server));
        wait_for_even(&server, 5, &format!("{what}, all replaced"));
        load.speed_up();
        load.wait_for_more(30_000);

        let lost = load.end();
        assert!(lost.is_empty(), "{what}: {} lost, {:?}", lost.len(), lost.first());
        assert!(server.scoreboard.total_requests() >= 100_000);
        server.stop();
    }
}

#[test]
fn connections_that_become_too_old_lose_nothing_and_come_to_the_average() {
    nothing_is_lost_and_all_come_to_the_average(&["--max-connection-age", "2s"]);
}

#[test]
fn connections_of_workers_that_have_too_many_lose_nothing_and_come_to_the_average() {
    nothing_is_lost_and_all_come_to_the_average(&["--rebalance"]);
}

#[test]
fn a_reload_spreads_kept_connections_evenly_without_these_options() {
    // Workers that start one after the other must know each other at once.
    let _quiet = quiet();
    for server in servers(&["--workers", "6"]) {
        let load = Load::over(server.address(), CONNECTIONS, true);
        load.slow_down_to(1_000);
        load.wait_for_more(CONNECTIONS as u64);
        let before = server.workers();
        server.signal(Signal::SIGHUP);
        wait_for_workers(&server, 6, &before);
        wait_for_even(&server, 6, &format!("{}, all replaced", server.lines[0]));
        assert_eq!(load.end(), Vec::<String>::new());
        server.stop();
    }
}

#[test]
fn nobody_is_asked_to_leave_who_has_no_more_than_the_average() {
    let _quiet = quiet();
    for server in servers(&["--rebalance"]) {
        let load = Load::over(server.address(), CONNECTIONS, true);
        load.slow_down_to(1_000);
        // Those that were asked before have then gone, or are asked no longer.
        wait_up_to(2 * PATIENCE, "two seconds with nobody above the average", || {
            let (open, before) = (open(&server), server.scoreboard.total_connections());
            // One more than the average is not above it: 17, 17, 17 and 13 is for good.
            let nobody_is_above = open.iter().all(|&it| it <= CONNECTIONS as u64 / 4 + 1);
            if !nobody_is_above || open.iter().sum::<u64>() != CONNECTIONS as u64 {
                return None;
            }
            sleep(Duration::from_secs(2));
            (server.scoreboard.total_connections() == before).then_some(())
        });
        let before = server.scoreboard.total_connections();
        sleep(Duration::from_secs(3));
        assert_eq!(server.scoreboard.total_connections(), before, "{:?}", open(&server));
        assert_eq!(load.end(), Vec::<String>::new());
    }
}

#[test]
fn clients_that_seldom_ask_come_to_a_new_worker_too() {
    let _quiet = quiet();
    for server in servers(&["--rebalance"]).take(1) {
        let load = Load::over(server.address(), CONNECTIONS, true);
        load.slow_down_to(CONNECTIONS as u64 / 2); // each every two seconds
        server.signal(Signal::SIGTTIN);
        wait_for_workers(&server, 5, &[]);
        wait_for_even(&server, 5, "a request every two seconds");
        assert_eq!(load.end(), Vec::<String>::new());
    }
}

#[test]
fn a_connection_ends_with_an_answer_once_it_is_as_old_as_it_may_be() {
    for name in SERVERS {
        let server = Server::start(name, &["--max-connection-age", "1s"]);
        let start = Instant::now();
        let mut client = RawClient::connect(server.address());
        let mut old_client = RawClient::connect(server.address());
        let mut answers = 0;
        let last = wait_up_to(PATIENCE, "an answer that says so", || {
            client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let answer = client.answer().unwrap().expect("each request has its answer");
            assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..]));
            answers += 1;
            answer.head.contains("connection: close").then_some(answers)
        });
        let age = start.elapsed();
        assert!(last > 10 && age >= Duration::from_millis(900), "{name}: {last} in {age:?}");
        assert!(
            age < Duration::from_secs(10),
            "{name}: within two ticks, on a busy machine: {age:?}"
        );
        assert!(client.answer().unwrap().is_none(), "the end, in good order");

        let head = wait_up_to(PATIENCE, "the same for HTTP/1.0", || {
            old_client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").unwrap();
            let head = old_client.answer().unwrap().unwrap().head.to_ascii_lowercase();
            head.contains("close").then_some(head)
        });
        assert!(!head.contains("keep-alive"), "{head}");

        // Who is asked for nothing has nothing to say it with, and is left alone.
        let mut silent = RawClient::connect(server.address());
        sleep(Duration::from_millis(1_800));
        silent.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let answer = silent.answer().unwrap().unwrap();
        assert!(answer.head.contains("connection: close"), "{}", answer.head);
    }
}
