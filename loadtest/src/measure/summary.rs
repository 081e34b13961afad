//! What follows from the slices. It is made anew from them whenever they are shown, so the same raw
//! data gives the same report.

use anyhow::Result;

use crate::measure::bench::Errors;
use crate::measure::bottleneck::Limit;
use crate::measure::comparison::{
    Comparison, Estimate, Pair, Plan, Slice, Spread, Subject, Summary,
};
use crate::report::format::rounded;
use crate::statistics::latency::merged;
use crate::statistics::verdict::{FEWEST_ROUNDS, Ratio};
use crate::statistics::{anomalies, bootstrap, geometric_mean, median, quantile};

impl Comparison {
    /// Makes everything that is not measured.
    pub fn summarize(&mut self) -> Result<()> {
        let cores = self.environment.cores;
        for subject in &mut self.subjects {
            subject.summary = summarize(subject, &self.plan, cores)?;
        }
        self.pairs = pairs(&self.subjects, &self.plan);
        self.anomalies = odd(&self.subjects, self.plan.seed);
        Ok(())
    }
}

fn summarize(subject: &Subject, plan: &Plan, cores: usize) -> Result<Option<Summary>> {
    let slices = &subject.slices;
    let seed = plan.seed;
    let limit = Limit::of(slices, subject.workers, plan.threads, cores, plan.pinned.as_ref());
    let latency = merged(slices.iter().map(|slice| &slice.latencies))?;
    let rates: Vec<f64> = slices.iter().map(|slice| slice.requests_per_second).collect();
    let costs: Vec<f64> =
        slices.iter().map(|slice| slice.server_cpu_seconds * 1e6 / slice.requests as f64).collect();
    let requests: u64 = slices.iter().map(|slice| slice.requests).sum();
    let switches: u64 = slices.iter().map(|slice| slice.server_switches).sum();
    let mut errors = Errors::default();
    slices.iter().for_each(|slice| errors += slice.errors.clone());
    Ok((|| {
        Some(Summary {
            slices: slices.len(),
            requests,
            requests_per_second: estimate(&rates, seed)?,
            cpu_us_per_request: estimate(&costs, seed)?,
            switches_per_request: switches as f64 / requests as f64,
            latency_us: latency?,
            spread: spread(slices)?,
            errors,
            limit: limit?,
        })
    })())
}

fn estimate(values: &[f64], seed: u64) -> Option<Estimate> {
    Some(Estimate {
        median: median(values)?,
        interval: bootstrap::interval(values, median, seed)?,
        least: quantile(values, 0.0)?,
        greatest: quantile(values, 1.0)?,
    })
}

fn spread(slices: &[Slice]) -> Option<Spread> {
    let ranked = |of: fn(&crate::measure::comparison::Worker) -> u64| {
        let each = slices.iter().map(|slice| shares(slice.workers.iter().map(of)));
        let ranks = slices.iter().map(|slice| slice.workers.len()).max().unwrap_or(0);
        let mut sums = vec![0.0; ranks];
        each.for_each(|shares| shares.iter().zip(&mut sums).for_each(|(share, sum)| *sum += share));
        sums.into_iter().map(|sum| sum / slices.len() as f64).collect()
    };
    let uneven: Vec<f64> = slices
        .iter()
        .filter_map(|slice| {
            let shares = shares(slice.workers.iter().map(|worker| worker.requests));
            Some(shares.first()? * shares.len() as f64)
        })
        .collect();
    let idle = slices.iter().flat_map(|slice| &slice.workers).filter(|worker| worker.requests == 0);
    Some(Spread {
        max_over_mean: median(&uneven)?,
        worst_max_over_mean: quantile(&uneven, 1.0)?,
        requests_by_rank: ranked(|worker| worker.requests),
        connections_by_rank: ranked(|worker| worker.connections),
        idle_workers: idle.count() as f64 / slices.len() as f64,
    })
}

/// Each one's part of the sum, the greatest first.
fn shares(counts: impl Iterator<Item = u64>) -> Vec<f64> {
    let mut counts: Vec<u64> = counts.collect();
    counts.sort_unstable_by(|one, other| other.cmp(one));
    let sum = counts.iter().sum::<u64>().max(1) as f64;
    counts.into_iter().map(|count| count as f64 / sum).collect()
}

/// Each two subjects. Where one of them is the baseline, the other is compared with it.
fn pairs(subjects: &[Subject], plan: &Plan) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for (place, first) in subjects.iter().enumerate() {
        for second in &subjects[place + 1..] {
            let turned = second.name == plan.baseline;
            let (baseline, other) = if turned { (second, first) } else { (first, second) };
            pairs.push(pair(baseline, other, plan));
        }
    }
    // Those with the baseline first: they are what was asked for.
    pairs.sort_by_key(|pair| pair.baseline != plan.baseline);
    pairs
}

fn pair(baseline: &Subject, other: &Subject, plan: &Plan) -> Pair {
    let rate_in = |subject: &Subject, round| {
        let slice = subject.slices.iter().find(|slice| slice.round == round);
        slice.map(|slice| slice.requests_per_second)
    };
    // A round that only one of them has says nothing about the two.
    let ratios: Vec<f64> = (0..plan.rounds)
        .filter_map(|round| Some(rate_in(other, round)? / rate_in(baseline, round)?))
        .collect();
    let result = Ratio::weigh(&ratios, plan.threshold, plan.seed);
    let sentence = match &result {
        Some(result) => result.sentence(&other.name, &baseline.name),
        None => format!(
            "No verdict on {} and {}: an interval needs {FEWEST_ROUNDS} rounds, and there are {}.",
            other.name,
            baseline.name,
            ratios.len()
        ),
    };
    Pair { baseline: baseline.name.clone(), other: other.name.clone(), ratios, result, sentence }
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
    use crate::measure::comparison::{AtRate, FixedRate, SCHEMA, Worker};
    use crate::statistics::latency::Distribution;
    use crate::statistics::verdict::Verdict;

    /// A slice with these requests/s of one second, shared out among workers like this.
    pub fn slice(round: u32, rate: u64, parts: &[u64]) -> Slice {
        let sum: u64 = parts.iter().sum();
        let workers = parts.iter().enumerate().map(|(index, part)| Worker {
            index,
            connections: part * 96 / sum,
            requests: rate * part / sum,
        });
        Slice {
            round,
            at_seconds: f64::from(round) * 2.5,
            seconds: 1.0,
            requests: rate,
            requests_per_second: rate as f64,
            errors: Errors::default(),
            server_cpu_seconds: 1.25,
            server_wait_seconds: 0.5,
            server_switches: 20_000,
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
            name: name.into(),
            server: name.into(),
            workers: 4,
            warm_up: Some(50_000.0),
            slices: (0..rounds)
                .map(|r| slice(r, ((80_000 + noise(r)) as f64 * ratio) as u64, &parts(r)))
                .collect(),
            failed: None,
            summary: None,
        };
        let latency_us =
            merged(std::iter::once(&Distribution::of(&[(800, 90), (4000, 10)]).unwrap()));
        let at_rate = |name: &str| AtRate {
            subject: name.into(),
            due: 30_000,
            ok: 29_990,
            not_sent: 0,
            lost: 10,
            latency_us: latency_us.as_ref().unwrap().clone(),
        };
        let mut comparison = Comparison {
            schema: SCHEMA.into(),
            arguments: vec!["compare".into(), "shared".into(), "reuseport".into()],
            environment: crate::measure::bench::tests::record(&[1]).environment,
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
                fixed_rate_seconds: 3.0,
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
                    share,
                    rate: (share * 50_000.0) as u64,
                    results: vec![at_rate("shared"), at_rate("reuseport")],
                })
                .to_vec(),
            anomalies: vec![],
            warnings: vec!["client and server share 2 cores".into()],
        };
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
        let spread = spread(&slices).unwrap();
        assert_eq!((spread.max_over_mean, spread.idle_workers), (4.0, 3.0));
        assert_eq!(spread.requests_by_rank, [1.0, 0.0, 0.0, 0.0]);
        assert_eq!(spread.connections_by_rank, [1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn one_that_died_keeps_its_slices_and_too_few_give_no_verdict() {
        let mut comparison = comparison(40, 1.1);
        comparison.subjects[1].slices.truncate(3);
        comparison.summarize().unwrap();
        assert_eq!(comparison.subjects[1].summary.as_ref().unwrap().slices, 3);
        assert_eq!(comparison.pairs[0].result, None);
        assert!(comparison.pairs[0].sentence.contains("needs 6 rounds, and there are 3"));
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
}
