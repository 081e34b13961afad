//! Accept queues that are full or overflow, and backlogs that are capped.

use super::{Finding, Id, Severity};
use crate::diagnose::model::{Readings, Socket};
use crate::report::format::plural;

/// Linux's default of net.core.somaxconn since 5.4. A backlog of this length may be what the program asked for.
const USUAL: u32 = 4096;

const TAKE_FASTER: &str = "accept faster: do not block the event loop, add workers, or find the \
                           worker that accepts nothing; a longer backlog only hides the cause";

/// A socket whose queue was seen full, of any program: clients of the port wait there.
pub fn full(readings: &Readings) -> Vec<Finding> {
    let full = readings.sockets.iter().filter(|socket| socket.was_full());
    let finding = |socket: &Socket| {
        let evidence = format!(
            "the accept queue of {}{} was full: {} waited, and the backlog is {}",
            named(readings, socket),
            if socket.server == Some(readings.server) { "" } else { ", not of this server," },
            plural(socket.queued_range[1].into(), "connection"),
            socket.backlog
        );
        let is_told = socket.server == Some(readings.server) && is_dropping(readings, socket);
        let remedy = if is_told { "as for queue-overflow" } else { TAKE_FASTER };
        let found = Finding::warning(Id::QueueFull, evidence, remedy);
        Finding { worker: only_waiter(readings, socket), ..found }
    };
    full.map(finding).collect()
}

/// Connections that arrived at a full queue. The kernel counts them for the whole network namespace, and drops for
/// each socket.
pub fn overflow(readings: &Readings) -> Vec<Finding> {
    let dropped = readings.own_sockets().filter(|socket| is_dropping(readings, socket));
    let finding = |socket: &Socket| {
        let evidence = format!(
            "{} dropped {} in {:.1} s (ListenOverflows of its network namespace: {}); its backlog \
             is {}",
            named(readings, socket),
            match socket.dropped {
                1 => "1 connection or connection attempt".to_owned(),
                many => format!("{many} connections or connection attempts"),
            },
            readings.seconds,
            readings.overflows,
            socket.backlog
        );
        let found = Finding::warning(Id::QueueOverflow, evidence, TAKE_FASTER);
        Finding { worker: only_waiter(readings, socket), ..found }
    };
    dropped.map(finding).collect()
}

fn is_dropping(readings: &Readings, socket: &Socket) -> bool {
    socket.dropped > 0 && readings.overflows > 0
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
         least as much; at most {} seen waiting",
        named(readings, one),
        if capped.len() > 1 { format!(" and {} more", capped.len() - 1) } else { String::new() },
        match capped.iter().map(|socket| socket.queued_range[1]).max().unwrap_or(0) {
            1 => "1 connection was".to_owned(),
            most => format!("{most} connections were"),
        }
    );
    let severity = if is_near { Severity::Warning } else { Severity::Info };
    let remedy = "raise the sysctl net.core.somaxconn of this network namespace and restart the \
                  server; a container has its own value";
    vec![Finding::new(Id::BacklogCapped, severity, evidence, remedy)]
}

/// The name of a socket in evidence.
pub fn named(readings: &Readings, socket: &Socket) -> String {
    match only_waiter(readings, socket) {
        Some(pid) => format!("socket {} on {} of process {pid}", socket.inode, socket.address),
        None => format!("socket {} on {}", socket.inode, socket.address),
    }
}

fn only_waiter(readings: &Readings, socket: &Socket) -> Option<u32> {
    let waiting = readings.accepting(socket);
    waiting.first().copied().filter(|_| waiting.len() == 1)
}
