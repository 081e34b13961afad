//! `loadtest compare`: which server is faster here, by how much, and how certain is that?

use anyhow::{Result, bail, ensure};

use crate::cli;
use crate::commands::{place, reserve};
use crate::documents;
use crate::kernel::affinity::Cores;
use crate::load::{Load, Share, mix};
use crate::measure::compare::{Experiment, rate_rounds};
use crate::measure::comparison::{Plan, Subject};
use crate::report::output::publish_to;
use crate::server::Spec;

/// The rates at which latencies are measured, as parts of what the best server serves to the prober.
const FIXED_RATE_SHARES: [f64; 2] = [0.5, 0.8];

/// Checks, runs, reports.
pub fn run(asked: &cli::Compare) -> Result<()> {
    run_and_report(experiment(asked)?, &asked.run.output)
}

/// Runs it, and reports in any case: a full disk must not cost the measurements.
pub fn run_and_report(experiment: Experiment, output: &cli::OutputArgs) -> Result<()> {
    let json = experiment.json.clone();
    reserve(None, output)?;
    let (comparison, ended) = experiment.run(cli::arguments())?;
    if comparison.has_slices() {
        publish_to(&documents::compare::document(&comparison), output.report.with(Some(&json)))?;
    }
    ended
}

/// Checks the arguments.
fn experiment(asked: &cli::Compare) -> Result<Experiment> {
    let servers: Vec<Spec> =
        asked.servers.iter().map(|text| Spec::parse(text)).collect::<Result<_>>()?;
    let load = asked.wrk.load(asked.slice, !asked.mode.close)?;
    let names = name_all(&servers)?;
    let subjects = servers.iter().zip(&names);
    let subjects =
        subjects.map(|(spec, name)| Subject::new(name, &spec.text, &asked.path, load.keep_alive));
    let subjects = subjects.collect();
    Ok(Experiment {
        subjects,
        plan: plan(asked, load, &names)?,
        expect: asked.expect.expect.clone(),
        json: place(&asked.run.output, "compare.json")?,
        resume: asked.run.resume,
        ..Experiment::default()
    })
}

/// The subjects' names: the given name, or the server with its options.
///
/// # Errors
/// When two have the same name, or there are fewer than two.
fn name_all(servers: &[Spec]) -> Result<Vec<String>> {
    ensure!(
        servers.len() > 1,
        "one server alone cannot be compared; name two or more, such as \"shared\" \"reuseport\""
    );
    let names: Vec<String> = servers.iter().map(Spec::display_name).collect();
    if servers.iter().all(|server| server == &servers[0]) && servers[0].name.is_none() {
        // A test of the comparison itself: all subjects are the same.
        return Ok((1..).zip(&names).map(|(number, name)| format!("{name} #{number}")).collect());
    }
    for (place, name) in names.iter().enumerate() {
        ensure!(
            !names[..place].contains(name),
            "'{name}' is given twice; give each its own name, as in \"a={text}\" \"b={text}\"",
            text = servers[place].text
        );
    }
    Ok(names)
}

fn plan(asked: &cli::Compare, load: Load, names: &[String]) -> Result<Plan> {
    let baseline = match &asked.baseline {
        None => &names[0],
        Some(name) if names.contains(name) => name,
        Some(name) => bail!(
            "--baseline '{name}' is not one of the compared servers ('{}'); name one of them",
            names.join("', '")
        ),
    };
    let path = || Ok(vec![Share::only(&asked.path)]);
    let paths = asked.mix.as_deref().map_or_else(path, mix::read)?;
    let fixed = !asked.fixed_rate.is_zero();
    for (option, is_given) in
        [("--rate", !asked.rates.is_empty()), ("--expect", asked.expect.expect.is_some())]
    {
        ensure!(
            fixed || !is_given,
            "{option} applies to latencies at fixed rates, which --fixed-rate 0s excludes; \
             remove one of the two"
        );
    }
    Ok(Plan {
        threshold: asked.threshold,
        pinned: asked.pin.then(Cores::halve).transpose()?,
        one_at_a_time: asked.one_at_a_time,
        fixed_rate_shares: if fixed { FIXED_RATE_SHARES.to_vec() } else { Vec::new() },
        fixed_rates: asked.rates.clone(),
        fixed_rate_seconds: if fixed { asked.fixed_rate.as_secs_f64() } else { 0.0 },
        fixed_rate_rounds: rate_rounds(asked.fixed_rate),
        ..Plan::new(load, asked.rounds, asked.run.random.seed, paths, baseline)
    })
}
