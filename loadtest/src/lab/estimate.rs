//! A figure and how sure it is, as experiments weigh and show it.

use crate::report::model::Cell;

/// A figure with its 95 % interval.
pub type Sure = (f64, Option<[f64; 2]>);

/// In words, with so many digits after the point: `0.95 (0.93 to 0.97)`.
pub fn words((value, interval): Sure, digits: usize) -> String {
    match interval {
        Some([low, high]) => format!("{value:.digits$} ({low:.digits$} to {high:.digits$})"),
        None => format!("{value:.digits$}"),
    }
}

/// A part in words, in percent: `95 % (93 to 97)`.
pub fn percent((part, interval): Sure) -> String {
    let part = part * 100.0;
    match interval {
        Some([low, high]) => format!("{part:.0} % ({:.0} to {:.0})", low * 100.0, high * 100.0),
        None => format!("{part:.0} %"),
    }
}

/// As it stands in a table.
pub fn cell((value, interval): Sure) -> Cell {
    Cell::sure(value, interval)
}

/// Whether a whole interval lies above a limit (`Some(true)`) or not above it (`Some(false)`).
pub fn above(interval: Option<[f64; 2]>, limit: f64) -> Option<bool> {
    let [low, high] = interval?;
    if low > limit {
        Some(true)
    } else if high <= limit {
        Some(false)
    } else {
        None
    }
}

/// Whether both are so; one that surely is not is enough for neither.
pub fn both(one: Option<bool>, other: Option<bool>) -> Option<bool> {
    match (one, other) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_above_below_and_across_a_limit() {
        assert_eq!(above(Some([1.1, 1.2]), 1.0), Some(true));
        assert_eq!(above(Some([0.8, 1.0]), 1.0), Some(false));
        assert_eq!(above(Some([0.8, 1.1]), 1.0), None);
        assert_eq!(above(None, 1.0), None);
    }

    #[test]
    fn both_must_be_so_and_one_that_is_not_decides() {
        assert_eq!(both(Some(true), Some(true)), Some(true));
        assert_eq!(both(None, Some(false)), Some(false));
        assert_eq!(both(Some(true), None), None);
    }

    #[test]
    fn a_figure_in_words_has_its_interval() {
        assert_eq!(words((0.954, Some([0.931, 0.968])), 2), "0.95 (0.93 to 0.97)");
        assert_eq!(words((3.0, None), 1), "3.0");
        assert_eq!(percent((0.95, Some([0.931, 0.968]))), "95 % (93 to 97)");
    }
}
