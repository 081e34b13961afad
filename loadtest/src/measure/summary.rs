//! What follows from the slices. It is made anew from them whenever they are shown, so the same raw
//! data gives the same report.

use anyhow::Result;

use crate::measure::bench::best_attainable;
use crate::measure::bottleneck::Limit;
use crate::measure::comparison::{
    AtRate, Comparison, Cost, FixedRate, Pair, Plan, RateSlice, Slice, Spread, Subject, Summary,
    Worker,
};
use crate::report::format::rounded;
use crate::statistics::estimate::Estimate;
use crate::statistics::latency::merged;
use crate::statistics::verdict::{FEWEST_ROUNDS, Figure, Ratio};
use crate::statistics::{anomalies, geometric_mean, median, quantile};
use crate::types::Errors;

impl Comparison {
    /// Makes everything that is not measured.
    pub fn summarize(&mut self) -> Result<()> {
        let cores = self.environment.cores;
        let body = &mut self.body;
        for subject in &mut body.subjects {
            subject.summary = summarize(subject, &body.plan, cores)?;
        }
        for at in &mut body.fixed_rates {
            for result in &mut at.results {
                result.summarize(body.plan.seed)?;
            }
            at.pairs = Figure::LATENCIES
                .iter()
                .flat_map(|&figure| at_rate_pairs(at, figure, &body.plan, &body.subjects))
                .collect();
        }
        body.pairs = pairs(&body.subjects, &body.plan);
        body.anomalies = odd(&body.subjects, body.plan.seed);
        Ok(())
    }
}

fn summarize(subject: &Subject, plan: &Plan, cores: usize) -> Result<Option<Summary>> {
    let slices = &subject.slices;
    let median_of = |of: &dyn Fn(&Slice) -> Option<f64>| {
        let values: Vec<f64> = slices.iter().filter_map(of).collect();
        Estimate::median(&values, plan.seed)
    };
    let Some(latency_us) = merged(slices.iter().map(|slice| &slice.latencies))? else {
        return Ok(None);
    };
    let requests: u64 = slices.iter().map(|slice| slice.requests).sum();
    let switches: Option<u64> = slices.iter().map(|slice| slice.server_switches).sum();
    let mut errors = Errors::default();
    slices.iter().for_each(|slice| errors += slice.errors.clone());
    let cost = |of: fn(&Cost) -> f64| median_of(&|slice| slice.cost.as_ref().map(of));
    let cost_per_request = cost(|cost| cost.total);
    let kept = subject.keep_alive.then_some(plan.connections_opened);
    Ok(median_of(&|slice| Some(slice.requests_per_second)).map(|requests_per_second| Summary {
        slices: slices.len(),
        requests,
        requests_per_second,
        cpu_us_per_request: median_of(&|slice| {
            Some(slice.server_cpu_seconds? * 1e6 / slice.requests as f64)
        }),
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
            Limit::of(slices, workers, plan.threads, cores, plan.pinned.as_ref())
        }),
    }))
}

fn spread(slices: &[Slice], kept: Option<u64>) -> Option<Spread> {
    let ranked = |of: fn(&Worker) -> Option<u64>| -> Option<Vec<f64>> {
        let ranks = slices.iter().map(|slice| slice.workers.len()).max()?;
        let mut sums = vec![0.0; ranks];
        for slice in slices {
            let shares = shares(&slice.workers.iter().map(of).collect::<Option<Vec<_>>>()?);
            shares.iter().zip(&mut sums).for_each(|(share, sum)| *sum += share);
        }
        Some(sums.into_iter().map(|sum| sum / slices.len() as f64).collect())
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

/// Each one's part of the sum, the greatest first.
fn shares(counts: &[u64]) -> Vec<f64> {
    let sum = counts.iter().sum::<u64>().max(1) as f64;
    let mut shares: Vec<f64> = counts.iter().map(|&count| count as f64 / sum).collect();
    shares.sort_by(|one, other| other.total_cmp(one));
    shares
}

impl Slice {
    /// The busiest worker's count over the average worker's; `None` where counts are not known, or
    /// all are 0.
    pub fn unevenness(&self, of: fn(&Worker) -> Option<u64>) -> Option<f64> {
        let counts: Vec<u64> = self.workers.iter().map(of).collect::<Option<_>>()?;
        let most = counts.iter().copied().max().filter(|&most| most > 0)?;
        Some(most as f64 * counts.len() as f64 / counts.iter().sum::<u64>() as f64)
    }
}

impl AtRate {
    /// A subject with these slices; what follows from them is made by `summarize`.
    pub fn new(subject: &str, slices: Vec<RateSlice>) -> Self {
        Self {
            subject: subject.into(),
            slices,
            late_slices: 0,
            due: 0,
            ok: 0,
            not_sent: 0,
            lost: 0,
            p50: None,
            p99: None,
            p99_9: None,
            p50_of_ideal: None,
            p99_of_ideal: None,
            latency_us: None,
        }
    }

    fn summarize(&mut self, seed: u64) -> Result<()> {
        let slices = &self.slices;
        let sum = |of: fn(&RateSlice) -> u64| slices.iter().map(of).sum();
        (self.due, self.ok) = (sum(|slice| slice.due), sum(|slice| slice.ok));
        (self.not_sent, self.lost) = (sum(|slice| slice.not_sent), sum(|slice| slice.lost));
        self.late_slices = slices.iter().filter(|slice| slice.client_late).count();
        self.latency_us = merged(self.judged().map(|slice| &slice.latencies))?;
        let medians = |of: &dyn Fn(&RateSlice) -> Option<f64>| {
            Estimate::median(&self.judged().filter_map(of).collect::<Vec<_>>(), seed)
        };
        let of_ideal = |part, place: usize| {
            medians(&|slice| Some(slice.latency(part)? / slice.ideal_us?[place] as f64))
        };
        let found = [0.5, 0.99, 0.999].map(|part| medians(&|slice| slice.latency(part)));
        let multiples = [of_ideal(0.5, 0), of_ideal(0.99, 1)];
        [self.p50, self.p99, self.p99_9] = found;
        [self.p50_of_ideal, self.p99_of_ideal] = multiples;
        Ok(())
    }

    /// The slices in which the client was not late.
    pub fn judged(&self) -> impl Iterator<Item = &RateSlice> {
        self.slices.iter().filter(|slice| !slice.client_late)
    }

    /// The part of all requests due that were answered well.
    pub fn answered(&self) -> f64 {
        self.ok as f64 / self.due.max(1) as f64
    }
}

impl RateSlice {
    /// The latency below which a part of the good answers lies, in microseconds.
    pub fn latency(&self, part: f64) -> Option<f64> {
        self.latencies.quantile(part).map(|value| value as f64)
    }
}

/// Each two of these, in their order. Where one of them is the baseline, it comes first.
fn each_two<'a, T>(all: &'a [T], is_baseline: impl Fn(&T) -> bool) -> Vec<(&'a T, &'a T)> {
    let mut pairs = Vec::new();
    for (place, first) in all.iter().enumerate() {
        for second in &all[place + 1..] {
            pairs.push(if is_baseline(second) { (second, first) } else { (first, second) });
        }
    }
    // Those with the baseline first: they are what was asked for.
    pairs.sort_by_key(|(baseline, _)| !is_baseline(baseline));
    pairs
}

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

/// The name of the subject that others with the same kind of connections are compared with: the
/// plan's, or of several yardsticks the best.
fn baseline<'a>(subjects: &'a [Subject], plan: &'a Plan, keep_alive: bool) -> &'a str {
    let cost = |subject: &Subject| subject.summary.as_ref()?.cost_per_request;
    let yardsticks = subjects.iter().filter(|s| s.yardstick && s.keep_alive == keep_alive);
    let best = yardsticks
        .filter_map(|subject| Some((subject, cost(subject)?.value)))
        .min_by(|(_, one), (_, other)| one.total_cmp(other));
    best.map_or(&plan.baseline, |(subject, _)| &subject.name)
}

/// Each two subjects whose connections are of one kind.
fn pairs(subjects: &[Subject], plan: &Plan) -> Vec<Pair> {
    let value = |subject: &Subject, round| {
        let slice = subject.slices.iter().find(|slice| slice.round == round)?;
        match plan.judged {
            Figure::CostPerRequest => Some(slice.cost?.total),
            _ => Some(slice.requests_per_second),
        }
    };
    let is_baseline =
        |subject: &Subject| subject.name == baseline(subjects, plan, subject.keep_alive);
    each_two(subjects, is_baseline)
        .into_iter()
        .filter(|(baseline, other)| baseline.keep_alive == other.keep_alive && plan.rounds > 0)
        .map(|(baseline, other)| {
            // A round that only one of them has says nothing about the two.
            let ratios = (0..plan.rounds)
                .filter_map(|round| Some(value(other, round)? / value(baseline, round)?))
                .collect();
            pair(&baseline.name, &other.name, plan.judged, ratios, plan)
        })
        .collect()
}

/// Each two subjects at one rate. A round in which the client was late says nothing.
fn at_rate_pairs(at: &FixedRate, figure: Figure, plan: &Plan, subjects: &[Subject]) -> Vec<Pair> {
    let part = match figure {
        Figure::P50 => 0.5,
        Figure::P99 => 0.99,
        _ => 0.999,
    };
    let value =
        |result: &AtRate, round| result.judged().find(|slice| slice.round == round)?.latency(part);
    let keeps = |name: &str| subjects.iter().find(|s| s.name == name).map(|s| s.keep_alive);
    each_two(&at.results, |result| result.subject == plan.baseline)
        .into_iter()
        .filter(|(one, other)| keeps(&one.subject) == keeps(&other.subject))
        .map(|(baseline, other)| {
            let ratios = (0..plan.fixed_rate_rounds)
                .filter_map(|round| Some(value(other, round)? / value(baseline, round)?))
                .collect();
            pair(&baseline.subject, &other.subject, figure, ratios, plan)
        })
        .collect()
}

/// Outliers of each subject, and a machine that changed its speed for all of them.
fn odd(subjects: &[Subject], seed: u64) -> Vec<String> {
    let mut found = Vec::new();
    for subject in subjects {
        let rates: Vec<f64> = subject.slices.iter().map(|s| s.requests_per_second).collect();
        let middle = median(&rates).unwrap_or_default();
        for place in anomalies::outliers(&rates) {
            found.push(format!(
                "round {} of {} is an outlier: {} requests/s, where its median is {}; it counts \
                 like every other",
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
            "the machine changed its speed: from round {} on, all subjects together answered \
             {:.2} times what they did before; ratios are of slices of the same round, so it \
             hardly touches them, but compare no absolute figures across it",
            speeds[shift.at].0 + 1,
            shift.ratio
        ));
    }
    found
}

/// How fast the machine was in each round that all subjects have, whoever was asked.
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
    use crate::load::Share;
    use crate::measure::comparison::CompareBody;
    use crate::statistics::latency::Distribution;
    use crate::statistics::verdict::Verdict;

    /// A slice with these requests/s of one second, shared out among workers like this.
    pub fn slice(round: u32, rate: u64, parts: &[u64]) -> Slice {
        let sum: u64 = parts.iter().sum();
        let workers = parts.iter().enumerate().map(|(index, part)| Worker {
            index,
            connections: Some(part * 96 / sum),
            requests: Some(rate * part / sum),
        });
        Slice {
            round,
            at_seconds: f64::from(round) * 2.5,
            seconds: 1.0,
            requests: rate,
            requests_per_second: rate as f64,
            errors: Errors::default(),
            server_cpu_seconds: Some(1.25),
            server_wait_seconds: Some(0.5),
            server_switches: Some(20_000),
            cost: None,
            wrk_cpu_seconds: 0.75,
            wrk_wait_seconds: 4.0,
            own_cpu_seconds: 0.003,
            latencies: Distribution::of(&[(900, rate * 6 / 10), (1500, rate * 3 / 10), (9000, 40)])
                .unwrap(),
            workers: workers.collect(),
        }
    }

    /// Two subjects, the second of which answers `ratio` of what the first does; noisy, but alike
    /// in each.
    pub fn comparison(rounds: u32, ratio: f64) -> Comparison {
        let noise = |round: u32| u64::from(round * 7 % 11) * 700;
        let subject = |name: &str, ratio: f64, parts: &dyn Fn(u32) -> [u64; 4]| Subject {
            warm_up: Some(50_000.0),
            workers: Some(4),
            closed_loop: Some(60_000.0),
            slices: (0..rounds)
                .map(|r| slice(r, ((80_000 + noise(r)) as f64 * ratio) as u64, &parts(r)))
                .collect(),
            ..Subject::new(name, name, true)
        };
        // The second answers as much later as it answers less.
        let at_rate = |name: &str, ratio: f64| {
            let slice = |round| RateSlice {
                round,
                due: 15_000,
                ok: 14_999,
                not_sent: 0,
                lost: 1,
                lateness_p99_us: 90,
                client_late: false,
                latencies: Distribution::of(&[
                    ((800.0 / ratio) as u64 + u64::from(round), 90),
                    ((4000.0 / ratio) as u64, 10),
                ])
                .unwrap(),
                ideal_us: None,
            };
            AtRate::new(name, (0..6).map(slice).collect())
        };
        let body = CompareBody {
            plan: Plan {
                rounds,
                slice_seconds: 1,
                seed: 1,
                keep_alive: true,
                threads: 12,
                connections_asked: 100,
                connections_opened: 96,
                paths: vec![Share { weight: 1.0, path: "/".into() }],
                baseline: "shared".into(),
                threshold: 0.02,
                pinned: None,
                one_at_a_time: false,
                fixed_rate_shares: vec![0.5, 0.8],
                fixed_rates: vec![],
                fixed_rate_seconds: 3.0,
                fixed_rate_rounds: 6,
                judged: Figure::RequestsPerSecond,
                cost_unit: None,
                cost_excuse: None,
            },
            complete: true,
            subjects: vec![
                subject("shared", 1.0, &|round| match round % 3 {
                    0 => [90, 6, 0, 0],
                    1 => [20, 30, 26, 20],
                    _ => [0, 50, 46, 0],
                }),
                subject("reuseport", ratio, &|round| [20 + u64::from(round % 5), 24, 26, 26]),
            ],
            pairs: vec![],
            fixed_rates: [0.5, 0.8]
                .map(|share| FixedRate {
                    share: Some(share),
                    rate: (share * 60_000.0) as u64,
                    results: vec![at_rate("shared", 1.0), at_rate("reuseport", ratio)],
                    pairs: vec![],
                })
                .to_vec(),
            anomalies: vec![],
        };
        let environment = crate::measure::bench::tests::record(&[1]).environment.clone();
        let arguments = ["compare", "shared", "reuseport"].map(String::from).to_vec();
        let mut comparison = Comparison::new(arguments, environment, body);
        comparison.warnings = vec!["client and server share 2 cores".into()];
        comparison.summarize().unwrap();
        comparison
    }

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
        comparison.summarize().unwrap();
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
    fn one_that_died_keeps_its_slices_and_too_few_give_no_verdict() {
        let mut comparison = comparison(40, 1.1);
        comparison.subjects[1].slices.truncate(3);
        comparison.summarize().unwrap();
        assert_eq!(comparison.subjects[1].summary.as_ref().unwrap().slices, 3);
        assert_eq!(comparison.pairs[0].result, None);
        assert!(
            comparison.pairs[0].sentence.contains("needs 6 rounds that both have, and there are 3")
        );
        comparison.subjects[1].slices.clear();
        comparison.summarize().unwrap();
        assert_eq!(comparison.subjects[1].summary, None);
    }

    #[test]
    fn the_baseline_is_what_others_are_compared_with_wherever_it_stands() {
        let mut comparison = comparison(10, 0.5);
        comparison.plan.baseline = "reuseport".into();
        comparison.summarize().unwrap();
        let pair = &comparison.pairs[0];
        assert_eq!((&*pair.baseline, &*pair.other), ("reuseport", "shared"));
        assert!(pair.result.as_ref().unwrap().ratio > 1.9);
    }

    #[test]
    fn an_outlier_and_a_change_of_speed_are_named_and_not_dropped() {
        let mut comparison = comparison(40, 1.0);
        assert_eq!(comparison.anomalies, Vec::<String>::new());
        comparison.subjects[0].slices[11].requests_per_second = 1000.0;
        comparison.summarize().unwrap();
        assert!(comparison.anomalies[0].contains("round 12 of shared is an outlier: 1 000"));
        assert_eq!(comparison.pairs[0].ratios.len(), 40);
        for subject in &mut comparison.subjects {
            subject.slices[20..].iter_mut().for_each(|slice| slice.requests_per_second *= 0.5);
        }
        comparison.summarize().unwrap();
        let odd = comparison.anomalies.join("\n");
        assert!(odd.contains("from round 21 on, all subjects together answered 0.5"), "{odd}");
    }

    #[test]
    fn latencies_at_a_rate_are_judged_round_by_round_and_without_late_slices() {
        let mut comparison = comparison(6, 0.5);
        let at = &comparison.fixed_rates[1];
        let [p50, p99, _] = &at.pairs[..] else { panic!("{} pairs", at.pairs.len()) };
        assert!((p99.result.as_ref().unwrap().ratio - 2.0).abs() < 0.02, "{p99:?}");
        assert_eq!(p50.result.as_ref().unwrap().verdict, Verdict::Higher);
        assert!(p99.sentence.starts_with("reuseport has a higher p99 than shared: 2.0"));
        assert_eq!((at.results[0].due, at.results[0].lost), (90_000, 6));

        comparison.fixed_rates[1].results[0].slices[0].client_late = true;
        comparison.summarize().unwrap();
        let at = &comparison.fixed_rates[1];
        assert_eq!((at.results[0].late_slices, at.results[0].slices.len()), (1, 6));
        assert_eq!(at.pairs[1].result, None);
        assert!(at.pairs[1].sentence.contains("p99 of reuseport and shared"), "{:?}", at.pairs[1]);
    }

    #[test]
    fn multiples_of_the_ideal_are_of_the_same_slice() {
        let mut comparison = comparison(6, 1.0);
        for slice in &mut comparison.fixed_rates[0].results[0].slices {
            slice.ideal_us = Some([400, 1000]);
        }
        comparison.summarize().unwrap();
        let [first, other] = &comparison.fixed_rates[0].results[..] else { panic!("two") };
        assert!((first.p50_of_ideal.unwrap().value - 2.0).abs() < 0.02, "{first:?}");
        assert!((first.p99_of_ideal.unwrap().value - 4.0).abs() < 0.02, "{first:?}");
        assert_eq!(other.p99_of_ideal, None);
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
            Subject { yardstick, slices: slices.collect(), ..Subject::new(name, name, keep_alive) }
        };
        comparison.subjects = vec![
            subject("shared, kept", true, false, 9.0),
            subject("shared, new", false, false, 30.0),
            subject("nginx, kept", true, true, 12.0),
            subject("nginx reuseport, kept", true, true, 10.0),
            subject("nginx, new", false, true, 20.0),
        ];
        comparison.summarize().unwrap();
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
