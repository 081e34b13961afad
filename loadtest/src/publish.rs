//! The program `publish`: puts the lab's results into a checkout of this repository, that is, into its
//! README and the files that the README leads to. All of it follows from `RESULTS.json`, and a test
//! compares it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{ArgGroup, Parser};

use crate::atomic_file::AtomicFile;
use crate::documents::{self, policies, readme, results};
use crate::lab::book;
use crate::lab::chapter::Status;
use crate::lab::record::Lab;
use crate::matrix::record::Matrix;
use crate::matrix::workloads::WORKLOADS;
use crate::report::markdown;
use crate::report::terminal;
use crate::servers::record::Servers;
use crate::warnings::Warning;

/// Puts results of `loadtest lab` or `loadtest servers` into a checkout of this repository.
///
/// Rewrites the generated parts of README.md and shared-fd-server/README.md, and loadtest/RESULTS.json,
/// RESULTS.md, results.svg and servers.svg.
#[derive(Parser)]
#[command(name = "publish", version, arg_required_else_help = true)]
#[command(group = ArgGroup::new("source").required(true).args(["lab", "servers", "from_results"]))]
pub struct Publish {
    /// The result of a whole `loadtest lab`
    #[arg(long, value_name = "FILE")]
    lab: Option<PathBuf>,

    /// The result of `loadtest matrix`, made on the same machine as the lab: it replaces all runs that
    /// are published; by default the one that the lab included or, if it included none, these runs
    #[arg(long, value_name = "FILE", conflicts_with = "servers")]
    matrix: Option<PathBuf>,

    /// Another result of `loadtest matrix`; can be repeated. New workloads are added, and for a
    /// workload in several runs their range is shown
    #[arg(long, value_name = "FILE")]
    more_matrix: Vec<PathBuf>,

    /// The result of a whole `loadtest servers`; everything else stays as it was published
    #[arg(long, value_name = "FILE")]
    servers: Option<PathBuf>,

    /// Take no new result: regenerate all other files from loadtest/RESULTS.json
    #[arg(long)]
    from_results: bool,

    /// The checkout: the folder that contains README.md
    #[arg(value_name = "ROOT")]
    root: PathBuf,
}

/// Reads, checks, writes.
/// Fails when ROOT is no checkout, or the result is not a whole lab with its matrix.
pub fn run(asked: &Publish) -> Result<()> {
    let checkout = Checkout::at(&asked.root)?;
    let files = checkout.publish(&result(asked)?)?.join(", ");
    terminal::print(&format!(
        "rewritten (tracked by git): {files}; `git diff` shows what changed\n"
    ))
}

/// The record to publish.
/// Fails when it is not complete.
fn result(asked: &Publish) -> Result<Lab> {
    let (lab, keeps_matrix) = merged(asked)?;
    if !keeps_matrix || asked.lab.is_some() {
        check(&lab, &book::names(), keeps_matrix)?;
    }
    Ok(lab)
}

/// The new results merged with the published ones, and whether the published matrix is kept.
fn merged(asked: &Publish) -> Result<(Lab, bool)> {
    let published = || Lab::read(&asked.root.join(RECORD));
    let mut lab = asked.lab.as_ref().map_or_else(published, |path| Lab::read(path))?;
    let mut keeps_matrix = asked.lab.is_none();
    if asked.lab.is_some()
        && let Ok(before) = published()
    {
        lab.body.servers = before.body.servers;
        keeps_matrix = asked.matrix.is_none() && lab.body.matrix.is_none();
        if keeps_matrix {
            lab.body.matrix = before.body.matrix;
            lab.body.more_matrices = before.body.more_matrices;
        }
    }
    if let Some(path) = &asked.servers {
        let servers = Servers::read(path)?;
        let lacks = servers.lacks().join("; ");
        ensure!(
            lacks.is_empty(),
            "only a complete run of servers is published, and this one is not: {lacks}"
        );
        lab.body.servers = Some(servers);
    }
    if let Some(path) = &asked.matrix {
        let matrix = Matrix::read(path)?;
        // Each run names its machine.
        ensure!(
            asked.lab.is_none() || matrix.environment.machine() == lab.environment.machine(),
            "--matrix {} was made on another machine than the lab; `make matrix` and `make lab` on one \
             machine",
            path.display()
        );
        (lab.body.matrix, lab.body.more_matrices) = (Some(matrix), Vec::new());
        keeps_matrix = false;
    }
    for path in &asked.more_matrix {
        lab.body.more_matrices.push(Matrix::read(path)?);
    }
    if lab.body.matrix.is_some() {
        lab.warnings.retain(|warning| *warning != Warning::NoMatrix.to_string());
    }
    Ok((lab, keeps_matrix))
}

/// The record without its samples.
const RECORD: &str = "loadtest/RESULTS.json";

/// All figures as Markdown.
const RESULTS: &str = "loadtest/RESULTS.md";

/// The matrix as a picture.
const PICTURE: &str = "loadtest/results.svg";

/// The spread of connections over the workers of widely used servers, as a picture.
const SERVERS: &str = "loadtest/servers.svg";

/// The document with the answer and the advice.
const README: &str = "README.md";

/// The document that describes the policies.
const POLICIES: &str = "shared-fd-server/README.md";

/// A part's name, and the function that writes it.
type Part = (&'static str, fn(&Lab) -> String);

/// A document, and its parts.
type InParts = (&'static str, &'static [Part]);

/// The documents with generated parts, which are between marks with the part's name.
const IN_PARTS: [InParts; 2] = [
    (README, &[("answer", readme::answer), ("advice", readme::advice)]),
    (POLICIES, &[("blocking", policies::blocking), ("many workers", policies::many_workers)]),
];

/// A document with one part generated anew.
fn with_part(name: &str, document: &str, part: &str, text: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {part}, generated -->"), format!("<!-- end of {part} -->"));
    let split = document.split_once(&format!("{begin}\n"));
    let split = split.and_then(|(before, after)| Some((before, after.split_once(&end)?.1)));
    let (before, after) = split.with_context(|| {
        format!(
            "{name} has no place for the {part}; it needs a line '{begin}' and, below it, '{end}'"
        )
    })?;
    // Markdown needs blank lines around a list or a table.
    Ok([before, &begin, "\n\n", text, "\n", &end, after].concat())
}

/// A checkout of this repository.
#[derive(Debug)]
struct Checkout {
    root: PathBuf,
    /// The present text of the documents with generated parts.
    in_parts: Vec<(InParts, String)>,
}

impl Checkout {
    /// Opens this folder.
    /// Fails when it is no checkout, or cannot be written.
    fn at(root: &Path) -> Result<Self> {
        let show = root.display();
        let remedy = "name the folder that you cloned it into, such as `publish --lab FILE .`";
        let manifest = fs::read_to_string(root.join("loadtest/Cargo.toml")).unwrap_or_default();
        ensure!(
            manifest.contains("name = \"loadtest\""),
            "{show} is not a checkout of this repository; {remedy}"
        );
        let mut in_parts = Vec::new();
        for (name, parts) in IN_PARTS {
            let text = fs::read_to_string(root.join(name))
                .with_context(|| format!("{show} has no {name}; {remedy}"))?;
            for (part, _) in parts {
                let checked = with_part(name, &text, part, "");
                checked.with_context(|| format!("cannot publish to {show}"))?;
            }
            in_parts.push(((name, parts), text));
        }
        for name in [README, POLICIES, RECORD, RESULTS, PICTURE, SERVERS] {
            AtomicFile::reserve("ROOT", &root.join(name))?;
        }
        Ok(Self { root: root.into(), in_parts })
    }

    /// Writes all files, and returns their names.
    fn publish(&self, lab: &Lab) -> Result<Vec<&'static str>> {
        let documents = self.documents(lab)?;
        for (name, text) in &documents {
            let text = text.strip_suffix('\n').unwrap_or(text); // it is written with a final newline
            AtomicFile::reserve("ROOT", &self.root.join(name))?.save_text(text)?;
        }
        Ok(documents.into_iter().map(|(name, _)| name).collect())
    }

    /// Every file's name and text.
    fn documents(&self, lab: &Lab) -> Result<Vec<(&'static str, String)>> {
        let json =
            serde_json::to_string_pretty(lab).context("cannot convert the result to JSON")?;
        let picture = lab.body.whole_matrix().as_ref().map(readme::picture).unwrap_or_default();
        let in_parts = self.in_parts.iter().map(|((name, parts), text)| {
            let mut parts = parts.iter();
            let generate =
                |text: String, (part, write): &Part| with_part(name, &text, part, &write(lab));
            Ok((*name, parts.try_fold(text.clone(), generate)?))
        });
        let in_parts: Vec<(&'static str, String)> = in_parts.collect::<Result<_>>()?;
        let servers = lab.body.servers.as_ref();
        let servers = servers.map(|it| (SERVERS, documents::servers::picture(it) + "\n"));
        let files = [(RECORD, json + "\n"), (RESULTS, all_figures(lab)), (PICTURE, picture + "\n")];
        Ok(in_parts.into_iter().chain(files).chain(servers).collect())
    }
}

/// Whether `diagnose` can be trusted: written by `make diagnose-validation`.
const VALIDATION: &str = include_str!("../docs/diagnose-validation.md");

/// The text of `RESULTS.md`.
fn all_figures(lab: &Lab) -> String {
    let mark = "<!-- Generated by `publish` from RESULTS.json: do not edit. -->\n";
    let validation = if VALIDATION.is_empty() { "" } else { "\n" };
    format!("{mark}{}{validation}{VALIDATION}", markdown::render(&results::results(lab)))
}

/// Refuses a lab that is not complete, and names all that is missing. `book` names every chapter. A matrix that is
/// published already is not checked.
fn check(lab: &Lab, book: &[&str], keeps_matrix: bool) -> Result<()> {
    let mut lacks = Vec::new();
    if lab.body.quick {
        lacks.push("it is the short form (run it without --quick)".into());
    }
    if lab.warnings.contains(&Warning::DebugBuild.to_string()) {
        lacks.push("it was made by a debug build (`make lab` builds with --release)".into());
    }
    if keeps_matrix && lab.body.matrix.is_some() { // it was complete when it was published
    } else if let Some(matrix) = lab.body.whole_matrix() {
        let all = WORKLOADS.iter().map(|workload| workload.name);
        let is_missing = |name: &&str| matrix.columns.iter().all(|column| column.name != *name);
        let missing: Vec<&str> = all.filter(is_missing).collect();
        if !missing.is_empty() {
            let missing = missing.join("', '");
            lacks.push(format!("its matrix has no workload '{missing}' (`make matrix`)"));
        }
    } else {
        lacks.push("there is no matrix of this machine (`make matrix` makes it)".into());
    }
    let absent: Vec<&str> =
        book.iter().copied().filter(|name| lab.body.chapter(name).is_none()).collect();
    if !absent.is_empty() {
        lacks.push(format!("not run: {} (--resume runs them)", absent.join(", ")));
    }
    for chapter in &lab.body.chapters {
        if let Status::Failed(reason) = &chapter.outcome {
            lacks.push(format!("{} failed: {reason}", chapter.name));
        }
    }
    let lacks_all = lacks.join("; ");
    ensure!(lacks.is_empty(), "only a complete lab is published, and this one is not: {lacks_all}");
    Ok(())
}

#[cfg(test)]
mod tests;
