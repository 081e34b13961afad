//! A workload as a comparison of all policies, and a figure for each.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::kernel::affinity::Cores;
use crate::load::{Load, Share};
use crate::matrix::record::{AtLoad, Figure, Kind};
use crate::matrix::workloads::{BLOCKING_PATH, MIX, Run, THROUGHPUT_ONLY, Workload};
use crate::measure::compare::Experiment;
use crate::measure::comparison::{Comparison, FixedRate, Plan, RateSlice, Slice, Subject};
use crate::statistics::best::{Best, Rounds};
use crate::statistics::estimate::Estimate;
use crate::statistics::median;

/// How long a slice of wrk lasts.
pub const SLICE: Duration = Duration::from_secs(1);

/// Slices of each policy at each rate. With fewer, a stall of the machine in two of them decides the average of their middle
/// half, too; and in shorter ones p99 would be the length of a stall, as 1 % of the requests arrive in it.
pub const RATE_ROUNDS: u32 = 12;

/// How long each policy is measured at each rate; longer with blocking handlers, where the ideal still differs between
/// slices of a second.
pub fn at_rate(workload: &Workload) -> Duration {
    Duration::from_secs(if workload.kind == Kind::Blocking { 12 } else { 8 })
}

/// Compares all policies in a workload. Also returns the warnings.
pub fn figures(
    run: &Run,
    workload: &Workload,
    json: &Path,
    resume: bool,
) -> Result<(Vec<Figure>, Vec<String>)> {
    let arguments = ["matrix", "--only", workload.name].map(String::from).to_vec();
    let experiment = Experiment { json: json.into(), resume, ..experiment(run, workload)? };
    let (comparison, ended) = experiment.run(arguments)?;
    let warnings = warnings(&comparison, ended)?;
    Ok((of_comparison(workload, &comparison), warnings))
}

/// What to warn of. If one policy's server died, the others went on without it, and so do the next workloads.
fn warnings(comparison: &Comparison, ended: Result<()>) -> Result<Vec<String>> {
    let mut warnings = comparison.warnings.clone();
    match (ended, comparison.failures()) {
        (Err(error), Some(failures)) if error.to_string() == failures => warnings.push(failures),
        (ended, _) => ended?,
    }
    Ok(warnings)
}

fn experiment(run: &Run, workload: &Workload) -> Result<Experiment> {
    let Workload { threads, connections, keep_alive, rates, .. } = *workload;
    let load = Load::new(threads, connections, SLICE, keep_alive);
    let blocking = workload.kind == Kind::Blocking;
    let path = if blocking { BLOCKING_PATH } else { "/" };
    let paths = match workload.mixed {
        true => MIX.map(|(weight, path)| Share { weight, path: path.into() }).to_vec(),
        false => vec![Share::only(path)],
    };
    let policies = run.policies.iter().map(|&(name, server)| Subject {
        at_rates: !THROUGHPUT_ONLY.contains(&name),
        ..Subject::new(name, server, path, keep_alive)
    });
    let mut plan = Plan {
        pinned: workload.pinned.then(Cores::halve).transpose()?,
        one_at_a_time: workload.one_at_a_time(),
        fixed_rate_seconds: at_rate(workload).as_secs_f64(),
        fixed_rate_rounds: RATE_ROUNDS,
        ..Plan::new(load, run.rounds, run.seed, paths, run.policies[0].0)
    };
    if blocking {
        plan.rounds = 0;
        plan.fixed_rates = rates.iter().map(|&part| workload.blocking_rate(part)).collect();
    } else {
        plan.fixed_rate_shares = rates.to_vec();
    }
    Ok(Experiment {
        subjects: policies.filter(|policy| policy.at_rates || !blocking).collect(),
        extra: workload.options(),
        plan,
        ..Experiment::default()
    })
}

/// Every policy's figure from the comparison.
fn of_comparison(workload: &Workload, comparison: &Comparison) -> Vec<Figure> {
    let (plan, subjects) = (&comparison.plan, &comparison.subjects);
    let rates = |subject: &Subject| -> Rounds {
        subject.slices.iter().map(|slice| (slice.round, slice.requests_per_second)).collect()
    };
    let all: Vec<Rounds> = subjects.iter().map(rates).collect();
    let of_best = Best::Highest.ratios(&all, plan.seed);
    let figure = |(subject, of_best): (&Subject, Option<Estimate>)| {
        let summary = subject.summary.as_ref();
        let uneven: Vec<f64> =
            subject.slices.iter().filter_map(|slice| slice.unevenness(|w| w.connections)).collect();
        Figure {
            policy: subject.name.clone(),
            requests_per_second: summary.map(|summary| summary.requests_per_second),
            of_best,
            cpu_us_per_request: summary.and_then(|summary| summary.cpu_us_per_request),
            switches_per_request: summary.and_then(|summary| summary.switches_per_request),
            connections_max_over_mean: median(&uneven),
            connections_max_less_min: subject.slices.iter().filter_map(max_less_min).max(),
            latencies: (comparison.fixed_rates.iter())
                .filter_map(|at| at_load(workload, at, &subject.name, plan.seed))
                .collect(),
            errors: summary.map_or(0, |s| s.errors.total() - s.errors.status),
            ..Figure::default()
        }
    };
    let has_slices = |(s, _): &(&Subject, _)| s.summary.is_some() || plan.rounds == 0;
    subjects.iter().zip(of_best).filter(has_slices).map(figure).collect()
}

fn max_less_min(slice: &Slice) -> Option<u64> {
    let connections = slice.counts(|worker| worker.connections)?;
    Some(connections.iter().max()? - connections.iter().min()?)
}

fn at_load(workload: &Workload, at: &FixedRate, policy: &str, seed: u64) -> Option<AtLoad> {
    let place = at.results.iter().position(|result| result.subject == policy)?;
    let found = &at.results[place];
    let all: Vec<Rounds> = at.results.iter().map(|result| result.by_round(0.99)).collect();
    let of_workers = |rate: u64| rate as f64 / workload.blocking_rate(1.0) as f64;
    // Requests that a late client did not send were not lost by a server.
    let sum = |of: fn(&RateSlice) -> u64| found.judged().map(of).sum::<u64>();
    Some(AtLoad {
        share: at.share.unwrap_or_else(|| of_workers(at.rate)),
        rate: at.rate,
        latencies: found.latencies,
        p99_of_best: Best::Lowest.ratios(&all, seed)[place],
        answered: sum(|slice| slice.ok) as f64 / sum(|slice| slice.due).max(1) as f64,
        lost: sum(|slice| slice.lost + slice.not_sent),
        late_slices: found.late_slices,
    })
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;
    use crate::matrix::workloads::WORKLOADS;
    use crate::measure::summary::tests::comparison;

    #[test]
    fn figures_are_of_the_best_round_by_round_and_latencies_of_the_lowest() {
        let mut comparison = comparison(12, 0.5);
        comparison.subjects[0].slices.remove(3); // a round that only one of them has
        comparison.summarize();
        let found = of_comparison(&WORKLOADS[1], &comparison);
        let (best, other) = (&found[0], &found[1]);
        assert_eq!((best.part(), best.latencies[0].share), (1.0, 0.5));
        assert!((other.part() - 0.5).abs() < 0.001, "{other:?}");
        let times = other.latencies[1].p99_of_best.unwrap();
        assert!((times.value - 2.0).abs() < 0.02, "{times:?}");
        assert_eq!((other.latencies[1].lost, best.connections_max_less_min), (6, Some(90)));
    }

    #[test]
    fn a_policy_whose_server_died_is_a_warning_and_any_other_failure_ends_the_matrix() {
        let mut comparison = comparison(6, 0.5);
        assert!(warnings(&comparison, Err(anyhow!("the disk is full"))).is_err());
        comparison.subjects[0].failed = Some("it died".into());
        let failures = comparison.failures().unwrap();
        assert!(failures.ends_with(" was left out from then on: it died"), "{failures}");
        let found = warnings(&comparison, Err(anyhow!(failures.clone()))).unwrap();
        assert_eq!(found.last(), Some(&failures));
        assert!(warnings(&comparison, Err(anyhow!("the disk is full"))).is_err());
        assert_eq!(warnings(&comparison, Ok(())).unwrap(), comparison.warnings);
    }

    #[test]
    fn a_blocking_workload_has_rates_and_no_slices_of_wrk_and_leaves_some_policies_out() {
        let blocking = WORKLOADS.iter().find(|w| w.name == "blocking, new connections").unwrap();
        let policies = [("shared/epoll", "shared"), ("reuseport/first", "reuseport --steer first")];
        let (policies, json, resume) = (policies.to_vec(), Path::new(""), false);
        let run = Run { policies, rounds: 12, stops: 1, seed: 1, json, resume };
        let of = |workload| experiment(&run, workload).unwrap();
        let found = of(blocking);
        assert_eq!((found.plan.rounds, &*found.plan.fixed_rates), (0, &[1600, 2400, 2880][..]));
        assert_eq!((found.subjects.len(), &*found.subjects[0].path), (1, "/block/10000"));
        let keep = of(&WORKLOADS[1]);
        assert_eq!(keep.subjects.iter().filter(|subject| subject.at_rates).count(), 1);
    }
}
