//! What follows from slices at a fixed rate.

use anyhow::Result;

use crate::measure::comparison::{AtRate, FixedRate, Pair, Plan, RateSlice, Subject};
use crate::measure::summary::{each_two, pair};
use crate::statistics::estimate::Estimate;
use crate::statistics::latency::merged;
use crate::statistics::verdict::Figure;

impl FixedRate {
    /// Makes everything that is not measured.
    ///
    /// # Errors
    /// When a distribution is damaged.
    pub fn summarize(&mut self, plan: &Plan, subjects: &[Subject]) -> Result<()> {
        for result in &mut self.results {
            result.summarize(plan.seed)?;
        }
        let pairs =
            Figure::LATENCIES.iter().flat_map(|&figure| pairs(self, figure, plan, subjects));
        self.pairs = pairs.collect();
        Ok(())
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

/// Each two subjects at one rate. A round in which the client was late says nothing.
fn pairs(at: &FixedRate, figure: Figure, plan: &Plan, subjects: &[Subject]) -> Vec<Pair> {
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

#[cfg(test)]
mod tests {
    use crate::measure::fixture::comparison;
    use crate::statistics::verdict::Verdict;

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
}
