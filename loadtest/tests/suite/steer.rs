//! Who gets the next connection: the policies of reuseport-server.

mod least_conn;

use std::net::TcpStream;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use common::kernel::sock_diag;
use common::scoreboard::{Counter, Slot, State};
use nix::sys::signal::Signal;
use procfs::process::Process;

use crate::load::{Load, request};
use crate::support::{
    Server, ask, assert_refused, listening_sockets, may_load, run, runs, send, skip, wait_for,
};

const NAME: &str = "reuseport-server";
const POLICIES: [&str; 5] = ["hash", "first", "random", "cpu", "least-conn"];

/// Held by who starts so many processes that others would not get to run: workers that are silent
/// for two seconds are not steered to, and nothing is even then.
static CROWD: RwLock<()> = RwLock::new(());

/// Waits until no test needs the quiet any more, and has it wait for this one.
pub fn crowd() -> RwLockWriteGuard<'static, ()> {
    CROWD.write().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the crowd away for a test.
pub fn quiet() -> RwLockReadGuard<'static, ()> {
    CROWD.read().unwrap_or_else(PoisonError::into_inner)
}

fn start(policy: &str, arguments: &[&str]) -> Server {
    Server::start(NAME, &[&["--steer", policy], arguments].concat())
}

/// A counter of each worker that serves.
fn each(server: &Server, counter: fn(&Slot) -> &Counter) -> Vec<u64> {
    let serving = server.scoreboard.workers().filter(|(_, slot)| slot.state() == State::Serving);
    serving.map(|(_, slot)| counter(slot).load(Relaxed)).collect()
}

fn open(server: &Server) -> Vec<u64> {
    each(server, |slot| &slot.connections_open)
}

/// The most that any worker has, less the least.
fn spread(counts: &[u64]) -> u64 {
    counts.iter().max().unwrap() - counts.iter().min().unwrap()
}

/// Opens so many connections, and then at most as many more, or 20, until all these workers have about equally
/// many. A worker that is kept from its core while it is awake counts as one that blocks, and one that has just
/// come is not steered to before its parent has read its message: what such a worker has missed, it is given
/// next. A policy that is blind to load cannot lift a worker with none to the level of the others with so few.
#[track_caller]
fn keep_even(
    server: &Server,
    kept: &mut Vec<TcpStream>,
    connections: usize,
    even: Range<usize>,
    when: &str,
) {
    keep(server, kept, connections);
    for _ in 0..=connections.max(20) {
        let now = open(server);
        if now.len() == even.end && spread(&now[even.clone()]) <= 2 {
            return;
        }
        keep(server, kept, 1);
    }
    panic!("workers {even:?} should have equally many {when}: {:?}", open(server));
}

/// Opens so many connections that are kept, one after the other, each once no worker runs: one that still has the
/// last connection in hand is not free, and where requests take it over 100 us (a debug build on a slow machine)
/// the next goes to another, whoever has fewer.
fn keep(server: &Server, kept: &mut Vec<TcpStream>, connections: usize) {
    let runs = |&pid: &u32| {
        let stat = Process::new(pid as i32).and_then(|process| process.stat());
        stat.is_ok_and(|stat| stat.state == 'R')
    };
    for _ in 0..connections {
        // Of hundreds one always runs, since each looks around four times a second.
        wait_for("all workers to rest", || {
            let workers = server.workers();
            (workers.len() > 16 || !workers.iter().any(runs)).then_some(())
        });
        let mut connection = None;
        request(server.address(), &mut connection, true).unwrap();
        kept.push(connection.unwrap());
    }
}

/// Waits until so many connections are open in the workers that serve.
fn wait_for_open(server: &Server, connections: u64) {
    wait_for("that many open connections", || {
        (open(server).iter().sum::<u64>() == connections).then_some(())
    });
}

pub fn wait_for_workers(server: &Server, workers: usize, gone: &[u32]) {
    wait_for("the workers", || {
        let now = server.workers();
        let replaced = now.len() == workers && now.iter().all(|pid| !gone.contains(pid));
        (replaced && server.scoreboard.is_serving()).then_some(())
    });
}

#[test]
fn every_policy_answers_through_reloads_crashes_and_changes_of_number() {
    let _quiet = quiet();
    for policy in POLICIES {
        if policy == "least-conn" && !may_load() {
            continue;
        }
        let server = start(policy, &[]);
        let before = server.workers();
        let load = Load::on(server.address(), false);
        load.wait_for_more(50);
        for (signal, workers) in [(Signal::SIGTTIN, 5), (Signal::SIGTTOU, 4), (Signal::SIGHUP, 4)] {
            server.signal(signal);
            wait_for_workers(&server, workers, &[]);
            load.wait_for_more(50);
        }
        wait_for_workers(&server, 4, &before);
        let lost = load.end();
        assert!(lost.is_empty(), "{policy}: {lost:?}");

        let dead = server.workers()[0];
        send(dead, Signal::SIGKILL);
        wait_for("its end", || (!runs(dead)).then_some(())); // with what it had in its queue
        for _ in 0..20 {
            assert!(ask(server.address(), "GET /").ends_with("hello"), "{policy}");
        }
        server.stop();
    }
}

#[test]
fn first_gives_everything_to_one_worker_and_to_another_when_that_dies() {
    let _quiet = quiet();
    let server = start("first", &[]);
    for gone in 0..2 {
        let _kept: Vec<TcpStream> =
            (0..50).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
        wait_for("50 in one worker", || open(&server).contains(&50).then_some(()));
        assert_eq!(open(&server).iter().sum::<u64>(), 50, "after {gone} deaths");
        let mut workers = server.scoreboard.workers();
        let busy = workers.find(|(_, slot)| slot.connections_open.load(Relaxed) == 50).unwrap();
        let busy = busy.1.pid().unwrap();
        send(busy, Signal::SIGKILL);
        wait_for_workers(&server, 4, &[busy]);
    }
}

#[test]
fn random_reaches_every_worker_also_those_that_came_later() {
    let _quiet = quiet();
    let server = start("random", &[]);
    let all_reached = |workers: u32, what: &str| {
        // One of n workers is left out of 60 n connections once in 10^26 times.
        let before = each(&server, |slot| &slot.connections_accepted);
        (0..60 * workers).for_each(|_| _ = ask(server.address(), "GET /"));
        let after = each(&server, |slot| &slot.connections_accepted);
        assert!(
            before.iter().zip(&after).all(|(before, after)| before < after),
            "{what}: {after:?}"
        );
    };
    all_reached(4, "at first");
    for workers in [5, 6] {
        server.signal(Signal::SIGTTIN);
        wait_for_workers(&server, workers, &[]);
        all_reached(workers as u32, "with one more");
    }
    let dead = server.workers()[0];
    send(dead, Signal::SIGKILL);
    wait_for_workers(&server, 6, &[dead]);
    all_reached(6, "after a death");
}

#[test]
fn cpu_reaches_no_more_workers_than_there_are_cpus() {
    let _quiet = quiet();
    let cpus = std::thread::available_parallelism().unwrap().get();
    let server = start("cpu", &["--workers", &(2 * cpus).to_string()]);
    (0..50).for_each(|_| _ = ask(server.address(), "GET /"));
    let reached = each(&server, |slot| &slot.connections_accepted);
    let reached = reached.iter().filter(|&&accepted| accepted > 0).count();
    assert!((1..=cpus).contains(&reached), "{reached} of {} workers, {cpus} CPUs", 2 * cpus);
}

#[test]
fn what_waits_for_a_worker_that_dies_is_answered_by_another_without_the_sysctl() {
    let _quiet = quiet();
    let sysctl = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_migrate_req");
    if !sysctl.is_ok_and(|value| value.trim() == "0") {
        return skip("net.ipv4.tcp_migrate_req must exist and be 0");
    }
    if !may_load() {
        return;
    }
    // A stopped worker is given connections for two seconds; a slow machine may miss that.
    wait_for("connections that queue at a stopped worker", || {
        let server = start("least-conn", &[]);
        let stopped = server.workers()[2];
        send(stopped, Signal::SIGSTOP);
        let mut clients: Vec<Option<TcpStream>> =
            (0..8).map(|_| Some(TcpStream::connect(server.address()).unwrap())).collect();
        let others = |server: &Server| {
            let workers = server.scoreboard.workers();
            let others = workers.filter(|(_, slot)| slot.pid() != Some(stopped));
            others.map(|(_, slot)| slot.connections_open.load(Relaxed)).sum::<u64>()
        };
        let sockets = listening_sockets(stopped);
        let queued = wait_for("each connection to be accepted, or to wait for the stopped", || {
            let listeners = sock_diag::listeners(server.address().port()).unwrap();
            let its = listeners.iter().filter(|listener| sockets.contains(&listener.inode));
            let queued = its.map(|listener| u64::from(listener.queued)).sum::<u64>();
            (others(&server) + queued == 8).then_some(queued)
        });
        if queued == 0 {
            return None;
        }
        send(stopped, Signal::SIGKILL);
        for client in &mut clients {
            request(server.address(), client, true).expect("nobody had accepted it: not lost");
        }
        // Where the dead worker's own lane seemed the best, the program's choice fails and the kernel's hash
        // chooses, which nobody counts. Then this is tried again.
        let killed = Instant::now();
        while killed.elapsed() < Duration::from_secs(1) {
            if each(&server, |slot| &slot.migrated).iter().sum::<u64>() > 0 {
                return Some(());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    });
}

#[test]
fn policies_that_make_no_sense_are_refused() {
    let _quiet = quiet();
    let output = run(NAME, &["--steer", "best"]);
    assert_refused(&output, &["'best'", "--steer", "least-conn"], "an unknown policy");
    for policy in &POLICIES[1..] {
        let output = run(NAME, &["--steer", policy, "--join", "--port", "1"]);
        assert_refused(&output, &["--join", "--steer hash"], policy);
    }
}
