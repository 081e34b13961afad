//! A load on a server with faults.
//!
//! A separate thread injects the faults: the cost of a fault depends on the requests under way at that
//! moment, and the thread of the client would always choose the same moment of its round, for example
//! when it has just got its answers.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::kernel::procfs::Running;
use crate::probe::counters::Counters;
use crate::probe::fault::{Fault, FaultRecord, plan};
use crate::probe::fault_impact::measure_impact;
use crate::probe::load::Load;
use crate::probe::run::run;
use crate::server::signals::{Action, Signals};
use crate::server::{Kind, Server, Spec};
use crate::warnings::Warning;

/// How soon workers must have ended after their parent was killed.
const GONE_WITHIN: Duration = Duration::from_secs(1);

/// How often the injector checks whether the run is over.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long before a fault it is looked at who serves. If that takes longer, the fault is late.
const READY: Duration = Duration::from_millis(100);

/// The result.
pub struct FaultRun {
    /// The prober's counters.
    pub counters: Counters,
    /// The faults and their impact.
    pub faults: Vec<FaultRecord>,
    /// Whether one of them ended the server.
    pub ended_the_server: bool,
    /// Warnings: a failure of the prober comes first; processes that had to be killed; faults that did not happen, or
    /// had no process to act on.
    pub warnings: Vec<Warning>,
}

impl FaultRun {
    /// The run, unless the prober failed, or a fault was not injected: that would leave a perfect result.
    pub fn whole(self) -> Result<Self> {
        use Warning::{FaultsNotReached, FaultsWithoutTarget, ProberFailed};
        let is_fatal = |it: &&Warning| {
            matches!(it, ProberFailed { .. } | FaultsNotReached { .. } | FaultsWithoutTarget { .. })
        };
        match self.warnings.iter().find(is_fatal) {
            Some(failed) => bail!("{failed}"),
            None => Ok(self),
        }
    }
}

/// The signals that a server's parent understands, including those of the user.
///
/// # Errors
/// When one of the user's is not valid, and when a fault is impossible: its signal is not known, or the
/// server is not started here.
pub fn signals_for(spec: &Spec, told: &[String], faults: &[Fault]) -> Result<Signals> {
    let mut signals = Signals::of_spec(spec);
    told.iter().try_for_each(|text| signals.set(text))?;
    if let (Kind::Running { url }, Some(fault)) = (&spec.kind, faults.first()) {
        bail!("--fault {fault} cannot be done to {url}, which was not started here");
    }
    for fault in faults {
        if fault.kind().is_by_signal() {
            signals.signal(fault.kind())?;
        }
    }
    Ok(signals)
}

/// Loads a server from now on, and injects these faults, each when it is due. If the prober fails, the counters and
/// faults until then are the result.
///
/// `look` is called every few milliseconds with the time that has passed.
/// Fails when the prober fails before anything is answered, and after a second Ctrl-C.
pub fn run_with_faults(
    server: &mut Server,
    load: &Load,
    faults: &[Fault],
    look: impl FnMut(&Counters, Duration),
) -> Result<FaultRun> {
    let (plan, address) = (plan(faults), server.address());
    let planned = plan.len();
    let mut injector =
        Injector { server, stopped: Vec::new(), orphans: Vec::new(), killed_at: None };
    let (start, over) = (Instant::now(), AtomicBool::new(false));
    let (counters, done) = thread::scope(|scope| {
        let done = scope.spawn(|| injector.run(plan, start, &over));
        let counters = run(address, load, start, look);
        over.store(true, Relaxed);
        (counters, done.join())
    });
    let left_behind = injector.finish();
    let counters = counters?;
    let seconds = counters.lasted.as_secs_f64();
    let failed = counters.failure.clone().map(|reason| Warning::ProberFailed { seconds, reason });
    let mut warnings: Vec<Warning> = failed.into_iter().chain(left_behind).collect();
    let Ok(mut faults) = done else { bail!("the thread that does the faults panicked") };
    if faults.len() < planned {
        warnings.push(Warning::FaultsNotReached { count: planned - faults.len() });
    }
    let nobody = faults.iter().filter(|fault| fault.pid.is_none());
    let mut names: Vec<String> = nobody.map(|fault| fault.what.to_string()).collect();
    names.dedup();
    if !names.is_empty() {
        warnings.push(Warning::FaultsWithoutTarget { names: names.join(", ") });
    }
    let ended_the_server = faults.iter().any(|f| f.what.ends_the_server() && f.pid.is_some());
    measure_impact(&counters, &mut faults);
    Ok(FaultRun { faults, counters, ended_the_server, warnings })
}

/// Injects the faults of a plan, and cleans up at the end.
struct Injector<'a> {
    server: &'a mut Server,
    /// Workers that were sent SIGSTOP and not yet SIGCONT or SIGKILL.
    stopped: Vec<u32>,
    /// The workers that a killed parent left behind.
    orphans: Vec<Running>,
    /// When the parent was killed.
    killed_at: Option<Instant>,
}

impl Injector<'_> {
    /// Injects all faults of the plan when they are due, until the run is over. Returns the injected ones.
    fn run(
        &mut self,
        plan: Vec<FaultRecord>,
        start: Instant,
        over: &AtomicBool,
    ) -> Vec<FaultRecord> {
        let mut done = Vec::new();
        for due in plan {
            let to_worker = matches!(due.what, Action::StopWorker | Action::KillWorker);
            // To see who serves takes a while, and the fault would be late by that.
            let ready = due.at().saturating_sub(if to_worker { READY } else { Duration::ZERO });
            if !self.wait_until(ready, start, over) {
                return done;
            }
            if to_worker {
                self.server.settle();
            }
            if !self.wait_until(due.at(), start, over) {
                return done;
            }
            // The time is read before the fault, or its losses could seem to be earlier.
            let at_ms = start.elapsed().as_millis() as u64;
            let pid = self.strike(due.what);
            let only_process = to_worker && pid.is_some() && pid == self.server.pid();
            done.push(FaultRecord { at_ms, pid, only_process, ..due });
        }
        done
    }

    /// Waits until so long after the start. Returns false if the run is over before.
    fn wait_until(&mut self, time: Duration, start: Instant, over: &AtomicBool) -> bool {
        while let Some(left) = time.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
            sleep(left.min(LOOK_EVERY));
            // Notes the workers' connections, in case they are stopped.
            let _ = self.server.sample();
            if over.load(Relaxed) {
                return false;
            }
        }
        true
    }

    /// Cleans up, and returns the warnings.
    fn finish(mut self) -> Vec<Warning> {
        let Some(at) = self.killed_at else { return Vec::new() };
        while self.orphans.iter().any(Running::runs) && at.elapsed() < GONE_WITHIN {
            sleep(LOOK_EVERY);
        }
        let left = self.orphans.drain(..).filter(Running::runs);
        left.map(|Running { pid, .. }| {
            signal(pid, Signal::SIGKILL);
            Warning::Orphan { pid }
        })
        .collect()
    }

    /// Injects one fault. Returns the process that it acted on, if there was one.
    ///
    /// Process ids come from the server's scoreboard only while its parent lives, which removes those of dead
    /// workers: a signal must not reach another program's process.
    fn strike(&mut self, kind: Action) -> Option<u32> {
        if self.server.has_ended() {
            return None;
        }
        let to_parent = match kind {
            Action::StopWorker => {
                let busiest = self.server.busiest();
                let pid = busiest.into_iter().find(|pid| !self.stopped.contains(pid))?;
                signal(pid, Signal::SIGSTOP);
                self.stopped.push(pid);
                return Some(pid);
            }
            Action::ContinueWorker => return self.continue_stopped(),
            Action::KillWorker => {
                let there = self.server.worker_pids();
                let stopped = self.stopped.pop().filter(|pid| there.contains(pid));
                let pid = stopped.or_else(|| self.server.busiest().first().copied())?;
                signal(pid, Signal::SIGKILL);
                return Some(pid);
            }
            Action::KillParent => {
                let workers = self.server.worker_pids();
                let is_orphan =
                    |pid: &u32| Some(*pid) != self.server.pid() && self.server.is_parent_of(*pid);
                let orphans = workers.into_iter().filter(is_orphan).filter_map(Running::of);
                self.orphans = orphans.collect();
                self.killed_at = Some(Instant::now());
                Signal::SIGKILL
            }
            // A fault without a known signal was refused before the load began.
            action => self.server.signals.signal(action).ok()?,
        };
        self.server.signal(to_parent);
        self.server.pid()
    }

    /// Continues all stopped workers, and returns the last one.
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

/// Sends a signal. It fails if the process has just ended, which does not matter.
fn signal(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid as i32), signal);
}
