//! What an experiment works with: the policies that can run here and the store of samples.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::interrupt;
use crate::lab::samples::Samples;
use crate::matrix::record::Missing;
use crate::matrix::workloads::POLICIES;
use crate::measure::runner::interleave;
use crate::measure::store::Store;
use crate::report::progress;
use crate::server::{Server, Spec};

/// A policy: what it is called, and the server with its options.
pub type Policy = (&'static str, &'static str);

/// What an experiment works with.
pub struct Context {
    /// Whether the short form is wanted.
    pub quick: bool,
    /// What orders of turns, and every bootstrap, begin with.
    pub seed: u64,
    /// Where samples are kept.
    pub store: Store,
    /// Policies that can be run here.
    present: Vec<Policy>,
    /// Those that cannot, and why.
    absent: Vec<Missing>,
    progress: Progress,
}

/// The experiment under way and its progress bar.
struct Progress {
    experiment: String,
    bar: Option<progress::Bar>,
    begun: Instant,
}

impl Context {
    /// For a run whose samples are kept in this store; all policies are taken to be present.
    pub fn new(store: Store, quick: bool, seed: u64) -> Self {
        let progress = Progress { experiment: String::new(), bar: None, begun: Instant::now() };
        Self { quick, seed, store, present: POLICIES.into(), absent: Vec::new(), progress }
    }

    /// Finds out which policies can be run here.
    ///
    /// # Errors
    /// After Ctrl-C.
    pub fn find_policies(&mut self) -> Result<()> {
        (self.present, self.absent) = available(&POLICIES)?;
        Ok(())
    }

    /// Begins an experiment that is expected to take so long.
    pub fn begin(&mut self, experiment: &str, expected: Duration) {
        let bar = Some(progress::slices(expected));
        self.progress = Progress { experiment: experiment.into(), bar, begun: Instant::now() };
    }

    /// Ends the experiment.
    pub fn end(&mut self) {
        self.progress.bar = None;
    }

    /// Which of these policies can be run here, and a sentence for each that cannot.
    pub fn policies(&self, wanted: &[&str]) -> (Vec<Policy>, Vec<String>) {
        let is_wanted = |name: &str| wanted.contains(&name);
        let present = self.present.iter().copied().filter(|(name, _)| is_wanted(name)).collect();
        let absent = self.absent.iter().filter(|missing| is_wanted(&missing.policy));
        let sentence =
            |missing: &Missing| format!("{} takes no part: {}", missing.policy, missing.reason);
        (present, absent.map(sentence).collect())
    }

    /// `quick` has the short form do less than the long one.
    pub fn choose<T>(&self, long: T, quick: T) -> T {
        if self.quick { quick } else { long }
    }

    /// Samples of several subjects, each a name and what `measure` is given; they take turns.
    ///
    /// # Errors
    /// Those of `measure` and of the store, and after Ctrl-C.
    pub fn in_turns<N: AsRef<str>, C, T: Serialize + DeserializeOwned>(
        &mut self,
        part: &str,
        rounds: u32,
        subjects: &[(N, C)],
        mut measure: impl FnMut(&C) -> Result<T>,
    ) -> Result<Samples<T>> {
        let Self { store, progress, seed, .. } = self;
        let names: Vec<&str> = subjects.iter().map(|(name, _)| name.as_ref()).collect();
        let all = interleave(store, &progress.key(part), &names, rounds, *seed, |turn| {
            progress.show(&format!("{part}, {}", names[turn.subject]));
            measure(&subjects[turn.subject].1)
        })?;
        let names = names.into_iter().map(str::to_owned);
        Ok(Samples { groups: names.zip(all).collect(), seed: *seed })
    }
}

impl Progress {
    fn key(&self, key: &str) -> String {
        format!("{}/{key}", self.experiment)
    }

    fn show(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.name(format!("{}: {what}", self.experiment));
            bar.show(self.begun.elapsed());
        }
    }
}

/// Starts a server, given with its options, such as `shared --accept epoll`.
///
/// # Errors
/// When it does not start, with its own reason.
pub fn start(server: &str) -> Result<Server> {
    Server::start(&Spec::parse(server)?, &[])
}

/// Starts each policy once: those that can be run here, and those that cannot, with the reason.
///
/// # Errors
/// After Ctrl-C.
pub fn available(policies: &[Policy]) -> Result<(Vec<Policy>, Vec<Missing>)> {
    let (mut present, mut missing) = (Vec::new(), Vec::new());
    for &(name, server) in policies {
        match start(server) {
            Ok(started) => {
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
    use crate::environment::Environment;
    use crate::measure::store::Header;

    /// A context with a store in this folder.
    pub fn context(folder: &tempfile::TempDir, resume: bool) -> Context {
        let header = Header {
            schema: "loadtest-test/1".into(),
            arguments: Vec::new(),
            plan: 1.into(),
            environment: Environment::now(None).unwrap(),
        };
        let store = Store::open(&folder.path().join("lab.json"), &header, resume).unwrap();
        Context::new(store, true, 1)
    }

    #[test]
    fn samples_belong_to_their_experiment_and_a_run_that_is_resumed_gives_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let measure = |context: &mut Context, begin: f64| {
            context.begin("post", Duration::from_secs(1));
            let mut next = begin;
            let sample = |_: &()| {
                next += 1.0;
                anyhow::ensure!(next < 3.0 || begin > 0.0, "the power failed");
                Ok(next)
            };
            context
                .in_turns("rates", 2, &[("shared", ()), ("own", ())], sample)
                .map(|found| found.groups)
        };
        let one = |context: &mut Context, value: Option<u64>| {
            let made = |_: &()| value.ok_or_else(|| anyhow::anyhow!("made again"));
            Ok::<_, anyhow::Error>(context.in_turns("one", 1, &[("it", ())], made)?.of("it")[0])
        };
        let mut context = context(&folder, false);
        assert!(measure(&mut context, 0.0).is_err());
        assert_eq!(one(&mut context, Some(7)).unwrap(), 7);
        let mut resumed = tests::context(&folder, true);
        let mut all: Vec<f64> =
            measure(&mut resumed, 2.0).unwrap().into_iter().flat_map(|(_, found)| found).collect();
        all.sort_by(f64::total_cmp);
        assert_eq!(all, [1.0, 2.0, 3.0, 4.0], "two of before and two new ones");
        assert_eq!(one(&mut resumed, None).unwrap(), 7);
        resumed.begin("hash", Duration::from_secs(1));
        assert_eq!(one(&mut resumed, Some(8)).unwrap(), 8);
    }
}
