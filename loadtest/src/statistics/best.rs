//! Many subjects, each compared with the best of them.
//!
//! The best of nine figures that scatter is partly the luckiest: whoever is compared with it looks worse than it is.
//! So the best is chosen by half of the rounds, and compared with the others in the other half, and the reverse.
//! What a round does to all subjects cancels out, as the comparison is made round by round.

use crate::statistics::estimate::Estimate;
use crate::statistics::geometric_mean;

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
    /// Each subject's figure over that of the best, as the geometric mean of the rounds' ratios. `None` for a subject
    /// without rounds.
    pub fn ratios(self, all: &[Rounds], seed: u64) -> Vec<Option<Estimate>> {
        let best = [0, 1].map(|half| self.best_for(all, half));
        let compared = |of: &Rounds| -> Vec<f64> {
            // Rounds in which the best took no part are left out.
            let ratio =
                |&(round, figure): &(u32, f64)| Some(figure / at(best[half(round)]?, round)?);
            of.iter().filter_map(ratio).collect()
        };
        all.iter().map(|of| Estimate::of_ratios(&compared(of), seed)).collect()
    }

    /// The subject with which this half of the rounds is compared: the best in the other half, or in all if there is no
    /// other. Only of those that have nearly all rounds: one whose bad rounds were left out would win by that.
    fn best_for(self, all: &[Rounds], compared: usize) -> Option<&Rounds> {
        let mean = |of: &Rounds| {
            let others = of.iter().filter(|(round, _)| half(*round) != compared);
            let figures: Vec<f64> = others.map(|&(_, figure)| figure).collect();
            let of_all = || geometric_mean(&of.iter().map(|&(_, it)| it).collect::<Vec<_>>());
            let sign = if self == Self::Highest { -1.0 } else { 1.0 };
            geometric_mean(&figures).or_else(of_all).map_or(f64::INFINITY, |mean| sign * mean)
        };
        let most = all.iter().map(Vec::len).max()?;
        let whole = all.iter().filter(|of| of.len() * 4 >= most * 3);
        whole.min_by(|one, other| mean(one).total_cmp(&mean(other)))
    }
}

fn at(rounds: &Rounds, wanted: u32) -> Option<f64> {
    rounds.iter().find(|(round, _)| *round == wanted).map(|&(_, figure)| figure)
}

/// The half of the rounds to which this one belongs. A round and the next, in which the order of turns is reversed,
/// are in the same.
fn half(round: u32) -> usize {
    (round / 2 % 2) as usize
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
    fn a_lucky_half_does_not_make_the_others_look_worse() {
        // Equal on average; each has one lucky half.
        let all = [
            rounds([1.2, 1.2, 1.0, 1.0, 1.2, 1.2, 1.0, 1.0]),
            rounds([1.0, 1.0, 1.2, 1.2, 1.0, 1.0, 1.2, 1.2]),
        ];
        for found in Best::Highest.ratios(&all, 1) {
            let found = found.unwrap();
            assert!((found.value - 1.2_f64.sqrt()).abs() < 1e-9, "{found:?}");
        }
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
