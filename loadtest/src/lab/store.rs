//! The lab notebook: every sample is written down as soon as it is made.
//!
//! An experiment asks for its samples by name. One that is in the notebook already, from a run
//! that was interrupted, is read there and not made again; one that is not is made and saved. So an
//! experiment is written as if it always ran from beginning to end, and can be cut off anywhere.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::atomic_file::AtomicFile;
use crate::interrupt;
use crate::lab::availability::Policy;
use crate::lab::record::Lab;
use crate::load::wrk::Wrk;
use crate::matrix::record::Missing;
use crate::matrix::workloads::POLICIES;
use crate::report::progress;

/// What an experiment works with.
pub struct Notebook {
    /// All that is saved.
    pub lab: Lab,
    /// Whether the short form is wanted.
    pub quick: bool,
    /// What orders of turns, and all that is drawn at random, begin with.
    pub seed: u64,
    /// The load generator.
    pub wrk: Wrk,
    /// Policies that can be run here.
    pub present: Vec<Policy>,
    /// Those that cannot, and why.
    pub absent: Vec<Missing>,
    json: PathBuf,
    /// The experiment under way.
    experiment: String,
    bar: Option<progress::Bar>,
    begun: Instant,
}

impl Notebook {
    /// A notebook that is kept at `json`.
    pub fn new(lab: Lab, json: PathBuf, wrk: Wrk) -> Self {
        let (quick, seed) = (lab.quick, lab.seed);
        let (experiment, begun) = (String::new(), Instant::now());
        let (present, absent) = (POLICIES.to_vec(), Vec::new());
        Self { lab, quick, seed, wrk, present, absent, json, experiment, bar: None, begun }
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

    /// Opens it at an experiment that is expected to take so long.
    pub fn open(&mut self, experiment: &str, expected: Duration) {
        self.experiment = experiment.into();
        self.begun = Instant::now();
        self.bar = Some(progress::slices(expected));
    }

    /// Ends the experiment.
    pub fn close(&mut self) {
        self.bar = None;
    }

    /// `quick` has the short form do less than the long one.
    pub fn choose<T>(&self, long: T, quick: T) -> T {
        if self.quick { quick } else { long }
    }

    /// Whether an sample of this experiment is there already.
    pub fn has(&self, key: &str) -> bool {
        self.lab.samples.get(&self.experiment).is_some_and(|found| found.contains_key(key))
    }

    /// An sample of this experiment: the one that is there, or one that is made now and saved.
    ///
    /// # Errors
    /// Those of `make`, and after Ctrl-C: an sample that was cut short is none.
    pub fn sample<T: Serialize + DeserializeOwned>(
        &mut self,
        key: &str,
        make: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        if let Some(found) = self.lab.samples.get(&self.experiment).and_then(|o| o.get(key)) {
            return serde_json::from_value(found.clone()).with_context(|| {
                format!("the sample '{key}' in {} is damaged", self.json.display())
            });
        }
        interrupt::check()?;
        self.show(key);
        let made = make(self)?;
        interrupt::check()?;
        let value = serde_json::to_value(&made).context("cannot make JSON of an sample")?;
        let all = self.lab.samples.entry(self.experiment.clone()).or_default();
        all.insert(key.into(), value);
        self.save()?;
        self.show(key);
        Ok(made)
    }

    /// Saves all there is.
    pub fn save(&self) -> Result<()> {
        AtomicFile::reserve("--json", &self.json)?.save(&self.lab).with_context(|| {
            format!("the lab ends here; what was saved before is in {}", self.json.display())
        })
    }

    /// Where it is kept.
    #[cfg(test)]
    pub fn path(&self) -> &std::path::Path {
        &self.json
    }

    fn show(&self, key: &str) {
        if let Some(bar) = &self.bar {
            bar.name(format!("{}: {key}", self.experiment));
            bar.show(self.begun.elapsed());
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::lab::record::tests::lab;

    /// A notebook in a folder of its own, or nothing where wrk is missing.
    pub fn notebook(folder: &tempfile::TempDir) -> Option<Notebook> {
        let Ok(wrk) = Wrk::find() else {
            crate::skip_test("wrk is not installed");
            return None;
        };
        let mut notebook = Notebook::new(lab(), folder.path().join("lab.json"), wrk);
        notebook.lab.samples.clear();
        notebook.open("post", Duration::from_secs(1));
        Some(notebook)
    }

    #[test]
    fn what_was_observed_is_saved_at_once_and_not_observed_again() {
        let folder = tempfile::tempdir().unwrap();
        let Some(mut notebook) = notebook(&folder) else { return };
        assert_eq!(notebook.sample("rate", |_| Ok(7_u64)).unwrap(), 7);
        let saved = Lab::read(notebook.path()).unwrap();
        assert_eq!(saved.samples["post"]["rate"], 7);
        let again: u64 = notebook.sample("rate", |_| anyhow::bail!("made again")).unwrap();
        assert_eq!(again, 7);
        // Another experiment's samples are its own.
        notebook.open("hash", Duration::from_secs(1));
        assert!(!notebook.has("rate"));
    }

    #[test]
    fn an_observation_that_fails_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let Some(mut notebook) = notebook(&folder) else { return };
        assert!(notebook.sample::<u64>("rate", |_| anyhow::bail!("no")).is_err());
        assert!(!notebook.has("rate"));
    }
}
