//! Sockets of other programs on the same port.

use std::collections::BTreeSet;

use common::kernel::port_watch::{How, how};

use super::queues::named;
use super::{Finding, Id, Severity};
use crate::diagnose::model::{Readings, Socket};

/// The sockets of other servers.
fn others(readings: &Readings) -> impl Iterator<Item = &Socket> {
    let is_other = |socket: &&Socket| socket.server.is_some_and(|it| it != readings.server);
    readings.sockets.iter().filter(is_other)
}

/// Foreign sockets on an address of the server: the kernel gives them a share.
pub fn foreign(readings: &Readings) -> Vec<Finding> {
    let own: BTreeSet<_> = readings.own_sockets().map(|socket| socket.address).collect();
    let foreign = others(readings).filter(|socket| own.contains(&socket.address));
    foreign.map(|socket| in_the_group(readings, socket)).collect()
}

fn in_the_group(readings: &Readings, socket: &Socket) -> Finding {
    let pid = socket.server.unwrap_or_default();
    let program = |pid| readings.worker(pid).and_then(|worker| worker.program.as_ref());
    let holder = socket.holders.first().copied().unwrap_or(pid);
    let is_same = program(holder).is_some()
        && readings.own().any(|worker| worker.program.as_ref() == program(holder));
    let group = readings.sockets.iter().filter(|other| other.address == socket.address).count();
    let is_used = !readings.accepting(socket).is_empty();
    let takes =
        if is_used { "a process accepts from it" } else { "no process was seen to wait for it" };
    let evidence = format!(
        "{} is one of {group} on this address and belongs to {}{}; the kernel gives it a share of \
         the connections, {takes}, and {} wait{} there",
        named(readings, socket),
        who(readings, holder),
        if is_same { ", another instance of the same program" } else { "" },
        socket.queued,
        if socket.queued == 1 { "s" } else { "" }
    );
    let severity = if is_same && is_used { Severity::Info } else { Severity::Warning };
    let remedy = "stop one of the two servers unless they are meant to share the port: \
                  SO_REUSEPORT lets any program of the same user bind it, without an error";
    Finding::new(Id::ForeignSocket, severity, evidence, remedy).of(holder)
}

/// Sockets on another address of the port that take connections from the server: a more specific one, or the
/// wildcard of the other family.
pub fn on_another_address(readings: &Readings) -> Vec<Finding> {
    let mut told = BTreeSet::new();
    let mut found = Vec::new();
    for other in others(readings) {
        let mut ours = readings.own_sockets();
        let finding = ours.find_map(|socket| between(readings, socket, other));
        // One finding for all sockets of the same server on the same address.
        found.extend(finding.filter(|_| told.insert((other.server, other.address))));
    }
    found
}

fn between(readings: &Readings, own: &Socket, other: &Socket) -> Option<Finding> {
    let holder = other.holders.first().copied().or(other.server)?;
    let who = who(readings, holder);
    let (ours, theirs) = (own.address, other.address);
    if ours.ip().is_unspecified()
        && theirs.ip().is_unspecified()
        && ours.is_ipv4() != theirs.is_ipv4()
    {
        let takes_both = ours.is_ipv6() && !own.only_v6;
        if !takes_both {
            let family = if theirs.is_ipv6() { "IPv6" } else { "IPv4" };
            let evidence = format!(
                "the server listens on {ours}, and {who} on {theirs}: clients that use {family} \
                 reach the other program (`localhost` is often tried by IPv6 first)"
            );
            let remedy = "listen on both families, or stop the other program, or have clients name the \
                          address";
            return Some(Finding::warning(Id::OtherFamily, evidence, remedy).of(holder));
        }
    }
    let hidden = own.only_v6 && theirs.is_ipv4(); // this socket would not get those connections anyway
    if how(ours.ip(), theirs.ip()) != Some(How::Shadows) || hidden {
        return None;
    }
    let evidence = format!(
        "{who} listens on {theirs}: connections to that address go there, not to this server on \
         {ours}"
    );
    let remedy = "stop the other program, or have it use another port; the more specific address always wins";
    Some(Finding::warning(Id::Shadowed, evidence, remedy).of(holder))
}

fn who(readings: &Readings, pid: u32) -> String {
    match readings.worker(pid) {
        Some(worker) => format!("{} (pid {pid})", worker.name),
        None => format!("process {pid}"),
    }
}
