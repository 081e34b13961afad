//! `self-check`: whether the verdicts of `compare` are reliable.

use crate::documents::{self, facts};
use crate::measure::self_check::{Check, SelfCheck};
use crate::report::model::{Block, Cell, Document, Field, Mark, Table, Unit, escaped};
use crate::statistics::verdict::{Ratio, Verdict};

/// Ratios of the same kind of pair, and whether there is a difference.
type Known<'a> = (&'a [Ratio], bool);

fn columns<'a>() -> [Field<Known<'a>>; 7] {
    [
        ("verdicts", Unit::Count, |(ratios, _)| ratios.len().into()),
        ("better", Unit::Count, |known| judged(known, |v| v.is_better() == Some(true), true)),
        ("worse", Unit::Count, |known| judged(known, |v| v.is_better() == Some(false), !known.1)),
        ("no difference", Unit::Count, |known| {
            judged(known, |v| v == Verdict::NoDifference, false)
        }),
        ("too noisy", Unit::Count, |known| judged(known, |v| v == Verdict::TooNoisy, false)),
        ("ratios", Unit::Text, |(ratios, _)| {
            let each = || ratios.iter().map(|ratio| ratio.ratio);
            let (low, high) = (each().fold(f64::INFINITY, f64::min), each().fold(0.0, f64::max));
            format!("{low:.3} to {high:.3}").into()
        }),
        ("deviation of a round", Unit::Part, |(ratios, _)| {
            let sum: f64 = ratios.iter().map(|ratio| ratio.deviation).sum();
            (sum / ratios.len() as f64).into()
        }),
    ]
}

/// How many verdicts are like this, and whether that is wrong.
fn judged((ratios, _): &Known, wanted: fn(Verdict) -> bool, is_wrong: bool) -> Cell {
    let number = ratios.iter().filter(|ratio| wanted(ratio.verdict)).count();
    Cell::from(number).mark((is_wrong && number > 0).then_some(Mark::Bad))
}

/// The document.
pub fn document(record: &SelfCheck) -> Document {
    let checks = [("throughput", &record.throughput), ("p99", &record.p99)];
    let mut blocks = checks.map(|(name, check)| Block::Verdict(verdict(name, check))).to_vec();
    let rounds = format!("{} for each verdict", record.rounds);
    blocks.push(facts([("server", record.server.clone()), ("rounds", rounds)]));
    for (name, check) in checks {
        let known: [Known; 2] = [(&check.same, false), (&check.different, true)];
        let table = Table::of("", ["equal servers", "slow and fast"]).with("", &columns(), &known);
        let [low, high] = check.accepted;
        let planted = format!(
            "The slow form: {}. Ratio slow / fast: {:.3}, target {:.3} ({low:.3} to {high:.3} \
             accepted), after {} trial rounds.",
            escaped(&check.planted),
            check.measured,
            check.wanted,
            check.trial_rounds
        );
        blocks.extend([
            Block::Heading(format!("Verdicts on the {name}")),
            Block::Table(table),
            Block::Text(planted),
        ]);
    }
    documents::document("Can the comparison be trusted?", record, blocks)
}

fn verdict(name: &str, check: &Check) -> String {
    format!(
        "{name}: no false difference between equal servers in {} of {} verdicts, the known difference \
         detected in {} of {}{}",
        check.quiet(),
        check.same.len(),
        check.found(),
        check.different.len(),
        if check.is_calibrated() { "" } else { "; the calibration missed its target" }
    )
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::measure::fixture::environment;
    use crate::measure::self_check::SelfCheckBody;
    use crate::statistics::verdict::Figure;

    /// A run with right and with wrong verdicts, and a calibration that missed.
    pub fn record() -> SelfCheck {
        let ratio = |(place, verdict): (usize, Verdict)| Ratio {
            figure: Figure::RequestsPerSecond,
            ratio: 0.9 + place as f64 / 16.0,
            interval: [0.8, 1.3],
            deviation: 0.0123 * (place + 1) as f64,
            threshold: Some(0.02),
            verdict,
            rounds_needed: None,
        };
        let ratios = |verdicts: &[Verdict]| {
            verdicts.iter().copied().enumerate().map(ratio).collect::<Vec<_>>()
        };
        let check = |planted: &str, same: &[Verdict], different: &[Verdict]| Check {
            planted: planted.into(),
            wanted: 0.95,
            accepted: [0.93, 0.97],
            measured: 0.9412,
            trial_rounds: 36,
            same: ratios(same),
            different: ratios(different),
        };
        let (quiet, noisy) = (Verdict::NoDifference, Verdict::TooNoisy);
        let throughput =
            check("--handler-cost 8us", &[quiet, Verdict::Faster, noisy], &[Verdict::Slower; 17]);
        let p99 = check("/block/900", &[quiet; 20], &[Verdict::Higher, Verdict::Lower, quiet]);
        let p99 = Check { wanted: 1.1, accepted: [1.05, 1.15], measured: 1.3, ..p99 };
        let (server, rounds) = ("shared --workers 4".into(), 40);
        let body = SelfCheckBody { server, rounds, throughput, p99 };
        SelfCheck::new(vec!["self-check".into()], environment(), body)
    }
}
