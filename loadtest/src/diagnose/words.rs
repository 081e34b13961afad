//! The model of a server, in words.

use std::collections::BTreeSet;

use crate::diagnose::findings::spread::chance_of;
use crate::diagnose::model::{How, Readings, Role, Socket, Worker, ways};
use crate::report::format::{number, probability};
use crate::report::model::Unit;

/// In one line, such as `4 own sockets, epoll (edge-triggered)`.
pub fn model(readings: &Readings) -> String {
    let by_address = readings.by_address();
    let shapes: Vec<String> = by_address.values().map(|sockets| shape(readings, sockets)).collect();
    let different: BTreeSet<&String> = shapes.iter().collect();
    match (shapes.len(), different.len()) {
        (0, _) => "no listening socket whose process can be seen".into(),
        (1, _) => shapes.concat(),
        (addresses, 1) => format!("on each of {addresses} addresses {}", shapes[0]),
        _ => {
            let each = by_address.keys().zip(&shapes);
            each.map(|(address, shape)| format!("{address}: {shape}"))
                .collect::<Vec<_>>()
                .join("; ")
        }
    }
}

/// The kind of the sockets of one address.
fn shape(readings: &Readings, sockets: &[&Socket]) -> String {
    let waiters: Vec<How> =
        sockets.iter().flat_map(|socket| &socket.waiters).map(|waiter| waiter.how).collect();
    let how = ways(&waiters);
    let children = readings.own().filter(|worker| worker.role == Role::Child).count();
    let most = sockets.iter().map(|socket| readings.accepting(socket).len()).max().unwrap_or(0);
    let waits = |how: &str| match how {
        "" => ", not seen to wait".to_owned(),
        how => format!(", {how}"),
    };
    match (sockets.len(), most) {
        (1, 0) => "1 socket, no process was seen to accept from it".into(),
        (1, 1) if children > 0 => {
            format!("1 socket, one process accepts for {children} children{}", waits(&how))
        }
        (1, 1) if waiters.len() > 1 => {
            format!("1 socket, 1 process with {} waiters{}", waiters.len(), waits(&how))
        }
        (1, 1) if readings.children > 0 => format!(
            "1 socket, 1 process, with {} child processes that have no connections{}",
            readings.children,
            waits(&how)
        ),
        (1, 1) => format!("1 socket, 1 process{}", waits(&how)),
        (1, many) => {
            let herd = if sockets[0].woken_at_once() > 1 { ": thundering herd" } else { "" };
            format!("1 shared socket, {many} processes{}{herd}", waits(&how))
        }
        (many, 0) => format!("{many} sockets, no process was seen to accept from them"),
        (many, _) if readings.is_never_set() => format!(
            "{many} sockets without SO_REUSEPORT: the network interface, or another rule, tells them apart{}",
            waits(&how)
        ),
        (many, 1) => format!("{many} own sockets (SO_REUSEPORT){}", waits(&how)),
        (many, more) => format!(
            "{many} sockets (SO_REUSEPORT), up to {more} processes on each: between shared and own{}",
            waits(&how)
        ),
    }
}

/// Whether SO_REUSEPORT is set, and its effect.
pub fn reuse_port(readings: &Readings) -> &'static str {
    let set: Vec<_> = readings.own_sockets().map(|socket| socket.reuse_port).collect();
    match readings.has_own_sockets() {
        true if readings.is_never_set() => "not set",
        true => "set, with effect: the kernel picks a socket for each connection",
        false if set.contains(&Some(true)) => "set, without effect: there is one socket",
        false if set.contains(&None) => "unknown, and without effect: there is one socket",
        false => "not set",
    }
}

/// Whether chance explains the spread of the connections accepted during the observation.
pub fn spread(readings: &Readings) -> Option<String> {
    let all: u64 = readings.serving().map(|worker| worker.accepted).sum();
    let competing_groups = readings.competing_groups();
    let of = |workers: &Vec<&Worker>| match chance_of(workers) {
        None if is_uncounted(workers) => format!("{all} connections, {UNCOUNTED}"),
        None => format!("too few connections to tell ({all})"),
        Some(found) => format!(
            "{all} connections, which chance {} (chi-square = {:.1}, df = {}, p = {})",
            if found.as_uneven < 0.001 { "does not explain" } else { "explains" },
            found.chi_square,
            found.degrees,
            number(found.as_uneven, Unit::Probability)
        ),
    };
    (!competing_groups.is_empty())
        .then(|| competing_groups.iter().map(of).collect::<Vec<_>>().join("; "))
}

const UNCOUNTED: &str = "seen in looks only, which tells nothing about chance: run as root to have the kernel count them";

fn is_uncounted(workers: &[&Worker]) -> bool {
    !workers.iter().any(|worker| worker.is_counted)
}

/// What picks a socket of a group, as far as it can be inferred; `None` without a group.
pub fn steering(readings: &Readings) -> Option<String> {
    if !readings.has_own_sockets() {
        return None;
    }
    if readings.steering_program {
        return Some(
            "probably a program: a process of the server holds one of the type SK_REUSEPORT".into(),
        );
    }
    let groups = readings.competing_groups();
    let chance = groups.iter().filter_map(|workers| chance_of(workers)).next();
    Some(match chance {
        Some(found) if found.as_uneven < 0.001 => format!(
            "probably a program that cannot be seen: with the kernel's hash a spread as uneven has {}",
            probability(found.as_uneven)
        ),
        Some(found) if found.as_even < 0.001 => format!(
            "probably a program that cannot be seen: with the kernel's hash a spread as even has {}",
            probability(found.as_even)
        ),
        Some(found) => format!(
            "no sign of a program: the spread fits the kernel's hash (p = {:.2}); a classic BPF \
             program cannot be seen",
            found.as_uneven
        ),
        None if groups.iter().all(|workers| is_uncounted(workers)) => {
            format!(
                "unknown: connections were {UNCOUNTED}, and a classic BPF program cannot be seen"
            )
        }
        None => "unknown: there were too few connections, and a classic BPF program cannot be seen"
            .into(),
    })
}
