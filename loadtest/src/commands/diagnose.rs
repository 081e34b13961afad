//! `loadtest diagnose`: how does a running server listen, and what is wrong with it?

use std::process::ExitCode;

use anyhow::Result;

use crate::cli;
use crate::diagnose::{self, Report, Target};
use crate::documents;
use crate::environment::Environment;
use crate::interrupt;
use crate::record::Record;
use crate::report::output::{Output, publish_to};
use crate::report::terminal;
use crate::warnings::Warning;

/// The exit status if there are warnings.
const WARNINGS: u8 = 1;

/// The exit status if the server cannot be observed.
const COULD_NOT: u8 = 2;

/// Observes, reports, and returns the exit status.
pub fn main(asked: &cli::Diagnose) -> ExitCode {
    match run(asked) {
        Ok(false) => ExitCode::SUCCESS,
        Ok(true) => WARNINGS.into(),
        Err(error) => {
            eprintln!("loadtest: {error:#}");
            COULD_NOT.into()
        }
    }
}

/// Returns whether there are warnings.
fn run(asked: &cli::Diagnose) -> Result<bool> {
    interrupt::watch()?;
    let environment = Environment::now(None)?;
    let diagnosis = diagnose::look(&Target { port: asked.port, pid: asked.pid }, asked.time)?;
    let mut report: Report = Record::new(cli::arguments(), environment, diagnosis);
    if interrupt::count() > 0 {
        let seconds = report.readings.seconds;
        report.warnings.push(Warning::Interrupted { seconds }.to_string());
    }
    if asked.json {
        terminal::warn(&report.warnings);
        terminal::print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?;
    } else {
        let output = Output { markdown: asked.markdown, ..Output::default() };
        publish_to(&documents::diagnose::document(&report), output)?;
    }
    Ok(report.has_warnings())
}
