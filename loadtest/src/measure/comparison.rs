//! The record of one `compare`: what is saved after each slice, and what every report shows.
//!
//! It holds every slice as it was measured, whatever came of it, and what [`summary`] made of them.
//! A change of a field's name or meaning changes [`SCHEMA`].
//!
//! [`summary`]: crate::measure::summary

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::kernel::affinity::Cores;
use crate::load::Share;
use crate::measure::bench::Errors;
use crate::measure::bottleneck::Limit;
use crate::statistics::latency::{Distribution, Latency};
use crate::statistics::verdict::Ratio;

/// Which fields there are and what they mean.
pub const SCHEMA: &str = "loadtest-compare/1";

/// What is saved and shown.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Comparison {
    /// [`SCHEMA`].
    pub schema: String,
    /// The arguments of loadtest with which it can be repeated.
    pub arguments: Vec<String>,
    /// Where and with what it ran.
    pub environment: Environment,
    /// What was to be done.
    pub plan: Plan,
    /// Whether all of it was done.
    pub complete: bool,
    /// Who took part, in the order of the command line.
    pub subjects: Vec<Subject>,
    /// Each two of them, the one named first as the baseline; but where the plan's baseline is one
    /// of the two, that.
    pub pairs: Vec<Pair>,
    /// Latencies at rates that do not depend on the answers.
    pub fixed_rates: Vec<FixedRate>,
    /// Outliers, and a machine that changed its speed, in sentences.
    pub anomalies: Vec<String>,
    /// What to know before believing it, as text.
    pub warnings: Vec<String>,
}

/// What was to be done.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Plan {
    /// Slices of each subject.
    pub rounds: u32,
    /// Length of a slice.
    pub slice_seconds: u64,
    /// What the order of turns, and every bootstrap, begins with.
    pub seed: u64,
    /// Whether a connection serves many requests, or one each.
    pub keep_alive: bool,
    /// Threads of wrk.
    pub threads: u64,
    /// Connections it is asked for.
    pub connections_asked: u64,
    /// Connections it opens, anew in each slice.
    pub connections_opened: u64,
    /// What is asked for, each with its part of the requests.
    pub paths: Vec<Share>,
    /// The name of the subject that others are compared with.
    pub baseline: String,
    /// Differences up to this part count as noise.
    pub threshold: f64,
    /// Who runs on which cores; `null` where everybody runs on all of them.
    pub pinned: Option<Cores>,
    /// Whether a server ran only while it was visited. Otherwise all are up from the first slice to
    /// the last.
    #[serde(default)]
    pub one_at_a_time: bool,
    /// Parts of the slower subject's requests/s at which latencies are measured afterwards.
    pub fixed_rate_shares: Vec<f64>,
    /// How long that lasts, each.
    pub fixed_rate_seconds: f64,
}

/// One server that took part.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Subject {
    /// What it is called.
    pub name: String,
    /// The server with its options, as the command line has it.
    pub server: String,
    /// Its workers.
    pub workers: usize,
    /// Requests/s of the slice before the first round, which counts for nothing; none if servers run
    /// one at a time.
    pub warm_up: Option<f64>,
    /// Every slice, in the order of time.
    pub slices: Vec<Slice>,
    /// Why it has no more of them, if it died.
    pub failed: Option<String>,
    /// What follows from the slices; `null` without any.
    pub summary: Option<Summary>,
}

/// One visit of wrk.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Slice {
    /// Counted from 0.
    pub round: u32,
    /// When it began, in seconds since the first slice of the run, or of the part of the run since it
    /// was resumed.
    pub at_seconds: f64,
    /// How long it lasted, as wrk measured it.
    pub seconds: f64,
    /// Answers received, whatever their status.
    pub requests: u64,
    /// The same per second.
    pub requests_per_second: f64,
    /// What went wrong.
    pub errors: Errors,
    /// CPU time of all workers.
    pub server_cpu_seconds: f64,
    /// Time that the workers spent ready to run, waiting for a core (schedstat's run_delay).
    pub server_wait_seconds: f64,
    /// How often the workers left the CPU, of their own accord or not.
    pub server_switches: u64,
    /// CPU time of wrk.
    pub wrk_cpu_seconds: f64,
    /// Time that wrk's threads spent ready to run, waiting for a core.
    pub wrk_wait_seconds: f64,
    /// CPU time of loadtest itself meanwhile.
    pub own_cpu_seconds: f64,
    /// Latencies as wrk corrects them for coordinated omission: `[microseconds, samples]`.
    pub latencies: Distribution,
    /// Who did the work.
    pub workers: Vec<Worker>,
}

/// What one worker did in a slice.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Worker {
    /// Its slot of the scoreboard.
    pub index: usize,
    /// Connections it accepted.
    pub connections: u64,
    /// Requests it answered.
    pub requests: u64,
}

/// What all slices of a subject say together.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Summary {
    /// Slices.
    pub slices: usize,
    /// Requests in all of them.
    pub requests: u64,
    /// Of the slices' requests/s.
    pub requests_per_second: Estimate,
    /// Of the slices' CPU time of the server per request, in microseconds.
    pub cpu_us_per_request: Estimate,
    /// How often a worker left the CPU for each request, over all slices.
    pub switches_per_request: f64,
    /// Of the merged distributions.
    pub latency_us: Latency,
    /// How the work was spread.
    pub spread: Spread,
    /// Of all slices.
    pub errors: Errors,
    /// What it was limited by.
    pub limit: Limit,
}

/// A median with its bootstrap 95 % interval, and the ends of what was measured.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[allow(missing_docs)] // the names say it
pub struct Estimate {
    pub median: f64,
    pub interval: [f64; 2],
    pub least: f64,
    pub greatest: f64,
}

/// How the work was spread over the workers, each slice for itself.
///
/// Sums over the slices would look even: each slice draws anew which worker is the busiest. So
/// workers are ranked within each slice, and what is averaged are ranks.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Spread {
    /// Median, over the slices, of the busiest worker's requests over the average worker's.
    pub max_over_mean: f64,
    /// The greatest of them.
    pub worst_max_over_mean: f64,
    /// Mean part of a slice's requests by rank, the busiest worker first; together 1.
    pub requests_by_rank: Vec<f64>,
    /// The same of connections.
    pub connections_by_rank: Vec<f64>,
    /// Mean number of workers that answered nothing.
    pub idle_workers: f64,
}

/// One subject compared with another, slice by slice.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Pair {
    /// The name of the one compared with.
    pub baseline: String,
    /// The name of the other.
    pub other: String,
    /// Requests/s of the other over those of the baseline, for each round that has both.
    pub ratios: Vec<f64>,
    /// What they say; `null` with too few rounds.
    pub result: Option<Ratio>,
    /// The same in a sentence.
    pub sentence: String,
}

/// All subjects asked at one rate, whatever they answer (an open loop).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct FixedRate {
    /// The part of the slower subject's requests/s.
    pub share: f64,
    /// Requests due per second.
    pub rate: u64,
    /// In the order of the subjects; those that had died are left out.
    pub results: Vec<AtRate>,
}

/// One subject at a fixed rate.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct AtRate {
    /// Its name.
    pub subject: String,
    /// Requests due.
    pub due: u64,
    /// Good answers.
    pub ok: u64,
    /// Due and not sent, because too many were under way.
    pub not_sent: u64,
    /// Sent, and no good answer came.
    pub lost: u64,
    /// Of good answers, from when the request was due; `null` without any.
    pub latency_us: Option<Latency>,
}

impl Comparison {
    /// Reads a saved record.
    ///
    /// # Errors
    /// When the file cannot be read, is something else, or has another schema.
    pub fn read(path: &Path) -> Result<Self> {
        let show = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {show}"))?;
        let hint =
            "`loadtest compare` makes one anew; move the old file away, or name another --json";
        let value: serde_json::Value = serde_json::from_str(&text)
            .with_context(|| format!("{show} is not a result of compare ({hint})"))?;
        let schema = value.get("schema").and_then(|schema| schema.as_str()).unwrap_or("none");
        ensure!(schema == SCHEMA, "{show} has schema {schema}, not {SCHEMA}; {hint}");
        serde_json::from_value(value).with_context(|| format!("{show} is damaged; {hint}"))
    }
}
