//! Who is visited when.
//!
//! A machine drifts, and whoever came second would get the drift. So the order is balanced: each
//! second round is the one before it backwards (A B, B A), so that over the two all are visited at
//! the same time on average. Which order it is, is drawn from the seed, or some rhythm of the machine
//! could fall in with it.

use fastrand::Rng;

/// The order in which so many subjects are visited, for each round.
pub fn schedule(subjects: usize, rounds: u32, seed: u64) -> Vec<Vec<usize>> {
    let mut random = Rng::with_seed(seed);
    let mut order: Vec<usize> = (0..subjects).collect();
    (0..rounds)
        .map(|round| {
            match round % 2 {
                0 => random.shuffle(&mut order),
                _ => order.reverse(),
            }
            order.clone()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_turn_in_each_round_and_comes_as_early_as_late() {
        let rounds = schedule(3, 40, 1);
        let mut places = [0; 3];
        for order in &rounds {
            for (place, &who) in order.iter().enumerate() {
                places[who] += place;
            }
        }
        assert_eq!(places, [40, 40, 40], "an average place of 1 in each");
    }

    #[test]
    fn the_seed_decides_and_neither_order_prevails() {
        assert_eq!(schedule(4, 10, 7), schedule(4, 10, 7));
        assert_ne!(schedule(4, 10, 7), schedule(4, 10, 8));
        let firsts: Vec<usize> = schedule(2, 100, 1).iter().step_by(2).map(|o| o[0]).collect();
        assert!((10..=40).contains(&firsts.iter().sum::<usize>()), "{firsts:?}");
    }

    #[test]
    fn a_longer_run_begins_as_a_shorter_one() {
        assert_eq!(schedule(3, 10, 5)[..4], schedule(3, 4, 5));
    }
}
