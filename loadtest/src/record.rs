//! A saved result: the measurements, and what is needed to judge them.
//!
//! Every command saves the same envelope around a body of its own. So one place decides which command a
//! file belongs to, which fields it has, and how it is read again.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::environment::Environment;

/// What a command measured.
pub trait Body: Serialize + DeserializeOwned {
    /// The schema's name, with a number that changes with the fields or their meaning.
    const SCHEMA: &'static str;
    /// The command that makes such a record, for messages.
    const COMMAND: &'static str;
}

/// A body with its envelope. In JSON the fields of both are on the same level.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Record<T> {
    /// [`Body::SCHEMA`].
    pub schema: String,
    /// The arguments of loadtest that repeat the run.
    pub arguments: Vec<String>,
    /// The machine and the versions.
    pub environment: Environment,
    /// Warnings about the result, as text.
    pub warnings: Vec<String>,
    /// What was measured.
    #[serde(flatten)]
    pub body: T,
}

impl<T: Body> Record<T> {
    /// A record of this machine, without warnings.
    pub fn new(arguments: Vec<String>, environment: Environment, body: T) -> Self {
        Self { schema: T::SCHEMA.into(), arguments, environment, warnings: Vec::new(), body }
    }

    /// Reads a saved record.
    ///
    /// # Errors
    /// When the file cannot be read, is no record, or has another schema; with the remedy.
    pub fn read(path: &Path) -> Result<Self> {
        let (show, command) = (path.display(), T::COMMAND);
        let hint = format!(
            "`loadtest {command}` makes one anew; move the old file away, or name another --json"
        );
        let text = std::fs::read_to_string(path).with_context(|| {
            format!("cannot read {show}; name a result that loadtest has saved, as with --json")
        })?;
        let value: Value = serde_json::from_str(&text)
            .with_context(|| format!("{show} is not a result of {command} ({hint})"))?;
        let schema = value.get("schema").and_then(Value::as_str).unwrap_or("none");
        ensure!(schema == T::SCHEMA, "{show} has schema {schema}, not {}; {hint}", T::SCHEMA);
        serde_json::from_value(value).with_context(|| format!("{show} is damaged; {hint}"))
    }

    /// The record that a new one will replace, if there is one.
    ///
    /// # Errors
    /// When the file is something else, which must not be replaced.
    pub fn older(path: &Path) -> Result<Option<Self>> {
        let is_there = std::fs::metadata(path).is_ok_and(|it| it.is_file() && it.len() > 0);
        is_there.then(|| Self::read(path)).transpose()
    }
}

/// As in JSON, the fields of the body are on the level of the envelope's.
impl<T> Deref for Record<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.body
    }
}

impl<T> DerefMut for Record<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.body
    }
}

/// The file with the samples of a saved result: `compare.json` has `compare.samples.jsonl`.
pub fn samples_of(json: &Path) -> PathBuf {
    json.with_extension("samples.jsonl")
}

/// The schema that a file names, if it does.
pub fn schema_of(path: &Path) -> Option<String> {
    let value: Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    value.get("schema")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    struct Sum {
        sum: u64,
    }

    impl Body for Sum {
        const SCHEMA: &'static str = "loadtest-sum/2";
        const COMMAND: &'static str = "sum";
    }

    #[test]
    fn another_schema_and_another_file_are_refused_by_name_and_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.json");
        for (text, reason) in [
            (r#"{"schema":"loadtest-sum/1"}"#, "schema loadtest-sum/1, not loadtest-sum/2"),
            ("{}", "schema none"),
            ("hello", "not a result"),
            (r#"{"schema":"loadtest-sum/2"}"#, "damaged"),
        ] {
            std::fs::write(&path, text).unwrap();
            let refusal = Record::<Sum>::read(&path).unwrap_err().to_string();
            for word in ["record.json", reason, "`loadtest sum` makes one anew"] {
                assert!(refusal.contains(word), "{refusal}");
            }
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named_with_the_remedy() {
        let refusal = Record::<Sum>::read(Path::new("/no/such.json")).unwrap_err().to_string();
        assert!(refusal.contains("/no/such.json; name a result"), "{refusal}");
    }

    #[test]
    fn fields_of_envelope_and_body_stand_side_by_side_and_read_back_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.json");
        let record =
            Record::new(vec!["sum".into()], Environment::now(None).unwrap(), Sum { sum: 7 });
        let value = serde_json::to_value(&record).unwrap();
        assert_eq!((&value["sum"], &value["schema"]), (&7.into(), &"loadtest-sum/2".into()));
        std::fs::write(&path, value.to_string()).unwrap();
        assert_eq!(Record::<Sum>::read(&path).unwrap(), record);
        assert_eq!(schema_of(&path).as_deref(), Some("loadtest-sum/2"));
    }
}
