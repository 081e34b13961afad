//! `self-check`: whether what `compare` says can be relied on.

use crate::documents::{self, facts};
use crate::measure::self_check::{Check, SelfCheck};
use crate::report::model::{Block, Cell, Document, Field, Mark, Table, Unit, escaped};
use crate::statistics::verdict::{Ratio, Verdict};

/// Ratios of the same kind of pair, and whether there is a difference to be found.
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

/// How many verdicts are so, which may be wrong.
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
        "{name}: no difference between equal servers in {} of {} verdicts, the known difference \
         detected in {} of {}{}",
        check.quiet(),
        check.same.len(),
        check.found(),
        check.different.len(),
        if check.is_calibrated() { "" } else { "; the calibration missed its target" }
    )
}
