//! The one loop that measures: subjects take turns, in a balanced order, and every turn is a sample.
//!
//! A machine drifts, and whoever came second would get the drift. So the order is balanced: each
//! second round is the one before it backwards (A B, B A), so that over the two all are visited at
//! the same time on average. Which order it is, is drawn from the seed, or some rhythm of the machine
//! could fall in with it.

use anyhow::Result;
use fastrand::Rng;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::measure::store::Store;

/// Whose turn it is, and in which round; both counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub struct Turn {
    pub round: u32,
    pub subject: usize,
}

/// All turns, in the order of time.
pub fn turns(subjects: usize, rounds: u32, seed: u64) -> Vec<Turn> {
    let mut random = Rng::with_seed(seed);
    let mut order: Vec<usize> = (0..subjects).collect();
    (0..rounds)
        .flat_map(|round| {
            match round % 2 {
                0 => random.shuffle(&mut order),
                _ => order.reverse(),
            }
            order.iter().map(|&subject| Turn { round, subject }).collect::<Vec<_>>()
        })
        .collect()
}

/// Measures every subject in every round; a turn whose sample is in the store is not taken again.
///
/// Samples are called `experiment/subject/round`. Gives them by subject, each in the order of rounds.
///
/// # Errors
/// Those of `measure`, and after Ctrl-C; what was sampled before is in the store.
pub fn interleave<T: Serialize + DeserializeOwned>(
    store: &mut Store,
    experiment: &str,
    subjects: &[&str],
    rounds: u32,
    seed: u64,
    mut measure: impl FnMut(Turn) -> Result<T>,
) -> Result<Vec<Vec<T>>> {
    let mut samples: Vec<Vec<T>> = subjects.iter().map(|_| Vec::new()).collect();
    for turn in turns(subjects.len(), rounds, seed) {
        let key = format!("{experiment}/{}/{}", subjects[turn.subject], turn.round);
        samples[turn.subject].push(store.sample(&key, || measure(turn))?);
    }
    Ok(samples)
}
