//! What a run of the matrix will do, and how long that takes.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::matrix::workloads::{Kind, QUICK_POLICIES, THROUGHPUT_ONLY, WORKLOADS, Workload};
use crate::matrix::{cell, stopped};

/// What a slice takes longer than its time; and where the server is started for it, with what each
/// worker adds.
const BETWEEN_SLICES: Duration = Duration::from_millis(250);
const START: Duration = Duration::from_millis(500);
const START_OF_A_WORKER: Duration = Duration::from_millis(8);

/// The workloads that were asked for by name; if none were, all, or those of the short form.
///
/// # Errors
/// When one of these names is none.
pub fn workloads(only: &[String], quick: bool) -> Result<Vec<Workload>> {
    for name in only {
        let known = || WORKLOADS.iter().map(|workload| workload.name);
        ensure!(
            known().any(|known| known == name),
            "--only '{name}' is no workload; they are '{}'",
            known().collect::<Vec<_>>().join("', '")
        );
    }
    let is_wanted = |workload: &&Workload| match only {
        [] => workload.quick || !quick,
        _ => only.iter().any(|name| name == workload.name),
    };
    Ok(WORKLOADS.iter().filter(is_wanted).copied().collect())
}

/// The policies that take part.
pub fn policies<'a>(all: &[(&'a str, &'a str)], quick: bool) -> Vec<(&'a str, &'a str)> {
    all.iter().filter(|(name, _)| !quick || QUICK_POLICIES.contains(name)).copied().collect()
}

/// About how long a workload takes.
pub fn expected(
    workload: &Workload,
    policies: &[(&str, &str)],
    rounds: u32,
    stops: u32,
) -> Duration {
    let all = policies.len() as u32;
    let prompt = policies.iter().filter(|(name, _)| !THROUGHPUT_ONLY.contains(name)).count() as u32;
    let start = START + START_OF_A_WORKER * workload.workers;
    let each = BETWEEN_SLICES + if workload.one_at_a_time() { start } else { Duration::ZERO };
    let slices = (cell::SLICE + each) * (rounds + 1) * all;
    let at_rates =
        |rates: usize, time: Duration| (time + each * cell::RATE_ROUNDS) * rates as u32 * prompt;
    start * all
        + match workload.kind {
            Kind::Mixed => slices,
            Kind::Throughput { latency_at: [] } => slices,
            Kind::Throughput { latency_at } => {
                let closed_loop = (Duration::from_secs(2) + each) * prompt;
                slices + closed_loop + at_rates(latency_at.len(), cell::AT_RATE)
            }
            Kind::Blocking { at } => at_rates(at.len(), cell::BLOCKING),
            Kind::Stopped => (stopped::END_AT + START) * stops * all,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::workloads::POLICIES;

    fn minutes(quick: bool) -> f64 {
        let policies = policies(&POLICIES, quick);
        let workloads = workloads(&[], quick).unwrap();
        let each = workloads.iter().map(|workload| expected(workload, &policies, 10, 5));
        each.sum::<Duration>().as_secs_f64() / 60.0
    }

    #[test]
    fn the_whole_takes_about_an_hour_and_the_short_form_ten_minutes() {
        let (whole, quick) = (minutes(false), minutes(true));
        assert!((50.0..65.0).contains(&whole), "{whole}");
        assert!((6.0..11.0).contains(&quick), "{quick}");
    }

    #[test]
    fn a_workload_that_was_named_is_run_in_the_short_form_too() {
        let found = workloads(&["heavy".into()], true).unwrap();
        assert_eq!(found[0].name, "heavy");
        assert!(workloads(&["nothing".into()], false).is_err());
    }
}
