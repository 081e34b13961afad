//! `loadtest cost`: the cost of a request to the whole server, compared with nginx.
//!
//! A comparison by cost instead of requests/s. nginx takes part twice, with one socket for all its
//! workers and with one for each; every server with kept connections and with a new one for each request.

use anyhow::Result;

use crate::cli;
use crate::commands::compare::run_and_report;
use crate::commands::place;
use crate::load::Share;
use crate::load::perf::Unit;
use crate::measure::compare::Experiment;
use crate::measure::comparison::{Plan, Subject};
use crate::server::nginx;
use crate::server::{Spec, Strategy};
use crate::statistics::verdict::Figure;

/// The subjects that others are compared with: in each mode the cheaper one.
const NGINX: [&str; 2] = ["nginx", "nginx --reuseport"];

/// Checks, runs, reports.
pub fn run(asked: &cli::Cost) -> Result<()> {
    let load = asked.wrk.load(asked.duration, true)?;
    let servers = asked.servers.iter().map(String::as_str).chain(NGINX);
    let specs: Vec<Spec> = servers.map(Spec::parse).collect::<Result<_>>()?;
    nginx::find()?; // a clear error before anything else is started
    let (unit, excuse) = Unit::choose();
    let (rounds, seed) = (asked.rounds.into(), asked.run.random.seed);
    let modes = [(true, "kept"), (false, "new")];
    let each = modes.iter().flat_map(|mode| specs.iter().map(move |spec| (mode, spec)));
    let subjects = each.map(|(&(keep_alive, mode), spec)| Subject {
        yardstick: NGINX.contains(&&*spec.text),
        cost_limit: spec.strategy().map(|strategy| limit(strategy, keep_alive)),
        ..Subject::new(&format!("{}, {mode}", spec.display_name()), &spec.text, "/", keep_alive)
    });
    let experiment = Experiment {
        subjects: subjects.collect(),
        extra: vec!["--workers".into(), asked.workers.to_string()],
        plan: Plan {
            judged: Figure::CostPerRequest,
            cost_unit: Some(unit),
            cost_excuse: excuse,
            ..Plan::new(load, rounds, seed, vec![Share::only("/")], NGINX[0])
        },
        json: place(&asked.run.output, "cost.json")?,
        resume: asked.run.resume,
        ..Experiment::default()
    };
    run_and_report(experiment, &asked.run.output)
}

/// The limit of the cost in instructions, as a multiple of nginx's. Each new connection wakes all workers of the
/// shared socket, which the default policy cannot avoid, hence the difference.
fn limit(strategy: Strategy, keep_alive: bool) -> f64 {
    match (keep_alive, strategy) {
        (true, _) => 1.00,
        (false, Strategy::Reuseport) => 1.15,
        (false, Strategy::Shared) => 1.30,
    }
}
