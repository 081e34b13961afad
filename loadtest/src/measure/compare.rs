//! Compares servers slice by slice: by wrk's requests/s, by what a request costs, and by latencies at
//! fixed rates.
//!
//! All servers are up at once, on ports of their own, and are loaded in turn in short slices: a
//! machine that changes its speed changes it for all of them. A server that nobody asks spends next
//! to nothing, unless it has hundreds of workers; then one at a time is up. Each slice opens new
//! connections, so that chance decides again which worker accepts which: with keep-alive it would decide a
//! whole run, and here it becomes part of the measured spread.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
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

/// What is measured.
#[derive(Default)]
pub struct Experiment {
    /// Who takes part.
    pub subjects: Vec<Subject>,
    /// Options that all servers get, before their own.
    pub extra: Vec<String>,
    /// What is done.
    pub plan: Plan,
    /// What an answer must be to be good, if nothing else than ours say at `/` is known.
    pub expect: Option<String>,
    /// Where the result goes; the samples lie beside it.
    pub json: PathBuf,
    /// Whether the samples that are there are part of it.
    pub resume: bool,
}

/// How many slices a time at a fixed rate is divided into: of a second, if there are enough then.
pub fn rate_rounds(time: Duration) -> u32 {
    (time.as_secs() as u32).max(FEWEST_ROUNDS)
}

impl Experiment {
    /// Starts the servers, measures, stops them, saves. Gives what went wrong meanwhile, too: a server
    /// that died, a disk that is full.
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
        comparison.summarize()?;
        warnings.extend(doubts::of_comparison(&comparison));
        comparison.warnings = warnings.iter().map(Warning::to_string).collect();
        // After Ctrl-C, what there is is the result.
        let mut ended = if interrupt::count() == 1 { Ok(()) } else { ran };
        if comparison.has_slices() {
            let saved = AtomicFile::reserve("--json", &json);
            ended = ended.and(saved.and_then(|file| file.save_compact(&comparison)));
        }
        let ended = ended.and_then(|()| comparison.fail_if_one_failed());
        Ok((comparison, ended))
    }
}

impl CompareBody {
    /// Whether anything was measured.
    pub fn has_slices(&self) -> bool {
        let slices = self.subjects.iter().any(|subject| !subject.slices.is_empty());
        slices || self.fixed_rates.iter().any(|at| !at.results.is_empty())
    }

    fn fail_if_one_failed(&self) -> Result<()> {
        let failed: Vec<String> = (self.subjects.iter())
            .filter_map(|subject| {
                let reason = subject.failed.as_ref()?;
                Some(format!("{} was left out from then on: {reason}", subject.name))
            })
            .collect();
        ensure!(failed.is_empty(), "{}", failed.join("; "));
        Ok(())
    }
}
