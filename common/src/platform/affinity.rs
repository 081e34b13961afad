//! Which CPUs a worker may run on.
//!
//! By default the scheduler moves workers to any free CPU. An administrator who knows on which CPU a
//! connection's packets arrive may want a worker that stays there (RFS does it the other way round, see
//! Documentation/networking/scaling.rst: the packets follow the worker). A worker that is *pinned* to a
//! CPU runs on no other (sched_setaffinity(2), which needs no capability).
//!
//! What it costs: if another process takes the core, or the workers of one core have more to do than
//! those of another, no worker moves. That is why it is not the default.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use clap::ValueEnum;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The two settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Affinity {
    /// The scheduler chooses the CPU, and may move a worker
    Free,
    /// Each worker runs on one CPU; the workers are spread evenly over all CPUs
    Pinned,
}

/// The CPUs that this process may run on, by their numbers.
///
/// # Errors
/// When the kernel does not tell, as on a machine with more than 1024 of them.
pub fn cpus() -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))
        .context("cannot tell which CPUs there are; try --affinity free")?;
    Ok((0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).collect())
}

/// The CPU on which the fewest workers run, the first of several; `None` if there is no CPU.
pub fn emptiest(cpus: &[usize], taken: impl IntoIterator<Item = usize>) -> Option<usize> {
    let mut workers: BTreeMap<usize, usize> = cpus.iter().map(|&cpu| (cpu, 0)).collect();
    for cpu in taken {
        workers.entry(cpu).and_modify(|workers| *workers += 1);
    }
    workers.into_iter().min_by_key(|&(_, workers)| workers).map(|(cpu, _)| cpu)
}

/// Pins the calling thread, and the threads it starts from now on, to this CPU.
///
/// # Errors
/// When this server may no longer use the CPU.
pub fn pin_to(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .with_context(|| format!("cannot pin a worker to CPU {cpu}; try --affinity free"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_emptiest_cpu_is_the_first_of_those_with_the_fewest_workers() {
        assert_eq!(emptiest(&[0, 2, 3], []), Some(0));
        assert_eq!(emptiest(&[0, 2, 3], [0, 3, 3]), Some(2));
        assert_eq!(emptiest(&[0, 2, 3], [2, 0, 3]), Some(0));
        assert_eq!(emptiest(&[2], [0, 2, 7]), Some(2), "workers on CPUs that are ours no more");
        assert_eq!(emptiest(&[], [1]), None);
    }

    #[test]
    fn who_is_pinned_runs_on_that_cpu_alone_and_so_does_what_it_starts() {
        std::thread::spawn(|| {
            let last = *cpus().unwrap().last().unwrap();
            pin_to(last).unwrap();
            assert_eq!(cpus().unwrap(), [last]);
            assert_eq!(std::thread::spawn(cpus).join().unwrap().unwrap(), [last]);
            assert!(pin_to(1023).unwrap_err().to_string().contains("CPU 1023"));
        })
        .join()
        .unwrap();
    }
}
