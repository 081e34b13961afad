//! `loadtest bench`: how fast is it, and which worker did the work?

use anyhow::{Context, Result, ensure};

use crate::atomic_file::AtomicFile;
use crate::cli;
use crate::documents;
use crate::environment::Environment;
use crate::load::wrk::{Measured, Wrk};
use crate::load::{self, Load};
use crate::measure::bench::{Bench, BenchBody, LoadRecord, Spread, Totals, Worker};
use crate::measure::cross_check::{check_count, littles_law};
use crate::report::output::publish_to;
use crate::report::progress;
use crate::server::{Server, Spec};
use crate::statistics::latency::{Distribution, Latency, merged};
use crate::warnings::Warning;

/// Which part of the CPU that it can get counts as all of it: a bit is always lost to waiting.
const ALL: f64 = 0.9;

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
    let files = load::raise_open_files();

    let environment = Environment::now(Some(wrk.version()))?;
    let (url, run) = measure(&wrk, &load, &spec, asked)?;

    let mut warnings = warnings(&load, &run, files, environment.cores);
    warnings.extend(run.warnings);
    let seconds = run.measured.duration_us as f64 / 1e6;
    let rate = run.measured.requests as f64 / seconds;
    let mean_us = run.measured.latency_us.mean;
    let connections = load.connections_opened();
    warnings.extend(littles_law("wrk", rate, mean_us, connections, load.keep_alive));
    // wrk knows mean and deviation to more digits than the distribution keeps.
    let (wrk, all) = (&run.measured.latency_us, Distribution::of(&run.measured.distribution)?);
    let latency = merged([&all].into_iter())?.context("wrk gave no latencies")?;
    let latency = Latency { mean: wrk.mean, stdev: wrk.stdev, ..latency };
    let body = BenchBody {
        server: spec.display_name(),
        load: LoadRecord {
            threads: load.threads,
            connections_asked: load.connections,
            connections_opened: load.connections_opened(),
            seconds,
            keep_alive: load.keep_alive,
            url,
        },
        result: Totals {
            requests: run.measured.requests,
            requests_per_second: rate,
            latency_us: latency,
            errors: run.measured.errors,
        },
        spread: Spread::of(&run.workers, load.keep_alive.then(|| load.connections_opened())),
        workers: run.workers,
    };
    let mut record = Bench::new(cli::arguments(), environment, body);
    record.warnings = warnings.iter().map(Warning::to_string).collect();
    // Saved first: a terminal that is gone must not cost the result.
    if let Some(place) = place {
        place.save(&record)?;
    }
    publish_to(&documents::bench::document(&record), asked.output.asked())
}

/// What one run gave.
struct Run {
    measured: Measured,
    /// Empty for a server that was not started here.
    workers: Vec<Worker>,
    /// Those that only the one who ran it could know.
    warnings: Vec<Warning>,
}

/// The server that was asked for, by its name or by a URL.
fn spec(target: &cli::TargetArgs) -> Result<Spec> {
    let text = target.server.as_deref().or(target.url.as_deref());
    let spec = Spec::parse(text.context("name a server, or a --url")?)?;
    ensure!(
        spec.strategy().is_some() || target.server_options.is_empty(),
        "options after -- are for shared and reuseport; write those of '{}' into its command",
        spec.display_name()
    );
    Ok(spec)
}

/// Starts a server if it does not run already, loads it, stops it.
fn measure(wrk: &Wrk, load: &Load, spec: &Spec, asked: &cli::Bench) -> Result<(String, Run)> {
    let program = spec.display_name();
    let mut server = Server::start(spec, &asked.target.server_options)?;
    let url = server.url(&asked.target.url_path);

    let before = server.read()?;
    let requests_before = server.requests();
    let bar = progress::bar(&program, load.duration);
    let measured = wrk.run(load, &url, None, |now| {
        bar.show(now.elapsed);
        server.check_alive(&before)
    })?;
    bar.finish();
    // Looked at again: it may have died at the very end.
    server.check_alive(&before)?;
    let workers = server.read()?.since(&before)?;
    let served = server.requests().zip(requests_before);
    check_count(load, &measured, served.map(|(now, then)| now.saturating_sub(then)))?;

    let mut warnings = Vec::new();
    if spec.is_debug_build() {
        warnings.push(Warning::DebugBuild);
    }
    if workers.is_empty() {
        warnings.push(Warning::NoWorkers);
    }
    warnings.extend(server.warnings());
    warnings.extend(server.stop()?.map(|how| Warning::DidNotStop { program, how }));
    Ok((url, Run { measured, workers, warnings }))
}

/// The warnings that follow from figures.
fn warnings(load: &Load, run: &Run, files: u64, cores: usize) -> Vec<Warning> {
    let Run { measured, workers, .. } = run;
    let seconds = measured.duration_us as f64 / 1e6;
    let mut found = Vec::new();
    if measured.interrupted {
        found.push(Warning::Interrupted { seconds });
    }
    let opened = load.connections_opened();
    if opened != load.connections {
        let (asked, threads) = (load.connections, load.threads);
        found.push(Warning::ConnectionsNotOpened { asked, opened, threads });
    }
    for (who, needs) in [("wrk", load.files_of_wrk()), ("each worker", load.files_of_a_worker())] {
        if needs > files {
            found.push(Warning::TooFewFiles { who, needs, limit: files });
        }
    }
    if measured.errors.total() > 0 {
        found.push(Warning::Errors(measured.errors.clone()));
    }
    if measured.errors.timeout > 0 {
        let (count, limit_seconds) = (measured.errors.timeout, load.timeout_seconds());
        found.push(Warning::Timeouts { count, limit_seconds });
    }
    let idle = workers.iter().filter(|worker| worker.requests == Some(0)).count();
    if idle > 0 {
        let (workers, keep_alive) = (workers.len(), load.keep_alive);
        found.push(Warning::IdleWorkers { idle, workers, keep_alive });
    }
    // What the server left over is what wrk could get, and no more than a core for each thread.
    let server_cores: f64 = workers.iter().map(|w| w.cpu_seconds.total()).sum::<f64>() / seconds;
    let used_cores = measured.cpu_seconds / seconds;
    let had_cores = (cores as f64 - server_cores).min(load.threads as f64);
    if used_cores >= ALL * had_cores {
        // CPU time is read a moment before and after the load, so it can exceed what there was.
        let had_cores = had_cores.max(used_cores);
        found.push(Warning::ClientIsBottleneck { used_cores, had_cores });
    }
    if !workers.is_empty() && load.threads as usize + workers.len() > cores {
        let (threads, workers) = (load.threads, workers.len());
        found.push(Warning::SharedCores { cores, threads, workers });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::wrk::tests::measured;
    use crate::measure::bench::tests;
    use std::time::Duration;

    fn load(threads: u64, connections: u64) -> Load {
        let duration = Duration::from_secs(10);
        Load { threads, connections, duration, keep_alive: true }
    }

    fn run(requests: &[u64]) -> Run {
        let workers = tests::record(requests).body.workers;
        Run { measured: measured(requests.iter().sum()), workers, warnings: vec![] }
    }

    #[test]
    fn a_quiet_run_with_cores_to_spare_warns_of_nothing() {
        assert_eq!(warnings(&load(4, 100), &run(&[10, 10]), 1024, 64), []);
    }

    #[test]
    fn every_doubtful_circumstance_is_found() {
        let mut run = run(&[10, 0]);
        run.measured.interrupted = true;
        run.measured.errors.timeout = 2;
        run.measured.cpu_seconds = 17.0; // and the two workers used 3 of the 20 that 2 cores have
        let found = warnings(&load(12, 100), &run, 64, 2);
        let has = |wanted: fn(&Warning) -> bool| found.iter().any(wanted);
        assert!(has(|w| matches!(w, Warning::Interrupted { .. })));
        assert!(has(|w| matches!(w, Warning::ConnectionsNotOpened { opened: 96, .. })));
        assert!(has(|w| matches!(w, Warning::TooFewFiles { who: "wrk", needs: 124, .. })));
        assert!(has(|w| matches!(w, Warning::Errors(_))));
        assert!(has(|w| matches!(w, Warning::Timeouts { count: 2, .. })));
        assert!(has(|w| matches!(w, Warning::IdleWorkers { idle: 1, workers: 2, .. })));
        assert!(has(|w| matches!(w, Warning::ClientIsBottleneck { .. })));
        assert!(has(|w| matches!(w, Warning::SharedCores { cores: 2, .. })));
    }

    #[test]
    fn a_client_that_waits_for_a_slow_server_is_no_bottleneck() {
        let mut run = run(&[10, 10]);
        run.measured.cpu_seconds = 2.0;
        let found = warnings(&load(2, 10), &run, 1024, 4);
        assert!(!found.iter().any(|w| matches!(w, Warning::ClientIsBottleneck { .. })));
    }
}
