//! The prober loads a server, with or without faults.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::interrupt;
use crate::kernel::netstat::TcpCounters;
use crate::lab::context::start;
use crate::lab::queues::Queues;
use crate::measure::comparison::Slice;
use crate::probe::fault::parsed;
use crate::probe::fault_run::{FaultRun, run_with_faults};
use crate::probe::load::{ANSWER_WITHIN, Load};
use crate::probe::record::ProbeBody;
use crate::server::Server;
use crate::statistics::latency::{Latency, merged};

/// A load of 32 clients on this path for a second, with a new connection for each request.
pub fn asking(path: &str) -> Load {
    let timeout_ms = ANSWER_WITHIN.as_millis() as u64;
    Load { url: path.into(), connections: 32, seconds: 1.0, timeout_ms, ..Load::default() }
}

/// The rate and latencies of good answers, from the prober or from wrk.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Served {
    /// Good answers per second.
    pub per_second: f64,
    /// Their latencies in microseconds; all 0 without good answers.
    pub latency: Latency,
}

impl Served {
    /// The figures of a slice of wrk, with the latencies as they were, without wrk's correction.
    pub fn of_slice(slice: &Slice) -> Self {
        let latency = merged([&slice.latencies]).unwrap_or_default();
        Self { per_second: slice.requests_per_second, latency }
    }
}

/// The result of a load with faults.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Disturbed {
    /// The result of the prober.
    pub found: ProbeBody,
    /// The longest queues before the last fault: of the socket that the fault's worker accepts from, and
    /// of all others.
    pub queued: Option<[u32; 2]>,
    /// The kernel's counters.
    pub counters: TcpCounters,
}

/// Starts a server, named with its options, loads it, and stops it.
pub fn served(server: &str, asked: &Load) -> Result<Served> {
    let mut server = start(server)?;
    let found = probe(&mut server, asked, &[], |_| {})?;
    server.stop()?;
    Ok(Served { per_second: found.ok_per_second, latency: found.latency_us.unwrap_or_default() })
}

/// The same with faults, as in `probe --fault`, such as `kill-worker@1s`. The accept queues count from
/// `look_for` before the last fault.
pub fn disturbed(
    server: &str,
    asked: &Load,
    faults: &[String],
    look_for: Duration,
) -> Result<Disturbed> {
    let mut server = start(server)?;
    let mut queues = Queues::of(&server);
    let before = TcpCounters::now()?;
    let found = probe(&mut server, asked, faults, |now| queues.look(now))?;
    server.stop()?;
    let last = found.faults.last().context("no fault was done")?;
    let at = Duration::from_millis(last.at_ms);
    let queued = last.pid.and_then(|pid| queues.longest(pid, at.saturating_sub(look_for), at));
    Ok(Disturbed { queued, counters: TcpCounters::now()?.since(&before), found })
}

/// Loads a running server. `look` is called every few milliseconds with the elapsed time. A fault that
/// did not happen, or had no process to act on, is an error.
pub fn probe(
    server: &mut Server,
    asked: &Load,
    faults: &[String],
    mut look: impl FnMut(Duration),
) -> Result<ProbeBody> {
    let faults = parsed(faults).context("a fault of the lab's own")?;
    let Load { url, expect, .. } = Load::of(server, &asked.url);
    let load = Load { url, expect, ..asked.clone() };
    let run = run_with_faults(server, &load, &faults, |_, elapsed| look(elapsed))?;
    interrupt::check()?;
    let FaultRun { counters, faults, .. } = run.whole()?;
    ensure!(counters.attempted > 0, "nothing was asked");
    let probed = ProbeBody::of(server.name().into(), Load::default(), &counters, None);
    Ok(ProbeBody { faults, ..probed })
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A result with this standard deviation of latencies.
    pub fn served(stdev: f64) -> Served {
        let latency = Latency { stdev, p99: 50_000, ..Latency::default() };
        Served { per_second: 900.0, latency }
    }

    /// A result with this of the prober and 31 waiting connections.
    pub fn disturbed(found: ProbeBody) -> Disturbed {
        let counters = TcpCounters {
            listen_overflows: 0,
            listen_drops: 0,
            migrate_success: Some(0),
            migrate_failure: Some(0),
        };
        Disturbed { found, queued: Some([31, 0]), counters }
    }
}
