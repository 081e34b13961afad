//! A running server of any kind: how it really listens, who has what, what is wrong with it, and what a
//! crash would lose.
//!
//! - [`target`]: which server is meant, and in which network namespace it lives;
//! - [`census`]: one look at all processes; [`observer`]: many looks, and what was seen in them;
//! - [`accepts_bpf`]: accepts, counted by the kernel, where root looks;
//! - [`unseen`]: what could not be seen;
//! - [`model`]: what was read, in figures; [`words`]: the model that follows from it;
//! - [`findings()`]: what is wrong, from readings alone; [`lose_now()`]: what a crash would lose.
//!
//! It reads /proc and asks the kernel. Of a listening socket of another process it makes a copy once, asks
//! that for SO_REUSEPORT, and closes it. Nothing is sent, and nothing is set.
//!
//! For one look there is [`look`]. What goes on looking keeps an [`Observer`], which
//! [`Target::observe`] makes: each `look` adds to what was seen, `readings` has it since the last `restart`,
//! and [`findings()`] says what follows.

mod accepts_bpf;
mod census;
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

/// What there is to say of a server.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Diagnosis {
    /// How it really listens, in a line.
    pub model: String,
    /// What is wrong, warnings first.
    pub findings: Vec<Finding>,
    /// What each worker would lose.
    pub lose_now: Vec<Loss>,
    /// What was read.
    #[serde(flatten)]
    pub readings: Readings,
}

/// As it is printed.
pub type Report = Record<Diagnosis>;

impl Body for Diagnosis {
    const SCHEMA: &'static str = "diagnose/1";
    const COMMAND: &'static str = "diagnose";
}

impl Diagnosis {
    /// What follows from readings.
    pub fn of(readings: Readings) -> Self {
        Self {
            model: words::model(&readings),
            findings: findings(&readings),
            lose_now: lose_now(&readings),
            readings,
        }
    }

    /// How the server really listens, in a line.
    pub fn model_in_words(&self) -> &str {
        &self.model
    }

    /// Whether something is wrong that matters.
    pub fn has_warnings(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Warning)
    }
}

/// Looks at a server for so long, or until Ctrl-C.
///
/// # Errors
/// When there is no such server, it may not be looked at, or it ends meanwhile; with the remedy.
pub fn look(target: &Target, time: Duration) -> Result<Diagnosis> {
    target.observe(|observer| {
        observer.look_for(time)?;
        Ok(Diagnosis::of(observer.readings()?))
    })
}
