//! The record of one `matrix`. The slices of each workload are in files of their own, which it names.

use serde::{Deserialize, Serialize};

use crate::measure::comparison::Latencies;
use crate::record::{Body, Record};
use crate::statistics::estimate::Estimate;

/// The record of one `matrix`.
pub type Matrix = Record<MatrixBody>;

/// What is saved and shown.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct MatrixBody {
    pub quick: bool,
    pub policies: Vec<String>,
    /// Policies that took no part, and why.
    pub missing: Vec<Missing>,
    pub columns: Vec<Column>,
    pub expectations: Vec<Expectation>,
}

impl Body for MatrixBody {
    const SCHEMA: &'static str = "loadtest-matrix/3";
    const COMMAND: &'static str = "matrix";
}

/// A policy that took no part.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Missing {
    pub policy: String,
    pub reason: String,
}

/// What kind of figures a workload gives.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Requests/s in a closed loop, and latencies at parts of what the best policy serves.
    Throughput,
    /// Latencies at fixed rates, as multiples of the ideal: handlers block, and use no CPU time.
    Blocking,
    /// Requests served while a worker is stopped, and lost when it is killed.
    Stopped,
}

/// One workload.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Column {
    pub name: String,
    pub words: String,
    pub kind: Kind,
    /// The file with its slices, beside this record.
    pub slices: String,
    /// One for each policy that has a figure.
    pub cells: Vec<Figure>,
}

/// The figures of a policy in a workload. What was not measured is `null` or empty.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Figure {
    pub policy: String,
    /// Whether it is good here; `null` before it was judged.
    pub verdict: Option<Verdict>,
    /// The reason for the verdict, with the figures.
    pub reason: String,
    /// Median requests/s; if a worker is stopped, while it is.
    pub requests_per_second: Option<Estimate>,
    /// Requests/s over those of the best policy in the workload, round by round.
    pub of_best: Option<Estimate>,
    pub cpu_us_per_request: Option<Estimate>,
    pub switches_per_request: Option<f64>,
    /// Median, over the slices, of the busiest worker's connections over the average worker's.
    pub connections_max_over_mean: Option<f64>,
    /// The greatest difference, in a slice, of connections between two workers.
    pub connections_max_less_min: Option<u64>,
    /// Latencies at fixed rates, the lowest rate first.
    pub latencies: Vec<AtLoad>,
    /// wrk's errors, other than an answer's status.
    #[serde(default)]
    pub errors: u64,
    /// If a worker is stopped: requests/s meanwhile over those before.
    pub while_stopped: Option<f64>,
    /// If a worker is stopped and then killed: requests lost, on average.
    pub lost_when_killed: Option<f64>,
}

/// Latencies of a policy at one rate, in microseconds.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct AtLoad {
    /// The rate as a part of what the best policy serves or, with blocking handlers, of what the workers can serve.
    pub share: f64,
    pub rate: u64,
    /// The latencies; `null` if the client was always late. With blocking handlers also as multiples of the ideal.
    #[serde(flatten)]
    pub latencies: Latencies,
    /// p99 over that of the policy with the lowest one at this rate, round by round.
    pub p99_of_best: Option<Estimate>,
    /// The part of the due requests with good answers, in the judged slices; 0 if none is judged.
    pub answered: f64,
    /// Requests of these slices that were lost, or not sent because too many were under way.
    pub lost: u64,
    /// The number of slices that are not judged, since the client was late.
    pub late_slices: usize,
}

/// Whether a policy is good in a workload.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Good,
    Bad,
    /// An interval crosses a limit.
    Undecided,
}

/// An expectation of the whole matrix.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Expectation {
    pub text: String,
    /// Whether it is met; `null` if that is undecided.
    pub met: Option<bool>,
    /// The figures that decide it.
    pub figures: String,
}

impl Column {
    /// The rate at which p99 is compared, by its place among the latencies: the one at which most policies have an
    /// interval, that is, the client was on time; of several such rates the highest.
    pub fn compared(&self) -> Option<usize> {
        let rates = self.cells.iter().map(|figure| figure.latencies.len()).max().unwrap_or(0);
        let measured = |&rate: &usize| {
            let at = self.cells.iter().filter_map(|figure| figure.latencies.get(rate));
            at.filter(|at| at.p99_of_best.is_some_and(|times| times.interval.is_some())).count()
        };
        (0..rates).max_by_key(measured)
    }

    /// A policy's p99 at that rate over the lowest one; with blocking handlers, at the highest rate over that of the
    /// ideal. `None` without an interval, as of a single slice.
    pub fn p99(&self, figure: &Figure) -> Option<Estimate> {
        let times = match self.kind {
            Kind::Blocking => figure.latencies.last()?.latencies.p99_of_ideal,
            _ => figure.latencies.get(self.compared()?)?.p99_of_best,
        };
        times.filter(|times| times.interval.is_some())
    }
}

impl MatrixBody {
    /// A workload, if it was run.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|found| found.name == name)
    }

    /// The figure of a policy in a workload.
    pub fn figure(&self, column: &str, policy: &str) -> Option<&Figure> {
        self.column(column)?.cells.iter().find(|figure| figure.policy == policy)
    }
}

impl Figure {
    /// Requests/s over those of the best policy; NaN if not measured.
    pub fn part(&self) -> f64 {
        self.of_best.map_or(f64::NAN, |estimate| estimate.value)
    }
}
