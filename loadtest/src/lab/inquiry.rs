//! The prober asks a server, perhaps while something is done to it; what it found can be saved.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::interrupt;
use crate::probe::arrivals::Arrivals;
use crate::probe::counters::Counters;
use crate::probe::drive::{Load, Until};
use crate::probe::fault::Fault;
use crate::probe::fault_impact::fault_impact;
use crate::probe::fault_run::{FaultRun, run_with_faults};
use crate::probe::outcome::Outcomes;
use crate::probe::record::FaultRecord;
use crate::probe::target::Target;
use crate::probe::timeline::Bucket;
use crate::server::Server;
use crate::statistics::latency::Distribution;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Inquiry<'a> {
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
    pub faults: &'a [&'a str],
}

/// What was found.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Told {
    /// Requests sent.
    pub attempted: u64,
    /// What became of them.
    pub outcomes: Outcomes,
    /// Due and not sent, because too many were under way.
    pub not_sent: u64,
    /// Good answers per second.
    pub ok_per_second: f64,
    /// Of good answers, from when the request was due, in microseconds: mean, standard deviation,
    /// percentiles, greatest; 0 without any.
    pub mean: f64,
    /// As above.
    pub stdev: f64,
    /// As above.
    pub p50: f64,
    /// As above.
    pub p90: f64,
    /// As above.
    pub p99: f64,
    /// As above.
    pub max: f64,
    /// Answers and losses in each 100 ms.
    pub timeline: Vec<Bucket>,
    /// What was done to the server.
    pub faults: Vec<FaultRecord>,
}

impl Told {
    /// Requests that got no good answer.
    pub fn lost(&self) -> u64 {
        self.attempted - self.outcomes.ok
    }

    fn of(FaultRun { counters, struck, .. }: &FaultRun) -> Self {
        let Counters { latency, .. } = counters;
        let seconds = counters.lasted.as_secs_f64();
        let at = |percentile| latency.value_at_percentile(percentile).min(latency.max()) as f64;
        let stdev = Distribution::from_histogram(latency).standard_deviation();
        Self {
            attempted: counters.attempted,
            outcomes: counters.outcomes,
            not_sent: counters.not_sent,
            ok_per_second: if seconds > 0.0 { counters.outcomes.ok as f64 / seconds } else { 0.0 },
            mean: if latency.is_empty() { 0.0 } else { latency.mean() },
            stdev,
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            max: latency.max() as f64,
            timeline: counters.timeline.buckets().to_vec(),
            faults: fault_impact(counters, struck),
        }
    }
}

/// Asks a server that is up.
///
/// # Errors
/// When a fault was not done or had nobody to be done to, and after Ctrl-C.
pub fn ask(server: &mut Server, asked: &Inquiry) -> Result<Told> {
    ask_and_look(server, asked, |_| {})
}

/// The same, and `look` is called every few milliseconds with the time that has passed.
///
/// # Errors
/// As above.
pub fn ask_and_look(
    server: &mut Server,
    asked: &Inquiry,
    mut look: impl FnMut(Duration),
) -> Result<Told> {
    let faults: Vec<Fault> = asked
        .faults
        .iter()
        .map(|text| text.parse().map_err(anyhow::Error::msg))
        .collect::<Result<_>>()
        .context("a fault of the lab's own")?;
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
    Ok(Told::of(&fault_run))
}
