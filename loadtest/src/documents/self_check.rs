//! `self-check`: whether what `compare` says can be relied on.

use crate::documents::context;
use crate::measure::self_check::{Check, SelfCheck};
use crate::report::model::{Block, Cell, Document, Mark, Table, Unit, escaped};
use crate::statistics::verdict::{Ratio, Verdict};

/// The document.
pub fn document(record: &SelfCheck) -> Document {
    let mut blocks = Vec::new();
    let checks = [("throughput", &record.throughput), ("p99", &record.p99)];
    for (name, check) in checks {
        let calibrated = if check.is_calibrated() { "" } else { "; the calibration missed" };
        blocks.push(Block::Verdict(format!(
            "{name}: nothing found between equal servers in {} of {}, the planted difference found \
             in {} of {}{calibrated}",
            check.quiet(),
            check.same.len(),
            check.found(),
            check.different.len()
        )));
    }
    blocks.push(Block::Facts(vec![
        ("server".into(), record.server.clone()),
        ("rounds".into(), format!("{} for each verdict", record.rounds)),
    ]));
    for (name, check) in checks {
        blocks.push(Block::Heading(format!("Verdicts on the {name}")));
        blocks.push(Block::Table(verdicts(check)));
        blocks.push(Block::Text(planted(check)));
    }
    blocks.extend(context(&record.environment, &record.arguments, &record.warnings));
    Document { title: "Can the comparison be relied on?".into(), blocks }
}

fn planted(check: &Check) -> String {
    let [low, high] = check.accepted;
    format!(
        "The slow form: {}. Slow over fast: {:.3}, wanted {:.3} ({low:.3} to {high:.3} count), found \
         in {} trial rounds.",
        escaped(&check.planted),
        check.measured,
        check.wanted,
        check.trial_rounds
    )
}

fn verdicts(check: &Check) -> Table {
    let mut table = Table::new(
        "",
        &[
            ("verdicts", Unit::Count),
            ("better", Unit::Count),
            ("worse", Unit::Count),
            ("no difference", Unit::Count),
            ("too noisy", Unit::Count),
            ("ratios", Unit::Text),
            ("deviation of a round", Unit::Part),
        ],
    );
    for (name, ratios, is_different) in
        [("equal servers", &check.same, false), ("slow and fast", &check.different, true)]
    {
        let count = |wanted: &dyn Fn(Verdict) -> bool| {
            ratios.iter().filter(|ratio| wanted(ratio.verdict)).count() as u64
        };
        let better = count(&|verdict| verdict.is_better() == Some(true));
        let worse = count(&|verdict| verdict.is_better() == Some(false));
        let wrong = |number: u64| Cell::count(number).mark((number > 0).then_some(Mark::Bad));
        let each = || ratios.iter().map(|ratio| ratio.ratio);
        let (low, high) = (each().fold(f64::INFINITY, f64::min), each().fold(0.0, f64::max));
        let deviation = |ratio: &Ratio| ratio.deviation;
        table.row(
            name,
            [
                Cell::count(ratios.len() as u64),
                wrong(better),
                if is_different { Cell::count(worse) } else { wrong(worse) },
                Cell::count(count(&|verdict| verdict == Verdict::NoDifference)),
                Cell::count(count(&|verdict| verdict == Verdict::TooNoisy)),
                Cell::text(format!("{low:.3} to {high:.3}")),
                Cell::number(ratios.iter().map(deviation).sum::<f64>() / ratios.len() as f64),
            ],
        );
    }
    table
}
