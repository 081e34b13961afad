//! Who gets the next connection: the policies of reuseport-server.

use std::collections::BTreeSet;
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::process::Command;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use common::scoreboard::{Counter, Slot, State};
use common::steering::lane::ROOM;
use nix::sys::signal::Signal;
use socket2::{Domain, Protocol, Socket, Type};

use crate::load::{Load, request};
use crate::support::{
    Server, ask, assert_refused, copy_for_all, listening_sockets, run, runs, send, skip, wait_for,
};

const NAME: &str = "reuseport-server";
const POLICIES: [&str; 5] = ["hash", "first", "random", "cpu", "least-conn"];

/// Held by who starts so many processes that others would not get to run: workers that are silent
/// for two seconds are not steered to, and nothing is even then.
static CROWD: RwLock<()> = RwLock::new(());

/// Keeps the crowd away for a test.
pub fn quiet() -> RwLockReadGuard<'static, ()> {
    CROWD.read().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the program of least-conn may be loaded here; says so if not.
pub fn may_load() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    let effective = u64::from_str_radix(effective.trim(), 16).unwrap();
    let may = effective >> 38 & 3 == 3;
    if !may {
        skip("--steer least-conn needs CAP_BPF and CAP_PERFMON: run the tests as root");
    }
    may
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

fn is_even(counts: &[u64]) -> bool {
    counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1
}

/// Opens connections that are kept, one after the other, until so many are open in all.
fn keep(server: &Server, kept: &mut Vec<TcpStream>, connections: usize) {
    for _ in 0..connections {
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
fn least_conn_spreads_kept_connections_evenly_and_the_scoreboard_shows_how() {
    let _quiet = quiet();
    if !may_load() {
        return;
    }
    let server = start("least-conn", &[]);
    let clients: Vec<_> = (0..10)
        .map(|_| {
            let address = server.address();
            std::thread::spawn(move || [(); 10].map(|()| TcpStream::connect(address).unwrap()))
        })
        .collect();
    let _kept: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    wait_for_open(&server, 100);
    assert!(is_even(&open(&server)), "{:?}", open(&server));
    wait_for("the scoreboard to show it", || {
        (each(&server, |slot| &slot.load) == open(&server)).then_some(())
    });
    assert!(each(&server, |slot| &slot.steered).iter().sum::<u64>() >= 100);
    assert_eq!(each(&server, |slot| &slot.migrated), [0; 4]);
}

#[test]
fn least_conn_gives_to_the_least_loaded_after_a_crash() {
    let _quiet = quiet();
    if !may_load() {
        return;
    }
    let server = start("least-conn", &[]);
    let mut kept = Vec::new();
    keep(&server, &mut kept, 100);
    let dead = server.workers()[1];
    send(dead, Signal::SIGKILL);
    wait_for_workers(&server, 4, &[dead]);
    assert_eq!(open(&server).iter().sum::<u64>(), 75);
    keep(&server, &mut kept, 25);
    assert_eq!(open(&server), [25; 4], "all of them went to the new worker");
}

#[test]
fn least_conn_knows_its_workers_after_reloads_and_changes_of_number() {
    let _quiet = quiet();
    if !may_load() {
        return;
    }
    let server = start("least-conn", &[]);
    let mut kept = Vec::new();
    keep(&server, &mut kept, 40);

    for _ in 0..2 {
        let before = server.workers();
        server.signal(Signal::SIGHUP);
        wait_for_workers(&server, 4, &before); // the old ones have closed what they kept
        kept.clear();
        keep(&server, &mut kept, 40);
        let seen = [each(&server, |slot| &slot.load), each(&server, |slot| &slot.steered)];
        assert_eq!(open(&server), [10; 4], "after a reload; load and steered: {seen:?}");
    }

    server.signal(Signal::SIGTTIN);
    wait_for_workers(&server, 5, &[]);
    keep(&server, &mut kept, 10);
    assert_eq!(open(&server), [10; 5], "with one more, all to that one");

    server.signal(Signal::SIGTTOU);
    wait_for_workers(&server, 4, &[]);
    assert_eq!(open(&server), [10; 4], "what the fifth had is closed");
    keep(&server, &mut kept, 40);
    assert_eq!(open(&server), [20; 4], "with one fewer");

    // The socket that was adopted goes to the next worker that comes, and is steered to again.
    server.signal(Signal::SIGTTIN);
    wait_for_workers(&server, 5, &[]);
    keep(&server, &mut kept, 20);
    assert_eq!(open(&server), [20; 5], "with one more again");
    let sockets = |pid: &u32| listening_sockets(*pid).into_iter().collect::<Vec<_>>();
    let all: BTreeSet<u64> = server.workers().iter().flat_map(sockets).collect();
    assert_eq!(all.len(), 5, "the sockets are the ones from before");
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
        if others(&server) == 8 {
            return None;
        }
        send(stopped, Signal::SIGKILL);
        for client in &mut clients {
            request(server.address(), client, true).expect("nobody had accepted it: not lost");
        }
        wait_for("them to be shown as migrated", || {
            (each(&server, |slot| &slot.migrated).iter().sum::<u64>() > 0).then_some(())
        });
        Some(())
    });
}

#[test]
fn a_stopped_worker_does_not_keep_the_others_from_being_given_connections() {
    let _quiet = quiet();
    if !may_load() {
        return;
    }
    let server = start("least-conn", &["--hang-timeout", "0s"]);
    let (_, stopped) = server.scoreboard.workers().next().unwrap();
    send(stopped.pid().unwrap(), Signal::SIGSTOP);
    wait_for("its silence", || (stopped.silence()? > Duration::from_millis(2500)).then_some(()));
    let mut kept = Vec::new();
    keep(&server, &mut kept, 60);
    let [of_stopped, others @ ..] = &open(&server)[..] else { unreachable!() };
    assert_eq!((*of_stopped, others.iter().sum::<u64>()), (0, 60));
    assert!(is_even(others), "{others:?}");

    send(stopped.pid().unwrap(), Signal::SIGCONT);
    wait_for("it to turn", || (stopped.silence()? < Duration::from_millis(500)).then_some(()));
    keep(&server, &mut kept, 20);
    assert_eq!(open(&server), [20; 4], "it is given what it lacks");
}

/// The flags of a segment.
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// Sends one segment that belongs to no connection. If it is a SYN, who is said to have sent it knows
/// nothing of it, and will answer the SYN+ACK with a reset: a handshake that is aborted.
fn send_segment(from: &Socket, to: SocketAddrV4, port: u16, flags: u8) {
    let mut segment = Vec::new();
    segment.extend(port.to_be_bytes());
    segment.extend(to.port().to_be_bytes());
    segment.extend([0; 8]); // numbers of sequence and acknowledgement
    segment.extend([5 << 4, flags, 0xff, 0xff]); // five words of header, window
    segment.extend([0; 4]); // checksum, urgent pointer
    let mut sum = 6 + segment.len() as u32; // the pseudo header: TCP's number, length, addresses
    let addresses = [to.ip().octets(), to.ip().octets()].concat();
    for pair in addresses.chunks(2).chain(segment.chunks(2)) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    segment[16..18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    from.send_to(&segment, &SocketAddr::from(to).into()).unwrap();
}

#[test]
fn handshakes_that_are_never_completed_are_forgotten() {
    let _quiet = quiet();
    if !may_load() {
        return;
    }
    let Ok(raw) = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP)) else {
        return skip("CAP_NET_RAW is needed to send a SYN alone");
    };
    let server = start("least-conn", &[]);
    let SocketAddr::V4(address) = server.address() else { unreachable!() };
    let mut kept = Vec::new();
    keep(&server, &mut kept, 8);
    (0..400).for_each(|number| send_segment(&raw, address, 1024 + number, SYN));
    wait_for("them to be counted", || {
        (each(&server, |slot| &slot.steered).iter().sum::<u64>() >= 408).then_some(())
    });
    wait_for("them to be forgotten", || (each(&server, |slot| &slot.load) == [2; 4]).then_some(()));
    keep(&server, &mut kept, 92);
    assert_eq!(open(&server), [25; 4]);
}

#[test]
fn packets_that_begin_no_connection_are_not_counted() {
    let _quiet = quiet();
    if !may_load() {
        return;
    }
    let Ok(raw) = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP)) else {
        return skip("CAP_NET_RAW is needed to send a segment alone");
    };
    let server = start("least-conn", &[]);
    let SocketAddr::V4(address) = server.address() else { unreachable!() };
    let mut kept = Vec::new();
    keep(&server, &mut kept, 8);
    (0..100).for_each(|number| send_segment(&raw, address, 1024 + number, ACK));
    // Loopback delivers in order, and before sendto(2) returns.
    keep(&server, &mut kept, 4);
    wait_for("all to be shown", || {
        (each(&server, |slot| &slot.steered).iter().sum::<u64>() >= 12).then_some(())
    });
    assert_eq!(each(&server, |slot| &slot.steered), [3; 4]);
    assert_eq!(each(&server, |slot| &slot.load), [3; 4]);
}

#[test]
fn a_choice_that_fails_is_left_to_the_hash() {
    let _quiet = quiet();
    if !may_load() {
        return;
    }
    let server = start("least-conn", &["--workers", "2"]);
    let mut kept = Vec::new();
    keep(&server, &mut kept, 2);
    let dead = server.workers()[0];
    send(server.pid(), Signal::SIGSTOP); // so that it cannot bury the dead
    send(dead, Signal::SIGKILL);
    wait_for("its end", || (!runs(dead)).then_some(()));
    keep(&server, &mut kept, 50); // while the dead one is the least loaded, and after
    send(server.pid(), Signal::SIGCONT);
    wait_for_workers(&server, 2, &[dead]);
}

#[test]
fn a_thousand_and_twenty_four_workers_are_steered() {
    if !may_load() {
        return;
    }
    let _crowd = CROWD.write().unwrap_or_else(PoisonError::into_inner);
    let server = start("least-conn", &["--workers", "1024"]);
    assert_eq!(server.workers().len(), 1024);
    let mut kept = Vec::new();
    keep(&server, &mut kept, 1500);
    // So many workers are filled a little before another is woken, and no further.
    let open = open(&server);
    assert_eq!(open.iter().sum::<u64>(), 1500);
    assert!(open.iter().all(|&open| open <= ROOM), "{open:?}");
}

/// A copy of the server that another user can run, with these capabilities alone.
fn as_nobody(folder: &tempfile::TempDir, rights: &str) -> Command {
    let copy = folder.path().join(NAME);
    if !copy.exists() {
        copy_for_all(folder.path(), NAME);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    for set in ["inh-caps", "ambient-caps", "bounding-set"] {
        command.arg(format!("--{set}=-all{rights}"));
    }
    command.arg(copy).args(["--port", "0", "--steer", "least-conn"]);
    command
}

#[test]
fn least_conn_needs_two_rights_and_names_the_one_that_is_missing() {
    let _quiet = quiet();
    if !may_load() {
        return;
    }
    if Command::new("setpriv").arg("--version").output().is_err() {
        return skip("setpriv is needed to give up a right");
    }
    let folder = tempfile::tempdir().unwrap();
    for (rights, missing) in [
        ("", "lacks CAP_BPF and CAP_PERFMON:"),
        (",+perfmon,+net_admin", "lacks CAP_BPF:"),
        (",+bpf", "lacks CAP_PERFMON:"),
        (",+bpf,+net_admin", "lacks CAP_PERFMON:"),
    ] {
        let output = as_nobody(&folder, rights).output().unwrap();
        let words = ["--steer least-conn needs", missing, "setcap cap_bpf,cap_perfmon+ep"];
        assert_refused(&output, &words, rights);
    }

    let server = Server::from(as_nobody(&folder, ",+bpf,+perfmon"));
    let mut kept = Vec::new();
    keep(&server, &mut kept, 40);
    assert_eq!(open(&server), [10; 4]);
    // Later workers are started with the same rights, and by a parent that has them still.
    let dead = server.workers()[0];
    send(dead, Signal::SIGKILL);
    wait_for_workers(&server, 4, &[dead]);
    keep(&server, &mut kept, 10);
    assert_eq!(open(&server), [10; 4]);
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
