//! `loadtest bench`: how fast is it, and which worker did the work?

use std::time::Instant;

use anyhow::{Context, Result};

use crate::atomic_file::AtomicFile;
use crate::cli;
use crate::documents;
use crate::environment::Environment;
use crate::load::wrk::Wrk;
use crate::load::{self, Load};
use crate::measure::bench::{Bench, BenchBody, LoadRecord, Spread, Totals};
use crate::measure::doubts;
use crate::measure::slice::{Visit, Visited};
use crate::report::output::publish_to;
use crate::report::progress;
use crate::server::{Server, Spec};
use crate::statistics::latency::merged;
use crate::warnings::Warning;

/// Checks, runs, reports.
pub fn run(asked: &cli::Bench) -> Result<()> {
    let load = Load {
        threads: asked.load.threads,
        connections: asked.load.connections,
        duration: asked.duration,
        keep_alive: !asked.load.close,
    };
    load.check()?;
    let spec = spec(&asked.target)?;
    let wrk = Wrk::find()?;
    let place =
        asked.output.json.as_deref().map(|path| AtomicFile::reserve("--json", path)).transpose()?;
    if let Some(path) = &asked.output.html {
        AtomicFile::reserve("--html", path)?;
    }
    let files = load::raise_open_files();
    let environment = Environment::now(Some(wrk.version()))?;

    let server = Server::start(&spec, &[])?;
    let url = server.url(&asked.target.url_path);
    let mut visited = Visited::new(vec![server], url.clone());
    let bar = progress::bar(&spec.display_name(), load.duration);
    let mut show = |elapsed| bar.show(elapsed);
    let visit = visited.visit(&wrk, &load, None, 0, Instant::now(), &mut show);
    bar.finish();
    let Visit { slice, workers, interrupted } = visit?;

    let latency_us = merged([&slice.latencies].into_iter())?.context("wrk gave no latencies")?;
    let mut warnings = doubts::of_load(&load, true, files, spec.strategy().is_some());
    if interrupted {
        warnings.push(Warning::Interrupted { seconds: slice.seconds });
    }
    let mean_us = latency_us.mean;
    warnings.extend(doubts::of_bench(&load, &slice, &workers, mean_us, environment.cores));
    warnings.extend(visited.stop());
    let body = BenchBody {
        server: spec.display_name(),
        load: LoadRecord {
            threads: load.threads,
            connections_asked: load.connections,
            connections_opened: load.connections_opened(),
            seconds: slice.seconds,
            keep_alive: load.keep_alive,
            url,
        },
        result: Totals {
            requests: slice.requests,
            requests_per_second: slice.requests_per_second,
            latency_us,
            errors: slice.errors,
        },
        spread: Spread::of(&workers, load.keep_alive.then(|| load.connections_opened())),
        workers,
    };
    let mut record = Bench::new(cli::arguments(), environment, body);
    record.warnings = warnings.iter().map(Warning::to_string).collect();
    // Saved first: a terminal that is gone must not cost the result.
    if let Some(place) = place {
        place.save(&record)?;
    }
    publish_to(&documents::bench::document(&record), asked.output.asked())
}

/// The server that was asked for, by its name or by a URL; options after `--` come last, and so win.
pub fn spec(target: &cli::TargetArgs) -> Result<Spec> {
    let text = target.server.as_deref().or(target.url.as_deref());
    Spec::parse(text.context("name a server, or a --url")?)?.with_options(&target.server_options)
}
