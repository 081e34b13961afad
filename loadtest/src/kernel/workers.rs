//! Finds the workers of a server of any kind, by looks at the processes that have something to do with its port.
//!
//! A worker is a process that has the listening socket open and
//!
//! - has registered it in an epoll (`/proc/PID/fdinfo`), or
//! - has a thread in accept(2), select(2) or poll(2) on it (`/proc/PID/task/TID/syscall`), or
//! - was seen holding accepted connections, or
//! - accepted some by the kernel's count or, where there is none, used CPU time as one that serves: a busy worker may
//!   never wait, and its connections may be too short for a look.
//!
//! A process that did so once stays a worker while it has that socket open: it may be blocked. A process that only
//! inherited the descriptor is no worker. If a process without the socket holds connections that no worker has, it got
//! them from an ancestor, which accepts all of them; so did one that has the socket and is known to accept nothing.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use common::kernel::sock_diag;
use procfs::ProcError;
use procfs::process::all_processes;
use serde::{Deserialize, Serialize};

use crate::kernel::open_sockets::{How, OpenSockets, Wait};
use crate::kernel::procfs::{Running, ancestors, family};

/// How a process takes part in serving.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It accepts connections and answers.
    #[default]
    Worker,
    /// It accepts all connections, and passes them or their bytes to its children.
    Acceptor,
    /// A child of such an acceptor: it accepts nothing itself.
    Child,
    /// It has connections and no longer listens: an old worker after a reload.
    Old,
    /// It has a listening socket open, and was never seen to wait for it, accept from it, or work.
    Holder,
}

/// What one look found about one process.
#[derive(Debug, Default)]
pub struct Found {
    /// Descriptor and inode of each listening socket that it has open.
    pub listening: Vec<(i32, u64)>,
    /// Accepted connections that it has open.
    pub held: BTreeSet<u64>,
    /// Which of these sockets it waits for.
    pub waits: Vec<Wait>,
    /// Why some of that could not be read, if so.
    pub hidden: Option<String>,
    /// Whether it holds a steering program.
    pub steers: bool,
}

/// What was seen of one process, in all looks.
#[derive(Debug, Default)]
pub struct Seen {
    /// The process.
    pub running: Running,
    /// Its sockets, with the greatest number of its waiters on each, for each way.
    pub waits: BTreeMap<(u64, How), usize>,
    /// The last look.
    pub last: Found,
    /// The sockets from which it accepted, where the kernel counts that.
    pub accepted_from: Option<BTreeSet<u64>>,
    /// Whether it used CPU time as only a process does that serves.
    pub works: bool,
    /// Whether it had connections that no waiting process had.
    pub had_connections: bool,
    /// Connections that were first seen in it, since that was last set to 0.
    pub appeared: u64,
    /// The sum of the connections that it had open at several moments.
    pub held_sum: u64,
}

/// The processes that have something to do with a port.
#[derive(Debug)]
pub struct Finder {
    port: u16,
    /// The process whose family is looked at; `None`: all processes are.
    root: Option<u32>,
    /// By process id. Of a family all members, of all processes those that have, or had, something to do with the port.
    pub seen: BTreeMap<u32, Seen>,
    /// Connections that were seen in a process; others are new.
    known: BTreeSet<u64>,
}

impl Finder {
    /// Looks for the workers of this port in the family of a process or, without one, among all processes.
    pub fn new(port: u16, root: Option<u32>) -> Self {
        Self { port, root, seen: BTreeMap::new(), known: BTreeSet::new() }
    }

    /// Looks once.
    /// Fails when the kernel does not tell which sockets or processes there are.
    pub fn look(&mut self) -> Result<()> {
        let listening = sock_diag::listeners(self.port)?;
        let listening: BTreeSet<u64> = listening.iter().map(|listener| listener.inode).collect();
        // The kernel goes through all connections of the machine. Before anybody listens there is none of this port.
        let may_accept = !listening.is_empty() || !self.known.is_empty();
        let accepted =
            if may_accept { sock_diag::connections(self.port)? } else { BTreeSet::new() };
        let found = |pid: u32| match OpenSockets::of(pid) {
            Ok(open) => Found::of(&open, &listening, &accepted),
            Err(error @ ProcError::PermissionDenied(_)) => {
                Found { hidden: Some(error.to_string()), ..Found::default() }
            }
            Err(_) => Found::default(), // it has just ended
        };
        let all = match self.root {
            Some(root) => family(root)?.into_iter().map(|it| (it, found(it.pid))).collect(),
            None => {
                let all = all_processes().context("cannot read /proc")?.flatten();
                let all = all.map(|process| (process.pid as u32, found(process.pid as u32)));
                // Others are another user's, or have just ended. Sockets without a process are reported later.
                let of_interest = all.filter(|(_, found)| found.is_of_interest());
                of_interest.filter_map(|(pid, found)| Some((Running::of(pid)?, found))).collect()
            }
        };
        self.take(all);
        self.known.retain(|inode| accepted.contains(inode));
        Ok(())
    }

    /// Adds what a look has found.
    pub fn take(&mut self, all: Vec<(Running, Found)>) {
        let is_first = self.seen.is_empty();
        let idle: BTreeSet<u32> =
            self.seen.values().filter(|seen| self.is_idle_child(seen)).map(Seen::pid).collect();
        // An id alone may have been reused.
        let there: BTreeSet<(u32, u64)> = all.iter().map(|(it, _)| (it.pid, it.started)).collect();
        self.seen.retain(|pid, seen| {
            seen.last = Found::default();
            idle.contains(pid) || there.contains(&(*pid, seen.running.started))
        });
        for (running, found) in all {
            self.seen.entry(running.pid).or_default().take(running, found);
        }
        let waiting = self.seen.values().filter(|seen| seen.accepts());
        let of_waiting: BTreeSet<u64> =
            waiting.flat_map(|seen| seen.last.held.iter().copied()).collect();
        // Waiting processes come first: what a helper process inherits is not its own.
        let mut all: Vec<&mut Seen> = self.seen.values_mut().collect();
        all.sort_by_key(|seen| !seen.accepts());
        for seen in all {
            let held = &seen.last.held;
            let new = held.iter().filter(|&&inode| self.known.insert(inode)).count() as u64;
            seen.appeared += if is_first { 0 } else { new };
            seen.had_connections |= held.difference(&of_waiting).next().is_some();
        }
    }

    /// Whether a process accepts from a listening socket, or waits for it.
    pub fn accepts(&self, pid: u32) -> bool {
        self.seen.get(&pid).is_some_and(Seen::accepts)
    }

    /// The acceptor of a process that serves as a child.
    pub fn acceptor_of(&self, pid: u32) -> Option<u32> {
        self.accepts_for(self.seen.get(&pid)?)
    }

    /// The nearest of a process's ancestors that accepts from a listening socket: a server may have a process between the
    /// one that accepts and the one that serves, as sshd does.
    fn accepts_for(&self, seen: &Seen) -> Option<u32> {
        ancestors(seen.running.parent).find(|&it| self.accepts(it))
    }

    /// The same for a process that has the socket, too: only counts can tell that it accepts nothing itself.
    fn is_counted_child(&self, seen: &Seen) -> bool {
        let accepted = |seen: &Seen| seen.accepted_from.as_ref().map(|from| !from.is_empty());
        let parent = self.accepts_for(seen).and_then(|it| accepted(&self.seen[&it]));
        (accepted(seen), parent) == (Some(false), Some(true))
    }

    /// Whether a process without sockets and connections of the port is a child to which a parent gives connections: it
    /// had some, and has not got the next one yet.
    fn is_idle_child(&self, seen: &Seen) -> bool {
        seen.had_connections && seen.running.runs() && self.accepts_for(seen).is_some()
    }

    /// The processes that take part, or could.
    pub fn roles(&self) -> BTreeMap<u32, Role> {
        let role = |seen: &Seen| {
            let opens = !seen.last.listening.is_empty();
            match seen.had_connections {
                _ if seen.accepts() => Some(Role::Worker),
                true if opens && self.is_counted_child(seen) => Some(Role::Child),
                true if opens => Some(Role::Worker),
                true if self.accepts_for(seen).is_some() => Some(Role::Child),
                true => Some(Role::Old),
                false => opens.then_some(Role::Holder),
            }
        };
        let mut roles: BTreeMap<u32, Role> =
            self.seen.iter().filter_map(|(&pid, seen)| Some((pid, role(seen)?))).collect();
        let children = self.seen.values().filter(|it| roles.get(&it.pid()) == Some(&Role::Child));
        let acceptors: Vec<u32> = children.filter_map(|it| self.accepts_for(it)).collect();
        roles.extend(acceptors.into_iter().map(|pid| (pid, Role::Acceptor)));
        roles
    }
}

impl Found {
    fn of(open: &OpenSockets, listening: &BTreeSet<u64>, accepted: &BTreeSet<u64>) -> Self {
        let held = open.inodes().filter(|inode| accepted.contains(inode)).collect();
        let inodes: BTreeSet<u64> = open.inodes().filter(|it| listening.contains(it)).collect();
        let pairs = inodes.iter().flat_map(|&it| open.descriptors(it).map(move |fd| (fd, it)));
        let steers = open.holds_steering_program();
        let mut found = Self { listening: pairs.collect(), held, steers, ..Self::default() };
        if let Some(&first) = inodes.first() {
            let waits = open.waits();
            found.waits = waits.found.into_iter().filter(|wait| inodes.contains(&wait.0)).collect();
            // The kernel does not tell of which socket. If there is only one, of that.
            if inodes.len() == 1 {
                found.waits.extend(vec![(first, How::Accept); waits.in_accept]);
                found.waits.extend(waits.by_ring.then_some((first, How::IoUring)));
            }
            found.hidden = waits.hidden;
        }
        found
    }

    fn is_of_interest(&self) -> bool {
        !self.listening.is_empty() || !self.held.is_empty() || self.steers
    }
}

impl Seen {
    fn take(&mut self, running: Running, found: Found) {
        let mut counts: BTreeMap<(u64, How), usize> = BTreeMap::new();
        found.waits.iter().for_each(|wait| *counts.entry(*wait).or_default() += 1);
        for (wait, count) in counts {
            let most = self.waits.entry(wait).or_default();
            *most = count.max(*most);
        }
        // No process waits for a closed socket.
        let opens = |inode: u64| found.listening.iter().any(|socket| socket.1 == inode);
        self.waits.retain(|(inode, _), _| opens(*inode));
        self.accepted_from.iter_mut().for_each(|from| from.retain(|&inode| opens(inode)));
        self.works &= !found.listening.is_empty();
        (self.running, self.last) = (running, found);
    }

    fn pid(&self) -> u32 {
        self.running.pid
    }

    /// Whether it was seen to wait for a socket that it has open.
    fn waits(&self) -> bool {
        !self.waits.is_empty()
    }

    /// Whether it also is a worker if it was not seen to wait.
    fn accepts(&self) -> bool {
        let has_accepted = self.accepted_from.as_ref().is_some_and(|from| !from.is_empty());
        self.waits() || has_accepted || self.works
    }

    /// The listening sockets that it waits for, or accepted from; if there are none, those that it has open.
    pub fn sockets(&self) -> Vec<u64> {
        let accepted = self.accepted_from.iter().flatten().copied();
        let waited: BTreeSet<u64> = self.waits.keys().map(|wait| wait.0).chain(accepted).collect();
        let opened = || self.last.listening.iter().map(|socket| socket.1).collect();
        if waited.is_empty() { opened() } else { waited.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A parent 1 and its child 2, which have the socket open and wait for nothing; the child has these connections.
    fn family(held: &[u64]) -> Finder {
        let mut finder = Finder::new(80, Some(1));
        let found = |held: &[u64]| Found {
            listening: vec![(3, 7)],
            held: held.iter().copied().collect(),
            ..Found::default()
        };
        let running = |pid, parent| Running { pid, parent, started: 0 };
        finder.take(vec![(running(1, 0), found(&[])), (running(2, 1), found(held))]);
        finder
    }

    fn roles(finder: &Finder) -> [Option<Role>; 2] {
        [1, 2].map(|pid| finder.roles().get(&pid).copied())
    }

    fn accepted(finder: &mut Finder, from: [&[u64]; 2]) {
        for (pid, from) in [1, 2].into_iter().zip(from) {
            finder.seen.get_mut(&pid).unwrap().accepted_from = Some(from.iter().copied().collect());
        }
    }

    #[test]
    fn a_busy_process_that_no_look_finds_waiting_is_a_worker_by_its_accepts_or_by_its_cpu_time() {
        let mut finder = family(&[]);
        assert_eq!(roles(&finder), [Some(Role::Holder); 2]);
        accepted(&mut finder, [&[], &[7]]);
        assert_eq!(roles(&finder), [Some(Role::Holder), Some(Role::Worker)]);
        assert_eq!((finder.accepts(1), finder.accepts(2)), (false, true));
        finder.seen.get_mut(&1).unwrap().works = true;
        assert_eq!(roles(&finder), [Some(Role::Worker); 2]);
    }

    #[test]
    fn who_has_connections_and_the_socket_is_a_child_only_if_counts_tell_that_another_accepted_them()
     {
        let mut finder = family(&[50]);
        assert_eq!(roles(&finder), [Some(Role::Holder), Some(Role::Worker)]);
        accepted(&mut finder, [&[], &[]]); // they were there before
        assert_eq!(roles(&finder), [Some(Role::Holder), Some(Role::Worker)]);
        accepted(&mut finder, [&[7], &[]]);
        assert_eq!(roles(&finder), [Some(Role::Acceptor), Some(Role::Child)]);
        accepted(&mut finder, [&[7], &[7]]);
        assert_eq!(roles(&finder), [Some(Role::Worker); 2]);
    }
}
