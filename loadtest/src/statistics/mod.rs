//! Statistics of several runs.
//!
//! - [`estimate`]: a figure with its interval, by the bootstrap;
//! - [`latency`]: distributions that are merged, since percentiles cannot be averaged;
//! - [`significance`]: proportions, and tests of counts;
//! - [`verdict`]: whether one server is faster, in fixed sentences;
//! - [`anomalies`]: outliers, and changes of the machine's speed.

pub mod anomalies;
pub mod best;
pub mod estimate;
pub mod latency;
pub mod significance;
pub mod verdict;

/// The middle value, or the mean of the two in the middle; `None` without values.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// A quantile, interpolated linearly between two values.
pub fn quantile(values: &[f64], part: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = part * sorted.len().checked_sub(1)? as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    // Also because the difference of two infinities is none.
    Some(if low == high { low } else { low + (high - low) * place.fract() })
}

/// The mean; `None` without values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The ratios of the rounds that both series have; each value comes with its round.
pub fn ratios(of: &[(u32, f64)], to: &[(u32, f64)]) -> Vec<f64> {
    let to_in = |round| to.iter().find(|(other, _)| *other == round).map(|(_, value)| *value);
    of.iter().filter_map(|&(round, value)| Some(value / to_in(round)?)).collect()
}

/// The geometric mean: the average of ratios, in which 2 and 1/2 cancel out.
pub fn geometric_mean(values: &[f64]) -> Option<f64> {
    let sum: f64 = values.iter().map(|value| value.ln()).sum();
    (!values.is_empty()).then(|| (sum / values.len() as f64).exp())
}

/// The geometric mean of the middle half (a trimmed mean), for ratios of latencies: a host that takes a core away for some
/// milliseconds multiplies the p99 of that slice, and a few such slices outweigh all others in a mean. What happens in
/// fewer than a quarter of the slices does not count, then, even if the server is the cause: that shows in the p99.9.
pub fn middle_mean(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let outside = sorted.len() / 4;
    geometric_mean(&sorted[outside..sorted.len() - outside])
}

/// The standard deviation of a sample; `None` with fewer than two values.
pub fn standard_deviation(values: &[f64]) -> Option<f64> {
    let count = values.len() as f64;
    let mean = mean(values)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt())
}

/// The greatest count over the average one: 1 is even; the number of counts means that one has all. `None` if all are
/// 0.
pub fn max_over_mean(counts: &[u64]) -> Option<f64> {
    let most = counts.iter().copied().max().filter(|&most| most > 0)?;
    Some(most as f64 * counts.len() as f64 / counts.iter().sum::<u64>() as f64)
}

/// The mean part of each series' sum by rank, the greatest first; together they are 1. A series without counts does not
/// count. `None` if there is no other.
pub fn by_rank(series: impl IntoIterator<Item = Vec<u64>>) -> Option<Vec<f64>> {
    let (mut sums, mut number) = (Vec::new(), 0.0);
    for mut counts in series {
        let all: u64 = counts.iter().sum();
        if all > 0 {
            counts.sort_unstable_by(|a, b| b.cmp(a));
            sums.resize(sums.len().max(counts.len()), 0.0);
            sums.iter_mut().zip(counts).for_each(|(sum, it)| *sum += it as f64 / all as f64);
            number += 1.0;
        }
    }
    (number > 0.0).then(|| sums.into_iter().map(|sum| sum / number).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_average_is_what_its_name_says_and_nothing_has_none() {
        for (found, expected) in [
            (median(&[3.0, 1.0, 100.0]), Some(3.0)),
            (median(&[4.0, 1.0, 2.0, 100.0]), Some(3.0)),
            (median(&[]), None),
            (median(&[f64::INFINITY, 1.0, f64::INFINITY]), Some(f64::INFINITY)),
            // Between two values, by their distance.
            (quantile(&[3.0, 1.0, 2.0], 0.5), Some(2.0)),
            (quantile(&[0.0, 10.0], 0.25), Some(2.5)),
            (quantile(&[7.0], 0.975), Some(7.0)),
            (quantile(&[], 0.5), None),
            (mean(&[1.0, 2.0, 6.0]), Some(3.0)),
            (mean(&[]), None),
            // Twice and half cancel out.
            (geometric_mean(&[2.0, 0.5]), Some(1.0)),
            (geometric_mean(&[]), None),
            // The least and the greatest of four to seven are left out, of fewer none.
            (middle_mean(&[9.0, 2.0, 0.5, 0.001]), Some(1.0)),
            (middle_mean(&[4.0, 2.0, 1.0]), Some(2.0)),
            (middle_mean(&[1.0; 9]), Some(1.0)),
            (middle_mean(&[]), None),
            // Of a sample, hence n - 1.
            (standard_deviation(&[1.0, 3.0]), Some(2.0_f64.sqrt())),
            (standard_deviation(&[1.0]), None),
        ] {
            assert_eq!(found.map(|it| (it * 1e12).round()), expected.map(|it| (it * 1e12).round()));
        }
    }

    #[test]
    fn parts_are_ranked_series_by_series() {
        let series = |all: &[[u64; 2]]| by_rank(all.iter().map(|counts| counts.to_vec()));
        assert_eq!(series(&[[25, 75], [75, 25], [0, 0]]), Some(vec![0.75, 0.25]));
        assert_eq!(series(&[[0, 0]]), None);
        assert_eq!(by_rank([vec![2], vec![1, 1]]), Some(vec![0.75, 0.25]));
    }

    #[test]
    fn ratios_are_of_rounds_that_both_have() {
        assert_eq!(
            ratios(&[(0, 1.0), (1, 6.0), (3, 8.0)], &[(1, 2.0), (2, 9.0), (3, 4.0)]),
            [3.0, 2.0]
        );
        assert!(ratios(&[(0, 1.0)], &[]).is_empty());
    }
}
