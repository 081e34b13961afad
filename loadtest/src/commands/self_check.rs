//! `loadtest self-check`: does `compare` find no difference where there is none, and a small one where
//! there is one?
//!
//! Four servers of the same kind take turns: two as they are, and two that are known to be worse. The
//! rounds are cut into runs of `--rounds` each, and each run gives four verdicts as `compare` would have
//! given them: the two fast ones and the two slow ones must not differ, a slow one and a fast one must.
//! It is done twice. For requests/s the slow ones' handler burns so much CPU time that 5 % are lost; how
//! much that is, is found by trial. For p99 at a fixed rate the slow ones' handler blocks 30 % longer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::atomic_file::AtomicFile;
use crate::cli;
use crate::commands::compare::default_place;
use crate::documents;
use crate::interrupt;
use crate::load::{Load, Share};
use crate::measure::compare::{Candidate, Experiment, Measured};
use crate::measure::comparison::{Comparison, Pair, Plan, Subject};
use crate::measure::self_check::{Check, SelfCheck, SelfCheckBody};
use crate::report::output::publish_to;
use crate::server::Spec;
use crate::statistics::estimate::Estimate;
use crate::statistics::geometric_mean;
use crate::statistics::verdict::{Figure, Ratio};

/// Requests/s of the slow form over those of the fast one, and which ratios will do.
const SLOWED: f64 = 0.95;
const SLOWED_WITHIN: [f64; 2] = [0.94, 0.96];

/// Rounds of a trial, and how many trials there are at most. The last rounds of the search must be as
/// many as make its error smaller than what will do.
const TRIAL_ROUNDS: u32 = 40;
const MOST_TRIALS: u32 = 8;

/// How long the fast form's handler blocks, and what the slow form's p99 is to be of the fast one's.
const BLOCKED_US: u64 = 2000;
const HIGHER: f64 = 1.3;
const HIGHER_WITHIN: [f64; 2] = [1.2, 1.4];

/// At this rate a worker of so many is asked again before it has answered in fewer than 1 of 100 cases,
/// so p99 is the handler's time and not a queue's.
const BLOCKING_RATE: u64 = 200;
const BLOCKING_WORKERS: u32 = 64;

/// Rounds of p99 for each verdict. They are of one second, and scatter less than requests/s.
const P99_ROUNDS: u32 = 10;

/// Of 20 verdicts on what does not differ, so many must say so; of 20 on what does, so many.
const QUIET_OF_20: usize = 18;
const FOUND_OF_20: usize = 18;

/// Finds the cost, runs, judges, reports.
pub fn run(asked: &cli::SelfCheck) -> Result<()> {
    let json = asked.output.json.clone();
    let place = json.as_deref().map(|path| AtomicFile::reserve("--json", path)).transpose()?;
    let json = json.map_or_else(|| default_place("self-check.json"), Ok)?;
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let (cost, trial_rounds) = calibrate(asked, &folder.path().join("trial.json"))?;
    let runs = asked.verdicts.div_ceil(2); // each gives two verdicts of either kind

    let slow = format!("{} --handler-cost {}ns", asked.server, cost.as_nanos());
    let measured = four(asked, &slow, asked.rounds * runs, &json.with_extension("slices.json"))?;
    let environment = measured.environment.clone();
    let throughput = Check {
        planted: format!("the slow form's handler burns {} ns of CPU time", cost.as_nanos()),
        wanted: SLOWED,
        accepted: SLOWED_WITHIN,
        trial_rounds,
        ..check(&measured.pairs, Figure::RequestsPerSecond, asked.rounds, &measured.plan)?
    };
    let measured = four_blocking(asked, P99_ROUNDS * runs, &json.with_extension("p99.json"))?;
    let at = measured.fixed_rates.first().context("no rounds were run")?;
    let p99 = Check {
        planted: format!("the slow form's handler blocks for {} us", slow_block()),
        wanted: HIGHER,
        accepted: HIGHER_WITHIN,
        ..check(&at.pairs, Figure::P99, P99_ROUNDS, &measured.plan)?
    };
    let body =
        SelfCheckBody { server: asked.server.clone(), rounds: asked.rounds, throughput, p99 };
    let record = SelfCheck::new(cli::arguments(), environment, body);
    if let Some(place) = place {
        place.save(&record)?;
    }
    publish_to(&documents::self_check::document(&record), asked.output.asked())?;
    for (name, check) in [("requests/s", &record.throughput), ("p99", &record.p99)] {
        judge(name, check)?;
    }
    Ok(())
}

/// # Errors
/// When the difference was not what it was to be, or verdicts are wrong too often.
fn judge(name: &str, check: &Check) -> Result<()> {
    ensure!(
        check.is_calibrated(),
        "the {name} of the slow form was {:.3} of the fast one's and was to be {:.2} ({:.2} to {:.2} will \
         do), so the verdicts prove little; repeat it on a machine where nothing else runs",
        check.measured,
        check.wanted,
        check.accepted[0],
        check.accepted[1]
    );
    let enough = |count: usize, of: usize, wanted: usize| count * 20 >= of * wanted;
    ensure!(
        enough(check.quiet(), check.same.len(), QUIET_OF_20)
            && enough(check.found(), check.different.len(), FOUND_OF_20),
        "comparisons of {name} cannot be trusted here: {} of {} verdicts on equal servers found nothing, \
         and {} of {} found the difference; {QUIET_OF_20} and {FOUND_OF_20} of 20 are wanted: give it \
         more --rounds, or end what else runs on this machine",
        check.quiet(),
        check.same.len(),
        check.found(),
        check.different.len()
    );
    Ok(())
}

/// Tries costs until the slow form answers 95 % of what the fast one does. Gives the cost, and the
/// rounds it took.
///
/// The relation of cost and ratio is taken as a line through the two trials nearest to the aim; each
/// counts as exactly as its interval allows, and the search ends when the whole interval will do.
fn calibrate(asked: &cli::SelfCheck, json: &Path) -> Result<(Duration, u32)> {
    let (mut search, mut rounds) = (Search::new(), 0);
    for trial in 0..MOST_TRIALS {
        let cost = search.next();
        let slow = format!("{} --handler-cost {cost:.0}ns", asked.server);
        let servers = [("fast", &asked.server), ("slow", &slow)];
        // Near the aim more rounds are needed to tell whether it is hit.
        let count = TRIAL_ROUNDS * if trial == 0 { 1 } else { 2 };
        let measured = measure(plan(asked, count, "/"), &candidates(&servers, "/")?, json)?;
        rounds += count;
        interrupt::check()?;
        let ratios = &measured.pairs.first().context("no rounds were run")?.ratios;
        let ratio = Estimate::of(ratios, geometric_mean, asked.random.seed);
        search.add(cost, ratio.context("no rounds were run")?);
        if search.is_over() {
            break;
        }
    }
    Ok((Duration::from_nanos(search.best() as u64), rounds))
}

/// A search for the cost with which the slow form reaches [`SLOWED`] of the fast one's requests/s.
struct Search(Vec<(f64, Estimate)>);

impl Search {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn add(&mut self, cost: f64, ratio: Estimate) {
        self.0.push((cost, ratio));
        let off = |ratio: &Estimate| (ratio.value - SLOWED).abs();
        self.0.sort_by(|(_, one), (_, other)| off(one).total_cmp(&off(other)));
    }

    /// In nanoseconds.
    fn best(&self) -> f64 {
        self.0.first().map_or(500.0, |(cost, _)| *cost)
    }

    /// Whether the best trial hits the middle half of what will do.
    fn is_over(&self) -> bool {
        let quarter = (SLOWED_WITHIN[1] - SLOWED_WITHIN[0]) / 4.0;
        self.0.first().is_some_and(|(_, ratio)| (ratio.value - SLOWED).abs() <= quarter)
    }

    /// The cost to try next. What a request takes grows by 1 / ratio - 1, about in proportion to the
    /// cost; with two trials, the line through both (a secant step).
    fn next(&self) -> f64 {
        let grown = |ratio: f64| 1.0 / ratio - 1.0;
        let aim = grown(SLOWED);
        match &self.0[..] {
            [] => 500.0,
            [(cost, ratio)] => cost * (aim / grown(ratio.value).max(0.005)).clamp(0.25, 4.0),
            [(near, one), (far, other), ..] => {
                let (one, other) = (grown(one.value), grown(other.value));
                let step = (aim - one) * (far - near) / (other - one);
                // Noise can turn the line around.
                match step.is_finite() && (far - near) / (other - one) > 0.0 {
                    true => (near + step).clamp(near * 0.5, near * 2.0),
                    false => near * (aim / one.max(0.005)).clamp(0.5, 2.0),
                }
            }
        }
    }
}

fn load() -> Load {
    Load { threads: 12, connections: 100, duration: Duration::from_secs(1), keep_alive: true }
}

fn plan(asked: &cli::SelfCheck, rounds: u32, path: &str) -> Plan {
    let paths = vec![Share { weight: 1.0, path: path.into() }];
    Plan::new(&load(), rounds, asked.random.seed, paths, "fast")
}

fn candidates(servers: &[(&str, &String)], path: &str) -> Result<Vec<(Spec, String, String)>> {
    let one = |(name, server): &(&str, &String)| {
        Ok((Spec::parse(server)?, (*name).to_owned(), path.to_owned()))
    };
    servers.iter().map(one).collect()
}

fn measure(plan: Plan, servers: &[(Spec, String, String)], json: &Path) -> Result<Comparison> {
    let candidate = |(spec, name, path): &(Spec, String, String)| Candidate {
        subject: Subject::new(name, &spec.text, plan.keep_alive),
        spec: spec.clone(),
        path: path.clone(),
    };
    let candidates = servers.iter().map(candidate).collect();
    let json: PathBuf = json.to_owned();
    let experiment = Experiment {
        candidates,
        extra: Vec::new(),
        plan,
        meter: None,
        expect: None,
        json,
        resume: false,
    };
    let Measured { comparison, ended, .. } = experiment.run(cli::arguments())?;
    ended?;
    Ok(comparison)
}

fn four(asked: &cli::SelfCheck, slow: &String, rounds: u32, json: &Path) -> Result<Comparison> {
    let fast = &asked.server;
    let servers = [("fast-1", fast), ("fast-2", fast), ("slow-1", slow), ("slow-2", slow)];
    measure(plan(asked, rounds, "/"), &candidates(&servers, "/")?, json)
}

fn slow_block() -> u64 {
    (BLOCKED_US as f64 * HIGHER) as u64
}

fn four_blocking(asked: &cli::SelfCheck, rounds: u32, json: &Path) -> Result<Comparison> {
    let server = format!("{} --lab --workers {BLOCKING_WORKERS}", asked.server);
    let path = |blocked: u64| format!("/block/{blocked}");
    let (fast, slow) = (path(BLOCKED_US), path(slow_block()));
    let fast = candidates(&[("fast-1", &server), ("fast-2", &server)], &fast)?;
    let slow = candidates(&[("slow-1", &server), ("slow-2", &server)], &slow)?;
    let plan = Plan {
        keep_alive: false,
        fixed_rates: vec![BLOCKING_RATE],
        fixed_rate_seconds: f64::from(rounds),
        fixed_rate_rounds: rounds,
        ..plan(asked, 0, "/")
    };
    measure(plan, &[fast, slow].concat(), json)
}

/// What the pairs say of what is known, run by run. After Ctrl-C, of the runs that are whole.
fn check(pairs: &[Pair], figure: Figure, rounds: u32, plan: &Plan) -> Result<Check> {
    let of = |baseline: &str, other: &str| -> Result<&[f64]> {
        let is_it = |pair: &&Pair| {
            let about = pair.result.as_ref().is_some_and(|result| result.figure == figure);
            (&*pair.baseline, &*pair.other) == (baseline, other) && about
        };
        let pair = pairs.iter().find(is_it);
        Ok(&pair.with_context(|| format!("{other} was not compared with {baseline}"))?.ratios)
    };
    let verdicts = |baseline: &str, other: &str| -> Result<Vec<Ratio>> {
        let runs = of(baseline, other)?.chunks_exact(rounds as usize);
        let each = runs.map(|ratios| Ratio::weigh(figure, ratios, plan.threshold, plan.seed));
        let verdicts: Vec<Ratio> = each.collect::<Option<_>>().context("too few rounds")?;
        ensure!(
            !verdicts.is_empty(),
            "interrupted before there were {rounds} rounds for a verdict"
        );
        Ok(verdicts)
    };
    let crossed = [("fast-1", "slow-1"), ("fast-2", "slow-2")];
    let all = crossed.iter().map(|(fast, slow)| of(fast, slow)).collect::<Result<Vec<_>>>()?;
    Ok(Check {
        planted: String::new(),
        wanted: 1.0,
        accepted: [1.0; 2],
        measured: geometric_mean(&all.concat()).context("no rounds were run")?,
        trial_rounds: 0,
        same: [verdicts("fast-1", "fast-2")?, verdicts("slow-1", "slow-2")?].concat(),
        different: [verdicts("fast-1", "slow-1")?, verdicts("fast-2", "slow-2")?].concat(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server on which a request takes 12 us besides the cost, measured with some noise.
    fn searched(noise: f64) -> (f64, usize) {
        let mut search = Search::new();
        let ratio = |cost: f64| 12_000.0 / (12_000.0 + cost);
        let mut random = fastrand::Rng::with_seed(7);
        for trial in 1..=MOST_TRIALS as usize {
            let cost = search.next();
            let value = ratio(cost) * (1.0 + noise * (random.f64() * 2.0 - 1.0));
            search.add(cost, Estimate::exact(value));
            if search.is_over() {
                return (ratio(search.best()), trial);
            }
        }
        (ratio(search.best()), MOST_TRIALS as usize + 1)
    }

    #[test]
    fn the_search_for_a_cost_hits_what_is_wanted_in_spite_of_noise() {
        let (ratio, trials) = searched(0.0);
        assert!((ratio - SLOWED).abs() < 0.003 && trials <= 3, "{ratio} after {trials}");
        let (ratio, trials) = searched(0.004);
        assert!((0.94..=0.96).contains(&ratio) && trials <= MOST_TRIALS as usize, "{ratio}");
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
        let plan = Plan::new(&load(), 20, 1, vec![], "fast");
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
