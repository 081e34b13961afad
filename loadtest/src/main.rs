//! Puts load on the two servers and shows who did the work.
//!
//! Every subcommand is the same pipeline: parse the command line ([`cli`]), check everything that
//! can be checked before work starts, run an experiment ([`experiments`]), report ([`report`]).
//!
//! - [`load`], [`mix`], [`wrk`]: what is asked of wrk, and running it;
//! - [`server`], [`nginx`], [`child`]: the programs under test, which this one knows by their
//!   command line, their scoreboard and their exit status alone;
//! - [`probe`]: asks over sockets of its own, and tells the fate of every request;
//! - [`contestant`]: a server that takes its turn among several;
//! - [`processes`], [`meter`]: what the kernel counted for their processes;
//! - [`kernel`]: accept queues, the kernel's counters, a network namespace for a test alone;
//! - [`comparison`], [`statistics`], [`pin`]: several servers compared, slice by slice;
//! - [`matrix`]: every policy in every workload;
//! - [`agreement`]: wrk's count and the server's must agree;
//! - [`record`], [`cost_record`], [`save`], [`environment`]: a result, with what is needed to judge it;
//! - [`warnings`]: what a reader of a result must know before believing it;
//! - [`watch`]: a running server, live;
//! - [`interrupt`]: Ctrl-C leaves nothing behind and loses nothing.

mod agreement;
mod child;
mod cli;
mod comparison;
mod contestant;
mod cost_record;
mod environment;
mod experiments;
mod interrupt;
#[allow(dead_code)]
mod kernel;
mod load;
mod matrix;
mod meter;
mod mix;
mod nginx;
mod pin;
mod probe;
mod processes;
mod record;
mod report;
mod save;
mod server;
mod statistics;
mod warnings;
mod watch;
mod wrk;

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli: Cli = common::cli::parse();
    let status = common::cli::main("loadtest", || run(cli));
    interrupt::exit_code().unwrap_or(status)
}

fn run(cli: Cli) -> Result<()> {
    interrupt::watch()?;
    match cli.command {
        Command::Bench(asked) => experiments::bench::run(&asked),
        Command::Compare(asked) => experiments::compare::run(&asked),
        Command::Matrix(asked) => experiments::matrix::run(&asked),
        Command::Trust(asked) => experiments::trust::run(&asked),
        Command::Cost(asked) => experiments::cost::run(&asked),
        Command::Probe(asked) => experiments::probe::run(&asked),
        Command::Show(asked) => experiments::show::run(&asked),
        Command::Watch(asked) => watch::run(&asked),
    }
}

/// Says on the terminal why a test did nothing; where everything must be there, that is a failure.
#[cfg(test)]
fn skip_test(reason: &str) {
    use std::io::Write;
    assert!(std::env::var_os("NO_SKIPS").is_none(), "skipped: {reason}");
    let _ = writeln!(std::io::stderr(), "skipped: {reason}"); // past the harness's capture
}
