//! Puts load on servers and shows which worker did the work.
//!
//! Every subcommand is the same pipeline: parse the command line ([`cli`]), check everything that
//! can be checked before work starts, run and report ([`commands`]). The modules, from the bottom up;
//! none imports one that is below it in this list:
//!
//! - [`interrupt`], [`atomic_file`], [`environment`], [`record`], [`types`]: Ctrl-C, saving, the
//!   envelope of a result, values of options;
//! - [`statistics`]: intervals, verdicts, significance;
//! - [`report`]: the document model and its three renderers: terminal, Markdown, HTML;
//! - [`kernel`]: accept queues, counters, namespaces, /proc, affinity;
//! - [`load`]: wrk; [`server`]: a server under test; [`probe`]: our own client, and faults;
//! - [`diagnose`]: how a running server of any kind listens, and what is wrong with it;
//! - [`measure`]: the runner: interleaved slices, their store, summaries;
//! - [`matrix`]: every policy in every workload; [`servers`]: how widely used servers behave;
//! - [`lab`]: claims of others, measured again;
//! - [`documents`]: each command's report, in the report's model;
//! - [`watch`]: a running server, live; [`publish`]: writes results into this repository;
//! - [`warnings`]: what a reader of a result must know before believing it.

// The list above links to private modules: the documentation is built with private items.
#![allow(rustdoc::private_intra_doc_links)]

mod atomic_file;
mod cli;
mod commands;
mod diagnose;
mod documents;
mod environment;
mod interrupt;
mod kernel;
mod lab;
mod load;
mod matrix;
mod measure;
mod probe;
mod publish;
mod record;
mod report;
mod server;
mod servers;
mod statistics;
mod types;
mod warnings;
mod watch;

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::{Cli, Command};

/// The program `loadtest`.
pub fn main() -> ExitCode {
    let cli: Cli = common::cli::parse();
    let status = match cli.command {
        Command::Diagnose(asked) => commands::diagnose::main(&asked),
        Command::Watch(asked) => watch::main(&asked),
        command => common::cli::main("loadtest", || run(command)),
    };
    interrupt::exit_code().unwrap_or(status)
}

/// The program `publish`.
pub fn publish_main() -> ExitCode {
    let asked: publish::Publish = common::cli::parse();
    common::cli::main("publish", || publish::run(&asked))
}

fn run(command: Command) -> Result<()> {
    interrupt::watch()?;
    match command {
        Command::Bench(asked) => commands::bench::run(&asked),
        Command::Compare(asked) => commands::compare::run(&asked),
        Command::Matrix(asked) => commands::matrix::run(&asked),
        Command::Lab(asked) => commands::lab::run(&asked),
        Command::SelfCheck(asked) => commands::self_check::run(&asked),
        Command::Cost(asked) => commands::cost::run(&asked),
        Command::Probe(asked) => commands::probe::run(&asked),
        Command::Servers(asked) => commands::servers::run(&asked),
        Command::Show(asked) => commands::show::run(&asked),
        Command::Watch(_) | Command::Diagnose(_) => Ok(()), // they return their own exit status
    }
}

/// Prints on the terminal why a test was skipped; with NO_SKIPS that is a failure.
#[cfg(test)]
fn skip_test(reason: &str) {
    use std::io::Write;
    assert!(std::env::var_os("NO_SKIPS").is_none(), "skipped: {reason}");
    let _ = writeln!(std::io::stderr(), "skipped: {reason}"); // past the harness's capture
}
