//! The record of one `cost`: what `--json` writes and what the terminal shows, every run included.

use serde::Serialize;

use crate::environment::Environment;
use crate::load::perf::Unit;

/// Which fields there are and what they mean.
pub const SCHEMA: &str = "loadtest-cost/1";

/// What is saved and shown.
#[derive(Debug, Serialize)]
pub struct CostRecord {
    /// [`SCHEMA`].
    pub schema: String,
    /// The arguments of loadtest with which it can be repeated.
    pub arguments: Vec<String>,
    /// Where and with what it ran.
    pub environment: Environment,
    /// Version of the yardstick.
    pub nginx: String,
    /// What was counted.
    pub unit: Unit,
    /// Why instructions were not, if they were not.
    pub excuse: Option<String>,
    /// Workers of every server.
    pub workers: u16,
    /// Threads of wrk.
    pub threads: u64,
    /// Connections that wrk kept open at a time.
    pub connections: u64,
    /// Length of each run.
    pub seconds: u64,
    /// One for each server and mode.
    pub results: Vec<CostResult>,
    /// What to know before believing it.
    pub warnings: Vec<String>,
}

/// One server in one mode.
#[derive(Debug, Serialize)]
pub struct CostResult {
    /// The server with its options.
    pub server: String,
    /// Whether a connection served many requests, or one each.
    pub keep_alive: bool,
    /// Every run, in the order of time.
    pub runs: Vec<CostRun>,
    /// The runs' medians.
    pub user: f64,
    /// As above.
    pub system: f64,
    /// As above.
    pub total: f64,
    /// Half the range of the runs' totals, as a part of the median.
    pub spread: f64,
    /// `total` over that of the better nginx in the same mode.
    pub of_nginx: f64,
    /// What that should not exceed, counted in instructions; nobody promised anything for others.
    pub limit: Option<f64>,
}

/// One run; costs are per request, in the record's unit.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CostRun {
    /// Requests answered.
    pub requests: u64,
    /// Spent in the program.
    pub user: f64,
    /// Spent in the kernel, on its behalf.
    pub system: f64,
    /// Spent in all.
    pub total: f64,
}
