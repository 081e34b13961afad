//! `loadtest lab`: claims of others, measured again on this machine.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::atomic_file::AtomicFile;
use crate::cli;
use crate::commands::{default_place, place_of, reserve};
use crate::documents;
use crate::environment::Environment;
use crate::interrupt;
use crate::lab::book::{BOOK, Experiment};
use crate::lab::chapter::{Chapter, Findings, Status};
use crate::lab::context::{Context, available};
use crate::lab::record::{Lab, LabBody};
use crate::load;
use crate::load::wrk::Wrk;
use crate::matrix::record::Matrix;
use crate::matrix::workloads::POLICIES;
use crate::measure::store::{Header, Store};
use crate::report::model::Document;
use crate::report::output::{self, Output};
use crate::report::{terminal, wrap};
use crate::warnings::Warning;

/// Checks, runs, reports.
pub fn run(asked: &cli::Lab) -> Result<()> {
    if asked.list {
        return print(&documents::lab::contents(&BOOK)?);
    }
    let named = |name: &str| asked.names.is_empty() || asked.names.iter().any(|n| n == name);
    let wanted: Vec<&Experiment> = BOOK.iter().filter(|one| named(one.name)).collect();
    let json = place_of(&asked.run.output, "lab", asked.quick || !asked.names.is_empty())?;
    reserve(None, &asked.run.output)?;
    let mut lab = begin(asked, &json)?;
    load::raise_open_files();
    lab.body.matrix = matrix(asked, &mut lab)?;
    let (quick, seed) = (asked.quick, asked.run.random.seed);
    let header = Header {
        schema: lab.schema.clone(),
        arguments: lab.arguments.clone(),
        plan: json!({"quick": quick, "seed": seed}),
        environment: lab.environment.clone(),
    };
    let store = Store::open(&json, &header, asked.run.resume)?;
    let mut context = Context::new(store, quick, seed, available(&POLICIES)?);
    if !asked.run.output.report.markdown {
        let expected: Duration = wanted.iter().map(|e| e.expected(asked.quick)).sum();
        print(&documents::lab::header(&lab, wanted.len(), expected))?;
    }
    perform(&wanted, &mut lab, &mut context, |lab, chapter| {
        save(lab, &json)?;
        let Some(chapter) = chapter.filter(|_| !asked.run.output.report.markdown) else {
            return Ok(());
        };
        print(&documents::lab::chapter(chapter, asked.quick))
    })?;
    finish(&lab, asked.run.output.report.with(Some(&json)))?;
    fail_if_one_failed(&lab)
}

fn save(lab: &Lab, json: &Path) -> Result<()> {
    AtomicFile::reserve("--json", json)?.save(lab)
}

/// Runs the experiments one after the other, and adds their chapters to the record. If one fails, the
/// others still run; after Ctrl-C they do not. Calls `done` after each chapter, and at the end without one.
fn perform(
    wanted: &[&Experiment],
    lab: &mut Lab,
    context: &mut Context,
    mut done: impl FnMut(&Lab, Option<&Chapter>) -> Result<()>,
) -> Result<()> {
    for experiment in wanted {
        let Some(chapter) = write(experiment, context)? else { break };
        put(&mut lab.body.chapters, chapter.clone());
        done(lab, Some(&chapter))?;
    }
    if interrupt::count() > 0 {
        let saved = context.store.len();
        lab.warnings.push(Warning::LabInterrupted { saved }.to_string());
    }
    done(lab, None)
}

/// Shows a lab that was read from a file.
pub fn show(lab: &Lab, output: Output) -> Result<()> {
    if !output.markdown {
        print(&documents::lab::header(lab, 0, Duration::ZERO))?;
        for chapter in &lab.body.chapters {
            print(&documents::lab::chapter(chapter, lab.body.quick))?;
        }
    }
    finish(lab, output)
}

/// The end of the report on the terminal.
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

/// A record without chapters, or with those of a run that was interrupted.
fn begin(asked: &cli::Lab, json: &Path) -> Result<Lab> {
    let environment = Environment::now(Some(Wrk::find()?.version()))?;
    let older = Lab::older(json)?;
    AtomicFile::reserve("--json", json)?;
    let (quick, seed) = (asked.quick, asked.run.random.seed);
    let body = LabBody { quick, seed, ..LabBody::default() };
    let mut lab = Lab::new(cli::arguments(), environment, body);
    if let Some(older) = older.filter(|_| asked.run.resume) {
        lab.arguments = older.arguments;
        lab.body.chapters = older.body.chapters;
    }
    if cfg!(debug_assertions) {
        lab.warnings.push(Warning::DebugBuild.to_string());
    }
    Ok(lab)
}

/// The matrix to include: it is a run of its own, and a lab without it has no overview.
fn matrix(asked: &cli::Lab, lab: &mut Lab) -> Result<Option<Matrix>> {
    let (path, must) = match &asked.matrix {
        Some(path) => (path.clone(), true),
        // The short form may have that of the short form.
        None => {
            let short = default_place("matrix-part.json")?;
            let is_short = asked.quick && short.is_file();
            (if is_short { short } else { default_place("matrix.json")? }, false)
        }
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

/// Runs one experiment. `None` after Ctrl-C: its samples are saved, but it is no chapter yet.
fn write(experiment: &Experiment, context: &mut Context) -> Result<Option<Chapter>> {
    let page = experiment.page()?;
    let begun = Instant::now();
    context.begin(experiment.name, experiment.expected(context.quick));
    let ran = (experiment.run)(context);
    context.end();
    if ran.is_err() && interrupt::count() > 0 {
        return Ok(None);
    }
    let (outcome, findings) = match ran.and_then(legible) {
        Ok(found) => {
            let missing = std::mem::take(&mut context.missing);
            (Status::Done, Findings { missing, ..found })
        }
        Err(error) => (Status::Failed(format!("{error:#}")), Findings::default()),
    };
    let seconds = begun.elapsed().as_secs_f64();
    Ok(Some(Chapter { name: experiment.name.into(), page, outcome, seconds, findings }))
}

/// Checks that findings can be read again after saving: JSON has no NaN, and one NaN would make the whole file
/// unreadable.
fn legible(findings: Findings) -> Result<Findings> {
    let json = serde_json::to_value(findings).context("cannot convert the findings to JSON")?;
    serde_json::from_value(json).context("a figure is not a number")
}

/// Puts a chapter in its place, perhaps instead of an older one. The older one's time counts, too: its samples
/// are in the newer one.
fn put(chapters: &mut Vec<Chapter>, mut chapter: Chapter) {
    let place = |name: &str| BOOK.iter().position(|experiment| experiment.name == name);
    let older = chapters.iter().find(|other| other.name == chapter.name);
    chapter.seconds += older.map_or(0.0, |older| older.seconds);
    chapters.retain(|other| other.name != chapter.name);
    chapters.push(chapter);
    chapters.sort_by_key(|chapter| place(&chapter.name));
}

fn fail_if_one_failed(lab: &Lab) -> Result<()> {
    let failed =
        lab.body.chapters.iter().filter_map(|chapter| {
            Some(format!("{}: {}", chapter.name, chapter.outcome.failure()?))
        });
    let failed: Vec<String> = failed.collect();
    ensure!(failed.is_empty(), "experiments failed: {}", failed.join("; "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::context::tests::context;
    use crate::lab::page::SECTIONS;
    use crate::lab::record::tests::lab;

    fn experiment(name: &'static str, run: fn(&mut Context) -> Result<Findings>) -> Experiment {
        let sections = SECTIONS.map(|name| format!("# {name}\nIt is.\n")).concat();
        let text = format!("Why {name}?\n{sections}\n# Answer\n").leak();
        Experiment { name, text, seconds: [1, 1], run }
    }

    fn works(context: &mut Context) -> Result<Findings> {
        let rate = context.in_turns("rate", 1, &[("it", 7.0)], |rate| Ok(*rate))?.of("it")[0];
        Ok(Findings { answer: format!("It is {rate}."), ..Findings::default() })
    }

    fn breaks(context: &mut Context) -> Result<Findings> {
        context.in_turns("before", 1, &[("it", 1)], |&one| Ok(one))?;
        anyhow::bail!("a server died")
    }

    fn divides_by_nothing(_: &mut Context) -> Result<Findings> {
        use crate::report::model::{Bar, Picture, Unit};
        use crate::statistics::estimate::Estimate;
        let bars = vec![Bar::of("x", Estimate::exact(f64::NAN))];
        let picture = Picture::Bars {
            title: "x".into(),
            unit: Unit::Ratio,
            bars,
            reference: None,
            noise: None,
        };
        Ok(Findings { picture: Some(picture), ..Findings::default() })
    }

    /// Runs these in a new lab, this often; returns the record that was saved last, and the number of samples.
    fn performed(book: &[Experiment], times: u32) -> (Lab, usize) {
        let folder = tempfile::tempdir().unwrap();
        let json = folder.path().join("record.json");
        let (mut lab, mut context) = (lab(), context(&folder, false));
        lab.body.chapters.clear();
        let all: Vec<&Experiment> = book.iter().collect();
        for _ in 0..times {
            lab.body.chapters.iter_mut().for_each(|chapter| chapter.seconds = 30.0);
            perform(&all, &mut lab, &mut context, |lab, _| save(lab, &json)).unwrap();
        }
        (Lab::read(&json).unwrap(), context.store.len())
    }

    #[test]
    fn when_one_fails_the_others_go_on_and_what_is_missing_is_said() {
        let book = [
            experiment("broken", breaks),
            experiment("divided", divides_by_nothing),
            experiment("fine", works),
        ];
        let (saved, samples) = performed(&book, 1);
        let outcome = |name: &str| saved.body.chapter(name).unwrap().outcome.clone();
        assert_eq!(outcome("broken"), Status::Failed("a server died".into()));
        assert!(matches!(outcome("divided"), Status::Failed(why) if why.contains("not a number")));
        assert_eq!(saved.body.chapter("fine").unwrap().findings.answer, "It is 7.");
        assert_eq!(samples, 2, "what the broken one saw is kept");
        let error = fail_if_one_failed(&saved).unwrap_err().to_string();
        assert!(error.starts_with("experiments failed: broken: a server died; divided"), "{error}");
    }

    #[test]
    fn a_chapter_that_is_made_again_from_its_samples_took_as_long_as_before() {
        let (again, samples) = performed(&[experiment("fine", works)], 2);
        assert_eq!((again.body.chapters.len(), samples), (1, 1));
        assert!((30.0..40.0).contains(&again.body.chapters[0].seconds));
    }
}
