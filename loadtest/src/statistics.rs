//! What several runs say together.

/// The middle value, or the mean of the two in the middle; `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        even if even % 2 == 0 => Some((sorted[half - 1] + sorted[half]) / 2.0),
        _ => Some(sorted[half]),
    }
}

/// How far the values lie apart: half the way from the least to the greatest, as a part of the
/// median. 0.02 reads as "plus or minus 2 %".
pub fn relative_spread(values: &[f64]) -> Option<f64> {
    let least = values.iter().copied().min_by(f64::total_cmp)?;
    let greatest = values.iter().copied().max_by(f64::total_cmp)?;
    let median = median(values).filter(|&median| median > 0.0)?;
    Some((greatest - least) / 2.0 / median)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        assert_eq!(median(&[3.0, 1.0, 100.0]), Some(3.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), Some(3.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn the_spread_is_half_the_range_over_the_median() {
        assert_eq!(relative_spread(&[90.0, 100.0, 110.0]), Some(0.1));
        assert_eq!(relative_spread(&[5.0]), Some(0.0));
        assert_eq!(relative_spread(&[]), None);
        assert_eq!(relative_spread(&[0.0]), None);
    }
}
