//! A server is asked while things are done to it.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::probe::counters::Counters;
use crate::probe::drive::{self, Load};
use crate::probe::fault::{self, Fault, plan};
use crate::probe::inject::{Injector, Struck};
use crate::probe::target::Target;
use crate::server::signals::Signals;
use crate::server::{Kind, Server, Spec};
use crate::warnings::Warning;

/// What came of it.
pub struct FaultRun {
    /// What the prober counted.
    pub counters: Counters,
    /// What was done to the server.
    pub struck: Vec<Struck>,
    /// Processes that had to be ended, faults that did not come, or had nobody to be done to.
    pub warnings: Vec<Warning>,
}

/// The signals that a server's parent understands, those that the user tells included.
///
/// # Errors
/// When one of those is not understood, and when one of the faults cannot be done: the signal for it
/// is not known, or the server is not started here.
pub fn signals_for(spec: &Spec, told: &[String], faults: &[Fault]) -> Result<Signals> {
    let mut signals = Signals::of_spec(spec);
    told.iter().try_for_each(|text| signals.set(text))?;
    if let (Kind::Running { url }, Some(fault)) = (&spec.kind, faults.first()) {
        bail!("--fault {fault} cannot be done to {url}, which was not started here");
    }
    for fault in faults {
        if let fault::Kind::Signal(action) = fault.kind() {
            signals.signal(action)?;
        }
    }
    Ok(signals)
}

/// Asks a server, from now on, while these faults are done to it, each when it is due.
///
/// `look` is called every few milliseconds with the time that has passed.
pub fn run_with_faults(
    server: &mut Server,
    target: Target,
    load: &Load,
    faults: &[Fault],
    look: impl FnMut(&Counters, Duration),
) -> Result<FaultRun> {
    let plan = plan(faults);
    let planned = plan.len();
    let mut injector = Injector::new(server);
    let (start, over) = (Instant::now(), AtomicBool::new(false));
    let (counters, struck) = thread::scope(|scope| {
        let struck = scope.spawn(|| injector.run(plan, start, &over));
        let counters = drive::run(target, load, start, look);
        over.store(true, Relaxed);
        (counters, struck.join())
    });
    let mut warnings = injector.finish();
    let counters = counters?;
    let Ok(struck) = struck else { bail!("the thread that does the faults panicked") };
    if struck.len() < planned {
        warnings.push(Warning::FaultsNotReached { count: planned - struck.len() });
    }
    let nobody = struck.iter().filter(|fault| fault.pid.is_none());
    let mut names: Vec<&str> = nobody.map(|fault| fault.kind.name()).collect();
    names.dedup();
    if !names.is_empty() {
        warnings.push(Warning::FaultsWithoutTarget { names: names.join(", ") });
    }
    Ok(FaultRun { counters, struck, warnings })
}
