//! Does to a server what the plan says.
//!
//! On a thread of its own: what a fault costs depends on what is under way at that moment, and the
//! thread that asks would do it in the same moment of its round each time, such as when it has just
//! got its answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::kernel::family;
use crate::probe::fault::{Due, Kind};
use crate::server::Server;
use crate::warnings::Warning;

/// How soon workers must be gone after their parent was killed.
const GONE_WITHIN: Duration = Duration::from_secs(1);

/// How often it looks whether the run is over.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Something that was done to the server.
#[derive(Clone, Debug)]
pub struct Struck {
    /// When, from the start of the load.
    pub at: Duration,
    /// What.
    pub kind: Kind,
    /// The `--fault` that asked for it.
    pub asked: Arc<str>,
    /// To whom; `None` when there was nobody left to do it to.
    pub pid: Option<u32>,
}

/// Does the faults of a plan to a server, and puts right at the end what they left.
pub struct Injector<'a> {
    server: &'a mut Server,
    /// Workers that were sent SIGSTOP and not yet SIGCONT or SIGKILL.
    stopped: Vec<u32>,
    /// The workers that a killed parent left behind.
    orphans: Vec<Orphan>,
    /// When it did.
    killed_parent: Option<Instant>,
}

/// A process by more than its id, which the kernel gives to others once it is gone.
struct Orphan {
    pid: u32,
    started: u64,
}

impl<'a> Injector<'a> {
    /// Nothing is done yet.
    pub fn new(server: &'a mut Server) -> Self {
        Self { server, stopped: Vec::new(), orphans: Vec::new(), killed_parent: None }
    }

    /// Does everything in the plan when it is due, or what it can until the run is over. Gives
    /// what it did.
    pub fn run(&mut self, plan: Vec<Due>, start: Instant, over: &AtomicBool) -> Vec<Struck> {
        let mut done = Vec::new();
        for Due { at, kind, asked } in plan {
            while let Some(left) = at.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
                sleep(left.min(LOOK_EVERY));
                // What workers hold is remembered for when they are stopped.
                let _ = self.server.sample();
                if over.load(Relaxed) {
                    return done;
                }
            }
            // Before it is done, or what is lost by it could seem to be lost before it.
            let at = start.elapsed();
            let pid = self.strike(kind);
            done.push(Struck { at, kind, asked, pid });
        }
        done
    }

    /// Ends what it did. Gives what a reader should know of it.
    pub fn finish(mut self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        if let Some(at) = self.killed_parent {
            while self.orphans.iter().any(Orphan::runs) && at.elapsed() < GONE_WITHIN {
                sleep(LOOK_EVERY);
            }
            for Orphan { pid, .. } in self.orphans.drain(..).filter(Orphan::runs) {
                signal(pid, Signal::SIGKILL);
                warnings.push(Warning::Orphan { pid });
            }
        }
        warnings
    }

    /// Does one thing. Gives the process that it was done to, if there was one.
    ///
    /// A process id is only ever taken from the server's scoreboard while its parent lives, which
    /// takes those of the dead out: a signal must not reach a stranger.
    fn strike(&mut self, kind: Kind) -> Option<u32> {
        if self.server.has_ended() {
            return None;
        }
        let to_parent = match kind {
            Kind::StopWorker => {
                let pid = {
                    let workers = self.server.busiest();
                    workers.into_iter().find(|pid| !self.stopped.contains(pid))?
                };
                signal(pid, Signal::SIGSTOP);
                self.stopped.push(pid);
                return Some(pid);
            }
            Kind::ContinueWorker => return self.continue_stopped(),
            Kind::KillWorker => {
                let there = self.server.worker_pids();
                let stopped = self.stopped.pop().filter(|pid| there.contains(pid));
                let pid = stopped.or_else(|| self.server.busiest().first().copied())?;
                signal(pid, Signal::SIGKILL);
                return Some(pid);
            }
            Kind::KillParent => {
                let workers = self.server.worker_pids();
                let own = workers.into_iter().filter(|&pid| self.server.is_parent_of(pid));
                self.orphans = own.filter_map(Orphan::of).collect();
                self.killed_parent = Some(Instant::now());
                Signal::SIGKILL
            }
            // One whose signal is not known was refused before the load began.
            Kind::Signal(action) => self.server.signals().signal(action).ok()?,
        };
        self.server.signal(to_parent);
        self.server.pid()
    }

    /// Gives the last of those that it continued.
    fn continue_stopped(&mut self) -> Option<u32> {
        let there = self.server.worker_pids();
        let mut last = None;
        for pid in self.stopped.drain(..).filter(|pid| there.contains(pid)) {
            signal(pid, Signal::SIGCONT);
            last = Some(pid);
        }
        last
    }
}

impl Drop for Injector<'_> {
    fn drop(&mut self) {
        // A stopped worker could not end.
        if !self.server.has_ended() {
            self.continue_stopped();
        }
    }
}

impl Orphan {
    fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, started: family::started(pid)? })
    }

    fn runs(&self) -> bool {
        family::runs(self.pid, self.started)
    }
}

/// It may have ended just now; then there is nobody to tell.
fn signal(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid as i32), signal);
}
