//! Distributions of latencies. Percentiles cannot be averaged, distributions can be merged.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The precision of a latency, in digits: 0.1 % is finer than any difference that matters.
const DIGITS: u8 = 3;

/// The percentiles of a curve, evenly spaced on a logarithmic axis of 1 - p.
const CURVE: [f64; 29] = [
    0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 68.0, 75.0, 80.0, 84.0, 87.5, 90.0, 92.0, 94.0, 95.0,
    96.0, 97.0, 98.0, 98.5, 99.0, 99.3, 99.5, 99.7, 99.8, 99.9, 99.95, 99.98, 99.99,
];

/// The figures of a distribution, in microseconds, as every command saves and shows them.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Latency {
    pub mean: f64,
    pub stdev: f64,
    pub p50: u64,
    pub p75: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
    pub p99_99: u64,
    pub max: u64,
    /// `[percentile, microseconds]` for a curve, up to 99.99.
    pub curve: Vec<(f64, u64)>,
}

impl Latency {
    /// The figures of a histogram; `None` if it is empty.
    pub fn of(all: &Histogram<u64>) -> Option<Self> {
        let at = |percentile| percentile_of(all, percentile);
        (!all.is_empty()).then(|| Self {
            mean: all.mean(),
            stdev: all.stdev(),
            p50: at(50.0),
            p75: at(75.0),
            p90: at(90.0),
            p99: at(99.0),
            p99_9: at(99.9),
            p99_99: at(99.99),
            max: all.max(),
            curve: CURVE.iter().map(|&percentile| (percentile, at(percentile))).collect(),
        })
    }
}

/// Latencies in microseconds, each with its number of samples, in rising order.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Distribution(Vec<(u64, u64)>);

impl Distribution {
    /// Rounds each latency to three digits.
    pub fn of(samples: &[(u64, u64)]) -> Self {
        Self::from_histogram(&recorded(samples))
    }

    /// The number of samples.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|&(_, count)| count).sum()
    }

    /// The value that this part of all samples does not exceed; `None` without samples.
    pub fn quantile(&self, part: f64) -> Option<u64> {
        let all = recorded(&self.0);
        (!all.is_empty()).then(|| all.value_at_quantile(part).min(all.max()))
    }

    /// The distribution of a histogram.
    pub fn from_histogram(all: &Histogram<u64>) -> Self {
        let recorded = all.iter_recorded();
        Self(recorded.map(|step| (step.value_iterated_to(), step.count_at_value())).collect())
    }
}

/// The percentiles of all these together; `None` without samples.
pub fn merged<'a>(all: impl IntoIterator<Item = &'a Distribution>) -> Option<Latency> {
    Latency::of(&recorded(all.into_iter().flat_map(|Distribution(samples)| samples)))
}

fn recorded<'a>(samples: impl IntoIterator<Item = &'a (u64, u64)>) -> Histogram<u64> {
    let mut all = empty();
    for &(value, count) in samples {
        // Cannot fail: it resizes itself as far as any number goes.
        let _ = all.record_n(value, count);
    }
    all
}

/// Records a latency in microseconds.
pub fn record(all: &mut Histogram<u64>, latency: Duration) {
    // Cannot fail: it resizes itself as far as any number goes.
    let _ = all.record(latency.as_micros() as u64);
}

/// A percentile of a histogram, at most its maximum, which is less rounded.
pub fn percentile_of(all: &Histogram<u64>, percentile: f64) -> u64 {
    all.value_at_quantile(percentile / 100.0).min(all.max())
}

/// An empty histogram. Its memory grows with the longest latency, not with their number.
pub fn empty() -> Histogram<u64> {
    Histogram::new(DIGITS).expect("a histogram may have up to five digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_all_samples_and_not_averages_of_percentiles() {
        // 99 fast ones in one slice, 100 slow ones in another: the median is at the border.
        let fast = Distribution::of(&[(10, 99)]);
        let slow = Distribution::of(&[(1000, 100)]);
        let both = merged([&fast, &slow]).unwrap();
        assert_eq!((both.p50, both.p99, both.max), (1000, 1000, 1000));
        assert_eq!(both.curve[1], (10.0, 10));
        assert!(merged([]).is_none());
    }

    #[test]
    fn three_digits_of_a_latency_are_kept() {
        let distribution = Distribution::of(&[(123, 1), (123_456, 2)]);
        let latency = merged([&distribution]).unwrap();
        assert!((123_350..=123_600).contains(&latency.max), "{}", latency.max);
    }

    #[test]
    fn a_quantile_is_the_value_that_so_many_samples_do_not_exceed() {
        let distribution = Distribution::of(&[(10, 98), (20, 1), (30, 1)]);
        let found = [0.5, 0.98, 0.99, 1.0].map(|part| distribution.quantile(part).unwrap());
        assert_eq!(found, [10, 10, 20, 30]);
        assert_eq!(Distribution::default().quantile(0.5), None);
    }

    #[test]
    fn the_curve_rises() {
        let distribution = Distribution::of(&[(5, 1000), (50, 100), (500, 1)]);
        let curve = merged([&distribution]).unwrap().curve;
        assert!(curve.is_sorted_by_key(|&(percentile, _)| percentile));
        assert!(curve.is_sorted_by_key(|&(_, value)| value));
    }
}
