mod losing;
mod stalled;

use std::net::SocketAddr;

use super::*;
use crate::diagnose::model::{How, Role, Socket, Waiter, Worker};
use crate::diagnose::words;

/// The observed server.
const SERVER: u32 = 100;

const HERD: How = How::Epoll { exclusive: false, edge: true };
const EXCLUSIVE: How = How::Epoll { exclusive: true, edge: false };

fn socket(inode: u64, waiting: &[u32], how: How) -> Socket {
    Socket {
        inode,
        address: "127.0.0.1:80".parse().unwrap(),
        only_v6: false,
        uid: 0,
        backlog: 128,
        queued: 0,
        queued_range: [0, 0],
        dropped: 0,
        reuse_port: Some(false),
        server: Some(SERVER),
        waiters: waiting.iter().map(|&pid| Waiter { pid, how }).collect(),
        holders: waiting.to_vec(),
    }
}

fn worker(pid: u32, sockets: &[u64]) -> Worker {
    Worker {
        pid,
        name: "web".into(),
        program: Some("/bin/web".into()),
        server: SERVER,
        role: Role::Worker,
        started: 10.0,
        sockets: sockets.to_vec(),
        is_counted: true,
        state: 'S',
        ..Worker::default()
    }
}

fn readings(sockets: Vec<Socket>, workers: Vec<Worker>) -> Readings {
    Readings {
        port: 80,
        seconds: 5.0,
        cores: 2,
        somaxconn: Some(4096),
        server: SERVER,
        sockets,
        workers,
        ..Readings::default()
    }
}

/// Four workers, 1 to 4, each with a socket and this number of accepted connections.
pub fn own(accepted: [u64; 4]) -> Readings {
    let sockets = (1..=4)
        .map(|pid| Socket { reuse_port: Some(true), ..socket(u64::from(pid), &[pid], HERD) });
    let workers = (1..=4)
        .zip(accepted)
        .map(|(pid, accepted)| Worker { accepted, ..worker(pid, &[u64::from(pid)]) });
    readings(sockets.collect(), workers.collect())
}

/// One socket for this many workers.
fn shared(count: u32, how: How) -> Readings {
    let pids: Vec<u32> = (1..=count).collect();
    let workers = pids.iter().map(|&pid| worker(pid, &[1])).collect();
    readings(vec![socket(1, &pids, how)], workers)
}

/// The same with a change.
pub fn with(mut readings: Readings, change: impl FnOnce(&mut Readings)) -> Readings {
    change(&mut readings);
    readings
}

/// A socket of another program, process 900.
pub fn intruder(readings: &mut Readings, address: &str) {
    let address: SocketAddr = address.parse().unwrap();
    readings.sockets.push(Socket {
        address,
        server: Some(900),
        holders: vec![900],
        ..socket(9, &[], HERD)
    });
    let other = Worker { server: 900, program: Some("/bin/other".into()), ..worker(900, &[9]) };
    readings.workers.push(Worker { role: Role::Holder, name: "other".into(), ..other });
}

fn on(readings: &mut Readings, address: &str) {
    readings.sockets.iter_mut().for_each(|socket| socket.address = address.parse().unwrap());
}

use Severity::{Info, Warning};

/// The expected findings, each with words of its evidence.
type Expected<'a> = &'a [(Id, Severity, Option<u32>, &'a str)];

#[track_caller]
fn expect(readings: &Readings, expected: Expected) {
    let found = findings(readings);
    let named: Vec<_> = found.iter().map(|it| (it.id, it.severity, it.worker)).collect();
    let wanted: Vec<_> = expected.iter().map(|it| (it.0, it.1, it.2)).collect();
    assert_eq!(named, wanted, "{found:#?}");
    for (finding, (.., words)) in found.iter().zip(expected) {
        assert!(finding.evidence.contains(words), "{words:?}: {finding:?}");
        assert!(!finding.remedy.is_empty() && !finding.evidence.ends_with('.'));
    }
}

#[test]
fn of_a_healthy_server_nothing_is_found_but_that_its_few_workers_are_a_herd() {
    for accepted in [[0; 4], [50; 4], [55, 52, 48, 45], [3, 0, 2, 0]] {
        expect(&own(accepted), &[]);
    }
    expect(&shared(4, HERD), &[(Id::Herd, Info, None, "4 wait for socket 1")]);
    for how in [EXCLUSIVE, How::Accept, How::IoUring] {
        expect(&shared(64, how), &[]);
    }
    expect(&shared(1, HERD), &[]);
}

#[test]
fn a_spread_that_chance_does_not_explain_is_found_and_how_sure_that_is() {
    let takes_all = own([0, 60, 0, 1]);
    expect(&takes_all, &[(Id::OneTakesAll, Warning, Some(2), "60 by 2, 1 by 4")]);
    let uneven = own([80, 20, 20, 20]);
    expect(&uneven, &[(Id::Uneven, Warning, None, "chi-square = 77.1, df = 3, p = 1.3e-16")]);
    // On a shared socket that is normal, and costs something only if the worker is busy.
    let accepted = |readings: &mut Readings, cpu| {
        readings.workers[2].accepted = 50;
        readings.workers[2].cpu = cpu;
    };
    let idle = with(shared(4, EXCLUSIVE), |it| accepted(it, 0.1));
    expect(
        &idle,
        &[(Id::OneTakesAll, Info, Some(3), "this costs nothing while process 3 has CPU time")],
    );
    let busy = with(shared(4, EXCLUSIVE), |it| accepted(it, 0.9));
    expect(&busy, &[(Id::OneTakesAll, Warning, Some(3), "50 by 3")]);
    // Two of 64 workers: far from even, with too few connections for a chi-square test.
    expect(
        &with(shared(64, EXCLUSIVE), |it| {
            it.workers[0].accepted = 10;
            it.workers[1].accepted = 12;
        }),
        &[],
    );
}

#[test]
fn kept_connections_are_called_a_stock_and_one_who_has_all_is_named() {
    let held = |counts: [u64; 4]| {
        with(own([0; 4]), |it| {
            it.workers.iter_mut().zip(counts).for_each(|(worker, held)| worker.held = held);
        })
    };
    expect(&held([24, 25, 26, 25]), &[]);
    expect(
        &held([15, 82, 0, 0]),
        &[(Id::Uneven, Info, None, "How they came to be spread like this")],
    );
    expect(&held([0, 96, 0, 0]), &[(Id::OneTakesAll, Warning, Some(2), "96 by 2")]);
}

#[test]
fn a_herd_of_many_more_workers_than_cores_is_a_warning_with_its_switches() {
    let many = with(shared(64, HERD), |it| {
        it.workers.iter_mut().for_each(|worker| (worker.accepted, worker.switches) = (10, 200));
    });
    expect(&many, &[(Id::Herd, Warning, None, "2 cores, 20.0 context switches for each")]);
    // Waiting threads count like processes.
    let threads = with(shared(1, HERD), |it| {
        it.sockets[0].waiters = vec![Waiter { pid: 1, how: How::Poll }; 16];
    });
    expect(&threads, &[(Id::Herd, Warning, None, "16 wait")]);
}

#[test]
fn a_full_queue_and_what_it_dropped_are_found_with_the_socket() {
    let full = |dropped, overflows| {
        with(own([9, 8, 7, 9]), |it| {
            it.sockets[1].queued_range = [0, 129];
            it.sockets[1].dropped = dropped;
            it.overflows = overflows;
        })
    };
    let is_full =
        (Id::QueueFull, Warning, Some(2), "129 connections waited, and the backlog is 128");
    expect(&full(0, 0), &[is_full]);
    // Other sockets of the namespace overflowed.
    expect(&full(0, 5), &[is_full]);
    let overflow = (Id::QueueOverflow, Warning, Some(2), "socket 2 on 127.0.0.1:80 of process 2");
    expect(&full(5, 5), &[overflow, is_full]);
    let remedies: Vec<String> = findings(&full(5, 5)).into_iter().map(|it| it.remedy).collect();
    assert!(
        remedies[0].starts_with("accept faster") && remedies[1] == "as for queue-overflow",
        "{remedies:?}"
    );
    expect(&with(own([9; 4]), |it| it.sockets[1].queued_range = [0, 128]), &[]);
}

#[test]
fn a_backlog_that_the_system_cuts_is_found_and_matters_once_the_queue_comes_near() {
    let capped = |cap, most| {
        with(own([0; 4]), |it| {
            it.somaxconn = Some(cap);
            it.sockets.iter_mut().for_each(|socket| socket.backlog = cap);
            it.sockets[0].queued_range = [0, most];
        })
    };
    let words = "and 3 more is 128, the limit of net.core.somaxconn";
    expect(&capped(128, 0), &[(Id::BacklogCapped, Info, None, words)]);
    expect(
        &capped(128, 100),
        &[(Id::BacklogCapped, Warning, None, "at most 100 connections were seen waiting")],
    );
    expect(&capped(4096, 9), &[]);
    expect(&capped(4096, 3000), &[(Id::BacklogCapped, Warning, None, "4096")]);
    expect(&with(capped(128, 100), |it| it.somaxconn = Some(4096)), &[]);
}

#[test]
fn another_programs_socket_is_found_in_the_group_on_a_part_and_on_the_other_family() {
    let words = "one of 5 on this address and belongs to other (pid 900); the kernel gives it a \
                 share of the connections, no process was seen to wait";
    let joined = with(own([0; 4]), |it| intruder(it, "127.0.0.1:80"));
    expect(&joined, &[(Id::ForeignSocket, Warning, Some(900), words)]);
    let full = with(joined.clone(), |it| it.sockets[4].queued_range = [0, 129]);
    let is_full = (Id::QueueFull, Warning, None, "socket 9 on 127.0.0.1:80, not of this server,");
    expect(&full, &[is_full, (Id::ForeignSocket, Warning, Some(900), words)]);
    let again = with(joined, |it| {
        it.workers[4].program = Some("/bin/web".into());
        it.sockets[4].waiters = vec![Waiter { pid: 900, how: HERD }];
    });
    expect(&again, &[(Id::ForeignSocket, Info, Some(900), "another instance of the same program")]);

    for (ours, theirs, expected) in [
        ("0.0.0.0:80", "127.0.0.1:80", Some(Id::Shadowed)),
        ("127.0.0.1:80", "0.0.0.0:80", None),
        ("0.0.0.0:80", "[::]:80", Some(Id::OtherFamily)),
        ("[::]:80", "0.0.0.0:80", Some(Id::Shadowed)),
        ("[::]:80", "[::1]:80", Some(Id::Shadowed)),
        ("0.0.0.0:80", "[::1]:80", None),
    ] {
        let beside = with(own([0; 4]), |it| {
            on(it, ours);
            intruder(it, theirs);
        });
        let found: Vec<Id> = findings(&beside).iter().map(|it| it.id).collect();
        assert_eq!(found, Vec::from_iter(expected), "{ours} and {theirs}");
    }
    // An IPv6-only socket loses nothing to an IPv4 socket, but it does not get IPv4 clients, either.
    for (theirs, expected) in [("0.0.0.0:80", Some(Id::OtherFamily)), ("127.0.0.1:80", None)] {
        let beside = with(own([0; 4]), |it| {
            on(it, "[::]:80");
            it.sockets.iter_mut().for_each(|socket| socket.only_v6 = true);
            intruder(it, theirs);
        });
        let found: Vec<Id> = findings(&beside).iter().map(|it| it.id).collect();
        assert_eq!(found, Vec::from_iter(expected), "{theirs}");
    }
}

#[test]
fn the_flag_on_the_one_socket_of_several_workers_is_found() {
    let flagged =
        |count| with(shared(count, EXCLUSIVE), |it| it.sockets[0].reuse_port = Some(true));
    let words = "the only one on 127.0.0.1:80: 4 processes accept from it";
    expect(&flagged(4), &[(Id::FlagWithoutEffect, Warning, None, words)]);
    expect(&flagged(1), &[]);
    expect(&with(flagged(4), |it| it.sockets[0].reuse_port = None), &[]);
}

#[test]
fn old_workers_that_keep_connections_are_found_after_a_reload_and_after_scaling_up() {
    let reloaded = |old, new| {
        with(own([0; 4]), |it| {
            it.workers.push(Worker { role: Role::Old, held: old, ..worker(50, &[]) });
            it.workers.iter_mut().take(4).for_each(|worker| worker.held = new);
        })
    };
    let words = "1 process no longer listens and keeps 64 connections; the workers that accept \
                 have 4";
    expect(&reloaded(64, 1), &[(Id::OldWorkersKeep, Warning, None, words)]);
    expect(&reloaded(3, 40), &[(Id::OldWorkersKeep, Info, None, "keeps 3")]);
    expect(&reloaded(0, 40), &[]);
    let scaled = |later, held| {
        with(own([0; 4]), |it| {
            it.workers[3].started += later;
            it.workers.iter_mut().for_each(|worker| worker.held = 20);
            it.workers[3].held = held;
        })
    };
    let words = "3 workers started 60 s or more before the others have 60 of 60 connections, the newer one 0";
    let found = findings(&scaled(60.0, 0));
    assert!(found[0].id == Id::OldWorkersKeep && found[0].evidence.contains(words), "{found:?}");
    expect(&scaled(60.0, 18), &[]);
    let found = findings(&scaled(0.1, 0));
    assert!(!found.iter().any(|it| it.id == Id::OldWorkersKeep), "{found:?}");
}

#[test]
fn ids_are_named_as_json_has_them() {
    let found = findings(&own([0, 60, 0, 0]));
    let json = serde_json::to_value(&found[0]).unwrap();
    let names = (Id::OneTakesAll.to_string(), Warning.to_string());
    assert_eq!((&json["id"], &json["severity"]), (&names.0.into(), &names.1.into()));
    assert_eq!((&json["id"], &json["severity"]), (&"one-takes-all".into(), &"warning".into()));
    assert_eq!(json["worker"], 2);
}

#[test]
fn the_model_is_said_in_words() {
    let busy = with(shared(2, HERD), |it| it.sockets[0].waiters.clear());
    let held = with(busy.clone(), |it| it.workers.iter_mut().for_each(|it| it.role = Role::Holder));
    let children = with(shared(1, HERD), |it| {
        it.workers[0].role = Role::Acceptor;
        it.workers.extend([5, 6].map(|pid| Worker { role: Role::Child, ..worker(pid, &[]) }));
    });
    let between = with(own([0; 4]), |it| it.sockets[0].waiters.push(Waiter { pid: 2, how: HERD }));
    for (readings, words) in [
        (own([0; 4]), "4 own sockets (SO_REUSEPORT), epoll, edge-triggered"),
        (shared(4, HERD), "1 shared socket, 4 processes, epoll, edge-triggered: thundering herd"),
        (shared(4, EXCLUSIVE), "1 shared socket, 4 processes, epoll with EPOLLEXCLUSIVE"),
        (shared(4, How::Accept), "1 shared socket, 4 processes, accept(2)"),
        (shared(1, HERD), "1 socket, 1 process, epoll, edge-triggered"),
        (busy, "1 shared socket, 2 processes, not seen to wait"),
        (held, "1 socket, no process was seen to accept"),
        (
            with(shared(1, HERD), |it| it.children = 4),
            "1 socket, 1 process, with 4 child processes that have no connections, epoll",
        ),
        (children, "1 socket, one process accepts for 2 children, epoll, edge-triggered"),
        (between, "4 sockets (SO_REUSEPORT), up to 2 processes on each: between shared and own"),
        (readings(vec![], vec![]), "no listening socket"),
    ] {
        let model = words::model(&readings);
        assert!(model.starts_with(words), "{model}");
    }
}

#[test]
fn who_steers_is_inferred_and_said_to_be() {
    for (accepted, words) in [
        ([50, 55, 45, 50], "fits the kernel's hash (p ="),
        ([500; 4], "a spread as even has p < 1e-300"),
        ([100, 0, 0, 0], "a spread as uneven has p = "),
        ([1; 4], "too few"),
    ] {
        let found = words::steering(&own(accepted)).unwrap();
        assert!(found.contains(words), "{accepted:?}: {found}");
    }
    let held = with(own([1; 4]), |it| it.steering_program = true);
    assert!(words::steering(&held).unwrap().contains("SK_REUSEPORT"));
    assert_eq!(words::steering(&shared(4, HERD)), None);
}
