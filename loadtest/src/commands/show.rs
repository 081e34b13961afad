//! `loadtest show`: saved results side by side.

use anyhow::{Result, ensure};

use crate::cli;
use crate::commands;
use crate::documents;
use crate::lab::record::{Lab, LabBody};
use crate::matrix::record::{Matrix, MatrixBody};
use crate::measure::bench::Bench;
use crate::measure::comparison::{CompareBody, Comparison};
use crate::record::{Body, schema_of};
use crate::report::output::{Output, publish_to};

/// Reads the files and shows them in one table, or one that is more than that as it was before.
pub fn run(asked: &cli::Show) -> Result<()> {
    let output = |json| Output { json, html: asked.html.as_deref(), markdown: asked.markdown };
    for path in &asked.files {
        let schema = schema_of(path).unwrap_or_default();
        let alone = || {
            let show = path.display();
            let others = asked.files.len() - 1;
            ensure!(others == 0, "{show} is a {schema}, which stands alone; show it by itself");
            Ok(())
        };
        if schema == CompareBody::SCHEMA {
            alone()?;
            let mut found = Comparison::read(path)?;
            found.summarize()?;
            return publish_to(&documents::compare::document(&found), output(Some(path.as_path())));
        }
        if schema == LabBody::SCHEMA {
            alone()?;
            let found = Lab::read(path)?;
            return commands::lab::show(&found, output(Some(path.as_path())));
        }
        if schema == MatrixBody::SCHEMA {
            alone()?;
            let found = Matrix::read(path)?;
            return publish_to(&documents::matrix::document(&found), output(Some(path.as_path())));
        }
    }
    let records: Vec<Bench> =
        asked.files.iter().map(|path| Bench::read(path)).collect::<Result<_>>()?;
    publish_to(&documents::show::document(&records), output(None))
}
