//! A figure, and how sure it is.

use serde::{Deserialize, Serialize};

use crate::statistics::{bootstrap, geometric_mean, median};

/// A figure with its 95 % interval.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Estimate {
    /// The figure.
    pub value: f64,
    /// Lower and upper end of its interval; `null` where there is one value only, or it is a count.
    pub interval: Option<[f64; 2]>,
}

impl Estimate {
    /// A figure without an interval.
    pub fn exact(value: f64) -> Self {
        Self { value, interval: None }
    }

    /// What `average` makes of the values. `None` of no values; the same seed gives the same interval.
    pub fn of(values: &[f64], average: fn(&[f64]) -> Option<f64>, seed: u64) -> Option<Self> {
        let interval = || bootstrap::interval(values, average, seed);
        let interval = if values.len() > 1 { interval() } else { None };
        Some(Self { value: average(values)?, interval })
    }

    /// The median of values.
    pub fn median(values: &[f64], seed: u64) -> Option<Self> {
        Self::of(values, median, seed)
    }

    /// The geometric mean of `of / to`, round by round: what both have in common in a round is gone.
    pub fn ratio(of: &[f64], to: &[f64], seed: u64) -> Option<Self> {
        let ratios: Vec<f64> = of.iter().zip(to).map(|(of, to)| of / to).collect();
        Self::of(&ratios, geometric_mean, seed)
    }

    /// The ends of the interval; without one, twice the figure itself.
    pub fn ends(&self) -> [f64; 2] {
        self.interval.unwrap_or([self.value; 2])
    }

    /// Whether the whole interval is at most `limit` (`Some(true)`) or above it (`Some(false)`).
    pub fn at_most(&self, limit: f64) -> Option<bool> {
        let [low, high] = self.ends();
        match (high <= limit, low > limit) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        }
    }

    /// Whether the whole interval is at least `limit` (`Some(true)`) or below it (`Some(false)`).
    pub fn at_least(&self, limit: f64) -> Option<bool> {
        let [low, high] = self.ends();
        match (low >= limit, high < limit) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_of_all_values_and_one_alone_has_no_interval() {
        let found = Estimate::median(&[1.0, 5.0, 3.0], 1).unwrap();
        let [low, high] = found.interval.unwrap();
        assert!(found.value == 3.0 && low >= 1.0 && high <= 5.0 && low < high);
        assert_eq!(Estimate::median(&[2.0], 1), Some(Estimate::exact(2.0)));
        assert_eq!(Estimate::median(&[], 1), None);
    }

    #[test]
    fn a_ratio_is_of_rounds_so_what_a_round_does_to_both_is_gone() {
        let found = Estimate::ratio(&[2.0, 20.0, 8.0], &[1.0, 10.0, 4.0], 1).unwrap();
        assert!((found.value - 2.0).abs() < 1e-12 && found.at_most(2.001) == Some(true));
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
}
