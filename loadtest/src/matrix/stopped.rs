//! The workload in which a worker of each server is stopped and later killed.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::environment::Environment;
use crate::interrupt;
use crate::matrix::record::{Figure, MatrixBody};
use crate::matrix::workloads::{Run, Workload};
use crate::measure::runner::interleave;
use crate::measure::store::{Header, Store};
use crate::probe::fault::parsed;
use crate::probe::fault_run::run_with_faults;
use crate::probe::load::Load;
use crate::record::Body;
use crate::report::progress;
use crate::server::{Server, Spec};
use crate::statistics::best::{Best, Rounds};
use crate::statistics::estimate::Estimate;
use crate::statistics::{mean, median};

/// When a worker is stopped and killed, and when the load ends.
const STOP_AT: Duration = Duration::from_millis(1500);
const KILL_AT: Duration = Duration::from_millis(3500);
pub const END_AT: Duration = Duration::from_millis(4500);

/// How long it takes until clients that will be stuck are: each is stuck with its next request.
const SETTLED: Duration = Duration::from_millis(300);

/// A client's time limit, longer than a worker is stopped: no client gives up.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);

/// The result of one stop.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
struct Stopped {
    /// Requests/s before.
    before: f64,
    /// Requests/s while the worker was stopped.
    during: f64,
    lost: u64,
}

/// Stops a worker of each policy's server several times.
pub fn figures(run: &Run, workload: &Workload, json: &Path, resume: bool) -> Result<Vec<Figure>> {
    let Run { policies, stops, seed, .. } = run;
    let header = Header {
        schema: MatrixBody::SCHEMA.into(),
        arguments: vec!["matrix".into()],
        plan: json!({ "policies": policies, "stops": stops, "seed": seed }),
        environment: Environment::now(None)?,
    };
    let mut store = Store::open(json, &header, resume)?;
    let names: Vec<&str> = policies.iter().map(|(name, _)| *name).collect();
    let bar = progress::slices(END_AT * *stops * policies.len() as u32);
    let mut done = Duration::ZERO;
    let found = interleave(&mut store, "stopped", &names, *stops, *seed, |turn| {
        let (name, server) = policies[turn.subject];
        bar.name(format!("{}: {name}", workload.name));
        let stopped = stop_one(workload, server, |elapsed| bar.show(done + elapsed))
            .with_context(|| format!("'{name}' with a worker stopped"))?;
        done += END_AT;
        Ok(stopped)
    })?;
    Ok(of_stops(&names, &found, *seed))
}

fn of_stops(names: &[&str], found: &[Vec<Stopped>], seed: u64) -> Vec<Figure> {
    let each = |place: usize, of: fn(&Stopped) -> f64| -> Vec<f64> {
        found[place].iter().map(of).collect()
    };
    let served = |place: usize| each(place, |stopped| stopped.during);
    let by_round = |place: usize| -> Rounds { (0..).zip(served(place)).collect() };
    // As in every other workload, requests/s are compared round by round with the best policy's.
    let of_best = Best::Highest.ratios(&(0..names.len()).map(by_round).collect::<Vec<_>>(), seed);
    let figure = |place: usize| Figure {
        policy: names[place].into(),
        requests_per_second: Estimate::median(&served(place), seed),
        of_best: of_best[place],
        while_stopped: median(&each(place, |stopped| stopped.during / stopped.before)),
        lost_when_killed: mean(&each(place, |stopped| stopped.lost as f64)),
        ..Figure::default()
    };
    (0..names.len()).map(figure).collect()
}

/// Stops the busiest worker, and kills it later, from a separate thread; whatever happens, no worker stays
/// stopped.
fn stop_one(workload: &Workload, server: &str, mut show: impl FnMut(Duration)) -> Result<Stopped> {
    let mut server = Server::start(&Spec::parse(server)?, &[])?;
    let load = Load {
        connections: workload.connections,
        keep_alive: workload.keep_alive,
        seconds: END_AT.as_secs_f64(),
        timeout_ms: ANSWER_WITHIN.as_millis() as u64,
        ..Load::of(&server, "/")
    };
    let faults = [("stop-worker", STOP_AT), ("kill-worker", KILL_AT)];
    let faults = parsed(&faults.map(|(name, at)| format!("{name}@{}ms", at.as_millis())))?;
    let run = run_with_faults(&mut server, &load, &faults, |_, elapsed| show(elapsed))?;
    interrupt::check()?;
    let counters = run.whole()?.counters;
    let rate = |from, to| counters.timeline.rate(from, to).context("nothing was answered");
    let stopped = Stopped {
        before: rate(SETTLED, STOP_AT)?,
        during: rate(STOP_AT + SETTLED, KILL_AT)?,
        lost: counters.attempted - counters.outcomes.ok,
    };
    server.stop()?;
    Ok(stopped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_served_is_compared_round_by_round_with_the_best() {
        let stopped = |before, during, lost| Stopped { before, during, lost };
        let found = [
            vec![stopped(100.0, 90.0, 4), stopped(200.0, 180.0, 2), stopped(100.0, 90.0, 3)],
            vec![stopped(100.0, 9.0, 32), stopped(200.0, 18.0, 32), stopped(100.0, 9.0, 32)],
        ];
        let [good, bad] = &of_stops(&["good", "bad"], &found, 1)[..] else { panic!("two") };
        assert_eq!(
            (good.part(), good.while_stopped, good.lost_when_killed),
            (1.0, Some(0.9), Some(3.0))
        );
        assert!((bad.part() - 0.1).abs() < 1e-9 && bad.lost_when_killed == Some(32.0), "{bad:?}");
    }
}
