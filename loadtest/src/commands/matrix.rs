//! `loadtest matrix`: every policy in every workload, and who is good in which.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::atomic_file::AtomicFile;
use crate::cli;
use crate::commands::compare;
use crate::documents;
use crate::environment::Environment;
use crate::interrupt;
use crate::lab::context;
use crate::load;
use crate::load::wrk::Wrk;
use crate::matrix::record::{Matrix, MatrixBody};
use crate::matrix::workloads::{Kind, POLICIES};
use crate::matrix::{cell, plan, stopped};
use crate::report::output::publish_to;

/// Checks, runs, reports.
pub fn run(asked: &cli::Matrix) -> Result<()> {
    let workloads = plan::workloads(&asked.only, asked.quick)?;
    let json = compare::place(&asked.output, "matrix.json")?;
    let folder = json.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    AtomicFile::reserve("--json", &json)?;
    if let Some(path) = &asked.output.html {
        AtomicFile::reserve("--html", path)?;
    }
    let wrk = Wrk::find()?;
    load::raise_open_files();
    let (policies, missing) = context::available(&plan::policies(&POLICIES, asked.quick))?;
    ensure!(policies.len() > 1, "fewer than two policies can be run here: {missing:?}");
    let expected =
        workloads.iter().map(|w| plan::expected(w, &policies, asked.rounds, asked.stops));
    let minutes = expected.sum::<Duration>().as_secs().div_ceil(60);
    // To stderr, as progress is; nothing is lost if nobody reads it.
    let _ = writeln!(
        std::io::stderr(),
        "{} policies in {} workloads: about {minutes} minutes{}",
        policies.len(),
        workloads.len(),
        if asked.resume { ", less what is saved already" } else { "" }
    );

    let body = MatrixBody {
        quick: asked.quick,
        policies: policies.iter().map(|(name, _)| (*name).into()).collect(),
        missing,
        columns: Vec::new(),
        expectations: Vec::new(),
    };
    let environment = Environment::now(Some(wrk.version()))?;
    let mut matrix = Matrix::new(cli::arguments(), environment, body);
    let (seed, resume) = (asked.random.seed, asked.resume);
    let mut ended = Ok(());
    for workload in workloads {
        let column = match workload.kind {
            Kind::Stopped => {
                stopped::column(&workload, &policies, asked.stops, seed, folder, resume)
                    .map(|column| (column, Vec::new()))
            }
            _ => cell::column(&workload, &policies, asked.rounds, seed, folder, resume),
        };
        // A workload that was cut short is no column; its samples are kept for --resume.
        if interrupt::count() > 0 {
            break;
        }
        ended = column.map(|(column, mut warnings)| {
            warnings.retain(|warning| !matrix.warnings.contains(warning));
            matrix.warnings.append(&mut warnings);
            matrix.columns.push(column);
        });
        matrix.judge();
        AtomicFile::reserve("--json", &json)?.save(&matrix)?;
        if ended.is_err() {
            break;
        }
    }
    if matrix.columns.is_empty() {
        return ended.and_then(|()| interrupt::check());
    }
    publish_to(&documents::matrix::document(&matrix), asked.output.with(Some(&json)))?;
    ended
}
