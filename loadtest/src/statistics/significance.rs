//! Significance: the interval of a proportion, and a test of equal shares.

use statrs::distribution::{Beta, ChiSquared, ContinuousCDF};

/// The part of all intervals that contain the true value.
const CONFIDENCE: f64 = 0.95;

/// The exact 95 % interval (Clopper and Pearson, 1934) of a proportion of which `met` of `all` were counted. A
/// bootstrap would give no width if all, or none, were met. `None` if `all` is 0.
pub fn part(met: u64, all: u64) -> Option<[f64; 2]> {
    let outside = (1.0 - CONFIDENCE) / 2.0;
    let others = all.checked_sub(met).filter(|_| all > 0)?;
    let end = |met: u64, others: u64, below: f64| {
        Some(Beta::new(met as f64, others as f64).ok()?.inverse_cdf(below))
    };
    let low = if met == 0 { 0.0 } else { end(met, others + 1, outside)? };
    let high = if others == 0 { 1.0 } else { end(met + 1, others, 1.0 - outside)? };
    Some([low, high])
}

/// How far several series of counts are from equal shares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evenness {
    /// Pearson's chi-square, summed over all series.
    pub chi_square: f64,
    /// Degrees of freedom: the mean of chi-square if all shares are equal.
    pub degrees: f64,
    /// The probability p of counts at least as uneven as these, if all shares are equal.
    pub as_uneven: f64,
    /// The probability of counts at least as even as these.
    pub as_even: f64,
}

/// Compares the counts of each series with equal shares (Pearson's chi-square test). `None` without a
/// series of two or more counts that are not all zero.
pub fn evenness<'a>(series: impl IntoIterator<Item = &'a [u64]>) -> Option<Evenness> {
    let (mut chi_square, mut degrees) = (0.0, 0.0);
    for got in series {
        let expected = got.iter().sum::<u64>() as f64 / got.len() as f64;
        if got.len() < 2 || expected == 0.0 {
            continue;
        }
        chi_square +=
            got.iter().map(|&got| (got as f64 - expected).powi(2) / expected).sum::<f64>();
        degrees += got.len() as f64 - 1.0;
    }
    let chance = ChiSquared::new(degrees).ok()?;
    let (as_uneven, as_even) = (chance.sf(chi_square), chance.cdf(chi_square));
    Some(Evenness { chi_square, degrees, as_uneven, as_even })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_the_surer_the_more_was_counted() {
        let [low, high] = part(8, 8).unwrap();
        assert!((low - 0.6306).abs() < 1e-3 && high == 1.0, "{low} {high}"); // 0.025 ^ (1/8)
        assert_eq!(part(0, 8).unwrap()[0], 0.0);
        let [low, high] = part(50, 100).unwrap();
        assert!((low - 0.398).abs() < 1e-3 && (high - 0.602).abs() < 1e-3, "{low} {high}");
        assert_eq!(part(0, 0), None);
        assert_eq!(part(2, 1), None);
    }

    #[test]
    fn equal_shares_are_likely_and_unequal_ones_are_not() {
        // 7.815 is the 95 % quantile of chi-square with 3 degrees of freedom, in every table.
        let fair = evenness([&[55, 52, 48, 45][..]]).unwrap();
        assert!((fair.chi_square - 1.16).abs() < 1e-9 && fair.degrees == 3.0, "{fair:?}");
        assert!(fair.as_uneven > 0.7 && fair.as_even > 0.2, "{fair:?}");
        assert!(evenness([&[200, 0, 0, 0][..]]).unwrap().as_uneven < 1e-9);
        let sum = evenness([&[68, 43, 48, 41][..], &[68, 43, 48, 41]]).unwrap();
        assert!(sum.degrees == 6.0 && sum.as_uneven < 0.01, "{sum:?}");
    }

    #[test]
    fn parts_that_are_all_equal_are_evener_than_chance() {
        let series = [[50_u64; 4]; 5];
        let even = evenness(series.iter().map(|got| &got[..])).unwrap();
        assert!(even.as_even < 1e-9 && even.as_uneven > 0.99, "{even:?}");
    }

    #[test]
    fn where_nothing_was_counted_there_is_no_test() {
        assert_eq!(evenness([&[0, 0][..]]), None);
        assert_eq!(evenness([&[7][..]]), None);
        assert_eq!(evenness([]), None);
    }
}
