//! A running server of any kind: how it listens, which worker has what, what is wrong, and what a crash would
//! lose.
//!
//! - [`target`]: which server, and in which network namespace;
//! - [`families`]: which processes belong to the same server; [`observer`]: many looks, and their readings;
//! - [`busy`]: which processes serve that are never seen to wait;
//! - [`accepts_bpf`]: accepts, counted by the kernel, for root;
//! - [`unseen`]: what could not be seen;
//! - [`model`]: the readings, in figures; [`words`]: the model that follows from them;
//! - [`findings()`]: what is wrong, from readings only; [`lose_now()`]: what a crash would lose.
//!
//! It reads /proc and asks the kernel. It copies each listening socket of another process once, reads
//! SO_REUSEPORT from the copy, and closes it. It sends nothing, and changes nothing.
//!
//! [`look`] is for one observation. For longer ones there is an [`Observer`], which [`Target::observe`] makes: each
//! `look` adds to what was seen, `readings` returns what was seen since the last `restart`, and [`findings()`]
//! returns the conclusions.

mod accepts_bpf;
mod busy;
mod families;
pub mod findings;
pub mod lose_now;
pub mod model;
mod observer;
mod target;
mod unseen;
pub mod words;

use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

pub use self::findings::findings;
use self::findings::{Finding, Severity};
use self::lose_now::{Loss, lose_now};
use self::model::Readings;
pub use self::observer::Observer;
pub use self::target::Target;
use crate::record::{Body, Record};

/// The diagnosis of a server.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Diagnosis {
    /// How it listens, in a line.
    pub model: String,
    /// What is wrong, warnings first.
    pub findings: Vec<Finding>,
    /// What each worker would lose.
    pub lose_now: Vec<Loss>,
    /// The readings.
    #[serde(flatten)]
    pub readings: Readings,
}

/// The record of a diagnosis.
pub type Report = Record<Diagnosis>;

impl Body for Diagnosis {
    const SCHEMA: &'static str = "diagnose/1";
    const COMMAND: &'static str = "diagnose";
}

impl Diagnosis {
    /// The diagnosis from readings.
    pub fn of(readings: Readings) -> Self {
        Self {
            model: words::model(&readings),
            findings: findings(&readings),
            lose_now: lose_now(&readings),
            readings,
        }
    }

    /// Whether there are warnings.
    pub fn has_warnings(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Warning)
    }
}

/// Observes a server for this long, or until Ctrl-C.
///
/// # Errors
/// When there is no such server, it may not be looked at, or it ends meanwhile; with the remedy.
pub fn look(target: &Target, time: Duration) -> Result<Diagnosis> {
    target.observe(|observer| {
        observer.look_for(time)?;
        Ok(Diagnosis::of(observer.readings()?))
    })
}
