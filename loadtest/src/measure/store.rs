//! The store of samples. Every sample is saved as soon as it is measured, a line each, so that a run can be resumed.
//!
//! An experiment requests its samples by name. If a sample is in the store, from a run that was interrupted,
//! it is read there and not measured again; otherwise it is measured and appended. So the code of an
//! experiment always runs from beginning to end, and can be interrupted anywhere, also by a power failure: a
//! line that is half written is dropped when the run is resumed.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::environment::Environment;
use crate::interrupt;
use crate::record::samples_of;

/// What must be equal for samples of two runs to belong together.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Header {
    /// The schema of the record that the samples are for.
    pub schema: String,
    /// The arguments of loadtest, for messages.
    pub arguments: Vec<String>,
    /// The plan: servers, load, seed.
    pub plan: Value,
    /// The machine and the program.
    pub environment: Environment,
}

#[derive(Deserialize, Serialize)]
struct Line {
    key: String,
    value: Value,
}

/// The samples of one run, in memory and in a file beside the record: `compare.json` has
/// `compare.samples.jsonl`.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    file: File,
    samples: BTreeMap<String, Value>,
    /// Whether a write failed. It may have left half a line, to which the next one would be appended.
    has_failed: bool,
}

impl Store {
    /// Opens the store of the record at `json`: empty, or with `resume` with its samples.
    ///
    /// # Errors
    /// When there is nothing to resume, the samples are of another plan, machine or program, or the file cannot
    /// be written.
    pub fn open(json: &Path, header: &Header, resume: bool) -> Result<Self> {
        let path = samples_of(json);
        let show = path.display();
        let mut samples = BTreeMap::new();
        let mut text =
            serde_json::to_string(header).context("cannot convert the plan to JSON")? + "\n";
        if resume {
            let saved = std::fs::read_to_string(&path).with_context(|| {
                format!("--resume: cannot read {show}; start a new run without --resume")
            })?;
            text = read(&saved, header, &mut samples)
                .with_context(|| format!("{show} cannot be resumed"))?;
        }
        let to = || format!("cannot write {show}");
        if !resume {
            std::fs::write(&path, &text).with_context(to)?;
        }
        let file = OpenOptions::new().append(true).open(&path).with_context(to)?;
        file.set_len(text.len() as u64).with_context(to)?; // without a line that was cut off
        Ok(Self { path, file, samples, has_failed: false })
    }

    /// Whether the store has this sample.
    pub fn has(&self, key: &str) -> bool {
        self.samples.contains_key(key)
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// The sample of this name, if there is one.
    ///
    /// # Errors
    /// When it has another type.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let found = self.samples.get(key).map(|found| serde_json::from_value(found.clone()));
        found
            .transpose()
            .with_context(|| format!("the sample '{key}' in {} is damaged", self.path.display()))
    }

    /// The sample from the store, or a new one from `make`, which is then saved; `make` may return `None`.
    ///
    /// # Errors
    /// Those of `make`, and after Ctrl-C: an interrupted sample is not valid. After a failed write no further
    /// sample is made.
    pub fn sample<T: Serialize + DeserializeOwned>(
        &mut self,
        key: &str,
        make: impl FnOnce() -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        if let Some(found) = self.get(key)? {
            return Ok(Some(found));
        }
        let show = self.path.display();
        ensure!(!self.has_failed, "a sample before '{key}' could not be written to {show}");
        interrupt::check()?;
        let made = make()?;
        interrupt::check()?;
        made.as_ref().map(|made| self.save(key, made)).transpose()?;
        Ok(made)
    }

    /// Saves a sample, if it is not in the store.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save<T: Serialize>(&mut self, key: &str, made: &T) -> Result<()> {
        if self.has(key) {
            return Ok(());
        }
        let show = self.path.display();
        let value = serde_json::to_value(made).context("cannot convert a sample to JSON")?;
        let line = Line { key: key.into(), value };
        let text = serde_json::to_string(&line).context("cannot convert a sample to JSON")? + "\n";
        let written = self.file.write_all(text.as_bytes());
        self.has_failed = written.is_err();
        written.with_context(|| {
            format!("the run ends here; all samples before this one are in {show}")
        })?;
        self.samples.insert(line.key, line.value);
        Ok(())
    }
}

/// Reads the samples of a saved run. Returns the text without an incomplete last line.
fn read(saved: &str, header: &Header, samples: &mut BTreeMap<String, Value>) -> Result<String> {
    let mut kept = String::new();
    for (number, line) in
        saved.split_inclusive('\n').filter(|line| line.ends_with('\n')).enumerate()
    {
        if number == 0 {
            let then: Header = serde_json::from_str(line).context("it is not a file of samples")?;
            ensure!(
                then.schema == header.schema && then.plan == header.plan,
                "it belongs to a run with other servers or options (loadtest {}); use those, or \
                 start a new run without --resume",
                then.arguments.join(" ")
            );
            ensure!(
                then.environment.is_the_same_as(&header.environment),
                "it was started on another machine or with another build, and such samples cannot \
                 be mixed; start a new run without --resume"
            );
        } else {
            let Line { key, value } = serde_json::from_str(line)
                .with_context(|| format!("line {} is damaged", number + 1))?;
            samples.insert(key, value);
        }
        kept += line;
    }
    ensure!(!kept.is_empty(), "it is empty");
    Ok(kept)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// The header of this plan.
    pub fn header(plan: u64) -> Header {
        Header {
            schema: "loadtest-test/1".into(),
            arguments: vec!["test".into()],
            plan: plan.into(),
            environment: Environment::now(None).unwrap(),
        }
    }

    /// A folder with the store of a test.
    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn open(&self, plan: u64, resume: bool) -> Result<Store> {
            Store::open(&self.0.path().join("test.json"), &header(plan), resume)
        }
    }

    #[test]
    fn what_was_sampled_is_saved_at_once_and_not_sampled_again() {
        let folder = Folder::new();
        let mut store = folder.open(1, false).unwrap();
        assert_eq!(store.sample("rate", || Ok(Some(0.1_f64 + 0.2))).unwrap(), Some(0.1 + 0.2));
        assert!(store.sample::<u64>("failed", || anyhow::bail!("no")).is_err());
        drop(store);
        let mut store = folder.open(1, true).unwrap();
        assert_eq!(store.len(), 1);
        let again = store.sample("rate", || anyhow::bail!("made again")).unwrap();
        assert_eq!(again, Some(0.1_f64 + 0.2));
    }

    #[test]
    fn after_a_write_that_failed_no_sample_is_made_and_the_run_can_be_resumed() {
        let folder = Folder::new();
        let mut store = folder.open(1, false).unwrap();
        store.sample("one", || Ok(Some(1_u64))).unwrap();
        store.file = File::open(&store.path).unwrap(); // cannot be written
        let failed = store.sample("two", || Ok(Some(2_u64))).unwrap_err();
        assert!(format!("{failed:#}").contains("the run ends here"), "{failed:#}");
        let refusal = store.sample::<u64>("three", || panic!("made")).unwrap_err().to_string();
        assert!(refusal.contains("could not be written to"), "{refusal}");
        assert_eq!(store.sample("one", || Ok(Some(9_u64))).unwrap(), Some(1));
        assert_eq!(folder.open(1, true).unwrap().len(), 1);
    }

    #[test]
    fn a_line_that_was_cut_off_is_made_again_and_another_plan_is_refused() {
        let folder = Folder::new();
        let mut store = folder.open(1, false).unwrap();
        store.sample("one", || Ok(Some(1_u64))).unwrap();
        store.file.write_all(b"{\"key\":\"two\",\"val").unwrap();
        let refusal = folder.open(2, true).unwrap_err();
        assert!(format!("{refusal:#}").contains("other servers or options"), "{refusal:#}");
        let mut store = folder.open(1, true).unwrap();
        assert_eq!(store.sample("two", || Ok(Some(2_u64))).unwrap(), Some(2));
        assert_eq!(folder.open(1, true).unwrap().len(), 2);
    }
}
