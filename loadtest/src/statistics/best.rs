//! Many subjects, each compared with the best of them, round by round: what a round does to all cancels out.
//!
//! The best of many is partly the luckiest, so the others look a little worse than they are. To choose it by other rounds
//! than it is compared in is worse: one that fails now and then would be chosen in just the rounds in which it fails.

use crate::statistics::estimate::Estimate;
use crate::statistics::ratios;
use crate::statistics::verdict::Figure;

/// One figure of a subject in each of its rounds.
pub type Rounds = Vec<(u32, f64)>;

/// Which figure is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Best {
    /// Of requests/s, for example.
    Highest,
    /// Of latencies, for example.
    Lowest,
}

impl Best {
    /// Each subject's figure over that of the best, as the average of the ratios of the rounds that both have. `None` for a
    /// subject without such rounds.
    pub fn ratios(self, all: &[Rounds], seed: u64) -> Vec<Option<Estimate>> {
        let best = self.best(all).map_or(&[][..], Vec::as_slice);
        all.iter().map(|of| Estimate::of_ratios(&ratios(of, best), self.average(), seed)).collect()
    }

    fn average(self) -> fn(&[f64]) -> Option<f64> {
        match self {
            Self::Highest => Figure::RequestsPerSecond.average(),
            Self::Lowest => Figure::P99.average(),
        }
    }

    /// The subject with the best average, of those that have nearly all rounds: one whose bad rounds were left out would
    /// win by that.
    fn best(self, all: &[Rounds]) -> Option<&Rounds> {
        let mean = |of: &Rounds| {
            let figures: Vec<f64> = of.iter().map(|&(_, figure)| figure).collect();
            let sign = if self == Self::Highest { -1.0 } else { 1.0 };
            self.average()(&figures).map_or(f64::INFINITY, |mean| sign * mean)
        };
        let most = all.iter().map(Vec::len).max()?;
        let whole = all.iter().filter(|of| of.len() * 4 >= most * 3);
        whole.min_by(|one, other| mean(one).total_cmp(&mean(other)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(figures: [f64; 8]) -> Rounds {
        (0..).zip(figures).collect()
    }

    #[test]
    fn the_best_has_one_and_what_a_round_does_to_all_is_gone() {
        let all = [
            rounds([1.0, 2.0, 4.0, 1.0, 1.0, 2.0, 4.0, 1.0]),
            rounds([2.0, 4.0, 8.0, 2.0, 2.0, 4.0, 8.0, 2.0]),
            Vec::new(),
        ];
        let exact = |value| Some(Estimate { value, interval: Some([value; 2]) });
        assert_eq!(Best::Highest.ratios(&all, 1), [exact(0.5), exact(1.0), None]);
        assert_eq!(Best::Lowest.ratios(&all, 1), [exact(1.0), exact(2.0), None]);
    }

    #[test]
    fn one_that_is_the_best_in_most_rounds_and_fails_in_some_is_not_the_best() {
        let fails = rounds([1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 0.6, 0.6]);
        let found = Best::Highest.ratios(&[fails, rounds([1.0; 8])], 1);
        assert_eq!(found[1].unwrap().value, 1.0);
        assert!(found[0].unwrap().value < 1.0);
    }

    #[test]
    fn one_that_missed_many_rounds_is_not_the_best_and_is_compared_in_the_others() {
        let lucky = rounds([3.0; 8])[..5].to_vec();
        let all = [lucky, rounds([2.0; 8]), rounds([1.0; 8])];
        let found = Best::Highest.ratios(&all, 1).into_iter().flatten();
        let found: Vec<f64> = found.map(|it| (it.value * 1e6).round()).collect();
        assert_eq!(found, [1.5e6, 1e6, 0.5e6]);
        let few: Vec<Rounds> = all.map(|of| of[..5].to_vec()).to_vec();
        assert_eq!(Best::Highest.ratios(&few, 1)[2].unwrap().interval, None);
        let one: Vec<Rounds> = few.iter().map(|of| of[..1].to_vec()).collect();
        assert!((Best::Lowest.ratios(&one, 1)[1].unwrap().value - 2.0).abs() < 1e-9);
    }
}
