//! At `--max-connections`.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{GOOD, SECOND, assert_served, open_connections};
use crate::support::{RawClient, SERVERS, Server, send, stop};

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
        let apart = || std::thread::sleep(Duration::from_millis(700)); // more than a tick
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
        stop(worker);
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
        assert!(lost <= CLIENTS / 4, "{policy}: {lost} of {CLIENTS} requests were lost");
    };
    all_ways(check, "64");
}
