//! One file per subcommand; what all of them do with a result is here.

pub mod bench;
pub mod compare;
pub mod cost;
pub mod diagnose;
pub mod lab;
pub mod matrix;
pub mod probe;
pub mod self_check;
pub mod servers;
pub mod show;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::atomic_file::AtomicFile;
use crate::cli::{self, OutputArgs};
use crate::environment::Environment;
use crate::record::{Body, Record};
use crate::report::model::Document;
use crate::report::output::publish_to;
use crate::warnings::Warning;

/// The file for a result: `--json`, or else the [`default_place`].
fn place(output: &OutputArgs, name: &str) -> Result<PathBuf> {
    output.json.clone().map_or_else(|| default_place(name), Ok)
}

/// The same; a run of a part must not replace the result of a whole run, which takes up to an hour.
fn place_of(output: &OutputArgs, name: &str, is_part: bool) -> Result<PathBuf> {
    place(output, &format!("{name}{}.json", if is_part { "-part" } else { "" }))
}

/// The default file for a result: next to the folder of this program.
fn default_place(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find the folder of this program")?;
    let folder = own.ancestors().nth(2).context("this program is in no folder")?;
    let path = folder.join("loadtest").join(name);
    // Relative to the current folder if possible, since it is printed.
    let here = std::env::current_dir().unwrap_or_default();
    Ok(path.strip_prefix(&here).map(Path::to_owned).unwrap_or(path))
}

/// Checks before any work that the result's files can be written.
fn reserve(json: Option<&Path>, output: &OutputArgs) -> Result<()> {
    for (option, path) in [("--json", json), ("--html", output.report.html.as_deref())] {
        path.map(|path| AtomicFile::reserve(option, path)).transpose()?;
    }
    Ok(())
}

/// The record with this environment and these warnings.
fn record<T: Body>(environment: Environment, body: T, warnings: &[Warning]) -> Record<T> {
    let mut record = Record::new(cli::arguments(), environment, body);
    record.warnings = warnings.iter().map(Warning::to_string).collect();
    record
}

/// Saves a record, then shows it: a closed terminal must not cost the result.
fn conclude<T: Body>(
    record: &Record<T>,
    json: Option<&Path>,
    output: &OutputArgs,
    document: fn(&Record<T>) -> Document,
) -> Result<()> {
    if let Some(path) = json {
        AtomicFile::reserve("--json", path)?.save(record)?;
    }
    publish_to(&document(record), output.report.with(json))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_a_part_does_not_replace_the_result_of_a_whole_run() {
        let asked = OutputArgs::default();
        let name = |is_part| place_of(&asked, "lab", is_part).unwrap();
        assert!(name(false).ends_with("loadtest/lab.json"));
        assert!(name(true).ends_with("loadtest/lab-part.json"));
        let asked = OutputArgs { json: Some("here.json".into()), ..asked };
        assert_eq!(place_of(&asked, "lab", true).unwrap(), Path::new("here.json"));
    }
}
