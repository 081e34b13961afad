//! `loadtest show`: saved results side by side.

use anyhow::{Result, ensure};

use crate::cli;
use crate::commands::{self, compare};
use crate::lab;
use crate::lab::record::Lab;
use crate::matrix::record::{Matrix, MatrixBody};
use crate::measure::bench::Bench;
use crate::measure::comparison::{CompareBody, Comparison};
use crate::record::{Body, schema_of};
use crate::report::{side_by_side, terminal};

/// Reads the files and shows them in one table, or one that is more than that as it was before.
pub fn run(asked: &cli::Show) -> Result<()> {
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
            return compare::show(&found, path, asked.html.as_deref(), asked.markdown);
        }
        if schema == lab::record::SCHEMA {
            alone()?;
            let found = Lab::read(path)?;
            let html = asked.html.as_deref();
            return commands::lab::show(&found, path, html, asked.markdown);
        }
        if schema == MatrixBody::SCHEMA {
            alone()?;
            let found = Matrix::read(path)?;
            let html = asked.html.as_deref();
            return commands::matrix::show(&found, path, html, asked.markdown);
        }
    }
    ensure!(
        asked.html.is_none() && !asked.markdown,
        "--html and --markdown show a result of compare, matrix or lab, and {} is none",
        asked.files[0].display()
    );
    let records: Vec<Bench> =
        asked.files.iter().map(|path| Bench::read(path)).collect::<Result<_>>()?;
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
