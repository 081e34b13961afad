//! `loadtest cost`: what a request costs the whole server, beside nginx.
//!
//! All servers are up at once, on ports of their own, and wrk visits them in turn: a machine that
//! changes its speed changes it for all of them. A server that nobody asks spends nothing.

use std::time::Duration;

use anyhow::Result;

use crate::atomic_file::AtomicFile;
use crate::cli;
use crate::documents;
use crate::environment::Environment;
use crate::interrupt;
use crate::load::perf::Meter;
use crate::load::wrk::Wrk;
use crate::load::{self, Load};
use crate::measure::cost::{CostRecord, CostResult, CostRun, SCHEMA};
use crate::report::output::publish_to;
use crate::report::progress;
use crate::server::nginx;
use crate::server::subject::Subject;
use crate::server::{Spec, Strategy};
use crate::statistics::{median, relative_spread};
use crate::types::Errors;
use crate::warnings::Warning;

/// Checks, runs, reports.
pub fn run(asked: &cli::Cost) -> Result<()> {
    let load = |keep_alive| Load {
        threads: asked.threads,
        connections: asked.connections,
        duration: asked.duration,
        keep_alive,
    };
    load(true).check()?;
    let servers: Vec<Spec> =
        asked.servers.iter().map(|text| Spec::parse(text)).collect::<Result<_>>()?;
    let wrk = Wrk::find()?;
    let (_, nginx) = nginx::find()?;
    let place =
        asked.output.json.as_deref().map(|path| AtomicFile::reserve("--json", path)).transpose()?;
    load::raise_open_files();
    let meter = Meter::choose();
    let environment = Environment::now(Some(wrk.version()))?;

    let mut subjects = Vec::new();
    for (name, server) in asked.servers.iter().zip(&servers) {
        subjects.push(Subject::start(name, server, asked.workers)?);
    }
    for (name, text) in [("nginx", "nginx"), ("nginx reuseport", "nginx --reuseport")] {
        subjects.push(Subject::start(name, &Spec::parse(text)?, asked.workers)?);
    }
    let (runs, errors) = take_turns(&mut subjects, &meter, &wrk, [load(true), load(false)], asked)?;
    let results = summarize(&subjects, &runs);
    drop(subjects);

    let mut warnings = Vec::new();
    if cfg!(debug_assertions) {
        warnings.push(Warning::DebugBuild.to_string());
    }
    if errors.total() > 0 {
        warnings.push(Warning::Errors(errors).to_string());
    }
    let record = CostRecord {
        schema: SCHEMA.into(),
        arguments: cli::arguments(),
        environment,
        nginx,
        unit: meter.unit,
        excuse: meter.excuse,
        workers: asked.workers,
        threads: asked.threads,
        connections: load(true).connections_opened(),
        seconds: asked.duration.as_secs(),
        results,
        warnings,
    };
    if let Some(place) = place {
        place.save(&record)?;
    }
    publish_to(&documents::cost::document(&record), asked.output.asked())
}

/// One subject's runs, kept alive and not.
type Runs = [Vec<CostRun>; 2];

/// Has wrk visit the subjects in turn, in both modes. Gives each one's runs, and all errors.
fn take_turns(
    subjects: &mut [Subject],
    meter: &Meter,
    wrk: &Wrk,
    loads: [Load; 2],
    asked: &cli::Cost,
) -> Result<(Vec<Runs>, Errors)> {
    let count = subjects.len();
    let mut runs: Vec<Runs> = vec![Runs::default(); count];
    let mut errors = Errors::default();
    let bar = progress::bar("", asked.duration * u32::from(asked.rounds) * 2 * count as u32);
    let mut done = Duration::ZERO;
    for round in 0..usize::from(asked.rounds) {
        for (mode, load) in loads.iter().enumerate() {
            for turn in 0..count {
                // Each round begins with another one, so that nobody always follows the same.
                let place = (round + turn) % count;
                let subject = &mut subjects[place];
                bar.name(subject.name.clone());
                let (run, measured) = subject.measure(meter, wrk, load, |now| {
                    interrupt::check()?;
                    bar.show(done + now.elapsed);
                    Ok(())
                })?;
                runs[place][mode].push(run);
                errors += measured.errors;
                done += asked.duration;
            }
        }
    }
    Ok((runs, errors))
}

/// The most that a request may cost, of what it costs nginx. A new connection each wakes every
/// worker of the shared socket, and that herd is not to be cured, hence the difference.
fn limit(strategy: Strategy, keep_alive: bool) -> f64 {
    match (keep_alive, strategy) {
        (true, _) => 1.00,
        (false, Strategy::Reuseport) => 1.15,
        (false, Strategy::Shared) => 1.30,
    }
}

/// Medians and ratios: first all that were kept alive, then all that were not. The better nginx in
/// each mode is the yardstick.
fn summarize(subjects: &[Subject], runs: &[Runs]) -> Vec<CostResult> {
    let who: Vec<_> = subjects.iter().map(|c| (&*c.name, c.strategy)).collect();
    [true, false]
        .into_iter()
        .flat_map(|keep_alive| summarize_mode(&who, runs, keep_alive))
        .collect()
}

fn summarize_mode(
    who: &[(&str, Option<Strategy>)],
    runs: &[Runs],
    keep_alive: bool,
) -> Vec<CostResult> {
    let middle = |runs: &[CostRun], of: fn(&CostRun) -> f64| {
        median(&runs.iter().map(of).collect::<Vec<_>>()).unwrap_or(f64::NAN)
    };
    let runs = || runs.iter().map(|runs| &runs[usize::from(!keep_alive)]);
    let all = || who.iter().zip(runs());
    let nginxes = all().filter(|((_, strategy), _)| strategy.is_none());
    let yardstick =
        nginxes.map(|(_, runs)| middle(runs, |run| run.total)).fold(f64::INFINITY, f64::min);
    all()
        .map(|((name, strategy), runs)| {
            let totals: Vec<f64> = runs.iter().map(|run| run.total).collect();
            let total = middle(runs, |run| run.total);
            CostResult {
                server: (*name).into(),
                keep_alive,
                user: middle(runs, |run| run.user),
                system: middle(runs, |run| run.system),
                total,
                spread: relative_spread(&totals).unwrap_or(0.0),
                of_nginx: total / yardstick,
                limit: strategy.map(|strategy| limit(strategy, keep_alive)),
                runs: runs.clone(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(totals: [f64; 3]) -> Runs {
        let run = |total| CostRun { requests: 1, user: total / 4.0, system: total / 2.0, total };
        [totals.map(run).to_vec(), totals.map(|total| run(total * 3.0)).to_vec()]
    }

    #[test]
    fn ratios_are_of_medians_and_of_the_better_nginx() {
        let who = [("shared", Some(Strategy::Shared)), ("nginx", None), ("nginx reuseport", None)];
        let runs = [runs([8.0, 9.0, 70.0]), runs([12.0, 12.0, 12.0]), runs([10.0, 10.0, 10.0])];
        let alive = summarize_mode(&who, &runs, true);
        assert_eq!((alive[0].total, alive[0].of_nginx), (9.0, 0.9));
        assert_eq!((alive[0].limit, alive[1].limit), (Some(1.0), None));
        assert_eq!(alive[2].of_nginx, 1.0);
        let close = summarize_mode(&who, &runs, false);
        assert_eq!((close[0].total, close[0].keep_alive), (27.0, false));
        assert_eq!(close[0].limit, Some(1.3));
    }
}
