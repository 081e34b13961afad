//! `loadtest servers`: how widely used servers behave.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::json;

use crate::atomic_file::AtomicFile;
use crate::cli;
use crate::commands::{conclude, default_place, place_of, reserve};
use crate::documents;
use crate::environment::Environment;
use crate::interrupt;
use crate::load;
use crate::load::wrk::Wrk;
use crate::measure::store::{Header, Store};
use crate::report::{progress, terminal, wrap};
use crate::server::Spec;
use crate::server::signals::Signals;
use crate::servers::catalogue::{CATALOGUE, Program, Setting, Source};
use crate::servers::columns::measure;
use crate::servers::install::Place;
use crate::servers::migrating;
use crate::servers::post;
use crate::servers::record::{Form, Row, Servers, ServersBody, Skipped};
use crate::servers::subject::Subject;
use crate::warnings::Warning;

/// How long one server takes, and how long the comparison of the post's programs.
const EXPECTED: [Duration; 3] =
    [Duration::from_secs(75), Duration::from_secs(45), Duration::from_secs(15)];
const EXPECTED_POST: Duration = Duration::from_secs(180);

/// A server to measure: of the catalogue, or given on the command line.
enum Chosen {
    Program(&'static Program, Vec<&'static Setting>),
    Given(Spec),
}

/// Checks, installs, measures, reports.
pub fn run(asked: &cli::Servers) -> Result<()> {
    if asked.list {
        let list = documents::servers::list();
        return terminal::print(&terminal::render(&list, wrap::columns()));
    }
    let chosen = choose(asked)?;
    let is_part = asked.quick || asked.brief || !asked.names.is_empty();
    let json = place_of(&asked.run.output, "servers", is_part)?;
    reserve(None, &asked.run.output)?;
    let mut record = begin(asked, &json)?;
    let header = Header {
        schema: record.schema.clone(),
        arguments: record.arguments.clone(),
        plan: json!({"form": record.form, "seed": asked.run.random.seed}),
        environment: record.environment.clone(),
    };
    let folder = asked.install.clone().map_or_else(default_folder, Ok)?;
    let installed_in = Place::new(&folder)?;
    let store = Store::open(&json, &header, asked.run.resume)?;
    load::raise_open_files();
    let mut run = Run {
        asked,
        place: installed_in,
        store,
        begun: Instant::now(),
        bar: progress::slices(expected(record.form, &chosen)),
        json: &json,
    };
    let ended = run.all(&chosen, &mut record);
    run.bar.finish();
    if ended.is_err() && interrupt::count() > 0 {
        let saved = run.store.len();
        record.warnings.push(Warning::LabInterrupted { saved }.to_string());
    } else {
        ended?;
    }
    if record.rows.is_empty() {
        let reasons = record.skipped.iter().map(|it| format!("{}: {}", it.name, it.reason));
        let reasons: Vec<String> = reasons.collect();
        ensure!(reasons.is_empty(), "no server could be measured: {}", reasons.join("; "));
    }
    conclude(&record, Some(&json), &asked.run.output, documents::servers::document)
}

/// The folder `servers` next to the folder of this program.
fn default_folder() -> Result<PathBuf> {
    let beside = default_place("servers.json")?;
    Ok(beside.parent().and_then(Path::parent).context("no folder to install in")?.join("servers"))
}

/// The named servers in the order of the catalogue, or all; then the given ones.
///
/// # Errors
/// When a command or a `--signal` is not valid.
fn choose(asked: &cli::Servers) -> Result<Vec<Chosen>> {
    let is_named = |name: &str| asked.names.iter().any(|named| named == name);
    let all = asked.names.is_empty();
    let mut chosen = Vec::new();
    for program in CATALOGUE {
        let whole = is_named(program.name) || all && (program.quick || !asked.quick);
        let settings = program.settings.iter().filter(|it| whole || is_named(it.name));
        let settings: Vec<&Setting> = settings.collect();
        if !settings.is_empty() {
            chosen.push(Chosen::Program(program, settings));
        }
    }
    for signal in &asked.signals {
        Signals::default().set(signal)?;
    }
    for name in asked.names.iter().filter(|name| name.contains("cmd:")) {
        chosen.push(Chosen::Given(Spec::parse(name)?));
    }
    Ok(chosen)
}

fn expected(form: Form, chosen: &[Chosen]) -> Duration {
    let [whole, quick, brief] = EXPECTED;
    let servers = chosen.iter().map(|one| match one {
        Chosen::Program(_, settings) => settings.len() as u32,
        Chosen::Given(_) => 1,
    });
    form.choose(whole, quick, brief) * servers.sum::<u32>()
        + if has_whole(chosen, "sanic") { EXPECTED_POST } else { Duration::ZERO }
}

/// Whether a program is measured with all its settings.
fn has_whole(chosen: &[Chosen], name: &str) -> bool {
    chosen.iter().any(|one| {
        matches!(one, Chosen::Program(program, settings)
            if program.name == name && settings.len() == program.settings.len())
    })
}

/// A record without rows, or with those of a run that is resumed.
fn begin(asked: &cli::Servers, json: &Path) -> Result<Servers> {
    let wrk = Wrk::find().ok().map(|wrk| wrk.version().to_owned());
    let environment = Environment::now(wrk.as_deref())?;
    let older = Servers::older(json)?;
    AtomicFile::reserve("--json", json)?;
    let form = match (asked.brief, asked.quick) {
        (true, _) => Form::Brief,
        (_, true) => Form::Quick,
        _ => Form::Whole,
    };
    let body = ServersBody { form, ..ServersBody::default() };
    let mut record = Servers::new(cli::arguments(), environment, body);
    if let Some(older) = older.filter(|_| asked.run.resume) {
        record.body = ServersBody { form, ..older.body }; // the store refuses samples of another form
    }
    if cfg!(debug_assertions) {
        record.warnings.push(Warning::DebugBuild.to_string());
    }
    Ok(record)
}

/// A run under way.
struct Run<'a> {
    asked: &'a cli::Servers,
    place: Place,
    store: Store,
    begun: Instant,
    bar: progress::Bar,
    json: &'a Path,
}

impl Run<'_> {
    /// Measures one server after the other, and saves after each.
    fn all(&mut self, chosen: &[Chosen], record: &mut Servers) -> Result<()> {
        for one in chosen {
            match one {
                Chosen::Given(spec) => {
                    self.one(&Subject::given(spec.clone(), &self.asked.signals), record)?;
                }
                Chosen::Program(program, settings) => self.program(program, settings, record)?,
            }
        }
        if has_whole(chosen, "nginx") && record.skipped.iter().all(|it| it.name != "nginx") {
            self.nginx(record)?;
        }
        if has_whole(chosen, "sanic") && record.skipped.iter().all(|it| it.name != "sanic") {
            self.post(record)?;
        }
        Ok(())
    }

    fn program(
        &mut self,
        program: &'static Program,
        settings: &[&'static Setting],
        record: &mut Servers,
    ) -> Result<()> {
        self.show(format!("installing {}", program.name));
        record.skipped.retain(|skipped| skipped.name != program.name);
        let installed = match program.source {
            Source::Ours => None,
            _ => match self.place.install(program) {
                Ok(installed) => Some(installed),
                Err(error) => {
                    interrupt::check()?;
                    let reason = format!("{error:#}");
                    record.skipped.push(Skipped { name: program.name.into(), reason });
                    return self.save(record);
                }
            },
        };
        for setting in settings {
            let subject = match &installed {
                None => Subject::ours(program, setting)?,
                Some(installed) => Subject::installed(program, setting, installed, &self.place)?,
            };
            self.one(&subject, record)?;
            if program.name == "granian" {
                self.granian(&subject, record)?;
            }
        }
        Ok(())
    }

    /// What granian's reloads lose with and without net.ipv4.tcp_migrate_req.
    fn granian(&mut self, subject: &Subject, record: &mut Servers) -> Result<()> {
        self.show(migrating::WHAT.to_owned());
        record.skipped.retain(|skipped| skipped.name != migrating::WHAT);
        let row = record.rows.iter().find(|row| row.name == subject.name);
        let found = match row.and_then(|row| row.sockets) {
            Some(2..) => self
                .store
                .sample(migrating::WHAT, || migrating::measure(subject, record.form).map(Some)),
            Some(_) => Err(anyhow!("its workers share a socket, so no queue is closed")),
            None => Err(anyhow!("how many sockets it has is not known")),
        };
        interrupt::check()?;
        match found {
            Ok(lost) => record.body.granian_lost = lost.unwrap_or_default(),
            Err(error) => {
                let (name, reason) = (migrating::WHAT.into(), format!("{error:#}"));
                record.body.skipped.push(Skipped { name, reason });
            }
        }
        self.save(record)
    }

    fn one(&mut self, subject: &Subject, record: &mut Servers) -> Result<()> {
        let Self { store, bar, begun, asked, .. } = self;
        let row = measure(subject, record.form, asked.run.random.seed, store, |column| {
            bar.name(format!("{}: {column}", subject.name));
            bar.show(begun.elapsed());
        })?;
        put(&mut record.body.rows, row);
        self.save(record)
    }

    /// The post's programs.
    fn post(&mut self, record: &mut Servers) -> Result<()> {
        let (form, json) = (record.form, self.json.with_extension("post.json"));
        let what = "the post's programs, slice by slice";
        record.body.post = self.compared(what, record, |run| {
            post::compare(&run.place, form, run.seed(), &json, run.asked.run.resume)
        })?;
        self.save(record)
    }

    /// The latencies of nginx with both settings.
    fn nginx(&mut self, record: &mut Servers) -> Result<()> {
        let (form, json) = (record.form, self.json.with_extension("nginx.json"));
        let what = "nginx's latencies, slice by slice";
        record.body.nginx_deviations = self
            .compared(what, record, |run| {
                post::nginx_deviations(form, run.seed(), &json, run.asked.run.resume)
            })?
            .unwrap_or_default();
        self.save(record)
    }

    /// Runs a comparison. If it fails, the run goes on.
    fn compared<T>(
        &self,
        what: &str,
        record: &mut Servers,
        compare: impl FnOnce(&Self) -> Result<T>,
    ) -> Result<Option<T>> {
        self.show(what.to_owned());
        record.skipped.retain(|skipped| skipped.name != what);
        let found = compare(self);
        interrupt::check()?;
        Ok(match found {
            Ok(found) => Some(found),
            Err(error) => {
                let reason = format!("{error:#}");
                record.skipped.push(Skipped { name: what.into(), reason });
                None
            }
        })
    }

    fn seed(&self) -> u64 {
        self.asked.run.random.seed
    }

    fn show(&self, what: String) {
        self.bar.name(what);
        self.bar.show(self.begun.elapsed());
    }

    fn save(&self, record: &Servers) -> Result<()> {
        AtomicFile::reserve("--json", self.json)?.save(record)
    }
}

/// Puts a row in its place, perhaps instead of an older one: in the order of the catalogue, the given ones last.
fn put(rows: &mut Vec<Row>, row: Row) {
    let all = || CATALOGUE.iter().flat_map(|program| program.settings);
    let place = |name: &str| all().position(|it| it.name == name).unwrap_or(usize::MAX);
    rows.retain(|other| other.name != row.name);
    rows.push(row);
    rows.sort_by_key(|row| place(&row.name));
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn asked(line: &[&str]) -> cli::Servers {
        let words = [&["loadtest", "servers"], line].concat();
        match cli::Cli::try_parse_from(words).unwrap().command {
            cli::Command::Servers(asked) => asked,
            _ => unreachable!(),
        }
    }

    fn chosen(line: &[&str]) -> Vec<String> {
        let chosen = choose(&asked(line)).unwrap();
        let names = chosen.iter().flat_map(|one| match one {
            Chosen::Program(_, settings) => settings.iter().map(|it| it.name.to_owned()).collect(),
            Chosen::Given(spec) => vec![spec.display_name()],
        });
        names.collect()
    }

    #[test]
    fn programs_and_settings_are_named_and_others_are_given() {
        assert_eq!(chosen(&["nginx"]), ["nginx", "nginx reuseport"]);
        assert_eq!(chosen(&["unicorn reuseport", "nginx"])[2], "unicorn reuseport");
        assert_eq!(chosen(&["x=cmd:serve {port}", "h2o"]), ["h2o", "x"]);
        let all = CATALOGUE.iter().map(|program| program.settings.len());
        assert_eq!(chosen(&[]).len(), all.sum::<usize>());
        assert_eq!(chosen(&["--quick"]).len(), 2 + 4 + 2);
        let words = ["loadtest", "servers", "apache3"];
        let refusal = cli::Cli::try_parse_from(words).err().unwrap().to_string();
        assert!(refusal.contains("there are ours, nginx"), "{refusal}");
    }

    #[test]
    fn the_long_run_is_about_forty_minutes_and_the_short_one_under_eight() {
        let minutes = |line: &[&str], form| {
            expected(form, &choose(&asked(line)).unwrap()).as_secs_f64() / 60.0
        };
        let whole = minutes(&[], Form::Whole);
        assert!((35.0..45.0).contains(&whole), "{whole}");
        assert!(minutes(&["--quick"], Form::Quick) < 8.0);
    }

    #[test]
    fn rows_stand_in_the_order_of_the_catalogue_and_a_newer_one_replaces_the_older() {
        let row = |name: &str, model: &str| Row {
            name: name.into(),
            model: Some(model.into()),
            ..Row::default()
        };
        let mut rows = Vec::new();
        for (name, model) in [("mine", "a"), ("puma", "b"), ("nginx", "c"), ("puma", "d")] {
            put(&mut rows, row(name, model));
        }
        let all: Vec<_> = rows.iter().map(|row| (&*row.name, row.model.as_deref())).collect();
        assert_eq!(all, [("nginx", Some("c")), ("puma", Some("d")), ("mine", Some("a"))]);
    }
}
