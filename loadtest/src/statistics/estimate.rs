//! A figure with its interval, without an assumption about the distribution.
//!
//! The bootstrap (Efron, 1979): draw as many values again from those measured, with replacement,
//! take the average of that, and repeat it thousands of times. The middle 95 % of those averages
//! are the interval. Requests/s are not normally distributed (chance decides which worker accepts a
//! connection), so the interval of a normal distribution would be too narrow.

use fastrand::Rng;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use crate::statistics::verdict::FEWEST_ROUNDS;
use crate::statistics::{median, quantile};

/// The number of draws. With so many the ends of the interval vary by a few percent of its width.
const DRAWS: usize = 10_000;

/// The part of the draws within the interval.
const CONFIDENCE: f64 = 0.95;

/// The 95 % interval of `average` of these values.
///
/// The same values and the same seed give the same interval. `None` without values.
pub fn interval(
    values: &[f64],
    average: impl Fn(&[f64]) -> Option<f64>,
    seed: u64,
) -> Option<[f64; 2]> {
    let mut random = Rng::with_seed(seed);
    let mut drawn = vec![0.0; values.len()];
    let averages: Vec<f64> = (0..DRAWS)
        .map_while(|_| {
            drawn.fill_with(|| values[random.usize(..values.len())]);
            average(&drawn)
        })
        .collect();
    let outside = outside(values.len());
    Some([quantile(&averages, outside)?, quantile(&averages, 1.0 - outside)?])
}

/// The part of the draws on either side of the interval. Few values tell little about how far they scatter, so their
/// interval must be wider, as it is with Student's t distribution (the expanded percentile interval, Hesterberg, 2015).
/// Without this, the intervals of 6 values contained the true mean in 87 of 100 cases. Of fewer than 6 values, the
/// interval is from the least to the greatest average that can be drawn, and contains it more rarely than it says.
fn outside(values: usize) -> f64 {
    let (count, plain) = (values as f64, (1.0 - CONFIDENCE) / 2.0);
    let expanded = StudentsT::new(0.0, 1.0, count - 1.0).ok().zip(Normal::new(0.0, 1.0).ok());
    expanded.map_or(plain, |(student, normal)| {
        normal.cdf(student.inverse_cdf(plain) * (count / (count - 1.0)).sqrt())
    })
}

/// A figure with its 95 % interval.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Estimate {
    /// The figure.
    pub value: f64,
    /// Lower and upper end of its interval; `null` if there is only one value, or it is a count.
    pub interval: Option<[f64; 2]>,
}

impl Estimate {
    /// A figure without an interval.
    pub fn exact(value: f64) -> Self {
        Self { value, interval: None }
    }

    /// The `average` of the values with its interval. `None` without values; the same seed gives the same interval.
    pub fn of(values: &[f64], average: fn(&[f64]) -> Option<f64>, seed: u64) -> Option<Self> {
        let interval = if values.len() > 1 { interval(values, average, seed) } else { None };
        Some(Self { value: average(values)?, interval })
    }

    /// The median of values.
    pub fn median(values: &[f64], seed: u64) -> Option<Self> {
        Self::of(values, median, seed)
    }

    /// The median of rounds, without an interval if there are fewer than [`FEWEST_ROUNDS`].
    pub fn of_rounds(values: &[f64], seed: u64) -> Option<Self> {
        Some(Self::median(values, seed)?.of_enough(values))
    }

    /// The `average` of the rounds' ratios, without an interval if there are fewer than [`FEWEST_ROUNDS`].
    pub fn of_ratios(
        ratios: &[f64],
        average: fn(&[f64]) -> Option<f64>,
        seed: u64,
    ) -> Option<Self> {
        Some(Self::of(ratios, average, seed)?.of_enough(ratios))
    }

    fn of_enough(self, rounds: &[f64]) -> Self {
        let enough = rounds.len() >= FEWEST_ROUNDS as usize;
        Self { interval: self.interval.filter(|_| enough), ..self }
    }

    /// The ends of the interval; without one, the figure itself as both ends.
    pub fn ends(&self) -> [f64; 2] {
        self.interval.unwrap_or([self.value; 2])
    }

    /// Whether the whole interval is at most `limit` (`Some(true)`) or above it (`Some(false)`).
    pub fn at_most(&self, limit: f64) -> Option<bool> {
        let [low, high] = self.ends();
        if high <= limit { Some(true) } else { (low > limit).then_some(false) }
    }

    /// Whether the whole interval is at least `limit` (`Some(true)`) or below it (`Some(false)`).
    pub fn at_least(&self, limit: f64) -> Option<bool> {
        let [low, high] = self.ends();
        if low >= limit { Some(true) } else { (high < limit).then_some(false) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::{geometric_mean, middle_mean};

    #[test]
    fn a_figure_is_of_all_values_and_one_alone_has_no_interval() {
        let found = Estimate::median(&[1.0, 5.0, 3.0], 1).unwrap();
        let [low, high] = found.interval.unwrap();
        assert!(found.value == 3.0 && low >= 1.0 && high <= 5.0 && low < high);
        assert_eq!(Estimate::median(&[2.0], 1), Some(Estimate::exact(2.0)));
        assert_eq!(Estimate::median(&[], 1), None);
    }

    #[test]
    fn a_few_rounds_have_a_median_and_no_interval() {
        let rounds = [1.0, 3.0, 2.0, 5.0, 4.0, 6.0];
        assert!(Estimate::of_rounds(&rounds, 1).unwrap().interval.is_some());
        assert_eq!(Estimate::of_rounds(&rounds[..5], 1), Some(Estimate::exact(3.0)));
    }

    #[test]
    fn a_limit_is_kept_exceeded_or_crossed() {
        let found = Estimate { value: 1.0, interval: Some([0.9, 1.1]) };
        for (limit, at_most, at_least) in [
            (0.8, Some(false), Some(true)),
            (0.9, None, Some(true)),
            (1.0, None, None),
            (1.1, Some(true), None),
            (1.2, Some(true), Some(false)),
        ] {
            assert_eq!((found.at_most(limit), found.at_least(limit)), (at_most, at_least));
        }
    }

    #[test]
    fn the_same_values_and_seed_give_the_same_interval() {
        let values = [0.9, 1.0, 1.1, 1.3, 0.8, 1.05];
        let once = interval(&values, geometric_mean, 7);
        assert_eq!(once, interval(&values, geometric_mean, 7));
        assert_ne!(once, interval(&values, geometric_mean, 8));
    }

    #[test]
    fn values_that_agree_leave_no_doubt_and_none_give_none() {
        assert_eq!(interval(&[2.0; 9], median, 1), Some([2.0, 2.0]));
        assert_eq!(interval(&[], median, 1), None);
    }

    /// For about 95 % of many samples from a known distribution the interval must contain the true mean, whether there
    /// are few values or many.
    #[test]
    fn the_interval_holds_the_truth_as_often_as_it_says() {
        let mut random = Rng::with_seed(1);
        let trials = 150;
        for (count, average) in [
            (6, geometric_mean as fn(&[f64]) -> _),
            (8, geometric_mean),
            (40, geometric_mean),
            (12, middle_mean),
            (24, middle_mean),
        ] {
            let held = (0..trials)
                .filter(|trial| {
                    // A sum of twelve evenly spread numbers is close to normal, with variance 1.
                    let mut noise = || (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
                    let values: Vec<f64> = (0..count).map(|_| (0.05 * noise()).exp()).collect();
                    let [low, high] = interval(&values, average, *trial).unwrap();
                    (low..=high).contains(&1.0)
                })
                .count();
            assert!((136..=149).contains(&held), "{held} of {trials} with {count} values");
        }
    }
}
