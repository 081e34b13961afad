//! The record of one `self-check`: the verdicts of `compare` on known differences.

use serde::{Deserialize, Serialize};

use crate::record::{Body, Record};
use crate::statistics::verdict::{Ratio, Verdict};

/// The record of one `self-check`.
pub type SelfCheck = Record<SelfCheckBody>;

/// Verdicts on equal servers, and on pairs of which one is known to be worse.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SelfCheckBody {
    /// The server, as the command line has it.
    pub server: String,
    /// Rounds for each verdict.
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

/// The planted difference of one figure, and the verdicts.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Check {
    /// What the slow form does, in words.
    pub planted: String,
    /// The ratio of slow to fast that was wanted.
    pub wanted: f64,
    /// The accepted range of the ratio.
    pub accepted: [f64; 2],
    /// The ratio over all rounds.
    pub measured: f64,
    /// Rounds of the trials that found the cost for the wanted ratio.
    pub trial_rounds: u32,
    /// Verdicts on equal servers.
    pub same: Vec<Ratio>,
    /// Verdicts on a slow and a fast server.
    pub different: Vec<Ratio>,
}

impl Check {
    /// How many verdicts on equal servers found no difference.
    pub fn quiet(&self) -> usize {
        self.same.iter().filter(|ratio| ratio.verdict.is_better().is_none()).count()
    }

    /// How many verdicts on different servers found the difference.
    pub fn found(&self) -> usize {
        let right = [Verdict::Slower, Verdict::Higher];
        self.different.iter().filter(|ratio| right.contains(&ratio.verdict)).count()
    }

    /// Whether the planted difference was in the accepted range.
    pub fn is_calibrated(&self) -> bool {
        (self.accepted[0]..=self.accepted[1]).contains(&self.measured)
    }
}
