//! The prober asks a server, perhaps while something is done to it; what it found can be saved.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::interrupt;
use crate::probe::arrivals::Arrivals;
use crate::probe::drive::{Load, Until};
use crate::probe::fault::Fault;
use crate::probe::fault_run::{FaultRun, run_with_faults};
use crate::probe::outcome::Outcomes;
use crate::probe::record::FaultRecord;
use crate::probe::target::Target;
use crate::probe::timeline::Bucket;
use crate::server::Server;
use crate::statistics::latency::Latency;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Probing<'a> {
    /// The path.
    pub path: &'a str,
    /// Clients of a closed loop; with a rate, the most requests under way.
    pub clients: u64,
    /// Requests per second of an open loop.
    pub rate: Option<u64>,
    /// Whether a connection serves many requests, or one each.
    pub keep_alive: bool,
    /// For how long.
    pub time: Duration,
    /// How long an answer may take.
    pub answer_within: Duration,
    /// What is done meanwhile, as `probe --fault` has it, such as `kill-worker@1s`.
    pub faults: &'a [String],
}

/// 32 clients, each with a new connection for each request, for a second.
pub const PROBING: Probing = Probing {
    path: "/",
    clients: 32,
    rate: None,
    keep_alive: false,
    time: Duration::from_secs(1),
    answer_within: Duration::from_secs(2),
    faults: &[],
};

/// What was found.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Probed {
    /// Requests sent.
    pub attempted: u64,
    /// What became of them.
    pub outcomes: Outcomes,
    /// Good answers per second.
    pub ok_per_second: f64,
    /// Latencies of good answers, from when the request was due, in microseconds; 0 without any.
    pub latency: Latency,
    /// Answers and losses in each 100 ms.
    pub timeline: Vec<Bucket>,
    /// What was done to the server.
    pub faults: Vec<FaultRecord>,
}

impl Probed {
    /// Requests that got no good answer.
    pub fn lost(&self) -> u64 {
        self.attempted - self.outcomes.ok
    }

    fn of(FaultRun { counters, faults, .. }: FaultRun) -> Self {
        Self {
            attempted: counters.attempted,
            outcomes: counters.outcomes,
            ok_per_second: counters.ok_per_second(),
            latency: Latency::of(&counters.latency).unwrap_or_default(),
            timeline: counters.timeline.buckets().to_vec(),
            faults,
        }
    }
}

/// Asks a server that is up. `look` is called every few milliseconds with the time that has passed.
///
/// # Errors
/// When a fault was not done or had nobody to be done to, and after Ctrl-C.
pub fn probe(
    server: &mut Server,
    asked: &Probing,
    mut look: impl FnMut(Duration),
) -> Result<Probed> {
    let parsed = asked.faults.iter().map(|text| text.parse().map_err(anyhow::Error::msg));
    let faults: Vec<Fault> = parsed.collect::<Result<_>>().context("a fault of the lab's own")?;
    let address = server.address();
    let host = address.to_string();
    let target = Target::new(address, &host, asked.path, asked.keep_alive, asked.answer_within);
    let load = Load {
        connections: asked.clients,
        rate: asked.rate,
        arrivals: Arrivals::Even,
        keep_alive: asked.keep_alive,
        until: Until::Time(asked.time),
    };
    let fault_run = run_with_faults(server, target, &load, &faults, |_, elapsed| look(elapsed))?;
    interrupt::check()?;
    if let Some(warning) = fault_run.warnings.first() {
        anyhow::bail!("{warning}");
    }
    ensure!(fault_run.counters.attempted > 0, "nothing was asked");
    Ok(Probed::of(fault_run))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// 100 requests that were all answered.
    pub fn probed() -> Probed {
        Probed {
            attempted: 100,
            outcomes: Outcomes { ok: 100, ..Outcomes::default() },
            ok_per_second: 900.0,
            latency: Latency { stdev: 2000.0, p99: 50_000, ..Latency::default() },
            timeline: vec![],
            faults: vec![],
        }
    }
}
