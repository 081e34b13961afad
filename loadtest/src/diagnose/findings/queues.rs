//! Accept queues that are full or overflow, and backlogs that are capped.

use super::{Finding, Id, Severity};
use crate::diagnose::model::{Readings, Socket};

/// Linux's default of net.core.somaxconn since 5.4. A backlog of this length may be what the program asked for.
const USUAL: u32 = 4096;

const TAKE_FASTER: &str = "accept faster: do not block the event loop, add workers, or find the \
                           worker that accepts nothing; a longer backlog only hides the cause";

/// A socket whose queue was seen full, of any program: clients of the port wait there.
pub fn full(readings: &Readings) -> Vec<Finding> {
    let full = readings.sockets.iter().filter(|socket| socket.was_full());
    let finding = |socket: &Socket| {
        let evidence = format!(
            "the accept queue of {}{} was full: {} connections waited, and the backlog is {}",
            named(socket),
            if socket.server == Some(readings.server) { "" } else { ", not of this server," },
            socket.queued_range[1],
            socket.backlog
        );
        let found = Finding::warning(Id::QueueFull, evidence, TAKE_FASTER);
        Finding { worker: only_waiter(socket), ..found }
    };
    full.map(finding).collect()
}

/// Connections that arrived at a full queue. The kernel counts them for the whole network namespace, and drops for
/// each socket.
pub fn overflow(readings: &Readings) -> Vec<Finding> {
    let dropped =
        readings.own_sockets().filter(|socket| socket.dropped > 0 && readings.overflows > 0);
    let finding = |socket: &Socket| {
        let evidence = format!(
            "{} dropped {} connections or connection attempts in {:.1} s (ListenOverflows of its \
             network namespace: {}); its backlog is {}",
            named(socket),
            socket.dropped,
            readings.seconds,
            readings.overflows,
            socket.backlog
        );
        let found = Finding::warning(Id::QueueOverflow, evidence, TAKE_FASTER);
        Finding { worker: only_waiter(socket), ..found }
    };
    dropped.map(finding).collect()
}

/// The backlog is the system's limit, and listen(2) may have asked for more. It matters if the queue comes near it,
/// or if the limit is below Linux's default.
pub fn capped(readings: &Readings) -> Vec<Finding> {
    let Some(cap) = readings.somaxconn else { return Vec::new() };
    let near = |socket: &&Socket| socket.queued_range[1] > cap / 2;
    let capped: Vec<&Socket> =
        readings.own_sockets().filter(|socket| socket.backlog == cap).collect();
    let is_near = capped.iter().any(near);
    let Some(one) = capped.first().filter(|_| cap < USUAL || is_near) else { return Vec::new() };
    let evidence = format!(
        "the backlog of {}{} is {cap}, the limit of net.core.somaxconn: listen(2) asked for at \
         least as much; at most {} connections were seen waiting",
        named(one),
        if capped.len() > 1 { format!(" and {} more", capped.len() - 1) } else { String::new() },
        capped.iter().map(|socket| socket.queued_range[1]).max().unwrap_or(0)
    );
    let severity = if is_near { Severity::Warning } else { Severity::Info };
    let remedy = "raise the sysctl net.core.somaxconn of this network namespace and restart the \
                  server; a container has its own value";
    vec![Finding::new(Id::BacklogCapped, severity, evidence, remedy)]
}

/// The name of a socket in evidence.
pub fn named(socket: &Socket) -> String {
    match only_waiter(socket) {
        Some(pid) => format!("socket {} on {} of process {pid}", socket.inode, socket.address),
        None => format!("socket {} on {}", socket.inode, socket.address),
    }
}

fn only_waiter(socket: &Socket) -> Option<u32> {
    let waiting = socket.waiting();
    waiting.first().copied().filter(|_| waiting.len() == 1)
}
