//! The summary of slices at a fixed rate.

use crate::measure::comparison::{AtRate, FixedRate, Latencies, Plan, RateSlice, Subject};
use crate::measure::summary::{Compared, pairs};
use crate::probe::counters::Counters;
use crate::probe::ideal::Service;
use crate::probe::load::ANSWER_WITHIN;
use crate::probe::record::Ideal;
use crate::statistics::estimate::Estimate;
use crate::statistics::latency::{Distribution, merged, percentile_of};
use crate::statistics::verdict::Figure;

impl FixedRate {
    /// Computes everything that is not measured.
    pub fn summarize(&mut self, plan: &Plan, subjects: &[Subject]) {
        for result in &mut self.results {
            result.summarize(plan.seed);
        }
        self.pairs.clear();
        for (figure, part) in Figure::LATENCIES.into_iter().zip([0.5, 0.99, 0.999]) {
            let compared: Vec<Compared> = (self.results.iter())
                .map(|result| Compared {
                    name: &result.subject,
                    keep_alive: (subjects.iter())
                        .any(|subject| subject.name == result.subject && subject.keep_alive),
                    is_baseline: result.subject == plan.baseline,
                    values: result.by_round(part),
                    refused: None, // they are in the latencies
                })
                .collect();
            self.pairs.extend(pairs(&compared, figure, plan));
        }
    }
}

impl AtRate {
    /// A subject with these slices; `summarize` computes the rest.
    pub fn new(subject: &str, slices: Vec<RateSlice>) -> Self {
        Self { subject: subject.into(), slices, ..Self::default() }
    }

    fn summarize(&mut self, seed: u64) {
        let slices = &self.slices;
        let sum = |of: fn(&RateSlice) -> u64| slices.iter().map(of).sum();
        (self.due, self.ok) = (sum(|slice| slice.due), sum(|slice| slice.ok));
        (self.not_sent, self.lost) = (sum(|slice| slice.not_sent), sum(|slice| slice.lost));
        self.late_slices = slices.iter().filter(|slice| slice.client_late).count();
        self.latency_us = merged(self.judged().map(|slice| &slice.latencies));
        let medians = |of: &dyn Fn(&RateSlice) -> Option<f64>| {
            Estimate::of_rounds(&self.judged().filter_map(of).collect::<Vec<_>>(), seed)
        };
        let of_ideal = |part, place: usize| {
            medians(&|slice| Some(slice.latency(part)? / slice.ideal_us?[place] as f64))
        };
        let of = |part| medians(&|slice| slice.latency(part));
        self.latencies = Latencies {
            p50: of(0.5),
            p99: of(0.99),
            p99_9: of(0.999),
            p50_of_ideal: of_ideal(0.5, 0),
            p99_of_ideal: of_ideal(0.99, 1),
        };
    }

    /// The slices in which the client was not late.
    pub fn judged(&self) -> impl Iterator<Item = &RateSlice> {
        self.slices.iter().filter(|slice| !slice.client_late)
    }

    /// A percentile (`part` of 1) in each judged round.
    pub fn by_round(&self, part: f64) -> Vec<(u32, f64)> {
        self.judged().filter_map(|slice| Some((slice.round, slice.latency(part)?))).collect()
    }

    /// The part of the due requests that got good answers.
    pub fn answered(&self) -> f64 {
        self.ok as f64 / self.due.max(1) as f64
    }
}

impl RateSlice {
    /// A round from the prober's counters, with the ideal if the service time is known.
    pub fn of(counters: &Counters, service: Option<Service>, round: u32) -> Self {
        let ideal = Ideal::of(service, counters);
        Self {
            round,
            due: counters.attempted + counters.not_sent,
            ok: counters.outcomes.ok,
            not_sent: counters.not_sent,
            lost: counters.attempted - counters.outcomes.ok,
            lateness_p99_us: percentile_of(&counters.lateness, 99.0),
            client_late: counters.client_was_late(),
            latencies: Distribution::from_histogram(&counters.latency),
            ideal_us: ideal.map(|ideal| [ideal.p50, ideal.p99]),
        }
    }

    /// A percentile (`part` of 1) of all requests that were due, in microseconds. One without a good answer counts as one
    /// that took as long as the prober waits: a server that loses its slow requests is not faster. `None` if there are too
    /// few requests for it: it would be the greatest one, which grows with their number.
    pub fn latency(&self, part: f64) -> Option<f64> {
        let answered = self.latencies.count() as f64;
        let all = answered + (self.lost + self.not_sent) as f64;
        let of_answered = part * all / answered;
        let found = match of_answered <= 1.0 {
            true => self.latencies.quantile(of_answered).map(|value| value as f64),
            false => Some(ANSWER_WITHIN.as_micros() as f64),
        };
        found.filter(|_| all * (1.0 - part) >= 1.0)
    }
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
        comparison.summarize();
        let at = &comparison.fixed_rates[1];
        assert_eq!((at.results[0].late_slices, at.results[0].slices.len()), (1, 6));
        assert_eq!(at.pairs[1].result, None);
        assert!(at.pairs[1].sentence.contains("p99 of reuseport and shared"), "{:?}", at.pairs[1]);
    }

    #[test]
    fn a_request_without_an_answer_is_not_faster_than_one_with() {
        let mut comparison = comparison(6, 1.0);
        let slice = &mut comparison.fixed_rates[0].results[0].slices[0];
        (slice.lost, slice.not_sent) = (0, 0);
        let [p50, p99] = [0.5, 0.99].map(|part| slice.latency(part).unwrap());
        let all = slice.latencies.count();
        slice.lost = all / 50; // 2 %
        assert_eq!(slice.latency(0.99), Some(2e6));
        assert!((p50..p99).contains(&slice.latency(0.5).unwrap()));
        (slice.lost, slice.not_sent) = (0, 2 * all);
        assert_eq!(slice.latency(0.5), Some(2e6));
    }

    #[test]
    fn multiples_of_the_ideal_are_of_the_same_slice() {
        let mut comparison = comparison(6, 1.0);
        for slice in &mut comparison.fixed_rates[0].results[0].slices {
            slice.ideal_us = Some([400, 1000]);
        }
        comparison.summarize();
        let [first, other] = &comparison.fixed_rates[0].results[..] else { panic!("two") };
        assert!((first.latencies.p50_of_ideal.unwrap().value - 2.0).abs() < 0.02, "{first:?}");
        assert!((first.latencies.p99_of_ideal.unwrap().value - 4.0).abs() < 0.02, "{first:?}");
        assert_eq!(other.latencies.p99_of_ideal, None);
    }
}
