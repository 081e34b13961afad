//! `loadtest show`: saved results side by side.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::cli;
use crate::commands;
use crate::documents;
use crate::lab::record::{Lab, LabBody};
use crate::matrix::record::MatrixBody;
use crate::measure::bench::Bench;
use crate::measure::comparison::{CompareBody, Comparison};
use crate::measure::self_check::SelfCheckBody;
use crate::probe::record::ProbeBody;
use crate::record::{Body, Record, schema_of};
use crate::report::model::Document;
use crate::report::output::{Output, publish_to};
use crate::servers::record::ServersBody;

/// Reads the files, and shows results of `bench` in one table, or one result of another command again.
pub fn run(asked: &cli::Show) -> Result<()> {
    for path in &asked.files {
        let schema = schema_of(path).unwrap_or_default();
        let show: fn(&Path, Output) -> Result<()> = match &*schema {
            CompareBody::SCHEMA => |path, output| {
                let mut found = Comparison::read(path)?;
                found.summarize();
                publish_to(&documents::compare::document(&found), output)
            },
            LabBody::SCHEMA => |path, output| commands::lab::show(&Lab::read(path)?, output),
            MatrixBody::SCHEMA => |path, output| again(path, output, documents::matrix::document),
            ServersBody::SCHEMA => |path, output| again(path, output, documents::servers::document),
            ProbeBody::SCHEMA => |path, output| again(path, output, documents::probe::document),
            SelfCheckBody::SCHEMA => {
                |path, output| again(path, output, documents::self_check::document)
            }
            _ => continue,
        };
        ensure!(
            asked.files.len() == 1,
            "{} is a {schema}, which cannot be combined with others; show it alone",
            path.display()
        );
        return show(path, asked.report.with(Some(path)));
    }
    let records: Vec<Bench> =
        asked.files.iter().map(|path| Bench::read(path)).collect::<Result<_>>()?;
    publish_to(&documents::show::document(&records), asked.report.with(None))
}

/// Shows one result as its command did.
fn again<T: Body>(path: &Path, output: Output, document: fn(&Record<T>) -> Document) -> Result<()> {
    publish_to(&document(&Record::read(path)?), output)
}
