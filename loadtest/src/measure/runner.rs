//! The only loop that measures: subjects take turns, in a balanced order, and every turn is a sample.
//!
//! A machine's speed drifts, and would favour the first or the last subject. So the order is balanced: each
//! second round is the reverse of the one before (A B, B A), so that over both all subjects are measured at
//! the same time on average. The order is drawn from the seed, so that it does not coincide with a rhythm of
//! the machine.

use anyhow::Result;
use fastrand::Rng;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::measure::store::Store;

/// A turn: subject and round, both counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// An experiment of several rounds, in which subjects take turns. Its samples are named `name/subject/round`.
pub struct Series<'a, S> {
    pub name: &'a str,
    pub subjects: &'a [S],
    pub rounds: u32,
}

impl<S: AsRef<str>> Series<'_, S> {
    fn key(&self, subject: &str, round: u32) -> String {
        format!("{}/{subject}/{round}", self.name)
    }

    /// Takes every turn whose sample is not in the store. `measure` returns `None` for a subject that has failed,
    /// and the others go on.
    ///
    /// # Errors
    /// Those of `measure`, and after Ctrl-C; earlier samples are in the store.
    pub fn run<T: Serialize + DeserializeOwned>(
        &self,
        store: &mut Store,
        seed: u64,
        mut measure: impl FnMut(Turn) -> Result<Option<T>>,
    ) -> Result<()> {
        for turn in turns(self.subjects.len(), self.rounds, seed) {
            self.take(store, turn, &mut measure)?;
        }
        Ok(())
    }

    /// Takes this turn if its sample is not in the store.
    ///
    /// # Errors
    /// As for [`Series::run`].
    pub fn take<T: Serialize + DeserializeOwned>(
        &self,
        store: &mut Store,
        turn: Turn,
        measure: impl FnOnce(Turn) -> Result<Option<T>>,
    ) -> Result<()> {
        let key = self.key(self.subjects[turn.subject].as_ref(), turn.round);
        store.sample(&key, || measure(turn))?;
        Ok(())
    }

    /// The samples in the store, by subject, each in the order of rounds.
    pub fn samples<T: DeserializeOwned>(&self, store: &Store) -> Result<Vec<Vec<T>>> {
        let of = |subject: &S| {
            let each = (0..self.rounds)
                .map(|round| store.get(&self.key(subject.as_ref(), round)).transpose());
            each.flatten().collect()
        };
        self.subjects.iter().map(of).collect()
    }

    /// How many turns have no sample yet.
    pub fn missing(&self, store: &Store) -> usize {
        let there = |subject: &S| {
            let is_there = |&round: &u32| store.has(&self.key(subject.as_ref(), round));
            (0..self.rounds).filter(is_there).count()
        };
        self.turns() - self.subjects.iter().map(there).sum::<usize>()
    }

    /// How many turns there are.
    pub fn turns(&self) -> usize {
        self.subjects.len() * self.rounds as usize
    }
}

/// Measures every subject in every round. Returns the samples by subject, each in the order of rounds.
///
/// # Errors
/// As for [`Series::run`].
pub fn interleave<T: Serialize + DeserializeOwned>(
    store: &mut Store,
    experiment: &str,
    subjects: &[&str],
    rounds: u32,
    seed: u64,
    mut measure: impl FnMut(Turn) -> Result<T>,
) -> Result<Vec<Vec<T>>> {
    let series = Series { name: experiment, subjects, rounds };
    series.run(store, seed, |turn| measure(turn).map(Some))?;
    series.samples(store)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::store::tests::header;

    #[test]
    fn everybody_has_a_turn_in_each_round_and_comes_as_early_as_late() {
        let mut places = [0; 3];
        for (number, turn) in turns(3, 40, 1).into_iter().enumerate() {
            assert_eq!(turn.round, number as u32 / 3);
            places[turn.subject] += number % 3;
        }
        assert_eq!(places, [40, 40, 40], "an average place of 1 in each");
    }

    #[test]
    fn the_seed_decides_and_neither_order_prevails() {
        assert_eq!(turns(4, 10, 7), turns(4, 10, 7));
        assert_ne!(turns(4, 10, 7), turns(4, 10, 8));
        let firsts = turns(2, 100, 1).into_iter().step_by(4).filter(|turn| turn.subject == 1);
        assert!((10..=40).contains(&firsts.count()));
        assert_eq!(turns(3, 10, 5)[..12], turns(3, 4, 5), "a longer run begins as a shorter one");
    }

    /// A store, and the number of turns before the run is interrupted.
    struct Fake {
        folder: tempfile::TempDir,
        taken: Vec<Turn>,
    }

    impl Fake {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap(), taken: Vec::new() }
        }

        fn run(&mut self, resume: bool, most: usize) -> Result<Vec<Vec<u32>>> {
            let json = self.folder.path().join("x.json");
            let mut store = Store::open(&json, &header(1), resume)?;
            let before = self.taken.len();
            interleave(&mut store, "slice", &["a", "b", "c"], 5, 7, |turn| {
                anyhow::ensure!(self.taken.len() - before < most, "cut off");
                self.taken.push(turn);
                Ok(turn.round * 10 + turn.subject as u32)
            })
        }
    }

    #[test]
    fn a_resumed_run_takes_the_turns_of_an_uninterrupted_one_and_gives_its_samples() {
        let (mut whole, mut resumed) = (Fake::new(), Fake::new());
        let samples = whole.run(false, 15).unwrap();
        assert_eq!(samples[1], [1, 11, 21, 31, 41]);
        assert!(resumed.run(false, 4).is_err());
        assert!(resumed.run(true, 7).is_err());
        assert_eq!(resumed.run(true, 15).unwrap(), samples);
        assert_eq!(resumed.taken, whole.taken);
    }

    #[test]
    fn a_subject_that_drops_out_leaves_a_gap_and_the_others_go_on() {
        let fake = Fake::new();
        let json = fake.folder.path().join("x.json");
        let mut store = Store::open(&json, &header(1), false).unwrap();
        let series = Series { name: "slice", subjects: &["a", "b"], rounds: 4 };
        let gone = |turn: Turn| turn.subject == 1 && turn.round >= 2;
        series.run(&mut store, 1, |turn| Ok((!gone(turn)).then_some(turn.round))).unwrap();
        assert_eq!(series.samples::<u32>(&store).unwrap(), [vec![0, 1, 2, 3], vec![0, 1]]);
        assert_eq!(series.missing(&store), 2);
    }
}
