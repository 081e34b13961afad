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
//! that process's slice, some milliseconds. On mostly idle cores there is nothing to gain, and this may still
//! happen: the client runs on some core. So a worker can be scheduled [by load](ByLoad), which the load-aware
//! policies choose.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::mem::replace;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use nix::libc;

/// How long a worker runs and waits is looked at so often.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Schedule {
    /// The default (SCHED_OTHER): a woken worker may preempt the process that runs
    Normal,
    /// A woken worker does not preempt the process that runs (SCHED_BATCH)
    Batch,
    /// Batch while the worker waits longer for a core than it runs, normal otherwise
    ByLoad,
}

impl Schedule {
    /// Applies the setting to this process, which has one thread. With [`Self::ByLoad`] it gives what must look at the
    /// load from then on. A process that was not started with the default, for example with real-time priority, keeps
    /// what it has.
    ///
    /// # Errors
    /// When a filter of system calls refuses; the kernel itself does not. By load, when there is no /proc, too.
    #[allow(unsafe_code)]
    pub fn set(self) -> Result<Option<ByLoad>> {
        // SAFETY: it takes and returns only numbers.
        if unsafe { libc::sched_getscheduler(0) } != libc::SCHED_OTHER {
            return Ok(None); // it was started like this on purpose, for example by chrt(1)
        }
        let by_load = match self {
            Self::Normal => return Ok(None),
            Self::Batch => set_policy(libc::SCHED_BATCH).map(|()| None),
            Self::ByLoad => ByLoad::begin().map(Some),
        };
        by_load.with_context(|| {
            let way = if self == Self::Batch { "as SCHED_BATCH" } else { "by load" };
            format!("cannot have a worker scheduled {way}; try --schedule normal")
        })
    }
}

/// Schedules this process as SCHED_BATCH while cores are busy: while it waits for a core longer than it runs.
///
/// That is a ratio, so it says the same of one of 4 workers and of one of 256. With all cores busy, workers waited 1.0 to
/// 2 times as long as they ran; at half the load 0.1 to 0.7 times.
#[derive(Debug)]
pub struct ByLoad {
    /// Since the process began: nanoseconds that it ran, and that it waited for a core.
    schedstat: File,
    ran: u64,
    waited: u64,
    is_batch: bool,
}

impl ByLoad {
    fn begin() -> io::Result<Self> {
        // Refused at once, or never.
        set_policy(libc::SCHED_BATCH)?;
        set_policy(libc::SCHED_OTHER)?;
        let schedstat = File::open("/proc/self/schedstat")?;
        Ok(Self { schedstat, ran: 0, waited: 0, is_batch: false })
    }

    /// Looks at the time since the last look, and sets what fits it.
    pub fn look(&mut self) {
        let Some((ran, waited)) = self.read() else { return };
        let ran_now = ran.saturating_sub(replace(&mut self.ran, ran));
        let waited_now = waited.saturating_sub(replace(&mut self.waited, waited));
        let is_batch = waited_now > ran_now;
        if is_batch != replace(&mut self.is_batch, is_batch) {
            // It was allowed at the beginning.
            let _ = set_policy(if is_batch { libc::SCHED_BATCH } else { libc::SCHED_OTHER });
        }
    }

    /// Looks four times a second, for a program that has no such clock of its own.
    pub async fn keep_looking(mut self) -> Infallible {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.look();
        }
    }

    fn read(&self) -> Option<(u64, u64)> {
        let mut text = [0; 64];
        let length = self.schedstat.read_at(&mut text, 0).ok()?;
        let mut numbers = std::str::from_utf8(&text[..length]).ok()?.split_ascii_whitespace();
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }
}

#[allow(unsafe_code)]
fn set_policy(policy: libc::c_int) -> io::Result<()> {
    let no_priority = libc::sched_param { sched_priority: 0 };
    // SAFETY: the kernel reads the parameter, which outlives the call.
    let result = unsafe { libc::sched_setscheduler(0, policy, &no_priority) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_waited_longer_than_it_ran_is_batch_until_it_no_longer_does() {
        // In a thread, since tests share a process, and the kernel schedules threads.
        let ended = std::thread::spawn(|| {
            let file = tempfile::NamedTempFile::new().unwrap();
            let mut by_load = ByLoad::begin().unwrap();
            by_load.schedstat = file.reopen().unwrap();
            // Of all its life: nanoseconds run and waited, and the number of runs.
            for (text, expected) in [
                ("1000 999 7\n", libc::SCHED_OTHER),
                ("1100 1100 8\n", libc::SCHED_BATCH),
                ("5000 4000 9\n", libc::SCHED_OTHER),
                ("5000 4000 9\n", libc::SCHED_OTHER),
                ("5010 4011 9\n", libc::SCHED_BATCH),
            ] {
                std::fs::write(file.path(), text).unwrap();
                by_load.look();
                assert_eq!(policy(), expected, "{text}");
            }
        });
        ended.join().unwrap();
    }

    #[allow(unsafe_code)]
    fn policy() -> libc::c_int {
        // SAFETY: it takes and returns only numbers.
        unsafe { libc::sched_getscheduler(0) }
    }
}
