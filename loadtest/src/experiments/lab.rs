//! `loadtest lab`: what others claim, measured again on this machine.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::cli;
use crate::environment::Environment;
use crate::experiments::compare;
use crate::interrupt;
use crate::lab::book::{BOOK, Experiment};
use crate::lab::chapter::{Chapter, Findings, Outcome};
use crate::lab::notebook::Notebook;
use crate::lab::record::{Lab, SCHEMA};
use crate::lab::roll;
use crate::load;
use crate::matrix::cells::POLICIES;
use crate::matrix::record::Matrix;
use crate::report::{self, terminal};
use crate::save::Place;
use crate::warnings::Warning;
use crate::wrk::Wrk;

/// Checks, runs, reports.
pub fn run(asked: &cli::Lab) -> Result<()> {
    if asked.list {
        return terminal::print(&report::lab::list(&BOOK)?);
    }
    let wanted = |experiment: &&Experiment| {
        asked.names.is_empty() || asked.names.iter().any(|name| name == experiment.name)
    };
    let wanted: Vec<&Experiment> = BOOK.iter().filter(wanted).collect();
    let json = asked.json.clone().map_or_else(|| compare::default_place("lab.json"), Ok)?;
    if let Some(path) = &asked.html {
        Place::reserve("--html", path)?;
    }
    let wrk = Wrk::find()?;
    let mut lab = begin(asked, &json, &wrk)?;
    load::raise_open_files();
    lab.matrix = matrix(asked, &mut lab)?;

    let mut notebook = Notebook::new(lab, json.clone(), wrk);
    (notebook.present, notebook.absent) = roll::take(&POLICIES)?;
    if !asked.markdown {
        let expected: Duration = wanted.iter().map(|e| e.expected(asked.quick)).sum();
        terminal::print(&report::lab::header(&notebook.lab, wanted.len(), expected))?;
    }
    for experiment in wanted {
        if interrupt::count() > 0 {
            break;
        }
        let Some(chapter) = write(experiment, &mut notebook)? else { break };
        if !asked.markdown {
            terminal::print(&report::lab::chapter(&chapter))?;
        }
        put(&mut notebook.lab.chapters, chapter);
        notebook.save()?;
    }
    if interrupt::count() > 0 {
        let saved: usize = notebook.lab.observations.values().map(|found| found.len()).sum();
        notebook.lab.warnings.push(Warning::LabInterrupted { saved }.to_string());
        notebook.save()?;
    }
    let lab = notebook.lab;
    finish(&lab, &json, asked.html.as_deref(), asked.markdown)?;
    fail_if_one_failed(&lab)
}

/// Shows a lab that was read from a file.
pub fn show(lab: &Lab, json: &Path, html: Option<&Path>, markdown: bool) -> Result<()> {
    if !markdown {
        terminal::print(&report::lab::header(lab, 0, Duration::ZERO))?;
        for chapter in &lab.chapters {
            terminal::print(&report::lab::chapter(chapter))?;
        }
    }
    finish(lab, json, html, markdown)
}

/// What follows after the last chapter.
fn finish(lab: &Lab, json: &Path, html: Option<&Path>, markdown: bool) -> Result<()> {
    if markdown {
        terminal::print(&report::lab::markdown(lab))?;
    } else {
        terminal::print(&report::lab::summary(lab))?;
    }
    terminal::warn(lab.warnings.iter().cloned());
    if !markdown {
        terminal::print(&format!("\nEvery observation: {}\n", json.display()))?;
    }
    if let Some(path) = html {
        let raw = compare::link(path, json);
        let page = report::html::lab::page(lab, raw.as_deref())?;
        Place::reserve("--html", path)?.save_text(&page)?;
        if !markdown {
            terminal::print(&format!("The book:          {}\n", path.display()))?;
        }
    }
    Ok(())
}

/// Begins anew, or takes up a run that was interrupted.
fn begin(asked: &cli::Lab, json: &PathBuf, wrk: &Wrk) -> Result<Lab> {
    let environment = Environment::now(Some(wrk.version()))?;
    if asked.resume {
        let mut saved = Lab::read(json)?;
        let show = json.display();
        ensure!(
            saved.quick == asked.quick && saved.seed == asked.seed,
            "{show} is of a run with other options (loadtest {}); repeat those, or leave --resume \
             out and begin anew",
            saved.arguments.join(" ")
        );
        ensure!(
            saved.environment.is_the_same_as(&environment),
            "{show} was begun on another machine or with another program ({}); observations of two \
             do not go together: leave --resume out and begin anew",
            terminal::machine(&saved.environment)
        );
        saved.warnings.clear();
        Place::reserve("--json", json)?;
        return Ok(saved);
    }
    if json.is_file() && std::fs::metadata(json).is_ok_and(|found| found.len() > 0) {
        Lab::read(json)?; // an older one is replaced, but nothing else is
    }
    Place::reserve("--json", json)?;
    let mut warnings = Vec::new();
    if cfg!(debug_assertions) {
        warnings.push(Warning::DebugBuild.to_string());
    }
    Ok(Lab {
        schema: SCHEMA.into(),
        arguments: cli::arguments(),
        environment,
        quick: asked.quick,
        seed: asked.seed,
        chapters: Vec::new(),
        matrix: None,
        warnings,
        observations: Default::default(),
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
        terminal::machine(&matrix.environment)
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
    let (outcome, findings) = match (experiment.obstacle)() {
        Some(reason) => (Outcome::Skipped(reason), Findings::default()),
        None => {
            notebook.open(experiment.name, experiment.expected(notebook.quick));
            let ran = (experiment.run)(notebook);
            notebook.close();
            match ran {
                Ok(findings) => (Outcome::Done, findings),
                Err(_) if interrupt::count() > 0 => return Ok(None),
                Err(error) => (Outcome::Failed(format!("{error:#}")), Findings::default()),
            }
        }
    };
    let seconds = begun.elapsed().as_secs_f64();
    Ok(Some(Chapter { name: experiment.name.into(), page, outcome, seconds, findings }))
}

/// Puts a chapter in its place, perhaps instead of an older one.
fn put(chapters: &mut Vec<Chapter>, chapter: Chapter) {
    let place = |name: &str| BOOK.iter().position(|experiment| experiment.name == name);
    chapters.retain(|other| other.name != chapter.name);
    chapters.push(chapter);
    chapters.sort_by_key(|chapter| place(&chapter.name));
}

fn fail_if_one_failed(lab: &Lab) -> Result<()> {
    let failed: Vec<String> = lab
        .chapters
        .iter()
        .filter_map(|chapter| match &chapter.outcome {
            Outcome::Failed(reason) => Some(format!("{}: {reason}", chapter.name)),
            _ => None,
        })
        .collect();
    ensure!(failed.is_empty(), "experiments failed: {}", failed.join("; "));
    Ok(())
}
