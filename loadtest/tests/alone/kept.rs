//! Where connections are kept, who has fewer gets the next.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering::Relaxed;

use common::scoreboard::Slot;

use crate::alone;
use crate::example::Example;
use crate::load::{Load, request};
use crate::support::{RawClient, Server, may_load, wait_for};

/// Rounds of connections that come and go.
const ROUNDS: usize = 24;

/// A connection that is kept: many requests go over it, and so nobody takes it for a short one.
fn kept(address: SocketAddr) -> TcpStream {
    let mut connection = None;
    (0..30).for_each(|_| request(address, &mut connection, true).unwrap());
    connection.unwrap()
}

fn start() -> Server {
    Server::start("shared-fd-server", &["--accept", "least-conn"])
}

/// What the workers' slots say, in their order.
fn per_worker(server: &Server, what: impl Fn(&Slot) -> u64) -> Vec<u64> {
    server.scoreboard.workers().map(|(_, slot)| what(slot)).collect()
}

fn open(server: &Server) -> Vec<u64> {
    per_worker(server, |slot| slot.connections_open.load(Relaxed))
}

#[test]
fn no_worker_has_two_connections_while_another_has_none() {
    let _alone = alone();
    let example = Example::start("least_conn", 4);
    never_two_beside_none(example.address, || {
        example.connections().iter().map(|&count| count as u64).collect()
    });
    let server = start();
    never_two_beside_none(server.address(), || open(&server));
    if may_load() {
        let server = Server::start("reuseport-server", &["--steer", "least-conn"]);
        never_two_beside_none(server.address(), || open(&server));
    }
}

/// So many connections as there are workers, or fewer; `each` gives how many each worker has.
fn never_two_beside_none(address: SocketAddr, each: impl Fn() -> Vec<u64>) {
    let mut uneven = Vec::new();
    for round in 0..ROUNDS {
        let clients: Vec<TcpStream> = (0..2 + round % 3).map(|_| kept(address)).collect();
        let now = each();
        assert_eq!(now.iter().sum::<u64>(), clients.len() as u64, "{now:?}");
        if now.iter().any(|&count| count > 1) {
            uneven.push(now);
        }
        drop(clients);
        wait_for("them to end", || (each().iter().sum::<u64>() == 0).then_some(()));
    }
    // A worker that gets no core for two milliseconds is rightly not waited for. If nobody ever left a
    // connection to another, each round would be uneven.
    assert!(uneven.len() <= ROUNDS / 2, "{uneven:?}");
}

#[test]
fn a_burst_is_spread_evenly() {
    let _alone = alone();
    // Each has at least half of its share: other policies leave some worker next to nothing. A worker that gets no
    // core for some milliseconds is taken for a busy one, and its share goes to others.
    let is_even = |shares: &&Vec<u64>| shares.iter().all(|&n| n >= 12);
    let bursts = [(); 4].map(|()| {
        let server = start();
        let mut clients: Vec<RawClient> =
            (0..96).map(|_| RawClient::connect(server.address())).collect();
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        }
        for client in &mut clients {
            assert_eq!(client.answer().unwrap().expect("an answer").status, 200);
        }
        let shares = open(&server);
        assert_eq!(shares.iter().sum::<u64>(), 96, "{shares:?}");
        shares
    });
    assert!(bursts.iter().filter(is_even).count() >= 2, "{bursts:?}");
}

#[test]
fn connections_that_come_one_by_one_are_spread_evenly_and_fill_gaps() {
    let _alone = alone();
    let server = start();
    let mut clients = Vec::new();
    let mut shares = vec![0; 4];
    // Which worker has which of them: the one whose share has grown.
    for _ in 0..40 {
        let client = kept(server.address());
        let now = open(&server);
        let place = (0..4).find(|&place| now[place] > shares[place]).unwrap();
        shares = now;
        clients.push((place, client));
    }
    // A worker that was on no core for a while is not waited for.
    assert!(shares.iter().all(|n| (5..=16).contains(n)), "{shares:?}");
    let left = |slot: &Slot| slot.gated.load(Relaxed);
    assert!(per_worker(&server, left).iter().sum::<u64>() > 0);

    // One worker loses all of its own; the next ones are for it. In one round of three, since it may be on no
    // core when they come.
    clients.retain(|&(place, _)| place != 2);
    let rounds = [(); 3].map(|()| {
        wait_for("the others to end", || {
            (open(&server).iter().sum::<u64>() == clients.len() as u64).then_some(())
        });
        let _more: Vec<TcpStream> = (0..8).map(|_| kept(server.address())).collect();
        open(&server)
    });
    // The others may each have been waiting already, and then take one.
    assert!(rounds.iter().any(|shares| shares[2] >= 4), "{rounds:?}");
}

#[test]
fn with_own_sockets_connections_that_are_used_at_once_are_spread_evenly() {
    let _alone = alone();
    if !may_load() {
        return;
    }
    let server = Server::start("reuseport-server", &["--steer", "least-conn"]);
    let load = Load::over(server.address(), 96, true);
    wait_for("all connections", || (open(&server).iter().sum::<u64>() == 96).then_some(()));
    let shares = open(&server);
    assert_eq!(load.end(), Vec::<String>::new());
    // Each is counted as it comes. If the worker that has answered first got the next, it would get the most.
    assert!(shares.iter().all(|n| (22..=26).contains(n)), "{shares:?}");
}

#[test]
fn connections_that_are_kept_among_short_ones_are_spread_too() {
    let _alone = alone();
    spread_among_short_ones("shared-fd-server", &["--accept", "least-conn"]);
    if may_load() {
        spread_among_short_ones("reuseport-server", &["--steer", "least-conn"]);
    }
}

/// Short connections may go to few workers: those that are kept would stay there.
fn spread_among_short_ones(server: &str, arguments: &[&str]) {
    let try_once = || {
        let server = Server::start(server, arguments);
        let short = Load::on(server.address(), false);
        short.wait_for_more(3_000);
        let clients: Vec<TcpStream> = (0..40)
            .map(|_| {
                short.wait_for_more(5);
                kept(server.address())
            })
            .collect();
        assert_eq!(short.end(), Vec::<String>::new());
        wait_for("the short ones to end", || {
            (open(&server).iter().sum::<u64>() == clients.len() as u64).then_some(())
        });
        open(&server)
    };
    let mut tries = Vec::new();
    while tries.last().is_none_or(|shares: &Vec<u64>| shares.iter().any(|&n| n < 5)) {
        assert!(tries.len() < 2, "{server}: {tries:?}");
        tries.push(try_once());
    }
}
