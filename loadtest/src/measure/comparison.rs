//! The record of one `compare`: every slice, and what every report shows.
//!
//! It contains every slice as it was measured, and the [`summary`] of them. What cannot be known of a server
//! is `null`, never 0. The names of fields without a comment say what they are; rounds count from 0.
//!
//! [`summary`]: crate::measure::summary

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::kernel::affinity::Cores;
use crate::load::perf::{Cost, Unit};
use crate::load::{Load, Share};
use crate::record::{Body, Record};
use crate::server::telemetry::WorkerUsage;
use crate::statistics::estimate::Estimate;
use crate::statistics::latency::{Distribution, Latency};
use crate::statistics::verdict::{FEWEST_ROUNDS, Figure, Ratio};
use crate::types::Errors;

/// The record of one `compare`, of one `cost`, and of a workload of `matrix`.
pub type Comparison = Record<CompareBody>;

/// The measurements, and what follows from them.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct CompareBody {
    pub plan: Plan,
    pub complete: bool,
    /// The subjects, in the order of the command line.
    pub subjects: Vec<Subject>,
    /// All pairs. The baseline of a pair is the plan's, if that is one of the two, else the first. Subjects with kept
    /// and with new connections are not compared.
    pub pairs: Vec<Pair>,
    /// Latencies at rates that do not depend on the answers.
    pub fixed_rates: Vec<FixedRate>,
    /// Outliers, and changes of the machine's speed, in sentences.
    pub anomalies: Vec<String>,
}

impl Body for CompareBody {
    const SCHEMA: &'static str = "loadtest-compare/2";
    const COMMAND: &'static str = "compare";
}

/// How long a server that was started for its slice is loaded before. At first each worker's memory must be mapped,
/// and a policy does not know the requests yet: with own sockets and 256 workers p99 was up to three times as high.
pub const WARM_UP: Duration = Duration::from_secs(1);

/// How long the closed loop of each subject lasts that finds the rates.
pub const CLOSED_LOOP: Duration = Duration::from_secs(2);

/// How long a slice at a fixed rate goes on before its latencies are counted. At its start all connections are opened at
/// once: with some 40 000 requests/s over 64 kept ones, what waited for that was 1 % of a second's requests.
pub const LEAD_IN: Duration = Duration::from_millis(100);

/// The overhead of a slice: wrk starts, and prints its latencies at the end.
pub const BETWEEN_SLICES: Duration = Duration::from_millis(150);

/// The plan of the run.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Plan {
    /// Slices of wrk for each subject; 0 if only latencies at fixed rates are measured.
    pub rounds: u32,
    pub slice_seconds: u64,
    /// The seed of the order of turns, and of every bootstrap.
    pub seed: u64,
    #[serde(flatten)]
    pub load: Load,
    pub paths: Vec<Share>,
    /// The name of the subject that others are compared with.
    pub baseline: String,
    pub threshold: f64,
    /// The separate cores of server and client; `null` if both use all cores.
    pub pinned: Option<Cores>,
    /// Whether a server ran only during its own slices. Otherwise all are up from the first slice to
    /// the last.
    #[serde(default)]
    pub one_at_a_time: bool,
    /// Rates at which latencies are measured, as parts of what the best subject serves to the prober.
    pub fixed_rate_shares: Vec<f64>,
    /// Further rates, in requests/s.
    pub fixed_rates: Vec<u64>,
    /// Seconds of load at each of these rates for each subject, all slices together.
    pub fixed_rate_seconds: f64,
    /// The number of slices that this time is divided into.
    pub fixed_rate_rounds: u32,
    /// The figure by which pairs are judged.
    pub judged: Figure,
    /// The unit of a request's cost, if that is measured.
    pub cost_unit: Option<Unit>,
    /// Why that is not instructions, if so.
    pub cost_excuse: Option<String>,
}

impl Plan {
    /// A plan with slices of wrk only, all cores for both, and pairs judged by requests/s.
    pub fn new(load: Load, rounds: u32, seed: u64, paths: Vec<Share>, baseline: &str) -> Self {
        Self {
            rounds,
            slice_seconds: load.duration.as_secs(),
            seed,
            load,
            paths,
            baseline: baseline.into(),
            threshold: 0.02,
            fixed_rate_rounds: FEWEST_ROUNDS,
            ..Self::default()
        }
    }
}

/// One subject.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Subject {
    pub name: String,
    /// The server with its options, as the command line has it.
    pub server: String,
    /// The requested path, if the plan has no mix of paths.
    #[serde(default)]
    pub path: String,
    /// Whether a connection serves many requests, or one each.
    pub keep_alive: bool,
    /// Whether its latencies at fixed rates are measured.
    pub at_rates: bool,
    /// Whether it is a yardstick: others are compared with the best of these.
    pub yardstick: bool,
    /// The limit of a request's cost as a multiple of the baseline's, in instructions.
    pub cost_limit: Option<f64>,
    /// The number of its workers; `null` if they cannot be seen.
    pub workers: Option<usize>,
    /// Requests/s of the slice before the first round, which is not judged; `null` if servers run one at a time.
    pub warm_up: Option<f64>,
    /// Requests/s that it serves to the prober in a closed loop; `null` if not measured.
    pub closed_loop: Option<f64>,
    /// Every slice, in the order of time.
    pub slices: Vec<Slice>,
    /// Why it has no more slices, if it died.
    pub failed: Option<String>,
    /// What follows from the slices; `null` without any.
    pub summary: Option<Summary>,
}

impl Subject {
    /// A subject without measurements.
    pub fn new(name: &str, server: &str, path: &str, keep_alive: bool) -> Self {
        Self {
            name: name.into(),
            server: server.into(),
            path: path.into(),
            keep_alive,
            at_rates: true,
            ..Self::default()
        }
    }
}

/// One run of wrk.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Slice {
    pub round: u32,
    /// When it began, in seconds since the first slice of the run, or of the part of the run since it
    /// was resumed.
    pub at_seconds: f64,
    pub seconds: f64,
    /// Answers received, whatever their status.
    pub requests: u64,
    pub requests_per_second: f64,
    pub errors: Errors,
    pub server_cpu_seconds: Option<f64>,
    /// Time that the workers spent ready to run, waiting for a core (schedstat's run_delay).
    pub server_wait_seconds: Option<f64>,
    /// How often the workers left the CPU, of their own accord or not.
    pub server_switches: Option<u64>,
    /// How many threads they had at the end; unknown in older records.
    #[serde(default)]
    pub server_threads: Option<u64>,
    /// The cost of a request, in the plan's unit, if it is measured.
    pub cost: Option<Cost>,
    pub wrk_cpu_seconds: f64,
    /// Time that wrk's threads spent ready to run, waiting for a core.
    pub wrk_wait_seconds: f64,
    /// CPU time of loadtest itself meanwhile.
    pub own_cpu_seconds: f64,
    /// Latencies of the requests that were sent, without those that wrk adds for coordinated omission:
    /// `[microseconds, samples]`.
    pub latencies: Distribution,
    pub workers: Vec<Worker>,
}

/// What one worker did in a slice.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Worker {
    /// Its slot of the scoreboard, or its place among the workers.
    pub index: usize,
    /// Connections that it accepted; of a foreign server, the average that it was seen to hold.
    pub connections: Option<u64>,
    pub requests: Option<u64>,
}

impl Worker {
    /// The part of a worker's usage that comparisons need.
    pub fn of(usage: &WorkerUsage) -> Self {
        let held = usage.held.map(|held| held.round() as u64);
        let connections = usage.connections.or(held);
        Self { index: usage.index, connections, requests: usage.requests }
    }
}

/// The summary of all slices of a subject.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Summary {
    pub slices: usize,
    pub requests: u64,
    pub requests_per_second: Estimate,
    /// The server's CPU time per request, in microseconds: the median over the slices.
    pub cpu_us_per_request: Option<Estimate>,
    /// How often a worker left the CPU for each request, over all slices.
    pub switches_per_request: Option<f64>,
    /// Medians of the slices, in the plan's unit.
    pub cost: Option<Cost>,
    pub cost_per_request: Option<Estimate>,
    pub latency_us: Latency,
    /// How the work was spread; `null` if the workers' requests are not known.
    pub spread: Option<Spread>,
    pub errors: Errors,
    pub limit: Option<Limit>,
}

/// How the work was spread over the workers, computed slice by slice.
///
/// Sums over the slices would look even, since another worker is the busiest in each. So workers are ranked
/// within each slice, and the averages are those of ranks.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Spread {
    /// Median, over the slices, of the busiest worker's requests over the average worker's.
    pub max_over_mean: f64,
    /// The greatest of these ratios.
    pub worst_max_over_mean: f64,
    /// Mean part of a slice's requests by rank, the busiest worker first; together 1.
    pub requests_by_rank: Vec<f64>,
    pub connections_by_rank: Vec<f64>,
    /// Mean number of workers that answered nothing.
    pub idle_workers: f64,
    /// The least ratio that any policy could reach.
    pub best_attainable: f64,
}

/// One subject compared with another, slice by slice.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Pair {
    pub baseline: String,
    pub other: String,
    /// The judged figure of the other over that of the baseline, for each round that has both.
    pub ratios: Vec<f64>,
    /// The verdict; `null` with too few rounds or requests.
    pub result: Option<Ratio>,
    pub sentence: String,
}

/// All subjects at one fixed rate (an open loop).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct FixedRate {
    /// The rate as a part of what the best subject serves to the prober; `null` for a rate of `--rate`.
    pub share: Option<f64>,
    pub rate: u64,
    /// The results in the order of the subjects, without those that have no slice.
    pub results: Vec<AtRate>,
    /// All pairs, for each of p50, p99 and p99.9.
    pub pairs: Vec<Pair>,
}

/// One subject at a fixed rate.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct AtRate {
    pub subject: String,
    /// Every slice, in the order of time.
    pub slices: Vec<RateSlice>,
    /// The number of slices in which the client itself was late. They are shown, and not judged.
    pub late_slices: usize,
    pub due: u64,
    pub ok: u64,
    /// Due and not sent, because too many were under way.
    pub not_sent: u64,
    /// Sent, and no good answer came.
    pub lost: u64,
    /// Latencies of the judged slices, in microseconds; `null` if none is judged.
    #[serde(flatten)]
    pub latencies: Latencies,
    /// Latencies of all good answers in the judged slices together; `null` without any.
    pub latency_us: Option<Latency>,
}

/// Latencies at a fixed rate: medians over the judged slices. Requests without a good answer are in them, see
/// [`RateSlice::latency`].
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Latencies {
    pub p50: Option<Estimate>,
    pub p99: Option<Estimate>,
    pub p99_9: Option<Estimate>,
    /// p50 as a multiple of the ideal, one queue for all workers, slice by slice.
    pub p50_of_ideal: Option<Estimate>,
    pub p99_of_ideal: Option<Estimate>,
}

/// One run of the prober at a fixed rate. Latencies count from when a request was due.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RateSlice {
    pub round: u32,
    pub due: u64,
    pub ok: u64,
    /// Due and not sent, because too many were under way.
    pub not_sent: u64,
    /// Sent, and no good answer came.
    pub lost: u64,
    /// p99 of the time between when a request was due and when it was sent.
    pub lateness_p99_us: u64,
    /// Whether that is more than 1 ms: then the latencies say little about the server.
    pub client_late: bool,
    /// Latencies of good answers: `[microseconds, samples]`.
    pub latencies: Distribution,
    /// p50 and p99 of the ideal, one queue for all workers, for the same arrivals, in microseconds; `null` if the
    /// service time is not known.
    pub ideal_us: Option<[u64; 2]>,
}

/// The bottleneck.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// wrk had no CPU time left: a faster server would not have shown.
    Wrk,
    /// The server had no CPU time left.
    Server,
    /// Both together used all cores that they shared.
    Cores,
    /// Another process on the machine.
    Others,
    /// Neither: they waited for each other, or for time to pass.
    Nobody,
}

/// How many cores each used, of those that it could use; averages over the slices.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Limit {
    pub who: Who,
    pub server_cores: f64,
    /// Workers that were ready to run and had no core.
    pub server_waiting: f64,
    pub wrk_cores: f64,
    /// Threads of wrk that were ready to run and had no core.
    pub wrk_waiting: f64,
    /// Cores that loadtest itself used.
    pub own_cores: f64,
    /// Cores that the server could have used.
    pub cores_for_server: usize,
    pub cores_for_wrk: usize,
}
