//! Which processes belong to the same server.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use procfs::process::Process;

use crate::kernel::procfs::{Running, ancestors, stat};

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
    let same = ancestors(pid).take_while(|&it| program.is_some() && program_of(it) == program);
    same.last().unwrap_or(pid)
}

/// The file that a process runs or, if that may not be read, its name.
pub fn program_of(pid: u32) -> Option<PathBuf> {
    let file = Process::new(pid as i32).and_then(|process| process.exe());
    file.ok().or_else(|| Some(stat(pid)?.comm.into()))
}
