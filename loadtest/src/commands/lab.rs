//! `loadtest lab`: what others claim, measured again on this machine.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::atomic_file::AtomicFile;
use crate::cli;
use crate::commands::compare;
use crate::documents;
use crate::environment::Environment;
use crate::interrupt;
use crate::lab::availability;
use crate::lab::book::{BOOK, Experiment};
use crate::lab::chapter::{Chapter, Findings, Status};
use crate::lab::record::{Lab, SCHEMA};
use crate::lab::store::Notebook;
use crate::load;
use crate::load::wrk::Wrk;
use crate::matrix::record::Matrix;
use crate::matrix::workloads::POLICIES;
use crate::report::model::Document;
use crate::report::output::{self, Output};
use crate::report::{terminal, wrap};
use crate::warnings::Warning;

/// Checks, runs, reports.
pub fn run(asked: &cli::Lab) -> Result<()> {
    if asked.list {
        return print(&documents::lab::contents(&BOOK)?);
    }
    let is_wanted = |experiment: &&Experiment| {
        asked.names.is_empty() || asked.names.iter().any(|name| name == experiment.name)
    };
    let wanted: Vec<&Experiment> = BOOK.iter().filter(is_wanted).collect();
    let json = asked.output.json.clone().map_or_else(|| compare::default_place("lab.json"), Ok)?;
    if let Some(path) = &asked.output.html {
        AtomicFile::reserve("--html", path)?;
    }
    let wrk = Wrk::find()?;
    let mut lab = begin(asked, &json, &wrk)?;
    load::raise_open_files();
    lab.matrix = matrix(asked, &mut lab)?;

    let mut notebook = Notebook::new(lab, json.clone(), wrk);
    (notebook.present, notebook.absent) = availability::take(&POLICIES)?;
    if !asked.output.markdown {
        let expected: Duration = wanted.iter().map(|e| e.expected(asked.quick)).sum();
        print(&documents::lab::header(&notebook.lab, wanted.len(), expected))?;
    }
    perform(&wanted, &mut notebook, asked.output.markdown)?;
    let lab = notebook.lab;
    finish(&lab, asked.output.with(Some(&json)))?;
    fail_if_one_failed(&lab)
}

/// Does the experiments, one by one, and puts their chapters into the notebook; one that fails keeps
/// none of the others from being done. After Ctrl-C the others are left out.
fn perform(wanted: &[&Experiment], notebook: &mut Notebook, markdown: bool) -> Result<()> {
    for experiment in wanted {
        if interrupt::count() > 0 {
            break;
        }
        let Some(chapter) = write(experiment, notebook)? else { break };
        if !markdown {
            print(&documents::lab::chapter(&chapter, notebook.quick))?;
        }
        put(&mut notebook.lab.chapters, chapter);
        notebook.save()?;
    }
    if interrupt::count() > 0 {
        let saved: usize = notebook.lab.samples.values().map(|found| found.len()).sum();
        notebook.lab.warnings.push(Warning::LabInterrupted { saved }.to_string());
        notebook.save()?;
    }
    Ok(())
}

/// Shows a lab that was read from a file.
pub fn show(lab: &Lab, output: Output) -> Result<()> {
    if !output.markdown {
        print(&documents::lab::header(lab, 0, Duration::ZERO))?;
        for chapter in &lab.chapters {
            print(&documents::lab::chapter(chapter, lab.quick))?;
        }
    }
    finish(lab, output)
}

/// What follows after the last chapter.
fn finish(lab: &Lab, output: Output) -> Result<()> {
    let book = documents::lab::book(lab);
    if output.markdown {
        return output::publish_to(&book, output);
    }
    print(&documents::lab::summary(lab))?;
    output::finish(&book, output)
}

/// A part of the report on the terminal.
fn print(document: &Document) -> Result<()> {
    terminal::print(&terminal::render(document, wrap::columns()))
}

/// Begins anew, or takes up a run that was interrupted.
fn begin(asked: &cli::Lab, json: &PathBuf, wrk: &Wrk) -> Result<Lab> {
    let environment = Environment::now(Some(wrk.version()))?;
    if asked.resume {
        let mut saved = Lab::read(json)?;
        let show = json.display();
        ensure!(
            saved.quick == asked.quick && saved.seed == asked.random.seed,
            "{show} is of a run with other options (loadtest {}); repeat those, or leave --resume \
             out and begin anew",
            saved.arguments.join(" ")
        );
        ensure!(
            saved.environment.is_the_same_as(&environment),
            "{show} was begun on another machine or with another program ({}); samples of two \
             do not go together: leave --resume out and begin anew",
            documents::machine(&saved.environment)
        );
        saved.warnings.clear();
        AtomicFile::reserve("--json", json)?;
        return Ok(saved);
    }
    if json.is_file() && std::fs::metadata(json).is_ok_and(|found| found.len() > 0) {
        Lab::read(json)?; // an older one is replaced, but nothing else is
    }
    AtomicFile::reserve("--json", json)?;
    let mut warnings = Vec::new();
    if cfg!(debug_assertions) {
        warnings.push(Warning::DebugBuild.to_string());
    }
    Ok(Lab {
        schema: SCHEMA.into(),
        arguments: cli::arguments(),
        environment,
        quick: asked.quick,
        seed: asked.random.seed,
        chapters: Vec::new(),
        matrix: None,
        warnings,
        samples: Default::default(),
    })
}

/// The matrix that is taken over: it takes 20 minutes, and a lab without it has no map of the whole.
fn matrix(asked: &cli::Lab, lab: &mut Lab) -> Result<Option<Matrix>> {
    let (path, must) = match &asked.matrix {
        Some(path) => (path.clone(), true),
        None => (compare::default_place("matrix.json")?, false),
    };
    if !must && !path.is_file() {
        lab.warnings.push(Warning::NoMatrix.to_string());
        return Ok(None);
    }
    let matrix = Matrix::read(&path)?;
    let is_of_here = matrix.environment.machine() == lab.environment.machine();
    ensure!(
        is_of_here || !must,
        "--matrix {} was made on another machine ({}); `make matrix` makes one here",
        path.display(),
        documents::machine(&matrix.environment)
    );
    if !is_of_here {
        lab.warnings.push(Warning::ForeignMatrix { path: path.display().to_string() }.to_string());
    }
    Ok(is_of_here.then_some(matrix))
}

/// Does one experiment. `None` after Ctrl-C: what it observed is saved, but it is no chapter yet.
fn write(experiment: &Experiment, notebook: &mut Notebook) -> Result<Option<Chapter>> {
    let page = experiment.page()?;
    let begun = Instant::now();
    let (outcome, findings) = match (experiment.prerequisite)() {
        Some(reason) => (Status::Skipped(reason), Findings::default()),
        None => {
            notebook.open(experiment.name, experiment.expected(notebook.quick));
            let ran = (experiment.run)(notebook);
            notebook.close();
            match ran {
                Ok(findings) => match legible(&findings) {
                    Ok(()) => (Status::Done, findings),
                    Err(error) => (Status::Failed(format!("{error:#}")), Findings::default()),
                },
                Err(_) if interrupt::count() > 0 => return Ok(None),
                Err(error) => (Status::Failed(format!("{error:#}")), Findings::default()),
            }
        }
    };
    let seconds = begun.elapsed().as_secs_f64();
    Ok(Some(Chapter { name: experiment.name.into(), page, outcome, seconds, findings }))
}

/// Whether findings can be read again once they are saved: JSON has no numbers that are none, and one
/// such would make the whole file unreadable.
fn legible(findings: &Findings) -> Result<()> {
    let json = serde_json::to_value(findings).context("cannot make JSON of the findings")?;
    serde_json::from_value::<Findings>(json).context("a figure that is no number")?;
    Ok(())
}

/// Puts a chapter in its place, perhaps instead of an older one. What that took counts too: its
/// samples are in the newer one.
fn put(chapters: &mut Vec<Chapter>, mut chapter: Chapter) {
    let place = |name: &str| BOOK.iter().position(|experiment| experiment.name == name);
    let older = chapters.iter().find(|other| other.name == chapter.name);
    chapter.seconds += older.map_or(0.0, |older| older.seconds);
    chapters.retain(|other| other.name != chapter.name);
    chapters.push(chapter);
    chapters.sort_by_key(|chapter| place(&chapter.name));
}

fn fail_if_one_failed(lab: &Lab) -> Result<()> {
    let failed: Vec<String> = lab
        .chapters
        .iter()
        .filter_map(|chapter| match &chapter.outcome {
            Status::Failed(reason) => Some(format!("{}: {reason}", chapter.name)),
            _ => None,
        })
        .collect();
    ensure!(failed.is_empty(), "experiments failed: {}", failed.join("; "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::page::SECTIONS;
    use crate::lab::store::tests::notebook;

    fn experiment(name: &'static str, run: fn(&mut Notebook) -> Result<Findings>) -> Experiment {
        let sections = SECTIONS.map(|name| format!("//! # {name}\n//! It is.\n")).concat();
        let source: &'static str = format!("//! Why {name}?\n{sections}").leak();
        Experiment { name, source, seconds: [1, 1], prerequisite: || None, run }
    }

    fn works(notebook: &mut Notebook) -> Result<Findings> {
        let rate: f64 = notebook.sample("rate", |_| Ok(7.0))?;
        Ok(Findings { answer: format!("It is {rate}."), ..Findings::default() })
    }

    fn breaks(notebook: &mut Notebook) -> Result<Findings> {
        notebook.sample("before", |_| Ok(1))?;
        anyhow::bail!("a server died")
    }

    fn divides_by_nothing(_: &mut Notebook) -> Result<Findings> {
        use crate::report::model::{Bar, Picture, Unit};
        let bars = vec![Bar { name: "x".into(), value: f64::NAN, interval: None }];
        let picture = Picture::Bars { title: "x".into(), unit: Unit::Ratio, bars, reference: None };
        Ok(Findings { picture: Some(picture), ..Findings::default() })
    }

    #[test]
    fn when_one_fails_the_others_go_on_and_what_is_missing_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let Some(mut notebook) = notebook(&folder) else { return };
        notebook.lab.chapters.clear();
        let skipped = Experiment {
            prerequisite: || Some("needs root".into()),
            ..experiment("skipped", breaks)
        };
        let book = [
            experiment("broken", breaks),
            skipped,
            experiment("divided", divides_by_nothing),
            experiment("fine", works),
        ];
        perform(&book.each_ref(), &mut notebook, true).unwrap();

        let saved = Lab::read(notebook.path()).unwrap();
        let outcome = |name: &str| saved.chapter(name).unwrap().outcome.clone();
        assert_eq!(outcome("broken"), Status::Failed("a server died".into()));
        assert_eq!(outcome("skipped"), Status::Skipped("needs root".into()));
        assert!(matches!(outcome("divided"), Status::Failed(why) if why.contains("no number")));
        assert_eq!(saved.chapter("fine").unwrap().findings.answer, "It is 7.");
        assert_eq!(saved.samples["broken"]["before"], 1, "what it saw is kept");

        let report = terminal::render(&documents::lab::summary(&saved), 100);
        for words in ["failed: a server died", "skipped: needs root"] {
            assert!(report.contains(words), "{words} is not in {report}");
        }
        let error = fail_if_one_failed(&saved).unwrap_err().to_string();
        assert!(error.starts_with("experiments failed: broken: a server died; divided"), "{error}");
    }

    #[test]
    fn a_chapter_that_is_made_again_from_its_observations_took_as_long_as_before() {
        let folder = tempfile::tempdir().unwrap();
        let Some(mut notebook) = notebook(&folder) else { return };
        notebook.lab.chapters.clear();
        let book = [experiment("fine", works)];
        perform(&book.each_ref(), &mut notebook, true).unwrap();
        notebook.lab.chapters[0].seconds = 30.0;
        perform(&book.each_ref(), &mut notebook, true).unwrap();
        assert_eq!(notebook.lab.chapters.len(), 1);
        assert!((30.0..40.0).contains(&notebook.lab.chapters[0].seconds));
    }
}
