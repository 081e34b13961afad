//! One workload: all policies compared in it, and a figure for each.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::kernel::affinity::Cores;
use crate::load::{Load, Share};
use crate::matrix::record::{AtLoad, Column, Figure, Kind};
use crate::matrix::workloads::{BLOCKING_PATH, Kind as Workload_, MIX, THROUGHPUT_ONLY, Workload};
use crate::measure::compare::{Experiment, Measured};
use crate::measure::comparison::{AtRate, Comparison, FixedRate, Plan, Slice, Subject};
use crate::statistics::estimate::Estimate;
use crate::statistics::{geometric_mean, median, ratios};

/// How long a slice of wrk lasts.
pub const SLICE: Duration = Duration::from_secs(1);

/// How long each policy is asked at each rate, in slices of a second; and where handlers block, in
/// slices of two: what one queue before all workers gives still differs between shorter ones.
pub const AT_RATE: Duration = Duration::from_secs(6);
pub const BLOCKING: Duration = Duration::from_secs(12);
pub const RATE_ROUNDS: u32 = 6;

/// Compares all policies in a workload. Gives the column, and the warnings.
///
/// # Errors
/// When a server fails, and after Ctrl-C; the slices that were measured are kept.
pub fn column(
    workload: &Workload,
    policies: &[(&str, &str)],
    rounds: u32,
    seed: u64,
    folder: &Path,
    resume: bool,
) -> Result<(Column, Vec<String>)> {
    let json = folder.join(workload.file());
    let resume = resume && json.with_extension("samples.jsonl").is_file();
    let experiment = experiment(workload, policies, rounds, seed, json, resume)?;
    let Measured { comparison, ended, .. } = experiment
        .run(vec!["matrix".into(), "--only".into(), workload.name.into()])
        .with_context(|| format!("workload '{}'", workload.name))?;
    ended?;
    let column = Column {
        name: workload.name.into(),
        words: workload.words(),
        kind: if is_blocking(workload) { Kind::Blocking } else { Kind::Throughput },
        judged: workload.judged,
        slices: workload.file(),
        cells: figures(workload, &comparison),
    };
    Ok((column, comparison.warnings.clone()))
}

fn is_blocking(workload: &Workload) -> bool {
    matches!(workload.kind, Workload_::Blocking { .. })
}

fn experiment(
    workload: &Workload,
    policies: &[(&str, &str)],
    rounds: u32,
    seed: u64,
    json: PathBuf,
    resume: bool,
) -> Result<Experiment> {
    let load = Load {
        threads: workload.threads,
        connections: workload.connections,
        duration: SLICE,
        keep_alive: workload.keep_alive,
    };
    let share = |(weight, path): (f64, &str)| Share { weight, path: path.into() };
    let (paths, rounds, shares, rates) = match workload.kind {
        Workload_::Mixed => (MIX.map(share).to_vec(), rounds, &[][..], Vec::new()),
        Workload_::Blocking { at } => {
            let rates = at.iter().map(|&part| workload.blocking_rate(part)).collect();
            (vec![share((1.0, BLOCKING_PATH))], 0, &[][..], rates)
        }
        Workload_::Throughput { latency_at } => {
            (vec![share((1.0, "/"))], rounds, latency_at, Vec::new())
        }
        Workload_::Stopped => (vec![share((1.0, "/"))], 0, &[][..], Vec::new()),
    };
    let time = if is_blocking(workload) { BLOCKING } else { AT_RATE };
    let path = paths[0].path.clone();
    let subjects = policies
        .iter()
        .filter(|(name, _)| !(is_blocking(workload) && THROUGHPUT_ONLY.contains(name)))
        .map(|(name, server)| Subject {
            at_rates: !THROUGHPUT_ONLY.contains(name),
            ..Subject::new(name, server, &path, workload.keep_alive)
        });
    Ok(Experiment {
        subjects: subjects.collect(),
        extra: workload.options(),
        plan: Plan {
            pinned: workload.pinned.then(Cores::halve).transpose()?,
            one_at_a_time: workload.one_at_a_time(),
            fixed_rate_shares: shares.to_vec(),
            fixed_rates: rates,
            fixed_rate_seconds: time.as_secs_f64(),
            fixed_rate_rounds: RATE_ROUNDS,
            ..Plan::new(&load, rounds, seed, paths, policies[0].0)
        },
        expect: None,
        json,
        resume,
    })
}

/// Every policy's figure in a comparison that was made of them.
fn figures(workload: &Workload, comparison: &Comparison) -> Vec<Figure> {
    let (plan, subjects) = (&comparison.plan, &comparison.subjects);
    let rate = |subject: &Subject| Some(subject.summary.as_ref()?.requests_per_second.value);
    let best =
        subjects.iter().max_by(|a, b| rate(a).partial_cmp(&rate(b)).unwrap_or(a.name.cmp(&b.name)));
    let best = best.filter(|best| rate(best).is_some());
    let rates = |subject: &Subject| -> Vec<(u32, f64)> {
        subject.slices.iter().map(|slice| (slice.round, slice.requests_per_second)).collect()
    };
    let of_best = |subject: &Subject, best: &Subject| {
        Estimate::of(&ratios(&rates(subject), &rates(best)), geometric_mean, plan.seed)
    };
    let figure = |subject: &Subject| {
        let summary = subject.summary.as_ref();
        let uneven: Vec<f64> =
            subject.slices.iter().filter_map(|slice| slice.unevenness(|w| w.connections)).collect();
        Figure {
            policy: subject.name.clone(),
            requests_per_second: summary.map(|summary| summary.requests_per_second),
            of_best: best.and_then(|best| of_best(subject, best)),
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
    subjects.iter().filter(|s| s.summary.is_some() || plan.rounds == 0).map(figure).collect()
}

fn max_less_min(slice: &Slice) -> Option<u64> {
    let connections: Option<Vec<u64>> = slice.workers.iter().map(|w| w.connections).collect();
    let connections = connections?;
    Some(connections.iter().max()? - connections.iter().min()?)
}

fn at_load(workload: &Workload, at: &FixedRate, policy: &str, seed: u64) -> Option<AtLoad> {
    let found = at.results.iter().find(|result| result.subject == policy)?;
    let p99 = |result: &AtRate| result.latencies.p99.map_or(f64::INFINITY, |p99| p99.value);
    let best = at.results.iter().min_by(|a, b| p99(a).total_cmp(&p99(b)))?;
    let p99_of_best = ratios(&found.by_round(0.99), &best.by_round(0.99));
    let of_workers = |rate: u64| rate as f64 / workload.blocking_rate(1.0) as f64;
    Some(AtLoad {
        share: at.share.unwrap_or_else(|| of_workers(at.rate)),
        rate: at.rate,
        latencies: found.latencies,
        p99_of_best: Estimate::of(&p99_of_best, geometric_mean, seed),
        answered: found.answered(),
        lost: found.lost + found.not_sent,
        late_slices: found.late_slices,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::workloads::WORKLOADS;
    use crate::measure::summary::tests::comparison;

    #[test]
    fn figures_are_of_the_best_round_by_round_and_latencies_of_the_lowest() {
        let mut comparison = comparison(12, 0.5);
        comparison.subjects[0].slices.remove(3); // a round that only one of them has
        comparison.summarize().unwrap();
        let found = figures(&WORKLOADS[1], &comparison);
        let (best, other) = (&found[0], &found[1]);
        assert_eq!((best.part(), best.latencies[0].share), (1.0, 0.5));
        assert!((other.part() - 0.5).abs() < 0.001, "{other:?}");
        let times = other.latencies[1].p99_of_best.unwrap();
        assert!((times.value - 2.0).abs() < 0.02, "{times:?}");
        assert_eq!((other.latencies[1].lost, best.connections_max_less_min), (6, Some(90)));
    }

    #[test]
    fn a_blocking_workload_has_rates_and_no_slices_of_wrk_and_leaves_some_policies_out() {
        let blocking = WORKLOADS.iter().find(|w| w.name == "blocking, new connections").unwrap();
        let policies = [("shared/epoll", "shared"), ("reuseport/first", "reuseport --steer first")];
        let of = |workload| experiment(workload, &policies, 12, 1, PathBuf::new(), false).unwrap();
        let found = of(blocking);
        assert_eq!((found.plan.rounds, &*found.plan.fixed_rates), (0, &[1600, 2400, 2880][..]));
        assert_eq!((found.subjects.len(), &*found.subjects[0].path), (1, "/block/10000"));
        let keep = of(&WORKLOADS[1]);
        assert_eq!(keep.subjects.iter().filter(|subject| subject.at_rates).count(), 1);
    }
}
