//! `loadtest matrix`: every policy in every workload.

use std::fs;
use std::io::Write;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::atomic_file::AtomicFile;
use crate::cli;
use crate::commands::{place_of, record, reserve};
use crate::documents;
use crate::environment::Environment;
use crate::interrupt;
use crate::lab::context;
use crate::load;
use crate::load::wrk::Wrk;
use crate::matrix::plan;
use crate::matrix::record::{Matrix, MatrixBody};
use crate::matrix::workloads::{POLICIES, Run, Workload};
use crate::record::samples_of;
use crate::report::format::plural;
use crate::report::output::publish_to;

/// Checks, runs, reports.
pub fn run(asked: &cli::Matrix) -> Result<()> {
    let (output, quick) = (&asked.run.output, asked.quick);
    let workloads = plan::workloads(&asked.only, quick)?;
    let json = place_of(output, "matrix", quick || !asked.only.is_empty())?;
    if asked.run.resume {
        plan::check_resumable(&json, &workloads)?;
    }
    Matrix::older(&json)?;
    reserve(Some(&json), output)?;
    let wrk = Wrk::find()?;
    load::raise_open_files();
    let (policies, missing) = context::available(&plan::policies(&POLICIES, quick))?;
    ensure!(policies.len() > 1, "fewer than two policies can be run here: {missing:?}");
    let (rounds, stops, seed) = (asked.rounds, asked.stops, asked.run.random.seed);
    let run = Run { policies, rounds, stops, seed, json: &json, resume: asked.run.resume };
    let expected: Duration = workloads.iter().map(|workload| plan::expected(&run, workload)).sum();
    // To stderr, as the progress.
    let _ = writeln!(
        std::io::stderr(),
        "{} policies in {}: about {}{}",
        run.policies.len(),
        plural(workloads.len() as u64, "workload"),
        plural(expected.as_secs().div_ceil(60), "minute"),
        if run.resume { ", minus what is saved already" } else { "" }
    );

    if !run.resume {
        // Of an earlier run; --resume would take them for samples of this one.
        for workload in &workloads {
            let _ = fs::remove_file(samples_of(&workload.file(&json)));
        }
    }
    let names = run.policies.iter().map(|(name, _)| (*name).into()).collect();
    let body = MatrixBody { quick, policies: names, missing, ..MatrixBody::default() };
    let mut matrix = record(Environment::now(Some(wrk.version()))?, body, &[]);
    let mut measure = |workload: &Workload| -> Result<()> {
        let (column, warnings) = plan::column(&run, workload)?;
        // A workload that was interrupted is no column; its samples are kept for --resume.
        interrupt::check()?;
        for warning in warnings {
            if !matrix.warnings.contains(&warning) {
                matrix.warnings.push(warning);
            }
        }
        matrix.columns.push(column);
        matrix.judge();
        AtomicFile::reserve("--json", &json)?.save(&matrix)
    };
    let ended = workloads.iter().try_for_each(&mut measure);
    if matrix.columns.is_empty() {
        return ended;
    }
    publish_to(&documents::matrix::document(&matrix), output.report.with(Some(&json)))?;
    if interrupt::count() > 0 { Ok(()) } else { ended }
}
