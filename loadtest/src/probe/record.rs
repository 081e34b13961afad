//! The record of one `probe`: what `--json` writes and what the terminal shows.

use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::probe::outcome::Outcomes;
use crate::probe::timeline::Bucket;
use crate::statistics::latency::Latency;

/// Which fields there are and what they mean.
pub const SCHEMA: &str = "loadtest-probe/1";

/// One run of the prober against one server. Times are from the start of the load.
#[derive(Clone, Debug, Serialize)]
pub struct ProbeRecord {
    /// [`SCHEMA`].
    pub schema: String,
    /// `shared`, `reuseport`, or the URL of a server that was not started here.
    pub server: String,
    /// The arguments of loadtest with which the run can be repeated.
    pub arguments: Vec<String>,
    /// Where and with what it ran.
    pub environment: Environment,
    /// What was asked.
    pub load: ProbeLoad,
    /// Requests sent; the sum of all outcomes.
    pub attempted: u64,
    /// What became of them.
    pub outcomes: Outcomes,
    /// Requests of an open loop that were due and not sent, because too many were under way.
    pub not_sent: u64,
    /// Good answers per second, while requests were sent.
    pub ok_per_second: f64,
    /// Requests that the server has answered by its own count; `null` if it was not started here.
    pub answered_by_server: Option<u64>,
    /// Latencies of good answers, from when the request was due; `null` if there were none.
    pub latency_us: Option<Latency>,
    /// Served and lost per 100 ms, by the time when it was known.
    pub timeline: Vec<Bucket>,
    /// What was done to the server.
    pub faults: Vec<FaultRecord>,
    /// What to know before believing it, as text.
    pub warnings: Vec<String>,
}

/// What was asked.
#[derive(Clone, Debug, Serialize)]
pub struct ProbeLoad {
    /// What was asked for.
    pub url: String,
    /// Clients, or with a rate the most requests under way.
    pub connections: u64,
    /// Requests due per second; `null`: each client asks when it has its answer.
    pub rate: Option<u64>,
    /// Whether connections served many requests, or one each.
    pub keep_alive: bool,
    /// How long requests were sent.
    pub seconds: f64,
    /// How long a connection might take to open, and then the answer to come.
    pub timeout_ms: u64,
}

/// Something that was done to the server, and what came of it before the next was done.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct FaultRecord {
    /// When.
    pub at_ms: u64,
    /// What.
    pub what: String,
    /// The `--fault` that asked for it.
    pub asked: String,
    /// The process it was done to; `null` when there was none.
    pub pid: Option<u32>,
    /// Requests lost after it.
    pub lost: u64,
    /// How long after it the last of them was known to be lost.
    pub lost_within_ms: Option<u64>,
    /// Good answers per second since the fault before, or since the start.
    pub rate_before: Option<f64>,
    /// Good answers per second until the next fault, or the end.
    pub rate_after: Option<f64>,
    /// How long after it the first 100 ms began with 90 % of the rate before it, or, if a worker was
    /// stopped then, of the rate before that; `null` if that did not come before the next fault
    /// that another `--fault` asked for.
    pub full_strength_after_ms: Option<u64>,
}
