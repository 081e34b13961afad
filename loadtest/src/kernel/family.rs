//! A process and all that came of it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use procfs::process::{Process, Stat, all_processes};

/// One process that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub struct Relative {
    pub pid: u32,
    pub parent: u32,
    /// In clock ticks since the boot: an id alone is given to others later.
    pub started: u64,
}

/// A process, its descendants, and what else is in the process group that it leads, by process id:
/// those that run, dead ones that wait to be reaped left out.
///
/// # Errors
/// When /proc cannot be read.
pub fn of(root: u32) -> Result<Vec<Relative>> {
    let all = all_processes().context("cannot read /proc")?.flatten();
    // Processes come and go while we look.
    let all: BTreeMap<i32, Stat> =
        all.filter_map(|process| Some((process.pid, process.stat().ok()?))).collect();
    let root = root as i32;
    let belongs = |stat: &Stat| {
        let mut ancestors = std::iter::successors(Some(stat), |stat| all.get(&stat.ppid));
        stat.pgrp == root || ancestors.any(|stat| stat.pid == root)
    };
    let relatives = all.values().filter(|stat| stat.state != 'Z' && belongs(stat));
    Ok(relatives
        .map(|stat| Relative {
            pid: stat.pid as u32,
            parent: stat.ppid as u32,
            started: stat.starttime,
        })
        .collect())
}

/// When a process that runs was started, in clock ticks since the boot.
pub fn started(pid: u32) -> Option<u64> {
    let stat = Process::new(pid as i32).ok()?.stat().ok()?;
    (stat.state != 'Z').then_some(stat.starttime)
}

/// Whether the process that was started then still runs. One that is dead and waits to be reaped, by
/// somebody who may never do so, does not.
pub fn runs(pid: u32, started: u64) -> bool {
    self::started(pid) == Some(started)
}

/// The process's parent.
pub fn parent(pid: u32) -> Option<u32> {
    Some(Process::new(pid as i32).ok()?.stat().ok()?.ppid as u32)
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_child_belongs_to_its_parent_as_long_as_it_runs() {
        let own = std::process::id();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let started = started(child.id()).unwrap();
        let expected = Relative { pid: child.id(), parent: own, started };
        assert!(of(own).unwrap().contains(&expected));
        assert_eq!(of(child.id()).unwrap(), [expected]);
        assert!(runs(child.id(), started) && !runs(child.id(), started + 1));

        child.kill().unwrap();
        let begin = Instant::now();
        while runs(child.id(), started) {
            assert!(begin.elapsed() < Duration::from_secs(20));
        }
        assert!(!of(own).unwrap().contains(&expected), "it is dead, and nobody has reaped it yet");
        child.wait().unwrap();
        assert!(!runs(child.id(), started));
    }
}
