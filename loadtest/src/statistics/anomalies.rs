//! Anomalies in a series of slices. They are reported, never dropped.

use fastrand::Rng;

use crate::statistics::{mean, median, quantile};

/// An outlier is farther than this many interquartile ranges from the middle half: Tukey's "far out", which applies
/// to one in half a million of normally distributed values.
const FAR_OUT: f64 = 3.0;

/// With fewer values the middle half says too little about the usual scatter.
const FEWEST: usize = 12;

/// A smaller change of speed is not reported.
const WORTH_A_WORD: f64 = 0.05;

/// The number of shuffles in the test of a change.
const SHUFFLES: usize = 999;

/// A change is reported if fewer than this part of the shuffles show one as great.
const BY_CHANCE: f64 = 0.01;

/// The places of the outliers.
pub fn outliers(values: &[f64]) -> Vec<usize> {
    if values.len() < FEWEST {
        return Vec::new();
    }
    let [Some(low), Some(high)] = [0.25, 0.75].map(|part| quantile(values, part)) else {
        return Vec::new();
    };
    let reach = (high - low) * FAR_OUT;
    let is_far_out = |value: f64| value < low - reach || value > high + reach;
    (0..values.len()).filter(|&place| is_far_out(values[place])).collect()
}

/// A change of the machine's speed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shift {
    /// The place of the first value after the change.
    pub at: usize,
    /// The median after it over the median before it.
    pub ratio: f64,
}

/// Finds the place where a series changes its level, if the change is significant.
///
/// That is the place where the sum of distances from the mean (CUSUM) is greatest. Shuffling tests the
/// significance: the order of shuffled values means nothing, and their greatest sum is chance.
pub fn shift(values: &[f64], seed: u64) -> Option<Shift> {
    let (at, greatest) = greatest_sum(values)?;
    let mut random = Rng::with_seed(seed);
    let mut shuffled = values.to_vec();
    let as_great = (0..SHUFFLES)
        .filter(|_| {
            random.shuffle(&mut shuffled);
            greatest_sum(&shuffled).is_some_and(|(_, sum)| sum >= greatest)
        })
        .count();
    let ratio = median(&values[at..])? / median(&values[..at])?;
    let told = (as_great + 1) as f64 / (SHUFFLES + 1) as f64 <= BY_CHANCE;
    (told && (ratio - 1.0).abs() >= WORTH_A_WORD).then_some(Shift { at, ratio })
}

/// The place where the sum of distances from the mean is greatest, and that sum.
fn greatest_sum(values: &[f64]) -> Option<(usize, f64)> {
    let mean = mean(values)?;
    let mut sum = 0.0;
    let sums = values.iter().map(|value| {
        sum += value - mean;
        sum.abs()
    });
    // After the last value the sum is zero, by the definition of a mean.
    let sums = sums.take(values.len() - 1).enumerate();
    sums.max_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(place, sum)| (place + 1, sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_far_out_is_named_and_the_ends_of_a_normal_spread_are_not() {
        let mut values: Vec<f64> = (0..40).map(|i| 100.0 + f64::from(i % 7)).collect();
        assert!(outliers(&values).is_empty());
        values[11] = 40.0;
        assert_eq!(outliers(&values), [11]);
        assert!(outliers(&[]).is_empty());
    }

    #[test]
    fn a_machine_that_slows_down_in_the_middle_is_found_at_the_place() {
        let noise = |i: usize| (i * 7 % 5) as f64;
        let values: Vec<f64> =
            (0..40).map(|i| if i < 25 { 100.0 } else { 80.0 } + noise(i)).collect();
        let shift = shift(&values, 1).unwrap();
        assert_eq!(shift.at, 25);
        assert!((0.75..0.85).contains(&shift.ratio), "{shift:?}");
    }

    #[test]
    fn noise_is_no_change_and_neither_is_a_change_too_small_for_a_word() {
        let mut random = Rng::with_seed(3);
        let found = (0..100)
            .filter(|&seed| {
                let values: Vec<f64> = (0..40).map(|_| 100.0 + 20.0 * random.f64()).collect();
                shift(&values, seed).is_some()
            })
            .count();
        assert!(found <= 5, "{found} of 100");
        let values: Vec<f64> = (0..40).map(|i| if i < 20 { 100.0 } else { 102.0 }).collect();
        assert_eq!(shift(&values, 1), None);
        assert_eq!(shift(&[], 1), None);
        assert_eq!(shift(&[5.0], 1), None);
    }
}
