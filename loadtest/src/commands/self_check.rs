//! `loadtest self-check`: does `compare` find no difference where there is none, and a small one where
//! there is one?
//!
//! Four servers of the same kind take turns: two fast ones, and two that are known to be worse. The rounds
//! are divided into runs of `--rounds` each, and each run gives four verdicts, as `compare` would: the two
//! fast ones must not differ, nor the two slow ones, and a slow and a fast one must. This is done twice. For
//! requests/s all handlers use 10 us of CPU time, and those of the slow ones so much more that 5 % are lost;
//! trials find out how much. For p99 at a fixed rate the slow ones' handler blocks 30 % longer.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cli;
use crate::commands::{conclude, place, record, reserve};
use crate::documents;
use crate::interrupt;
use crate::load::{Load, Share};
use crate::measure::compare::Experiment;
use crate::measure::comparison::{Comparison, Pair, Plan, Subject};
use crate::measure::self_check::{Check, SelfCheckBody};
use crate::statistics::geometric_mean;
use crate::statistics::verdict::{Figure, Ratio};

/// Requests/s of the slow form over those of the fast one, and the accepted range.
const SLOWED: f64 = 0.95;
const SLOWED_WITHIN: [f64; 2] = [0.94, 0.96];

/// What the fast form's handler uses, in ns. Without it, a little more could not be planted: the handler that uses any
/// CPU time reads its clock, a system call that alone took 8 % of the requests/s on a fast machine.
const COST: f64 = 10_000.0;

/// How long the fast form's handler blocks, and the slow form's; the ratio of their p99 that follows, and the
/// accepted range.
const BLOCKED_US: u64 = 2000;
const SLOW_BLOCKED_US: u64 = 2600;
const HIGHER: f64 = 1.3;
const HIGHER_WITHIN: [f64; 2] = [1.2, 1.4];

/// Rounds of a trial, and the number of trials. If a round deviates by 8 %, the error of one trial is 0.9 %, which is
/// about the accepted range, and that of all four together half of that.
const TRIAL_ROUNDS: u32 = 80;
const TRIALS: u32 = 4;

/// The server for p99, and its rate. With a shared socket all workers are almost never busy at this rate, and p99 is the
/// time of two handlers: a worker that wakes may accept two connections. It deviates by 5 % from slice to slice. With a
/// socket for each worker, requests would wait for busy workers unless the rate were low, and of 200 requests in a slice
/// p99 is the second greatest latency, which deviated by 39 %.
const BLOCKING_SERVER: &str = "shared --lab --workers 16";
const BLOCKING_RATE: u64 = 1000;

/// Rounds of p99 for each verdict. They last one second, and scatter less than requests/s.
const P99_ROUNDS: u32 = 10;

/// This many of 20 verdicts on equal servers must be right, and of 20 on different ones.
const RIGHT_OF_20: usize = 18;

/// Finds the cost, runs, judges, reports.
pub fn run(asked: &cli::SelfCheck) -> Result<()> {
    let json = place(&asked.output, "self-check.json")?;
    reserve(Some(&json), &asked.output)?;
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let trials = folder.path().join("trial.json");
    let with = |cost: f64| format!("{} --handler-cost {:.0}ns", asked.server, COST + cost);
    let fast = with(0.0);
    let cost = calibrate(|cost| {
        let subjects = [("fast", &*fast), ("slow", &*with(cost))];
        let subjects = subjects.map(|(name, server)| Subject::new(name, server, "/", true));
        let trial = measure(plan(asked, TRIAL_ROUNDS), subjects.to_vec(), &trials)?;
        interrupt::check()?;
        geometric_mean(&trial.pairs.first().context("no rounds were run")?.ratios)
            .context("no rounds were run")
    })?;
    let runs = asked.verdicts.div_ceil(2); // each gives two verdicts of both kinds

    let subjects = four([&fast, &with(cost)], ["/", "/"], true);
    let slices = json.with_extension("slices.json");
    let measured = measure(plan(asked, asked.rounds * runs), subjects, &slices)?;
    let environment = measured.environment.clone();
    let throughput = Check {
        planted: format!("its handler uses {cost:.0} ns more CPU time"),
        wanted: SLOWED,
        accepted: SLOWED_WITHIN,
        trial_rounds: TRIALS * TRIAL_ROUNDS,
        ..check(&measured.pairs, Figure::RequestsPerSecond, asked.rounds, &measured.plan)?
    };
    let paths = [BLOCKED_US, SLOW_BLOCKED_US].map(|blocked| format!("/block/{blocked}"));
    let mut plan = Plan {
        fixed_rates: vec![BLOCKING_RATE],
        fixed_rate_seconds: f64::from(P99_ROUNDS * runs),
        fixed_rate_rounds: P99_ROUNDS * runs,
        ..plan(asked, 0)
    };
    plan.load.keep_alive = false;
    let subjects = four([BLOCKING_SERVER; 2], paths.each_ref().map(String::as_str), false);
    let measured = measure(plan.clone(), subjects, &json.with_extension("p99.json"));
    // After Ctrl-C the first part is the result.
    let pairs = match measured {
        Err(_) if interrupt::count() == 1 => Vec::new(),
        measured => measured?.body.fixed_rates.pop().map_or_else(Vec::new, |at| at.pairs),
    };
    let p99 = Check {
        planted: format!(
            "{BLOCKING_SERVER}, whose handler blocks for {SLOW_BLOCKED_US} us instead of {BLOCKED_US}"
        ),
        wanted: HIGHER,
        accepted: HIGHER_WITHIN,
        ..check(&pairs, Figure::P99, P99_ROUNDS, &plan)?
    };
    let body =
        SelfCheckBody { server: asked.server.clone(), rounds: asked.rounds, throughput, p99 };
    let record = record(environment, body, &[]);
    conclude(&record, Some(&json), &asked.output, documents::self_check::document)?;
    judge("requests/s", &record.throughput)?;
    judge("p99", &record.p99)
}

/// # Errors
/// When the planted difference was not as wanted, or verdicts are wrong too often.
fn judge(name: &str, check: &Check) -> Result<()> {
    let [low, high] = check.accepted;
    ensure!(
        check.is_calibrated(),
        "the {name} of the slow form was {:.3} of the fast one's, and the target is {:.2} \
         ({low:.2} to {high:.2} is accepted), so the verdicts prove little; repeat the check on a \
         machine where nothing else runs",
        check.measured,
        check.wanted
    );
    let enough = |count: usize, of: usize| count * 20 >= of * RIGHT_OF_20;
    let (quiet, same, found, different) =
        (check.quiet(), check.same.len(), check.found(), check.different.len());
    ensure!(
        enough(quiet, same) && enough(found, different),
        "comparisons of {name} cannot be trusted here: {quiet} of {same} verdicts on equal servers \
         found nothing, and {found} of {different} found the difference; {RIGHT_OF_20} of 20 of \
         each are required; use more --rounds, or end other programs on this machine"
    );
    Ok(())
}

/// Finds the cost, in nanoseconds, with which the slow form answers [`SLOWED`] of what the fast one does.
///
/// The time of a request grows by 1 / ratio - 1, nearly in proportion to the cost. Each trial measures this
/// proportion, and all trials so far give the cost of the next, and in the end the final one. Taking the trial that
/// came nearest would mean to take the luckiest one.
fn calibrate(mut ratio_at: impl FnMut(f64) -> Result<f64>) -> Result<f64> {
    let grown = |ratio: f64| 1.0 / ratio - 1.0;
    let (mut cost, mut costs, mut growth) = (1000.0, 0.0, 0.0);
    for _ in 0..TRIALS {
        costs += cost;
        growth += grown(ratio_at(cost)?);
        let next = costs * grown(SLOWED) / growth.max(f64::MIN_POSITIVE);
        cost = next.clamp(cost / 4.0, cost * 4.0);
    }
    Ok(cost)
}

fn plan(asked: &cli::SelfCheck, rounds: u32) -> Plan {
    let duration = Duration::from_secs(1);
    let load = Load::new(12, 100, duration, true);
    Plan::new(load, rounds, asked.random.seed, vec![Share::only("/")], "fast")
}

/// The fast form twice and the slow one twice.
fn four(servers: [&str; 2], paths: [&str; 2], keep_alive: bool) -> Vec<Subject> {
    let names = [("fast-1", 0), ("fast-2", 0), ("slow-1", 1), ("slow-2", 1)];
    let subject =
        |(name, form): (&str, usize)| Subject::new(name, servers[form], paths[form], keep_alive);
    names.map(subject).to_vec()
}

fn measure(plan: Plan, subjects: Vec<Subject>, json: &Path) -> Result<Comparison> {
    let experiment = Experiment { subjects, plan, json: json.into(), ..Experiment::default() };
    let (comparison, ended) = experiment.run(cli::arguments())?;
    ended?;
    Ok(comparison)
}

/// The verdicts, run by run. After Ctrl-C, of the complete runs.
fn check(pairs: &[Pair], figure: Figure, rounds: u32, plan: &Plan) -> Result<Check> {
    let of = |baseline: &str, other: &str| -> Result<&[f64]> {
        let is_it = |pair: &&Pair| {
            let about = pair.result.as_ref().is_some_and(|result| result.figure == figure);
            (&*pair.baseline, &*pair.other) == (baseline, other) && about
        };
        let pair = pairs.iter().find(is_it);
        Ok(&pair.with_context(|| format!("{other} was not compared with {baseline}"))?.ratios)
    };
    let verdicts = |pairs: [&[f64]; 2]| -> Result<Vec<Ratio>> {
        let runs = pairs.into_iter().flat_map(|ratios| ratios.chunks_exact(rounds as usize));
        let weigh = |run| Ratio::weigh(figure, run, plan.threshold, plan.seed);
        let verdicts: Vec<Ratio> =
            runs.map(weigh).collect::<Option<_>>().context("too few rounds")?;
        ensure!(
            !verdicts.is_empty(),
            "interrupted before there were {rounds} rounds for a verdict"
        );
        Ok(verdicts)
    };
    let crossed = [of("fast-1", "slow-1")?, of("fast-2", "slow-2")?];
    Ok(Check {
        measured: geometric_mean(&crossed.concat()).context("no rounds were run")?,
        same: verdicts([of("fast-1", "fast-2")?, of("slow-1", "slow-2")?])?,
        different: verdicts(crossed)?,
        ..Check::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_for_a_cost_hits_what_is_wanted_in_spite_of_noise() {
        let hits = |request: f64, noise: f64, seeds: u64| {
            let hits = |seed| {
                let mut random = fastrand::Rng::with_seed(seed);
                let ratio = |cost: f64| request / (request + cost);
                // The sum of twelve is nearly normal, with a deviation of 1.
                let mut normal = || (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
                let trial = |cost| Ok(ratio(cost) * (1.0 + noise * normal()));
                let [low, high] = SLOWED_WITHIN;
                (low..=high).contains(&ratio(calibrate(trial).unwrap()))
            };
            (0..seeds).filter(|&seed| hits(seed)).count()
        };
        for request in [6_000.0, 12_000.0, 60_000.0] {
            assert_eq!(hits(request, 0.0, 1), 1);
            let hits = hits(request, 0.009, 100);
            assert!(hits >= 85, "{hits} of 100 where a request takes {request} ns");
        }
    }

    #[test]
    fn verdicts_are_given_run_by_run_on_what_is_the_same_and_on_what_differs() {
        let pair = |baseline: &str, other: &str, ratio: f64| {
            let ratios: Vec<f64> = (0..20).map(|i| ratio + f64::from(i % 3) * 0.001).collect();
            Pair {
                baseline: baseline.into(),
                other: other.into(),
                result: Ratio::weigh(Figure::RequestsPerSecond, &ratios, 0.02, 1),
                ratios,
                sentence: String::new(),
            }
        };
        let pairs = [
            pair("fast-1", "fast-2", 1.0),
            pair("slow-1", "slow-2", 1.0),
            pair("fast-1", "slow-1", 0.95),
            pair("fast-2", "slow-2", 0.95),
        ];
        let plan = Plan { threshold: 0.02, seed: 1, ..Plan::default() };
        let found = check(&pairs, Figure::RequestsPerSecond, 10, &plan).unwrap();
        assert_eq!((found.quiet(), found.same.len()), (4, 4));
        assert_eq!((found.found(), found.different.len()), (4, 4));
        let check = Check { accepted: SLOWED_WITHIN, wanted: SLOWED, ..found };
        judge("requests/s", &check).unwrap();
        let missed = Check { measured: 0.9, ..check.clone() };
        assert!(judge("requests/s", &missed).unwrap_err().to_string().contains("0.900"));
        let blind = Check { different: check.same.clone(), ..check };
        assert!(judge("p99", &blind).unwrap_err().to_string().contains("cannot be trusted"));
    }
}
