//! The plan of a run: its workloads and policies, the expected time, and the run of one workload.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::matrix::cell::RATE_ROUNDS;
use crate::matrix::record::{Column, Kind};
use crate::matrix::workloads::{QUICK_POLICIES, Run, THROUGHPUT_ONLY, WORKLOADS, Workload};
use crate::matrix::{cell, stopped};
use crate::measure::comparison::{BETWEEN_SLICES, CLOSED_LOOP, LEAD_IN, WARM_UP};
use crate::record::samples_of;

/// The overhead of a slice if the server is started for it; and for each worker.
const START: Duration = Duration::from_millis(200);
const START_OF_A_WORKER: Duration = Duration::from_millis(3);

/// The named workloads; if none are named, all, or those of the short form.
///
/// # Errors
/// When there is no workload of a name.
pub fn workloads(only: &[String], quick: bool) -> Result<Vec<Workload>> {
    for name in only {
        let known = || WORKLOADS.iter().map(|workload| workload.name);
        ensure!(
            known().any(|known| known == name),
            "--only '{name}' is not a workload; choose one of '{}'",
            known().collect::<Vec<_>>().join("', '")
        );
    }
    let is_wanted = |workload: &&Workload| match only {
        [] => workload.quick || !quick,
        _ => only.iter().any(|name| name == workload.name),
    };
    Ok(WORKLOADS.iter().filter(is_wanted).copied().collect())
}

/// The policies of the run.
pub fn policies<'a>(all: &[(&'a str, &'a str)], quick: bool) -> Vec<(&'a str, &'a str)> {
    all.iter().filter(|(name, _)| !quick || QUICK_POLICIES.contains(name)).copied().collect()
}

/// About how long a workload takes.
pub fn expected(run: &Run, workload: &Workload) -> Duration {
    let is_prompt = |(name, _): &&(&str, &str)| !THROUGHPUT_ONLY.contains(name);
    let all = run.policies.len() as u32;
    let prompt = run.policies.iter().filter(is_prompt).count() as u32;
    let start = START + START_OF_A_WORKER * workload.workers;
    let before = if workload.one_at_a_time() { start + WARM_UP } else { Duration::ZERO };
    let each = BETWEEN_SLICES + before;
    let rates = workload.rates.len() as u32;
    let at_rates =
        ((cell::at_rate(workload) + LEAD_IN * RATE_ROUNDS) * rates + before * RATE_ROUNDS) * prompt;
    start * all
        + match workload.kind {
            Kind::Throughput => {
                let closed_loop = (CLOSED_LOOP + before) * prompt * rates.min(1);
                (cell::SLICE + each) * (run.rounds + 1) * all + closed_loop + at_rates
            }
            Kind::Blocking => at_rates,
            Kind::Stopped => (stopped::END_AT + START) * run.stops * all,
        }
}

/// Whether there is anything to resume: the result, or samples of one of these workloads.
///
/// # Errors
/// When there is nothing.
pub fn check_resumable(json: &Path, workloads: &[Workload]) -> Result<()> {
    let has_samples = |workload: &Workload| samples_of(&workload.file(json)).is_file();
    ensure!(
        json.is_file() || workloads.iter().any(has_samples),
        "--resume: there is neither {} nor a file of samples of it; start a new run without --resume",
        json.display()
    );
    Ok(())
}

/// Measures all policies in a workload. Also returns the warnings.
///
/// # Errors
/// When a server fails, and after Ctrl-C; earlier samples are kept.
pub fn column(run: &Run, workload: &Workload) -> Result<(Column, Vec<String>)> {
    let json = workload.file(run.json);
    let samples = samples_of(&json);
    let resume = run.resume && samples.is_file();
    let (mut words, mut file) = (workload.words(), &json);
    let found = match workload.kind {
        Kind::Stopped => {
            words += &format!("; {} times each", run.stops);
            file = &samples;
            stopped::figures(run, workload, &json, resume).map(|cells| (cells, Vec::new()))
        }
        _ => cell::figures(run, workload, &json, resume),
    };
    let (cells, warnings) = found.with_context(|| format!("workload '{}'", workload.name))?;
    let column = Column {
        name: workload.name.into(),
        words,
        kind: workload.kind,
        slices: file.file_name().unwrap_or_default().to_string_lossy().into(),
        cells,
    };
    Ok((column, warnings))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::workloads::POLICIES;

    fn minutes(quick: bool) -> f64 {
        let policies = policies(&POLICIES, quick);
        let (rounds, stops, seed, json, resume) = (6, 6, 1, Path::new(""), false);
        let run = Run { policies, rounds, stops, seed, json, resume };
        let workloads = workloads(&[], quick).unwrap();
        workloads.iter().map(|each| expected(&run, each)).sum::<Duration>().as_secs_f64() / 60.0
    }

    #[test]
    fn the_whole_takes_about_an_hour_and_the_short_form_ten_minutes() {
        let (whole, quick) = (minutes(false), minutes(true));
        assert!((50.0..65.0).contains(&whole), "{whole}");
        assert!((6.0..11.0).contains(&quick), "{quick}");
    }

    #[test]
    fn a_run_is_resumed_where_there_is_its_result_or_a_file_of_its_samples() {
        let folder = tempfile::tempdir().unwrap();
        let json = folder.path().join("never.json");
        let keep = workloads(&["keep".into()], false).unwrap();
        std::fs::write(folder.path().join("matrix-keep.samples.jsonl"), "").unwrap();
        let refusal = check_resumable(&json, &keep).unwrap_err().to_string();
        assert!(
            refusal.contains("never.json") && refusal.contains("without --resume"),
            "{refusal}"
        );
        std::fs::write(folder.path().join("never-keep.samples.jsonl"), "").unwrap();
        assert!(check_resumable(&json, &keep).is_ok());
    }

    #[test]
    fn a_workload_that_was_named_is_run_in_the_short_form_too() {
        let found = workloads(&["heavy".into()], true).unwrap();
        assert_eq!(found[0].name, "heavy");
        assert!(workloads(&["nothing".into()], false).is_err());
    }
}
