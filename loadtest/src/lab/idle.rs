//! Idle workers: waits until all workers of a server are idle, and stops one of them.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procfs::ProcResult;
use procfs::process::{Process, Task};

use crate::interrupt;
use crate::server::Server;

/// How often the workers' threads are looked at. Longer than it takes from a wake-up to a visible
/// change of state.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// How long it may take until all sleep: far longer than it ever does.
const PATIENCE: Duration = Duration::from_secs(10);

/// A worker that is stopped until this is dropped.
pub struct Stopped(u32);

impl Stopped {
    /// Stops the worker and waits until all its threads have stopped.
    pub fn new(worker: u32) -> Result<Self> {
        let stopped = Self(worker);
        stopped.send(Signal::SIGSTOP, "a worker to stop", |state| state == 'T')?;
        Ok(stopped)
    }

    fn send(&self, signal: Signal, what: &str, is_so: fn(char) -> bool) -> Result<()> {
        // If the worker has died meanwhile, the next line fails and says so.
        let _ = kill(Pid::from_raw(self.0 as i32), signal);
        wait_for(what, || Ok(threads(self.0)?.iter().all(|thread| is_so(thread.state))))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // The signal acts with a delay: until then the worker still shows as stopped, and so as quiet.
        let _ = self.send(Signal::SIGCONT, "a worker to go on", |state| state != 'T');
    }
}

/// Waits until no connection is open, and until all threads of all workers sleep or are stopped and
/// none has run between two looks. Each of the two may take 10 s.
pub fn settle(server: &mut Server) -> Result<()> {
    server.wait_until_idle(PATIENCE);
    let mut before = Vec::new();
    wait_for("all workers to sleep", || {
        let now: Vec<_> = server.worker_pids().into_iter().map(threads).collect::<Result<_>>()?;
        let mut all = now.iter().flatten();
        let is_quiet = now == before && all.all(|thread| "ST".contains(thread.state));
        before = now;
        Ok(is_quiet)
    })
}

/// How often the accept thread of each worker has left the CPU. `None` except with blocking: with the
/// other policies the event loop itself waits.
pub fn accept_threads(server: &mut Server) -> Result<Vec<Option<u64>>> {
    let switches = |pid| -> Result<Option<u64>> {
        Ok(threads(pid)?.iter().find(|thread| thread.name == "accept").map(|thread| thread.left))
    };
    server.worker_pids().into_iter().map(switches).collect()
}

#[derive(PartialEq)]
struct Thread {
    name: String,
    /// The letter of ps(1): R, S, T.
    state: char,
    /// How often the thread has left the CPU.
    left: u64,
}

fn threads(pid: u32) -> Result<Vec<Thread>> {
    let thread = |task: ProcResult<Task>| {
        let task = task?;
        let (stat, status) = (task.stat()?, task.status()?);
        let switches = [status.voluntary_ctxt_switches, status.nonvoluntary_ctxt_switches];
        let left = switches.into_iter().flatten().sum();
        Ok(Thread { name: stat.comm, state: stat.state, left })
    };
    let read = || Process::new(pid as i32)?.tasks()?.map(thread).collect::<ProcResult<_>>();
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
        ensure!(begin.elapsed() < PATIENCE, "timed out waiting for {what}");
    }
}
