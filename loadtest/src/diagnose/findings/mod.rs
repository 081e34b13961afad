//! What is wrong with a server, from readings only: a small function for each cause.

mod neighbours;
mod queues;
pub mod spread;
mod waiting;
mod workers;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::diagnose::model::Readings;

/// The kinds of findings.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Id {
    /// One worker gets, or has, nearly all connections.
    OneTakesAll,
    /// Chance does not explain the spread.
    Uneven,
    /// One connection wakes several waiters.
    Herd,
    /// A worker is stopped or blocked, or takes nothing while its queue fills.
    StalledWorker,
    /// An accept queue was full.
    QueueFull,
    /// Connections were dropped because an accept queue was full.
    QueueOverflow,
    /// The system's limit caps the backlog.
    BacklogCapped,
    /// Another program's socket gets a share.
    ForeignSocket,
    /// Another program's more specific address takes connections.
    Shadowed,
    /// Another program has the wildcard of the other family.
    OtherFamily,
    /// SO_REUSEPORT is set, but there is only one socket.
    FlagWithoutEffect,
    /// Old workers have most connections, new ones few.
    OldWorkersKeep,
}

/// How much it matters.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It costs, or loses, something.
    Warning,
    /// Worth knowing.
    Info,
}

/// A finding.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Finding {
    /// Its kind.
    pub id: Id,
    /// How much it matters.
    pub severity: Severity,
    /// The process that it is about, if it is about one.
    pub worker: Option<u32>,
    /// What was seen.
    pub evidence: String,
    /// What helps.
    pub remedy: String,
}

/// Its name in JSON.
impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Its name in JSON.
impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl Id {
    /// Whether it follows from a statistical test, which may be wrong by chance. The others are seen, not inferred.
    pub fn may_be_chance(self) -> bool {
        matches!(self, Self::OneTakesAll | Self::Uneven)
    }
}

impl Finding {
    fn new(id: Id, severity: Severity, evidence: String, remedy: &str) -> Self {
        Self { id, severity, worker: None, evidence, remedy: remedy.into() }
    }

    fn warning(id: Id, evidence: String, remedy: &str) -> Self {
        Self::new(id, Severity::Warning, evidence, remedy)
    }

    fn of(self, worker: u32) -> Self {
        Self { worker: Some(worker), ..self }
    }
}

/// All findings, warnings first.
pub fn findings(readings: &Readings) -> Vec<Finding> {
    let causes: [fn(&Readings) -> Vec<Finding>; 10] = [
        workers::stalled,
        queues::overflow,
        queues::full,
        queues::capped,
        spread::uneven,
        neighbours::foreign,
        neighbours::on_another_address,
        waiting::flag_without_effect,
        waiting::herd,
        workers::old_keep,
    ];
    let mut found: Vec<Finding> = causes.iter().flat_map(|cause| cause(readings)).collect();
    found.sort_by_key(|finding| finding.severity);
    found
}

#[cfg(test)]
pub mod tests;
