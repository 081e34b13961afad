//! One look at all processes: which of them have sockets and connections of a port, and wait for which.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result};
use procfs::process::{Process, all_processes};

use crate::kernel::open_sockets::{How, OpenSockets, Wait};
use crate::kernel::procfs::Running;

/// The result of one look.
#[derive(Debug, Default)]
pub struct Census {
    /// The processes that have something to do with the port.
    pub found: BTreeMap<u32, Found>,
}

/// One process.
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

impl Census {
    /// Looks at all processes.
    /// Fails when /proc cannot be read.
    pub fn take(listening: &BTreeSet<u64>, accepted: &BTreeSet<u64>) -> Result<Self> {
        let mut census = Self::default();
        for process in all_processes().context("cannot read /proc")?.flatten() {
            // Another user's process, or one that has just ended. Sockets without a process are reported later.
            let Ok(open) = OpenSockets::of(process.pid as u32) else { continue };
            let found = Found::of(&open, listening, accepted);
            if found.is_of_interest() {
                census.found.insert(process.pid as u32, found);
            }
        }
        Ok(census)
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

/// The server of each process: that of its topmost ancestor with the same program. Processes with the same socket
/// belong to the same server, which is that of a process that waits for the socket: systemd may have a socket open
/// that it has passed on.
#[derive(Debug, Default)]
pub struct Families {
    topmost: BTreeMap<u32, u32>,
}

impl Families {
    /// The families of these processes; the processes of each group have a socket in common.
    pub fn of(
        pids: impl Iterator<Item = u32>,
        groups: &[Vec<u32>],
        waits: impl Fn(u32) -> bool,
    ) -> Self {
        let mut topmost: BTreeMap<u32, u32> = pids.map(|pid| (pid, ancestor(pid))).collect();
        for group in groups {
            let tops = |of: &dyn Fn(u32) -> bool| -> BTreeSet<u32> {
                let those = group.iter().filter(|&&pid| of(pid));
                those.filter_map(|pid| topmost.get(pid).copied()).collect()
            };
            let (waiting, tops) = (tops(&waits), tops(&|_| true));
            // The one that was started first made the socket.
            let those = if waiting.is_empty() { &tops } else { &waiting };
            let first = those.iter().copied().min_by_key(|&pid| started(pid));
            let Some(first) = first else { continue };
            topmost.values_mut().filter(|top| tops.contains(top)).for_each(|top| *top = first);
        }
        Self { topmost }
    }

    /// The topmost process of this process's server.
    pub fn server(&self, pid: u32) -> u32 {
        self.topmost.get(&pid).copied().unwrap_or(pid)
    }
}

fn started(pid: u32) -> u64 {
    Running::of(pid).map_or(u64::MAX, |running| running.started)
}

/// The topmost ancestor that runs the same program, or the process itself.
pub fn ancestor(pid: u32) -> u32 {
    let program = program_of(pid);
    let mut topmost = pid;
    while let Some(parent) = Running::of(topmost).map(|it| it.parent).filter(|&it| it > 0)
        && program.is_some()
        && program_of(parent) == program
    {
        topmost = parent;
    }
    topmost
}

/// The file that a process runs or, if that may not be read, its name.
pub fn program_of(pid: u32) -> Option<PathBuf> {
    let process = Process::new(pid as i32).ok()?;
    process.exe().ok().or_else(|| Some(process.stat().ok()?.comm.into()))
}
