//! A worker that blocks holds nobody up while another is free.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::alone;
use crate::example::Example;
use crate::support::{Server, ask, may_load, run, wait_for};

/// Longer than anybody waits who is not held up.
const PROMPT: Duration = Duration::from_millis(500);

/// How long each request blocks its worker.
const BLOCK: Duration = Duration::from_millis(200);

/// How long the last answer takes when four clients ask so long after each other.
fn last_of_four(address: SocketAddr, apart: Duration) -> Duration {
    let start = Instant::now();
    let clients = (0..4).map(|number| {
        thread::spawn(move || {
            thread::sleep(apart * number); // the schedule itself
            ask(address, &format!("GET /block/{}", BLOCK.as_micros()))
        })
    });
    let clients: Vec<_> = clients.collect();
    assert!(clients.into_iter().all(|client| client.join().unwrap().ends_with("blocked")));
    start.elapsed()
}

/// Two workers, four requests: at best two of them one after the other, and at worst three. In three tries of
/// five, since a worker that gets no core for some milliseconds is rightly taken for a busy one.
#[track_caller]
fn two_serve_two_each(address: SocketAddr) {
    for apart in [Duration::ZERO, Duration::from_micros(1_500)] {
        let took = [(); 5].map(|()| last_of_four(address, apart));
        let in_time = took.iter().filter(|took| **took < BLOCK * 5 / 2);
        assert!(in_time.count() >= 3, "{apart:?} apart: {took:?}");
    }
}

#[test]
fn four_requests_that_block_are_two_for_each_of_two_workers_that_share_a_socket() {
    let _alone = alone();
    let options = ["--workers", "2", "--lab", "--accept", "least-conn"];
    let server = Server::start("shared-fd-server", &options);
    two_serve_two_each(server.address());
}

#[test]
fn four_requests_that_block_are_two_for_each_of_two_workers_that_are_steered_to() {
    let _alone = alone();
    if !may_load() {
        return;
    }
    let options = ["--workers", "2", "--lab", "--steer", "least-conn"];
    let server = Server::start("reuseport-server", &options);
    two_serve_two_each(server.address());
}

/// What became of requests that block for 10 ms, at three quarters of what 32 workers can serve, each on a
/// connection of its own.
fn at_three_quarters(server: &str) -> Value {
    let json = tempfile::NamedTempFile::new().unwrap();
    let server = format!("{server} --workers 32 --lab");
    let load = ["--url-path", "/block/10000", "--rate", "2400", "--duration", "500ms"];
    let rest = ["--connections", "2000", "--json", json.path().to_str().unwrap()];
    let output = run("loadtest", &[&["probe", &server][..], &load, &rest].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&std::fs::read(json.path()).unwrap()).unwrap()
}

#[test]
fn where_all_requests_block_nothing_is_lost_and_with_least_conn_they_hardly_wait() {
    let _alone = alone();
    // `first` and `cpu` leave workers idle, by intention, and cannot serve as much.
    let mut policies: Vec<String> = ["epoll", "blocking", "exclusive", "least-conn"]
        .map(|accept| format!("shared --accept {accept}"))
        .into();
    policies.push("reuseport".into());
    if may_load() {
        policies.extend(["random", "least-conn"].map(|steer| format!("reuseport --steer {steer}")));
    }
    for policy in policies {
        // In one try of three: a worker that gets no core for some milliseconds is a server less.
        let tries = if policy.contains("least-conn") { 3 } else { 1 };
        let of_ideal = |_| {
            let record = at_three_quarters(&policy);
            let due = record["attempted"].as_u64().unwrap() + record["not_sent"].as_u64().unwrap();
            assert_eq!(record["outcomes"]["ok"].as_u64(), Some(due), "{policy}: {record:#}");
            record["of_ideal"]["p50"].as_f64().unwrap()
        };
        let is_prompt = (0..tries).map(of_ideal).any(|times| times <= 2.0);
        assert!(is_prompt || !policy.contains("least-conn"), "{policy}: over twice the ideal");
    }
}

#[test]
fn with_the_listener_to_take_along_a_worker_that_blocks_holds_nobody_up() {
    let _alone = alone();
    let example = Example::start("least_conn", 2);
    let address = example.address;
    let blocked = thread::spawn(move || ask(address, "GET /block/900000"));
    wait_for("it to be accepted", || {
        (example.connections().iter().sum::<usize>() == 1).then_some(())
    });
    let mut slow = 0;
    let mut asked = 0;
    while !blocked.is_finished() {
        let start = Instant::now();
        assert!(ask(address, "GET /").ends_with("hello"));
        slow += usize::from(start.elapsed() > PROMPT);
        asked += 1;
    }
    assert!(blocked.join().unwrap().ends_with("blocked"));
    // If they waited for the one that blocks, there would be one or two.
    assert!(slow <= 1 && asked > 3, "{slow} of {asked} answers came late");
    two_serve_two_each(address);
}
