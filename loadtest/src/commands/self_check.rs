//! `loadtest self-check`: does `compare` find no difference where there is none, and a small one where
//! there is one?
//!
//! Four servers of the same kind take turns: two as they are, two whose handler burns so much CPU time
//! that 5 % of the requests/s are gone. How much that is, is found by trial. The rounds are then cut
//! into runs of `--rounds` each, and each run gives four verdicts as `compare` would have given them: the
//! two fast ones and the two slow ones must not differ, a slow one and a fast one must. So a verdict
//! is right if it says what is known beforehand.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::atomic_file::AtomicFile;
use crate::cli;
use crate::commands::compare::{self, Measured};
use crate::environment::Environment;
use crate::interrupt;
use crate::measure::comparison::{Comparison, Pair};
use crate::report::model::{Block, Document};
use crate::report::output::publish_to;
use crate::statistics::geometric_mean;
use crate::statistics::verdict::{Ratio, Verdict};

/// The difference that must be found.
const LOSS: f64 = 0.05;

/// How near to it the trial must come, as a part of the requests/s.
const NEAR: f64 = 0.007;

/// How near to it the rounds must be in the end.
const AROUND: f64 = 0.015;

/// Rounds of a trial, and how many trials there are at most.
const TRIAL_ROUNDS: u32 = 60;
const MOST_TRIALS: u32 = 5;

/// Of 20 verdicts on what does not differ, so many must say so; of 20 on what does, so many.
const QUIET_OF_20: usize = 19;
const FOUND_OF_20: usize = 18;

/// What is saved.
#[derive(Serialize)]
struct TrustRecord {
    schema: &'static str,
    arguments: Vec<String>,
    environment: Environment,
    /// The server, and the CPU time its slow form burns per request.
    server: String,
    handler_cost_ns: u64,
    /// The part of the requests/s that this took in fact, over all rounds.
    lost: f64,
    /// Rounds of each run, verdict by verdict below.
    rounds: u32,
    same: Vec<Ratio>,
    different: Vec<Ratio>,
}

/// Finds the cost, runs, judges, reports.
pub fn run(asked: &cli::SelfCheck) -> Result<()> {
    let place =
        asked.output.json.as_deref().map(|path| AtomicFile::reserve("--json", path)).transpose()?;
    let slices = match &asked.output.json {
        Some(json) => json.with_extension("slices.json"),
        None => compare::default_place("trust.slices.json")?,
    };
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let cost = calibrate(asked, folder.path())?;
    let runs = asked.verdicts.div_ceil(2); // each gives two verdicts of either kind
    let slow = format!("{} --handler-cost {}ns", asked.server, cost.as_nanos());
    let servers = [&format!("fast-1={}", asked.server), &format!("fast-2={}", asked.server)]
        .map(String::from);
    let servers = servers.into_iter().chain([format!("slow-1={slow}"), format!("slow-2={slow}")]);
    let asked_for = comparison(asked, servers.collect(), runs * asked.rounds, &slices);
    let Measured { comparison, ended, .. } = compare::measure(&asked_for)?;
    ended?;
    // After Ctrl-C, of the runs that are whole.
    let pairs = comparison.pairs.iter();
    let slowed = |pair: &&Pair| pair.baseline.starts_with("fast") && pair.other.starts_with("slow");
    let all: Vec<f64> = pairs.filter(slowed).flat_map(|pair| pair.ratios.clone()).collect();
    let lost = 1.0 - geometric_mean(&all).context("no rounds were run")?;
    let verdicts = |baseline: &str, other: &str| judge(&comparison, baseline, other, asked.rounds);
    let same = [verdicts("fast-1", "fast-2")?, verdicts("slow-1", "slow-2")?].concat();
    let different = [verdicts("fast-1", "slow-1")?, verdicts("fast-2", "slow-2")?].concat();
    let record = TrustRecord {
        schema: "loadtest-trust/1",
        arguments: cli::arguments(),
        environment: comparison.environment.clone(),
        server: asked.server.clone(),
        handler_cost_ns: cost.as_nanos() as u64,
        lost,
        rounds: asked.rounds,
        same,
        different,
    };
    if let Some(place) = place {
        place.save(&record)?;
    }
    let quiet = record.same.iter().filter(|ratio| is_quiet(ratio)).count();
    let found = record.different.iter().filter(|r| r.verdict == Verdict::Slower).count();
    publish_to(&report(&record, quiet, found), asked.output.asked())?;
    ensure!(
        (lost - LOSS).abs() <= AROUND,
        "the slow form lost {:.1} % of the requests/s, and was to lose {:.0} %: the trial found a cost that \
         is not it, so the verdicts on it prove little; repeat on a machine where nothing else runs",
        lost * 100.0,
        LOSS * 100.0
    );
    let enough = |count: usize, of: usize, wanted: usize| count * 20 >= of * wanted;
    ensure!(
        enough(quiet, record.same.len(), QUIET_OF_20)
            && enough(found, record.different.len(), FOUND_OF_20),
        "this comparison cannot be trusted here: it should be quiet in {QUIET_OF_20} of 20 and find \
         the difference in {FOUND_OF_20} of 20; is something else running on this machine?"
    );
    Ok(())
}

fn is_quiet(ratio: &Ratio) -> bool {
    !matches!(ratio.verdict, Verdict::Faster | Verdict::Slower)
}

/// Tries costs until the slow form answers 95 % of what the fast one does.
fn calibrate(asked: &cli::SelfCheck, folder: &Path) -> Result<Duration> {
    let mut cost = Duration::from_nanos(500);
    let mut best = (f64::INFINITY, cost);
    for _ in 0..MOST_TRIALS {
        let slow = format!("slow={} --handler-cost {}ns", asked.server, cost.as_nanos());
        let servers = vec![format!("fast={}", asked.server), slow];
        let trial = comparison(asked, servers, TRIAL_ROUNDS, &folder.join("trial.json"));
        let Measured { comparison, ended, .. } = compare::measure(&trial)?;
        ended?;
        interrupt::check()?;
        let ratio = geometric_mean(&comparison.pairs[0].ratios).context("no rounds were run")?;
        let off = (ratio - (1.0 - LOSS)).abs();
        if off < best.0 {
            best = (off, cost);
        }
        if off < NEAR {
            break;
        }
        // What a request takes grows by 1 / ratio - 1 for this cost.
        let grown = (1.0 / ratio - 1.0).max(0.005);
        cost = cost.mul_f64(((1.0 / (1.0 - LOSS) - 1.0) / grown).clamp(0.25, 4.0));
    }
    Ok(best.1)
}

/// A comparison like the one that is put to the test.
fn comparison(
    asked: &cli::SelfCheck,
    servers: Vec<String>,
    rounds: u32,
    json: &Path,
) -> cli::Compare {
    cli::Compare {
        servers,
        rounds,
        random: cli::SeedArg { seed: asked.random.seed },
        fixed_rate: Duration::ZERO,
        output: cli::OutputArgs { json: Some(json.to_owned()), html: None, markdown: false },
        ..cli::Compare::defaults()
    }
}

/// The verdicts on a pair, run by run.
fn judge(comparison: &Comparison, baseline: &str, other: &str, rounds: u32) -> Result<Vec<Ratio>> {
    let pair = comparison.pairs.iter().find(|p| p.baseline == baseline && p.other == other);
    let ratios = &pair.with_context(|| format!("{other} was not compared with {baseline}"))?.ratios;
    let plan = &comparison.plan;
    let runs = ratios.chunks_exact(rounds as usize);
    let each = runs.map(|ratios| Ratio::weigh(plan.judged, ratios, plan.threshold, plan.seed));
    let verdicts: Vec<Ratio> =
        each.collect::<Option<_>>().context("too few rounds for a verdict")?;
    ensure!(!verdicts.is_empty(), "interrupted before there were {rounds} rounds for a verdict");
    Ok(verdicts)
}

fn report(record: &TrustRecord, quiet: usize, found: usize) -> Document {
    let verdict = format!(
        "Nothing found between equal servers: {quiet} of {}; the slow form, which lost {:.1} % of the \
         requests/s, found: {found} of {}",
        record.same.len(),
        record.lost * 100.0,
        record.different.len()
    );
    let blocks = vec![Block::Verdict(verdict)];
    Document { title: "Can the comparison be relied on?".into(), blocks }
}
