//! The record of one `matrix`. The slices of each workload are in files of their own, which it names.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::environment::Environment;

/// Which fields there are and what they mean.
pub const SCHEMA: &str = "loadtest-matrix/2";

/// What is saved and shown.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Matrix {
    /// [`SCHEMA`].
    pub schema: String,
    /// The arguments of loadtest with which it can be repeated.
    pub arguments: Vec<String>,
    /// Where and with what it ran.
    pub environment: Environment,
    /// Who took part.
    pub policies: Vec<String>,
    /// Who did not, and why.
    pub missing: Vec<Missing>,
    /// One for each workload that was run.
    pub columns: Vec<Column>,
    /// What must come out of it, and whether it did.
    pub expectations: Vec<Expectation>,
    /// What to know before believing it, as text.
    pub warnings: Vec<String>,
}

/// A policy that took no part.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[allow(missing_docs)] // the names say it
pub struct Missing {
    pub policy: String,
    pub reason: String,
}

/// One workload.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Column {
    /// What it is called.
    pub name: String,
    /// What it does, in words.
    pub words: String,
    /// Whether a load-aware policy must be good in it.
    pub judged: bool,
    /// The file with its slices, if they are in one, beside this record.
    pub slices: Option<String>,
    /// One for each policy that has a figure.
    pub cells: Vec<Figure>,
}

/// What a policy did in a workload.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Figure {
    /// Who.
    pub policy: String,
    /// Median requests/s; where a worker is stopped, of the time while it is.
    pub requests_per_second: f64,
    /// These over those of the best in the workload, round by round.
    pub of_best: f64,
    /// Its 95 % interval, round by round against the best policy.
    pub interval: Option<[f64; 2]>,
    /// How often a worker left the CPU for each request.
    pub switches_per_request: Option<f64>,
    /// Median, over the slices, of the busiest worker's connections over the average worker's.
    pub connections_max_over_mean: Option<f64>,
    /// The greatest difference, in a slice, of connections between two workers.
    pub connections_max_less_min: Option<u64>,
    /// Where a worker is stopped: requests/s while it is, over those before.
    pub while_stopped: Option<f64>,
    /// Where a worker is stopped and then killed: requests lost, on average.
    pub lost_when_killed: Option<f64>,
}

/// Something that must come out.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Expectation {
    /// What.
    pub text: String,
    /// Whether it did; `null` where it could not be told.
    pub met: Option<bool>,
    /// The figures that say so.
    pub figures: String,
}

impl Matrix {
    /// Reads a saved record.
    ///
    /// # Errors
    /// When the file cannot be read, is something else, or has another schema.
    pub fn read(path: &Path) -> Result<Self> {
        let show = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {show}"))?;
        let hint = "`loadtest matrix` makes one";
        let value: serde_json::Value = serde_json::from_str(&text)
            .with_context(|| format!("{show} is not a result of matrix ({hint})"))?;
        let schema = value.get("schema").and_then(|schema| schema.as_str()).unwrap_or("none");
        ensure!(schema == SCHEMA, "{show} has schema {schema}, not {SCHEMA}; {hint}");
        serde_json::from_value(value).with_context(|| format!("{show} is damaged; {hint}"))
    }

    /// The figure of a policy in a workload.
    pub fn figure(&self, column: &str, policy: &str) -> Option<&Figure> {
        let column = self.columns.iter().find(|found| found.name == column)?;
        column.cells.iter().find(|figure| figure.policy == policy)
    }
}
