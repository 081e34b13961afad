//! How sure one can be of an average of a few values, without assuming how they are distributed.
//!
//! The bootstrap (Efron, 1979): draw as many values again from those measured, with replacement,
//! take the average of that, and repeat it thousands of times. The middle 95 % of those averages
//! are the interval. Requests/s are not normally distributed (who accepts which connection is a
//! lottery), so a formula with a square root in it would promise too much.

use fastrand::Rng;

use crate::statistics::quantile;

/// Draws. The ends of the interval are steady to a few percent of its width with so many.
const DRAWS: usize = 10_000;

/// Which part of the draws lies within the interval.
const CONFIDENCE: f64 = 0.95;

/// The 95 % interval of what `average` makes of such values.
///
/// The same values and the same seed give the same interval. `None` of no values.
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
    let outside = (1.0 - CONFIDENCE) / 2.0;
    Some([quantile(&averages, outside)?, quantile(&averages, 1.0 - outside)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::{geometric_mean, median};

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

    /// Of many samples from a known distribution, about 95 % must have the true mean within their
    /// interval; the bootstrap of 40 values is known to stay a little below that.
    #[test]
    fn the_interval_holds_the_truth_as_often_as_it_says() {
        let mut random = Rng::with_seed(1);
        let trials = 120;
        let held = (0..trials)
            .filter(|trial| {
                // A sum of twelve evenly spread numbers is close to normal, with variance 1.
                let noise = |random: &mut Rng| (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
                let values: Vec<f64> = (0..40).map(|_| (0.05 * noise(&mut random)).exp()).collect();
                let [low, high] = interval(&values, geometric_mean, *trial).unwrap();
                (low..=high).contains(&1.0)
            })
            .count();
        assert!((106..=119).contains(&held), "{held} of {trials}");
    }
}
