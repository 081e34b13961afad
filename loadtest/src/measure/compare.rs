//! Compares servers slice by slice: by wrk's requests/s, by the cost of a request, and by latencies at
//! fixed rates.
//!
//! All servers run at once, on separate ports, and are loaded in turn in short slices: a change of the
//! machine's speed affects all of them. An idle server uses almost no CPU time, unless it has hundreds of
//! workers; then servers run one at a time. Each slice opens new connections, so that chance decides anew
//! which worker accepts which: with keep-alive one draw would decide a whole run, and with slices it is part of
//! the measured spread.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::json;

use crate::atomic_file::AtomicFile;
use crate::environment::Environment;
use crate::interrupt;
use crate::load;
use crate::load::wrk::Wrk;
use crate::measure::comparing::Comparing;
use crate::measure::comparison::{CompareBody, Comparison, Plan, Subject};
use crate::measure::doubts;
use crate::measure::store::{Header, Store};
use crate::record::Body;
use crate::server::Spec;
use crate::statistics::verdict::FEWEST_ROUNDS;
use crate::warnings::Warning;

/// An experiment.
#[derive(Default)]
pub struct Experiment {
    /// The subjects.
    pub subjects: Vec<Subject>,
    /// Options for all servers, before their own.
    pub extra: Vec<String>,
    /// The plan.
    pub plan: Plan,
    /// The body of a good answer; `None`: that of our servers at `/`, any of others.
    pub expect: Option<String>,
    /// The file for the result; the samples are beside it.
    pub json: PathBuf,
    /// Whether to resume from the samples that are there.
    pub resume: bool,
}

/// The number of slices for this time at a fixed rate: a second each, if that makes enough.
pub fn rate_rounds(time: Duration) -> u32 {
    (time.as_secs() as u32).max(FEWEST_ROUNDS)
}

impl Experiment {
    /// Starts the servers, measures, stops them, saves. Also returns an error that ended the run early: a server
    /// died, the disk is full.
    ///
    /// # Errors
    /// When nothing could be measured.
    pub fn run(self, arguments: Vec<String>) -> Result<(Comparison, Result<()>)> {
        let Self { subjects, extra, plan, expect, json, resume } = self;
        let servers: Vec<Spec> =
            subjects.iter().map(|subject| Spec::parse(&subject.server)).collect::<Result<_>>()?;
        plan.load.check()?;
        let mut wrk = Wrk::find()?;
        if plan.paths.len() > 1 {
            wrk = wrk.with_mix(&plan.paths, plan.seed)?;
        }
        let environment = Environment::now(Some(wrk.version()))?;
        Comparison::older(&json)?;
        let about = |s: &Subject| json!([s.name, s.server, s.keep_alive, s.path]);
        let header = Header {
            schema: CompareBody::SCHEMA.into(),
            arguments: arguments.clone(),
            plan: json!({
                "plan": plan, "servers": subjects.iter().map(about).collect::<Vec<_>>(),
                "options": extra, "expect": expect,
            }),
            environment: environment.clone(),
        };
        AtomicFile::reserve("--json", &json)?;
        let store = |resume| Store::open(&json, &header, resume);
        let resumed = if resume { Some(store(true)?) } else { None };
        let files = load::raise_open_files();

        let some_are_ours = servers.iter().any(|server| server.strategy().is_some());
        let mut comparing = Comparing {
            running: servers.iter().map(|_| None).collect(),
            warnings: doubts::of_load(&plan.load, plan.rounds > 0, files, some_are_ours),
            body: CompareBody { plan, subjects, ..CompareBody::default() },
            servers,
            extra,
            wrk,
            expect,
            begin: Instant::now(),
        };
        comparing.start_all()?;
        let mut store = resumed.map_or_else(|| store(false), Ok)?;
        let ran = comparing.measure(&mut store);
        comparing.collect(&store)?;
        let mut warnings = comparing.stop();

        let mut comparison = Comparison::new(arguments, environment, comparing.body);
        comparison.summarize();
        warnings.extend(doubts::of_comparison(&comparison));
        comparison.warnings = warnings.iter().map(Warning::to_string).collect();
        // After Ctrl-C the samples so far are the result.
        let mut ended = if interrupt::count() == 1 { Ok(()) } else { ran };
        if comparison.has_slices() {
            let saved = AtomicFile::reserve("--json", &json);
            ended = ended.and(saved.and_then(|file| file.save_compact(&comparison)));
        }
        let ended = ended.and_then(|()| match comparison.failures() {
            None => Ok(()),
            Some(failures) => bail!(failures),
        });
        Ok((comparison, ended))
    }
}

impl CompareBody {
    /// Whether anything was measured.
    pub fn has_slices(&self) -> bool {
        let slices = self.subjects.iter().any(|subject| !subject.slices.is_empty());
        slices || self.fixed_rates.iter().any(|at| !at.results.is_empty())
    }

    /// Which subjects were left out, and why; `None` if none was.
    pub fn failures(&self) -> Option<String> {
        let failed: Vec<String> = (self.subjects.iter())
            .filter_map(|subject| {
                let reason = subject.failed.as_ref()?;
                Some(format!("{} was left out from then on: {reason}", subject.name))
            })
            .collect();
        (!failed.is_empty()).then(|| failed.join("; "))
    }
}
