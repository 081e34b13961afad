//! What all experiments use: the policies that can run here and the store of samples.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::interrupt;
use crate::lab::samples::Samples;
use crate::matrix::record::Missing;
use crate::measure::runner::interleave;
use crate::measure::store::Store;
use crate::report::progress;
use crate::server::{Server, Spec};

/// A policy: its name, and the server with its options.
pub type Policy = (&'static str, &'static str);

/// What all experiments use.
pub struct Context {
    /// Whether this is the short form.
    pub quick: bool,
    /// The seed of all orders of turns and of every bootstrap.
    pub seed: u64,
    /// The store of samples.
    pub store: Store,
    /// Policies that can be run here, and those that cannot, with the reason.
    policies: (Vec<Policy>, Vec<Missing>),
    /// What is left out of the current experiment, and why, a sentence each.
    pub missing: Vec<String>,
    experiment: String,
    bar: Option<(progress::Bar, Instant)>,
}

impl Context {
    /// For a run with this store, and with the policies that are [`available`].
    pub fn new(
        store: Store,
        quick: bool,
        seed: u64,
        policies: (Vec<Policy>, Vec<Missing>),
    ) -> Self {
        let (missing, experiment) = (Vec::new(), String::new());
        Self { quick, seed, store, policies, missing, experiment, bar: None }
    }

    /// Begins an experiment with this expected duration.
    pub fn begin(&mut self, experiment: &str, expected: Duration) {
        self.experiment = experiment.into();
        self.missing.clear();
        self.bar = Some((progress::slices(expected), Instant::now()));
    }

    /// Ends the experiment.
    pub fn end(&mut self) {
        self.bar = None;
    }

    /// Those of these policies that can be run here; the others are added to `missing`.
    pub fn policies(&mut self, wanted: &[&str]) -> Vec<Policy> {
        let (present, absent) = &self.policies;
        for Missing { policy, reason } in absent.iter().filter(|one| wanted.contains(&&*one.policy))
        {
            let sentence = format!("{policy} is left out: {reason}");
            if !self.missing.contains(&sentence) {
                self.missing.push(sentence);
            }
        }
        present.iter().copied().filter(|(name, _)| wanted.contains(name)).collect()
    }

    /// Returns `quick` in the short form, which does less, and `long` otherwise.
    pub fn choose<T>(&self, long: T, quick: T) -> T {
        if self.quick { quick } else { long }
    }

    /// Samples of several subjects, which take turns. Each is a name and the argument of `measure`.
    pub fn in_turns<N: AsRef<str>, C, T: Serialize + DeserializeOwned>(
        &mut self,
        part: &str,
        rounds: u32,
        subjects: &[(N, C)],
        mut measure: impl FnMut(&C) -> Result<T>,
    ) -> Result<Samples<T>> {
        let Self { store, experiment, bar, seed, .. } = self;
        let names: Vec<&str> = subjects.iter().map(|(name, _)| name.as_ref()).collect();
        let key = format!("{experiment}/{part}");
        let all = interleave(store, &key, &names, rounds, *seed, |turn| {
            if let Some((bar, begun)) = bar {
                bar.name(format!("{experiment}: {part}, {}", names[turn.subject]));
                bar.show(begun.elapsed());
            }
            measure(&subjects[turn.subject].1)
        })?;
        let names = names.into_iter().map(str::to_owned);
        Ok(Samples { groups: names.zip(all).collect(), seed: *seed })
    }
}

/// Starts a server, named with its options, such as `shared --accept epoll`.
pub fn start(server: &str) -> Result<Server> {
    Server::start(&Spec::parse(server)?, &[])
}

/// Starts each policy once. Returns those that can be run here, and those that cannot, with the reason.
pub fn available(policies: &[Policy]) -> Result<(Vec<Policy>, Vec<Missing>)> {
    let (mut present, mut missing) = (Vec::new(), Vec::new());
    for &(name, server) in policies {
        match start(server) {
            Ok(mut started) => {
                started.stop()?;
                present.push((name, server));
            }
            Err(error) => {
                interrupt::check()?;
                missing.push(Missing { policy: name.into(), reason: format!("{error:#}") });
            }
        }
    }
    Ok((present, missing))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use anyhow::Context as _;

    use crate::measure::store::tests::header;

    /// A context with a store in this folder, and without policies.
    pub fn context(folder: &tempfile::TempDir, resume: bool) -> Context {
        let store = Store::open(&folder.path().join("lab.json"), &header(1), resume).unwrap();
        Context::new(store, true, 1, (vec![], vec![]))
    }

    #[test]
    fn samples_belong_to_their_experiment_and_a_run_that_is_resumed_gives_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let subjects = [("shared", ()), ("own", ())];
        // Returns these values in turn, then fails.
        let measure = |context: &mut Context, experiment: &str, values: &[f64]| {
            context.begin(experiment, Duration::from_secs(1));
            let mut values = values.iter();
            let next = |_: &()| values.next().copied().context("the power failed");
            let found = context.in_turns("rates", 2, &subjects, next)?;
            let mut all: Vec<f64> = found.groups.into_iter().flat_map(|(_, all)| all).collect();
            all.sort_by(f64::total_cmp);
            anyhow::Ok(all)
        };
        let mut context = context(&folder, false);
        assert!(measure(&mut context, "post", &[1.0, 2.0]).is_err());
        let mut resumed = tests::context(&folder, true);
        let all = measure(&mut resumed, "post", &[3.0, 4.0]).unwrap();
        assert_eq!(all, [1.0, 2.0, 3.0, 4.0], "two of before and two new ones");
        assert_eq!(measure(&mut resumed, "post", &[]).unwrap(), all);
        assert_eq!(measure(&mut resumed, "hash", &[8.0; 4]).unwrap(), [8.0; 4]);
    }
}
