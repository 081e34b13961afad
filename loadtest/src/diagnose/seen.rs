//! What was seen of one process, in all looks of an observation.

use std::collections::{BTreeMap, BTreeSet};

use common::kernel::port_owner::name_of;
use procfs::process::Process;

use crate::diagnose::census::{Found, program_of};
use crate::diagnose::model::{How, Role, Worker};
use crate::kernel::procfs::{Running, Usage};

/// What was seen of a process.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Identifies the process: its number may be reused.
    pub running: Option<Running>,
    pub before: Usage,
    /// Its sockets, with the greatest number of its waiters on each, for each way.
    pub waits: BTreeMap<(u64, How), usize>,
    pub last: Found,
    /// Whether it had connections that no waiting process had.
    pub had_connections: bool,
    pub appeared: u64,
}

impl Seen {
    /// Adds what a look has found; `of_waiting` are the connections of processes that wait for the port.
    pub fn take(&mut self, found: Found, of_waiting: &BTreeSet<u64>) {
        let mut counts: BTreeMap<(u64, How), usize> = BTreeMap::new();
        found.waits.iter().for_each(|wait| *counts.entry(*wait).or_default() += 1);
        for (wait, count) in counts {
            let most = self.waits.entry(wait).or_default();
            *most = count.max(*most);
        }
        // No process waits for a closed socket.
        self.waits.retain(|(inode, _), _| found.listening.iter().any(|socket| socket.1 == *inode));
        self.had_connections |= found.held.difference(of_waiting).next().is_some();
        self.last = found;
    }

    /// The process as a worker, with what it has used since `before`.
    pub fn worker(&self, running: Running, role: Role, server: u32, seconds: f64) -> Worker {
        let pid = running.pid;
        let used = Usage::of(pid).unwrap_or(self.before).since(&self.before);
        let wait = used.wait_nanoseconds as f64 / 1e9 / seconds;
        let waited: BTreeSet<u64> = self.waits.keys().map(|wait| wait.0).collect();
        let opened = self.last.listening.iter().map(|socket| socket.1).collect();
        Worker {
            pid,
            name: name_of(pid).unwrap_or_default(),
            program: program_of(pid).map(|path| path.to_string_lossy().into_owned()),
            server,
            role,
            started: running.started as f64 / procfs::ticks_per_second() as f64,
            sockets: Vec::from_iter(if waited.is_empty() { opened } else { waited }),
            held: self.last.held.len() as u64,
            accepted: self.appeared,
            is_counted: false, // seen in looks
            cpu: used.cpu_seconds() / seconds,
            waited: (used.cpu_nanoseconds > 0 || used.wait_nanoseconds > 0).then_some(wait),
            switches: used.switches.voluntary,
            state: state_of(pid).unwrap_or('X'),
            sits_in: place_of(pid),
        }
    }
}

fn state_of(pid: u32) -> Option<char> {
    Some(Process::new(pid as i32).ok()?.stat().ok()?.state)
}

/// The kernel function in which a process waits, without suffixes of the compiler.
fn place_of(pid: u32) -> Option<String> {
    let place = std::fs::read_to_string(format!("/proc/{pid}/wchan")).ok()?;
    let name = place.split('.').next().unwrap_or_default();
    (!matches!(name, "" | "0")).then(|| name.to_owned())
}
