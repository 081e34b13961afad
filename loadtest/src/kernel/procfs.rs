//! Processes as /proc shows them: CPU time, context switches, descendants.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use procfs::FromRead;
use procfs::process::{Process, Stat, all_processes};
use serde::{Deserialize, Serialize};

/// CPU time in seconds.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct CpuSeconds {
    /// In the program.
    pub user: f64,
    /// In the kernel, on its behalf.
    pub system: f64,
}

impl CpuSeconds {
    /// What a process has used, exact to a clock tick (10 ms).
    pub fn of(stat: &Stat) -> Self {
        let tick = procfs::ticks_per_second() as f64;
        Self { user: stat.utime as f64 / tick, system: stat.stime as f64 / tick }
    }

    /// User and system together.
    pub fn total(&self) -> f64 {
        self.user + self.system
    }
}

/// How often a process left the CPU.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct ContextSwitches {
    /// Because it had nothing to do.
    pub voluntary: u64,
    /// Because the kernel gave it to another process.
    pub involuntary: u64,
}

/// A process's counters, since its start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// CPU time from `/proc/PID/stat`, each exact to a clock tick (10 ms).
    pub cpu: CpuSeconds,
    /// CPU time of its threads from `schedstat`, exact to the nanosecond, but user and system together; 0 if the
    /// kernel does not count it.
    pub cpu_nanoseconds: u64,
    /// Time that its threads were ready to run and waited for a core, from `schedstat`.
    pub wait_nanoseconds: u64,
    /// The context switches of all its threads.
    pub switches: ContextSwitches,
    /// How many threads it has now.
    pub threads: u64,
}

/// Clock ticks by which `stat` may differ from `schedstat` for the same threads.
const TICKS_INEXACT: f64 = 3.0;

impl Usage {
    /// Reads the counters.
    /// Fails when there is no such process.
    pub fn of(pid: u32) -> Result<Self> {
        Self::read(pid).with_context(|| format!("cannot read the counters of process {pid}"))
    }

    fn read(pid: u32) -> procfs::ProcResult<Self> {
        let process = Process::new(pid as i32)?;
        let stat = process.stat()?;
        let mut usage = Self {
            cpu: CpuSeconds::of(&stat),
            threads: stat.num_threads.max(1) as u64,
            ..Self::default()
        };
        for task in process.tasks()?.flatten() {
            let Ok(status) = task.status() else { continue }; // this thread has just ended
            usage.switches.voluntary += status.voluntary_ctxt_switches.unwrap_or(0);
            usage.switches.involuntary += status.nonvoluntary_ctxt_switches.unwrap_or(0);
            // It does not exist without CONFIG_SCHEDSTATS or CONFIG_SCHED_INFO.
            if let Ok(stat) = task.schedstat() {
                usage.cpu_nanoseconds += stat.sum_exec_runtime;
                usage.wait_nanoseconds += stat.run_delay;
            }
        }
        Ok(usage)
    }

    /// CPU time in seconds, as exactly as this kernel counts it. Only `stat` counts threads that have ended: a server
    /// may have one for each connection.
    pub fn cpu_seconds(&self) -> f64 {
        let (exact, all) = (self.cpu_nanoseconds as f64 / 1e9, self.cpu.total());
        let may_differ = TICKS_INEXACT / procfs::ticks_per_second() as f64;
        if exact > 0.0 && all <= exact + may_differ { exact } else { all }
    }

    /// The difference to an earlier reading of the same process.
    pub fn since(&self, earlier: &Self) -> Self {
        let seconds = |of: fn(&Self) -> f64| (of(self) - of(earlier)).max(0.0);
        let count = |of: fn(&Self) -> u64| of(self).saturating_sub(of(earlier));
        Self {
            cpu: CpuSeconds { user: seconds(|u| u.cpu.user), system: seconds(|u| u.cpu.system) },
            cpu_nanoseconds: count(|u| u.cpu_nanoseconds),
            wait_nanoseconds: count(|u| u.wait_nanoseconds),
            switches: ContextSwitches {
                voluntary: count(|u| u.switches.voluntary),
                involuntary: count(|u| u.switches.involuntary),
            },
            threads: self.threads,
        }
    }
}

/// Time that a process's threads were ready to run and waited for a core. Cheaper than reading all counters, for use
/// during a measurement.
pub fn waited(pid: u32) -> Option<Duration> {
    let tasks = Process::new(pid as i32).ok()?.tasks().ok()?;
    let waits = tasks.flatten().filter_map(|task| Some(task.schedstat().ok()?.run_delay));
    Some(Duration::from_nanos(waits.sum()))
}

/// CPU time of this program.
pub fn own_cpu() -> Duration {
    // It cannot fail for the calling process.
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Duration::ZERO };
    let micros = |time: TimeVal| time.num_microseconds() as u64;
    Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
}

/// A process that runs. A zombie does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub struct Running {
    pub pid: u32,
    pub parent: u32,
    /// In clock ticks since the boot: ids are reused, so an id alone does not identify a process.
    pub started: u64,
}

impl Running {
    /// The process of this id.
    pub fn of(pid: u32) -> Option<Self> {
        Self::from_stat(&stat(pid)?)
    }

    fn from_stat(stat: &Stat) -> Option<Self> {
        let (pid, parent) = (stat.pid as u32, stat.ppid as u32);
        (stat.state != 'Z').then_some(Self { pid, parent, started: stat.starttime })
    }

    /// Whether it still runs, and its id was not reused.
    pub fn runs(&self) -> bool {
        Self::of(self.pid).is_some_and(|now| now.started == self.started)
    }
}

/// What `/proc/PID/stat` tells of a process.
pub fn stat(pid: u32) -> Option<Stat> {
    Stat::from_file(format!("/proc/{pid}/stat")).ok()
}

/// A process, its parent, and so on.
pub fn ancestors(pid: u32) -> impl Iterator<Item = u32> {
    let parent = |pid: &u32| Running::of(*pid).map(|it| it.parent).filter(|&it| it > 0);
    std::iter::successors(Some(pid), parent)
}

/// A process, its descendants, and the other members of its process group, by process id.
/// Fails when /proc cannot be read.
pub fn family(root: u32) -> Result<Vec<Running>> {
    let (all, root) = (all_stats()?, root as i32);
    let belongs = |stat: &&Stat| {
        let mut ancestors = std::iter::successors(Some(*stat), |stat| all.get(&stat.ppid));
        stat.pgrp == root || ancestors.any(|stat| stat.pid == root)
    };
    Ok(all.values().filter(belongs).filter_map(Running::from_stat).collect())
}

/// The descendants of any of these processes.
/// Fails when /proc cannot be read.
pub fn descendants(roots: &BTreeSet<u32>) -> Result<Vec<Running>> {
    let all = all_stats()?;
    let descends = |stat: &&Stat| {
        let mut ancestors = std::iter::successors(all.get(&stat.ppid), |stat| all.get(&stat.ppid));
        ancestors.any(|stat| roots.contains(&(stat.pid as u32)))
    };
    Ok(all.values().filter(descends).filter_map(Running::from_stat).collect())
}

fn all_stats() -> Result<BTreeMap<i32, Stat>> {
    let all = all_processes().context("cannot read /proc")?.flatten();
    // Processes come and go meanwhile.
    Ok(all.filter_map(|process| Some((process.pid, process.stat().ok()?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::time::Instant;

    #[test]
    fn cpu_time_that_was_burnt_and_naps_that_were_taken_are_counted() {
        // A process of its own: this one's threads come and go with the tests that they run.
        let burn = "i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done; sleep 0.001; read end";
        let mut child =
            Command::new("sh").args(["-c", burn]).stdin(Stdio::piped()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let used = Usage::of(child.id()).unwrap();
            if used.cpu.total() > 0.0 && used.cpu_nanoseconds > 0 && used.switches.voluntary > 0 {
                break;
            }
            assert!(Instant::now() < deadline, "{used:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let refusal = Usage::of(u32::MAX / 2).unwrap_err().to_string();
        assert!(refusal.contains(&(u32::MAX / 2).to_string()));
    }

    #[test]
    fn threads_that_have_ended_count_as_far_as_the_kernel_tells() {
        let cpu = CpuSeconds { user: 0.20, system: 0.10 };
        for (nanoseconds, seconds) in [(0, 0.3), (295_000_000, 0.295), (10_000_000, 0.3)] {
            let usage = Usage { cpu, cpu_nanoseconds: nanoseconds, ..Usage::default() };
            assert!((usage.cpu_seconds() - seconds).abs() < 1e-9, "{nanoseconds}");
        }
    }

    #[test]
    fn a_child_belongs_to_its_parent_as_long_as_it_runs() {
        let own = std::process::id();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let running = Running::of(child.id()).unwrap();
        assert_eq!((running.pid, running.parent), (child.id(), own));
        assert!(family(own).unwrap().contains(&running));
        assert_eq!(family(child.id()).unwrap(), [running]);
        assert!(running.runs() && !Running { started: running.started + 1, ..running }.runs());

        child.kill().unwrap();
        let begin = Instant::now();
        while running.runs() {
            assert!(begin.elapsed() < Duration::from_secs(20));
        }
        let is_left = family(own).unwrap().contains(&running);
        assert!(!is_left, "it is dead, and nobody has reaped it yet");
        child.wait().unwrap();
        assert!(!running.runs());
    }

    #[test]
    fn processes_that_were_started_by_those_it_started_belong_to_it() {
        let mut child = Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
        let grandchild = loop {
            let mut all = family(std::process::id()).unwrap().into_iter();
            if let Some(found) = all.find(|process| process.parent == child.id()) {
                break found;
            }
        };
        assert!(family(child.id()).unwrap().contains(&grandchild));
        let roots = [std::process::id(), child.id()];
        for root in roots {
            let found = descendants(&BTreeSet::from([root])).unwrap();
            assert!(found.contains(&grandchild) && found.iter().all(|it| it.pid != root));
        }
        let pid = nix::unistd::Pid::from_raw(grandchild.pid as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        child.wait().unwrap();
    }
}
