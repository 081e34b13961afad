//! How the kernel schedules a worker.
//!
//! A process that is woken may take the core from the one that runs there: whoever has slept is owed
//! CPU time. That is good for one who types, and bad for a server whose core has other things to do:
//! the first request wakes a worker, which answers it and sleeps, and so for the next; each costs two
//! context switches. A worker of SCHED_BATCH (sched(7)) does not preempt (`check_preempt_wakeup_fair`
//! in kernel/sched/fair.c): it runs when whoever runs sleeps, or has used up its turn, and finds all
//! that has come meanwhile. No right is needed for it, and its share of the CPU is the same.
//!
//! What it costs: a request may wait for the rest of somebody else's turn, some milliseconds, where a
//! core is busy with something that does not sleep. Where each worker has a core to itself it changes
//! nothing. That is why it is no default; the policies that look at the load choose it.

use std::io;

use anyhow::{Context, Result};
use clap::ValueEnum;
use nix::libc;

/// The two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Schedule {
    /// The default (SCHED_OTHER): a woken worker may preempt the process that runs
    Normal,
    /// A woken worker does not preempt the process that runs (SCHED_BATCH)
    Batch,
}

impl Schedule {
    /// Has this process, which has one thread yet, scheduled like this.
    ///
    /// # Errors
    /// When the kernel refuses; it does not, unless a filter of system calls does.
    #[allow(unsafe_code)]
    pub fn set(self) -> Result<()> {
        if self == Self::Normal {
            return Ok(()); // as it was started, whatever that was
        }
        let no_priority = libc::sched_param { sched_priority: 0 };
        // SAFETY: the kernel reads the parameter, which lives until it has.
        let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &no_priority) };
        let set = if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
        set.context("cannot have a worker scheduled as SCHED_BATCH; try --schedule normal")
    }
}
