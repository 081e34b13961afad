//! What is wrong with a server, from readings alone: each cause a small function.

mod neighbours;
mod queues;
pub mod spread;
mod waiting;
mod workers;

use serde::{Deserialize, Serialize};

use crate::diagnose::model::Readings;

/// What is wrong.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Id {
    /// One worker gets, or has, nearly all connections.
    OneTakesAll,
    /// The spread is not one of chance.
    Uneven,
    /// Several are woken for one connection.
    Herd,
    /// A worker is stopped or blocked, or takes nothing while its queue fills.
    StalledWorker,
    /// An accept queue was full.
    QueueFull,
    /// Connections were dropped because of that.
    QueueOverflow,
    /// The system allows no longer queue than this.
    BacklogCapped,
    /// A socket of another program takes part.
    ForeignSocket,
    /// Another's more specific address takes what comes there.
    Shadowed,
    /// Another program has the wildcard of the other family.
    OtherFamily,
    /// SO_REUSEPORT is set, and there is one socket all the same.
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

/// One thing that is wrong.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Finding {
    /// What.
    pub id: Id,
    /// How much it matters.
    pub severity: Severity,
    /// The process that it is about, if it is one alone.
    pub worker: Option<u32>,
    /// What was seen.
    pub evidence: String,
    /// What helps.
    pub remedy: String,
}

impl Id {
    /// As JSON has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::OneTakesAll => "one-takes-all",
            Self::Uneven => "uneven",
            Self::Herd => "herd",
            Self::StalledWorker => "stalled-worker",
            Self::QueueFull => "queue-full",
            Self::QueueOverflow => "queue-overflow",
            Self::BacklogCapped => "backlog-capped",
            Self::ForeignSocket => "foreign-socket",
            Self::Shadowed => "shadowed",
            Self::OtherFamily => "other-family",
            Self::FlagWithoutEffect => "flag-without-effect",
            Self::OldWorkersKeep => "old-workers-keep",
        }
    }

    /// Whether it follows from a test that chance alone fails now and then. The others are seen, not inferred.
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

/// All that is wrong, warnings first.
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
