//! `loadtest bench`: how fast is it, and which worker did the work?

use std::time::Instant;

use anyhow::{Context, Result};

use crate::cli;
use crate::commands::{conclude, record, reserve};
use crate::documents;
use crate::environment::Environment;
use crate::load;
use crate::load::wrk::Wrk;
use crate::measure::bench::BenchBody;
use crate::measure::doubts;
use crate::measure::slice::{Running, WrkRun};
use crate::report::progress;
use crate::server::{Server, Spec};
use crate::warnings::Warning;

/// Checks, runs, reports.
pub fn run(asked: &cli::Bench) -> Result<()> {
    let load = asked.wrk.load(asked.duration, !asked.mode.close)?;
    let spec = spec(&asked.target)?;
    let wrk = Wrk::find()?;
    let json = asked.output.json.as_deref();
    reserve(json, &asked.output)?;
    let files = load::raise_open_files();
    let environment = Environment::now(Some(wrk.version()))?;

    let server = Server::start(&spec, &[])?;
    server.check_reachable()?;
    let url = server.url(&asked.target.url_path);
    let mut running = Running::new(vec![server], url.clone());
    let bar = progress::bar(&spec.display_name(), load.duration);
    let run = running.run_wrk(&wrk, &load, None, 0, Instant::now(), &mut |now| bar.show(now));
    bar.finish();
    let WrkRun { slice, workers, interrupted } = run?;

    let mut warnings = doubts::of_load(&load, true, files, spec.strategy().is_some());
    if interrupted {
        warnings.push(Warning::Interrupted { seconds: slice.seconds });
    }
    let (server, cores, wrk_cpu) = (spec.display_name(), environment.cores, slice.wrk_cpu_seconds);
    let body = BenchBody::of(server, url, load, slice, workers, cores)?;
    warnings.extend(doubts::of_bench(&body, wrk_cpu, cores));
    let of_server = running.stop();
    let tells_why = |it: &Warning| {
        matches!(it, Warning::WorkersChanged { .. } | Warning::CannotSeeWorkers { .. })
    };
    if of_server.iter().any(tells_why) {
        warnings.retain(|warning| *warning != Warning::NoWorkers);
    }
    warnings.extend(of_server);
    let record = record(environment, body, &warnings);
    conclude(&record, json, &asked.output, documents::bench::document)
}

/// The server, by its name or by a URL; options after `--` come last, and so win.
pub fn spec(target: &cli::TargetArgs) -> Result<Spec> {
    let text = target.server.as_deref().or(target.url.as_deref());
    Spec::parse(text.context("name a server, or a --url")?)?.with_options(&target.server_options)
}
