//! The record of one `self-check`: what `compare` said of what is known beforehand.

use serde::{Deserialize, Serialize};

use crate::record::{Body, Record};
use crate::statistics::verdict::{Ratio, Verdict};

/// The record of one `self-check`.
pub type SelfCheck = Record<SelfCheckBody>;

/// Verdicts on servers that are equal, and on servers of which one is known to be worse.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SelfCheckBody {
    /// The server, as the command line has it.
    pub server: String,
    /// Rounds that each verdict rests on.
    pub rounds: u32,
    /// Requests/s: the slow form burns CPU time for each request.
    pub throughput: Check,
    /// p99 at a fixed rate: the slow form's handler blocks longer.
    pub p99: Check,
}

impl Body for SelfCheckBody {
    const SCHEMA: &'static str = "loadtest-trust/2";
    const COMMAND: &'static str = "self-check";
}

/// What was planted for one figure, and what was found of it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Check {
    /// What the slow form does, in words.
    pub planted: String,
    /// The ratio of slow to fast that was wanted.
    pub wanted: f64,
    /// The least and the greatest ratio with which the check says anything.
    pub accepted: [f64; 2],
    /// The ratio over all rounds.
    pub measured: f64,
    /// Rounds that were run in trials, to find what gives the wanted ratio.
    pub trial_rounds: u32,
    /// Verdicts on servers that are equal.
    pub same: Vec<Ratio>,
    /// Verdicts on a slow and a fast one.
    pub different: Vec<Ratio>,
}

impl Check {
    /// Verdicts on equal servers that are neither better nor worse.
    pub fn quiet(&self) -> usize {
        self.same.iter().filter(|ratio| ratio.verdict.is_better().is_none()).count()
    }

    /// Verdicts on different servers that are the right ones.
    pub fn found(&self) -> usize {
        let right = [Verdict::Slower, Verdict::Higher];
        self.different.iter().filter(|ratio| right.contains(&ratio.verdict)).count()
    }

    /// Whether the planted difference was what it was to be.
    pub fn is_calibrated(&self) -> bool {
        (self.accepted[0]..=self.accepted[1]).contains(&self.measured)
    }
}
