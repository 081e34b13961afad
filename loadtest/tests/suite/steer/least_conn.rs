//! The worker with the least to do: `--steer least-conn`.

use std::collections::BTreeSet;
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    NAME, crowd, each, keep, keep_even, open, quiet, spread, start, wait_for_open, wait_for_workers,
};
use crate::support::{
    Server, assert_refused, copy_for_all, listening_sockets, may_load, runs, send, skip, wait_for,
};

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
    let mut kept: Vec<_> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    wait_for_open(&server, 100);
    keep_even(&server, &mut kept, 0, 0..4, "after a burst of 100");
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
    let (dead, of_dead) = (server.workers()[1], open(&server)[1]);
    send(dead, Signal::SIGKILL);
    wait_for_workers(&server, 4, &[dead]);
    assert_eq!(open(&server).iter().sum::<u64>(), 100 - of_dead);
    keep_even(&server, &mut kept, 25, 0..4, "since new ones go to the new worker");
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
        keep_even(&server, &mut kept, 40, 0..4, "after a reload");
    }

    server.signal(Signal::SIGTTIN);
    wait_for_workers(&server, 5, &[]);
    keep_even(&server, &mut kept, 10, 0..5, "since new ones go to the one more");

    server.signal(Signal::SIGTTOU);
    wait_for_workers(&server, 4, &[]);
    let left = open(&server);
    assert!(left.len() == 4 && spread(&left) <= 3, "what the fifth had is closed: {left:?}");
    keep_even(&server, &mut kept, 40, 0..4, "with one fewer");

    // The socket that was adopted goes to the next worker that comes, and is steered to again.
    server.signal(Signal::SIGTTIN);
    wait_for_workers(&server, 5, &[]);
    keep_even(&server, &mut kept, 20, 0..5, "with one more again");
    let sockets = |pid: &u32| listening_sockets(*pid).into_iter().collect::<Vec<_>>();
    let all: BTreeSet<u64> = server.workers().iter().flat_map(sockets).collect();
    assert_eq!(all.len(), 5, "the sockets are the ones from before");
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
    keep_even(&server, &mut kept, 60, 1..4, "while the first is stopped");
    let [of_stopped, others @ ..] = &open(&server)[..] else { unreachable!() };
    assert_eq!((*of_stopped, others.iter().sum::<u64>()), (0, kept.len() as u64));

    send(stopped.pid().unwrap(), Signal::SIGCONT);
    wait_for("it to turn", || (stopped.silence()? < Duration::from_millis(500)).then_some(()));
    keep_even(&server, &mut kept, 20, 0..4, "since it is given what it lacks");
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
    wait_for("them to be forgotten", || {
        (each(&server, |slot| &slot.load).iter().sum::<u64>() == 8).then_some(())
    });
    keep_even(&server, &mut kept, 92, 0..4, "as if there had been no flood");
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
    assert_eq!(each(&server, |slot| &slot.steered).iter().sum::<u64>(), 12);
    wait_for("the load to be what is open", || {
        (each(&server, |slot| &slot.load) == open(&server)).then_some(())
    });
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
    send(server.pid(), Signal::SIGSTOP); // so that it cannot reap the dead
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
    let _crowd = crowd();
    let server = start("least-conn", &["--workers", "1024"]);
    assert_eq!(server.workers().len(), 1024);
    let mut kept = Vec::new();
    keep(&server, &mut kept, 1500);
    // Two each at most; and one more where two CPUs chose at the same time.
    let open = open(&server);
    assert_eq!(open.iter().sum::<u64>(), 1500);
    assert!(open.iter().all(|&open| open <= 3), "{open:?}");
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
    keep_even(&server, &mut kept, 40, 0..4, "with these rights");
    // Later workers are started with the same rights, and by a parent that has them still.
    let dead = server.workers()[0];
    send(dead, Signal::SIGKILL);
    wait_for_workers(&server, 4, &[dead]);
    keep_even(&server, &mut kept, 10, 0..4, "with a worker that came later");
}
