//! How the server waits for its sockets.

use super::{Finding, Id, Severity};
use crate::diagnose::model::{Readings, Socket, ways};

/// From this many waiters on, a herd cost more than it was worth in all measurements.
const MANY: usize = 8;

/// Several waiters that one connection wakes, all but one in vain.
pub fn herd(readings: &Readings) -> Vec<Finding> {
    let herds = readings.own_sockets().filter(|socket| socket.woken_at_once() > 1);
    let Some(socket) = herds.max_by_key(|socket| socket.woken_at_once()) else { return Vec::new() };
    let woken = socket.woken_at_once();
    let is_costly = woken >= MANY && woken > 2 * readings.cores;
    let severity = if is_costly { Severity::Warning } else { Severity::Info };
    let how: Vec<_> = socket.waiters.iter().map(|waiter| waiter.how).collect();
    let evidence = format!(
        "{woken} wait for socket {} without EPOLLEXCLUSIVE ({}), and all are woken for each connection; {} \
         cores{}",
        socket.inode,
        ways(&how),
        readings.cores,
        switches(readings, socket)
    );
    let remedy = match is_costly {
        true => {
            "wait with EPOLLEXCLUSIVE or in accept(2), give each worker a socket of its own \
                 (SO_REUSEPORT), or have fewer workers"
        }
        false => {
            "none needed while they are few; with more than twice as many as cores, wait with \
                  EPOLLEXCLUSIVE or use SO_REUSEPORT"
        }
    };
    vec![Finding::new(Id::Herd, severity, evidence, remedy)]
}

/// The workers' voluntary context switches for each connection, if there were enough connections.
fn switches(readings: &Readings, socket: &Socket) -> String {
    let waiting = socket.waiting();
    let of_it = || readings.own().filter(|worker| waiting.contains(&worker.pid));
    let accepted: u64 = of_it().map(|worker| worker.accepted).sum();
    let switches: u64 = of_it().map(|worker| worker.switches).sum();
    match accepted {
        ..10 => String::new(),
        _ if !of_it().all(|worker| worker.is_counted) => String::new(), // there were more
        _ => format!(
            ", {:.1} context switches for each connection",
            switches as f64 / accepted as f64
        ),
    }
}

/// SO_REUSEPORT on the one socket that all share: it was bound once, before the workers were forked.
pub fn flag_without_effect(readings: &Readings) -> Vec<Finding> {
    let alone = |socket: &&Socket| {
        readings.sockets.iter().filter(|other| other.address == socket.address).count() == 1
    };
    let set = readings.own_sockets().filter(|socket| socket.reuse_port == Some(true)).filter(alone);
    let shared = set.filter(|socket| readings.accepting(socket).len() > 1);
    let finding = |socket: &Socket| {
        let evidence = format!(
            "SO_REUSEPORT is set on socket {}, and it is the only one on {}: {} processes accept from it. It \
             was bound once, before they were started",
            socket.inode,
            socket.address,
            readings.accepting(socket).len()
        );
        let remedy = "have each worker create and bind its own socket after the fork; as it is, \
                      the flag only lets other programs of this user bind the port";
        Finding::warning(Id::FlagWithoutEffect, evidence, remedy)
    };
    shared.map(finding).collect()
}
