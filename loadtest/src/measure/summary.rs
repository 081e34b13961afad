//! The summary of the slices. It is computed from them whenever they are shown, so the same raw data
//! gives the same report.

use crate::load::perf::Cost;
use crate::measure::comparison::{
    Comparison, Limit, Pair, Plan, Slice, Spread, Subject, Summary, Worker,
};
use crate::report::format::rounded;
use crate::statistics::estimate::Estimate;
use crate::statistics::latency::merged;
use crate::statistics::verdict::{FEWEST_ROUNDS, Figure, Ratio};
use crate::statistics::{
    anomalies, by_rank, geometric_mean, max_over_mean, median, quantile, ratios,
};
use crate::types::Errors;

impl Comparison {
    /// Computes everything that is not measured.
    pub fn summarize(&mut self) {
        let cores = self.environment.cores;
        let body = &mut self.body;
        for subject in &mut body.subjects {
            subject.summary = summarize(subject, &body.plan, cores);
        }
        for at in &mut body.fixed_rates {
            at.summarize(&body.plan, &body.subjects);
        }
        body.pairs = pairs(&compared(&body.subjects, &body.plan), body.plan.judged, &body.plan);
        body.anomalies = odd(&body.subjects, body.plan.seed);
    }
}

/// The summary of a subject; `None` without slices.
pub fn summarize(subject: &Subject, plan: &Plan, cores: usize) -> Option<Summary> {
    let slices = &subject.slices;
    let median_of = |of: &dyn Fn(&Slice) -> Option<f64>| {
        let values: Vec<f64> = slices.iter().filter_map(of).collect();
        Estimate::of_rounds(&values, plan.seed)
    };
    let latency_us = merged(slices.iter().map(|slice| &slice.latencies))?;
    let requests: u64 = slices.iter().map(|slice| slice.requests).sum();
    let switches: Option<u64> = slices.iter().map(|slice| slice.server_switches).sum();
    let mut errors = Errors::default();
    slices.iter().for_each(|slice| errors += slice.errors);
    let cost = |of: fn(&Cost) -> f64| median_of(&|slice| slice.cost.as_ref().map(of));
    let cost_per_request = cost(|cost| cost.total);
    let kept = subject.keep_alive.then_some(plan.load.connections_opened);
    Some(Summary {
        slices: slices.len(),
        requests,
        requests_per_second: median_of(&|slice| Some(slice.requests_per_second))?,
        cpu_us_per_request: median_of(&Slice::cpu_us),
        switches_per_request: switches.map(|switches| switches as f64 / requests as f64),
        cost: cost_per_request.and_then(|total| {
            let (user, system) = (cost(|cost| cost.user)?, cost(|cost| cost.system)?);
            Some(Cost { user: user.value, system: system.value, total: total.value })
        }),
        cost_per_request,
        latency_us,
        spread: spread(slices, kept),
        errors,
        limit: subject.workers.and_then(|workers| {
            Limit::of(slices, workers, plan.load.threads, cores, plan.pinned.as_ref())
        }),
    })
}

fn spread(slices: &[Slice], kept: Option<u64>) -> Option<Spread> {
    let ranked = |of: fn(&Worker) -> Option<u64>| {
        by_rank(slices.iter().map(|slice| slice.counts(of)).collect::<Option<Vec<_>>>()?)
    };
    let requests_by_rank = ranked(|worker| worker.requests)?;
    let uneven: Vec<f64> =
        slices.iter().filter_map(|slice| slice.unevenness(|w| w.requests)).collect();
    let idle =
        slices.iter().flat_map(|slice| &slice.workers).filter(|worker| worker.requests == Some(0));
    Some(Spread {
        max_over_mean: median(&uneven)?,
        worst_max_over_mean: quantile(&uneven, 1.0)?,
        best_attainable: best_attainable(kept, requests_by_rank.len()),
        requests_by_rank,
        connections_by_rank: ranked(|worker| worker.connections).unwrap_or_default(),
        idle_workers: idle.count() as f64 / slices.len() as f64,
    })
}

/// The busiest worker over the average one if kept connections are spread as evenly as possible: 49 on 8 workers
/// give 7 over 6.125. `None` means a connection for each request, which gives 1.
fn best_attainable(kept: Option<u64>, workers: usize) -> f64 {
    let workers = workers as u64;
    match kept {
        Some(kept) if kept > 0 && workers > 0 => {
            kept.div_ceil(workers) as f64 / (kept as f64 / workers as f64)
        }
        _ => 1.0,
    }
}

impl Slice {
    /// The busiest worker's count over the average worker's; `None` if counts are not known, or all are 0.
    pub fn unevenness(&self, of: fn(&Worker) -> Option<u64>) -> Option<f64> {
        max_over_mean(&self.counts(of)?)
    }

    /// A count of each worker; `None` if one is not known.
    pub fn counts(&self, of: fn(&Worker) -> Option<u64>) -> Option<Vec<u64>> {
        self.workers.iter().map(of).collect()
    }

    /// CPU time of the server for each request, in microseconds.
    pub fn cpu_us(&self) -> Option<f64> {
        Some(self.server_cpu_seconds? * 1e6 / self.requests as f64)
    }
}

/// A subject of a comparison: its name, whether its connections are kept, whether others are compared with
/// it, and the value of each of its rounds.
pub(super) struct Compared<'a> {
    pub name: &'a str,
    pub keep_alive: bool,
    pub is_baseline: bool,
    pub values: Vec<(u32, f64)>,
    /// Percent of its answers that were errors, if they are more than [`REFUSED`]: an error is soon answered.
    pub refused: Option<f64>,
}

/// Percent of the answers.
const REFUSED: f64 = 0.1;

/// All pairs with the same kind of connections, in the order of the subjects. The baseline is the first of its
/// pairs, and these pairs come first.
pub(super) fn pairs(all: &[Compared], figure: Figure, plan: &Plan) -> Vec<Pair> {
    let mut both = Vec::new();
    for (place, first) in all.iter().enumerate() {
        for second in all[place + 1..].iter().filter(|one| one.keep_alive == first.keep_alive) {
            both.push(if second.is_baseline { (second, first) } else { (first, second) });
        }
    }
    both.sort_by_key(|(baseline, _)| !baseline.is_baseline);
    let pair = |(baseline, other): (&Compared, &Compared)| {
        let ratios = ratios(&other.values, &baseline.values);
        let pair = pair(baseline.name, other.name, figure, ratios, plan);
        match [baseline, other].iter().find_map(|one| Some((one.name, one.refused?))) {
            Some((name, refused)) => Pair {
                result: None,
                sentence: format!(
                    "No verdict on the {} of {} and {}: {refused:.1} % of {name}'s answers were errors.",
                    figure.name(),
                    other.name,
                    baseline.name
                ),
                ..pair
            },
            None => pair,
        }
    };
    both.into_iter().map(pair).collect()
}

/// The verdict on a pair, by the ratios of its rounds.
fn pair(baseline: &str, other: &str, figure: Figure, ratios: Vec<f64>, plan: &Plan) -> Pair {
    let result = Ratio::weigh(figure, &ratios, plan.threshold, plan.seed);
    let sentence = match &result {
        Some(result) => result.sentence(other, baseline),
        None => format!(
            "No verdict on the {} of {other} and {baseline}: an interval needs {FEWEST_ROUNDS} \
             rounds that both have, and there are {}.",
            figure.name(),
            ratios.len()
        ),
    };
    Pair { baseline: baseline.into(), other: other.into(), ratios, result, sentence }
}

/// The name of the subject that others with the same kind of connections are compared with: the plan's
/// baseline, or of several yardsticks the best.
fn baseline<'a>(subjects: &'a [Subject], plan: &'a Plan, keep_alive: bool) -> &'a str {
    let cost = |subject: &Subject| subject.summary.as_ref()?.cost_per_request;
    let yardsticks = subjects.iter().filter(|s| s.yardstick && s.keep_alive == keep_alive);
    let best = yardsticks
        .filter_map(|subject| Some((subject, cost(subject)?.value)))
        .min_by(|(_, one), (_, other)| one.total_cmp(other));
    best.map_or(&plan.baseline, |(subject, _)| &subject.name)
}

/// The value by which each subject is compared.
fn compared<'a>(subjects: &'a [Subject], plan: &Plan) -> Vec<Compared<'a>> {
    let value = |slice: &Slice| match plan.judged {
        Figure::CostPerRequest => Some((slice.round, slice.cost?.total)),
        _ => Some((slice.round, slice.requests_per_second)),
    };
    let one = |subject: &'a Subject| Compared {
        name: &subject.name,
        keep_alive: subject.keep_alive,
        is_baseline: subject.name == baseline(subjects, plan, subject.keep_alive),
        values: subject.slices.iter().filter_map(value).collect(),
        refused: subject.summary.as_ref().and_then(|summary| {
            let refused = summary.errors.status as f64 * 100.0 / summary.requests as f64;
            Some(refused).filter(|&refused| refused > REFUSED)
        }),
    };
    subjects.iter().filter(|_| plan.rounds > 0).map(one).collect()
}

/// Outliers of each subject, and a change of the machine's speed.
fn odd(subjects: &[Subject], seed: u64) -> Vec<String> {
    let mut found = Vec::new();
    for subject in subjects {
        let rates: Vec<f64> = subject.slices.iter().map(|s| s.requests_per_second).collect();
        let middle = median(&rates).unwrap_or_default();
        for place in anomalies::outliers(&rates) {
            found.push(format!(
                "round {} of {} is an outlier: {} requests/s, and the median is {}; it is not \
                 excluded",
                subject.slices[place].round + 1,
                subject.name,
                rounded(rates[place]),
                rounded(middle)
            ));
        }
    }
    let speeds = speeds(subjects);
    let values: Vec<f64> = speeds.iter().map(|(_, speed)| *speed).collect();
    if let Some(shift) = anomalies::shift(&values, seed) {
        found.push(format!(
            "the machine changed its speed: from round {} on, all subjects together served {:.2} \
             times the requests/s of before; ratios compare slices of the same round and are \
             hardly affected, but do not compare absolute figures across that round",
            speeds[shift.at].0 + 1,
            shift.ratio
        ));
    }
    found
}

/// The machine's speed in each round that all subjects have.
fn speeds(subjects: &[Subject]) -> Vec<(u32, f64)> {
    let alive: Vec<&Subject> = subjects.iter().filter(|c| !c.slices.is_empty()).collect();
    let Some(first) = alive.first() else { return Vec::new() };
    let rounds = first.slices.iter().map(|slice| slice.round);
    rounds
        .filter_map(|round| {
            let rates: Option<Vec<f64>> = (alive.iter())
                .map(|c| c.slices.iter().find(|s| s.round == round).map(|s| s.requests_per_second))
                .collect();
            Some((round, geometric_mean(&rates?)?))
        })
        .collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    pub use crate::measure::fixture::{comparison, slice};
    use crate::statistics::verdict::Verdict;

    #[test]
    fn a_ratio_is_of_slices_of_the_same_round_so_noise_that_both_have_is_gone() {
        let comparison = comparison(40, 1.1);
        let pair = &comparison.pairs[0];
        assert_eq!((&*pair.baseline, &*pair.other, pair.ratios.len()), ("shared", "reuseport", 40));
        let result = pair.result.as_ref().unwrap();
        assert_eq!(result.verdict, Verdict::Faster);
        assert!(result.deviation < 0.001, "{result:?}");
    }

    #[test]
    fn the_same_slices_give_the_same_summary() {
        let mut comparison = comparison(12, 0.9);
        let before = comparison.clone();
        comparison.summarize();
        assert_eq!(comparison, before);
    }

    #[test]
    fn whoever_is_the_busiest_in_each_slice_is_so_however_even_the_sums_are() {
        let slices = [slice(0, 1000, &[96, 0, 0, 0]), slice(1, 1000, &[0, 96, 0, 0])];
        let spread = spread(&slices, Some(2)).unwrap();
        assert_eq!((spread.max_over_mean, spread.idle_workers), (4.0, 3.0));
        assert_eq!(spread.requests_by_rank, [1.0, 0.0, 0.0, 0.0]);
        assert_eq!(spread.connections_by_rank, [1.0, 0.0, 0.0, 0.0]);
        assert_eq!(spread.best_attainable, 2.0);
    }

    #[test]
    fn kept_connections_that_do_not_divide_evenly_cannot_be_spread_evenly() {
        assert_eq!(best_attainable(Some(49), 8), 7.0 / 6.125);
        assert_eq!(best_attainable(Some(2), 4), 2.0);
        assert_eq!(best_attainable(Some(96), 4), 1.0);
        assert_eq!(best_attainable(None, 8), 1.0);
    }

    #[test]
    fn one_that_died_keeps_its_slices_and_too_few_give_no_verdict() {
        let mut comparison = comparison(40, 1.1);
        comparison.subjects[1].slices.truncate(3);
        comparison.summarize();
        assert_eq!(comparison.subjects[1].summary.as_ref().unwrap().slices, 3);
        assert_eq!(comparison.pairs[0].result, None);
        assert!(
            comparison.pairs[0].sentence.contains("needs 6 rounds that both have, and there are 3")
        );
        comparison.subjects[1].slices.clear();
        comparison.summarize();
        assert_eq!(comparison.subjects[1].summary, None);
    }

    #[test]
    fn the_baseline_is_what_others_are_compared_with_wherever_it_stands() {
        let mut comparison = comparison(10, 0.5);
        comparison.plan.baseline = "reuseport".into();
        comparison.summarize();
        let pair = &comparison.pairs[0];
        assert_eq!((&*pair.baseline, &*pair.other), ("reuseport", "shared"));
        assert!(pair.result.as_ref().unwrap().ratio > 1.9);
    }

    #[test]
    fn an_outlier_and_a_change_of_speed_are_named_and_not_dropped() {
        let mut comparison = comparison(40, 1.0);
        assert_eq!(comparison.anomalies, Vec::<String>::new());
        comparison.subjects[0].slices[11].requests_per_second = 1000.0;
        comparison.summarize();
        assert!(comparison.anomalies[0].contains("round 12 of shared is an outlier: 1 000"));
        assert_eq!(comparison.pairs[0].ratios.len(), 40);
        for subject in &mut comparison.subjects {
            subject.slices[20..].iter_mut().for_each(|slice| slice.requests_per_second *= 0.5);
        }
        comparison.summarize();
        let odd = comparison.anomalies.join("\n");
        assert!(odd.contains("from round 21 on, all subjects together served 0.5"), "{odd}");
    }

    #[test]
    fn costs_are_compared_with_the_cheaper_yardstick_of_the_same_kind_of_connections() {
        let mut comparison = comparison(6, 1.0);
        comparison.plan.judged = Figure::CostPerRequest;
        let subject = |name: &str, keep_alive, yardstick, total| {
            let slices = (0..6).map(|round| Slice {
                cost: Some(Cost { user: 1.0, system: 2.0, total }),
                ..slice(round, 1000, &[1])
            });
            let slices = slices.collect();
            Subject { yardstick, slices, ..Subject::new(name, name, "/", keep_alive) }
        };
        comparison.subjects = vec![
            subject("shared, kept", true, false, 9.0),
            subject("shared, new", false, false, 30.0),
            subject("nginx, kept", true, true, 12.0),
            subject("nginx reuseport, kept", true, true, 10.0),
            subject("nginx, new", false, true, 20.0),
        ];
        comparison.summarize();
        let found: Vec<(&str, &str, f64)> = (comparison.pairs.iter())
            .map(|pair| (&*pair.baseline, &*pair.other, pair.result.as_ref().unwrap().ratio))
            .collect();
        let near = |of: f64, to: f64| (of - to).abs() < 1e-9;
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found.iter().any(|&(baseline, other, ratio)| {
            (baseline, other) == ("nginx reuseport, kept", "shared, kept") && near(ratio, 0.9)
        }));
        assert!(found.iter().any(|&(baseline, other, ratio)| {
            (baseline, other) == ("nginx, new", "shared, new") && near(ratio, 1.5)
        }));
    }
}
