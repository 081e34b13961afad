//! How the kernel schedules a worker.
//!
//! A process that is woken may preempt the process that runs on its core: a process that has slept is owed
//! CPU time. That is good for an interactive program, and bad for a server on a busy core: the first request
//! wakes a worker, which answers it and sleeps, and so does the next; each costs two context switches. A
//! worker of SCHED_BATCH (sched(7)) does not preempt (`check_preempt_wakeup_fair` in kernel/sched/fair.c):
//! it runs when the other process sleeps or has used up its slice, and then finds all requests that have
//! arrived meanwhile. It needs no capability, and its share of the CPU is the same.
//!
//! What it costs: if a core is busy with a process that does not sleep, a request may wait for the rest of
//! that process's slice, some milliseconds. With a core for each worker it changes nothing. That is why it is
//! not the default; the load-aware policies choose it.

use std::io;

use anyhow::{Context, Result};
use clap::ValueEnum;
use nix::libc;

/// The two settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Schedule {
    /// The default (SCHED_OTHER): a woken worker may preempt the process that runs
    Normal,
    /// A woken worker does not preempt the process that runs (SCHED_BATCH)
    Batch,
}

impl Schedule {
    /// Applies the setting to this process, which has one thread. A process that was not started with the default, for
    /// example with real-time priority, keeps what it has.
    ///
    /// # Errors
    /// When a filter of system calls refuses; the kernel itself does not.
    #[allow(unsafe_code)]
    pub fn set(self) -> Result<()> {
        if self == Self::Normal {
            return Ok(());
        }
        // SAFETY: it takes and returns only numbers.
        if unsafe { libc::sched_getscheduler(0) } != libc::SCHED_OTHER {
            return Ok(()); // it was started like this on purpose, for example by chrt(1)
        }
        let no_priority = libc::sched_param { sched_priority: 0 };
        // SAFETY: the kernel reads the parameter, which outlives the call.
        let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &no_priority) };
        let set = if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
        set.context("cannot have a worker scheduled as SCHED_BATCH; try --schedule normal")
    }
}
