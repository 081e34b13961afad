//! `loadtest show`: saved results side by side.

use anyhow::Result;

use crate::cli;
use crate::record::Record;
use crate::report::{side_by_side, terminal};

/// Reads the files and shows them in one table.
pub fn run(asked: &cli::Show) -> Result<()> {
    let records: Vec<Record> =
        asked.files.iter().map(|path| Record::read(path)).collect::<Result<_>>()?;
    terminal::print(&side_by_side::compare(&records))?;
    // Most warnings are true of all of them; each is said once, with whom it concerns.
    let mut said: Vec<(&str, Vec<&str>)> = Vec::new();
    for record in &records {
        for warning in &record.warnings {
            match said.iter_mut().find(|(text, _)| text == warning) {
                Some((_, servers)) => servers.push(&record.server),
                None => said.push((warning, vec![&record.server])),
            }
        }
    }
    terminal::warn(said.iter().map(|(text, servers)| match servers.len() == records.len() {
        true => (*text).to_owned(),
        false => format!("{}: {text}", servers.join(", ")),
    }));
    Ok(())
}
