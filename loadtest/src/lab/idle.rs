//! Workers that are idle: waits until all of a server's are, and stops one that is.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procfs::process::{Process, Task};

use crate::interrupt;
use crate::server::Server;

/// How often the workers' threads are looked at. Longer than it takes from a wake-up to a state
/// that can be seen.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// How long it may take until all sleep: far longer than it ever does.
const PATIENCE: Duration = Duration::from_secs(10);

/// A worker that stands still, until this is dropped.
pub struct Stopped(u32);

impl Stopped {
    /// Stops it and waits until all its threads stand.
    ///
    /// # Errors
    /// When it cannot be seen, or goes on for 10 s.
    pub fn new(worker: u32) -> Result<Self> {
        let stopped = Self(worker);
        stopped.send(Signal::SIGSTOP);
        let is_stopped = || Ok(threads(worker)?.iter().all(|thread| thread.state == 'T'));
        wait_for("a worker to stop", is_stopped)?;
        Ok(stopped)
    }

    fn send(&self, signal: Signal) {
        // If it has died meanwhile, what follows fails and says so.
        let _ = kill(Pid::from_raw(self.0 as i32), signal);
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.send(Signal::SIGCONT);
        // It goes on in its own time: until then it shows as stopped, and so as quiet.
        let goes_on = || Ok(threads(self.0)?.iter().all(|thread| thread.state != 'T'));
        let _ = wait_for("a worker to go on", goes_on);
    }
}

/// Waits until no connection is open, and all threads of all workers sleep, or are stopped, and
/// none has run between two looks.
///
/// # Errors
/// When that takes more than 10 s, and after Ctrl-C.
pub fn settle(server: &mut Server) -> Result<()> {
    server.wait_until_idle(PATIENCE);
    let look = |server: &mut Server| -> Result<Vec<Thread>> {
        Ok(server.worker_pids().into_iter().map(threads).collect::<Result<Vec<_>>>()?.concat())
    };
    let mut before = look(server)?;
    wait_for("all workers to sleep", || {
        let now = look(server)?;
        let is_quiet = now == before && now.iter().all(|thread| "ST".contains(thread.state));
        before = now;
        Ok(is_quiet)
    })
}

/// A worker's thread.
#[derive(Clone, PartialEq)]
struct Thread {
    name: String,
    /// As ps(1) names it: R, S, T.
    state: char,
    /// How often it has left the CPU.
    left: u64,
}

/// How often the waiting thread of each worker has left the CPU. With epoll and least-conn there is none:
/// there the event loop itself waits.
///
/// # Errors
/// When a worker cannot be seen.
pub fn waiters(server: &mut Server) -> Result<Vec<Option<u64>>> {
    let waiter = |pid| -> Result<Option<u64>> {
        Ok(threads(pid)?.iter().find(|thread| thread.name == "waiter").map(|thread| thread.left))
    };
    server.worker_pids().into_iter().map(waiter).collect()
}

/// A process's threads.
fn threads(pid: u32) -> Result<Vec<Thread>> {
    let read = || -> procfs::ProcResult<Vec<Thread>> {
        let thread = |task: Task| -> procfs::ProcResult<Thread> {
            let (stat, status) = (task.stat()?, task.status()?);
            let switches = [status.voluntary_ctxt_switches, status.nonvoluntary_ctxt_switches];
            let left = switches.into_iter().flatten().sum();
            Ok(Thread { name: stat.comm, state: stat.state, left })
        };
        Process::new(pid as i32)?.tasks()?.map(|task| thread(task?)).collect()
    };
    read().with_context(|| format!("cannot see what worker {pid} does"))
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    loop {
        sleep(LOOK_EVERY);
        interrupt::check()?;
        if is_so()? {
            return Ok(());
        }
        ensure!(begin.elapsed() < PATIENCE, "waited for {what} in vain");
    }
}
