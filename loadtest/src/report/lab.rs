//! The lab on a terminal, within 100 columns, and as Markdown.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;

use crate::lab::book::Experiment;
use crate::lab::chapter::{Cell, Chapter, Outcome, Table, Unit};
use crate::lab::record::Lab;
use crate::report::compare::wrapped;
use crate::report::format::{microseconds, rounded};
use crate::report::table::{Left, Right, table, text};
use crate::report::terminal::{BOLD, machine};

/// What there is to run.
///
/// # Errors
/// When an experiment has no page.
pub fn list(book: &[Experiment]) -> Result<String> {
    let mut table =
        table(2, &[("name", Left), ("takes", Right), ("--quick", Right), ("the question", Left)]);
    for experiment in book {
        let takes = |quick| humantime::format_duration(experiment.expected(quick)).to_string();
        table.add_row([
            experiment.name.to_owned(),
            takes(false),
            takes(true),
            experiment.page()?.question,
        ]);
    }
    Ok(text(&table))
}

/// What is about to be done, and where.
pub fn header(lab: &Lab, experiments: usize, expected: Duration) -> String {
    let mut report = format!("{BOLD}The lab{BOLD:#}, {}\n", machine(&lab.environment));
    if experiments > 0 {
        let minutes = humantime::format_duration(expected);
        let _ = writeln!(report, "{experiments} experiments, about {minutes}");
    }
    report
}

/// One experiment.
pub fn chapter(chapter: &Chapter) -> String {
    let mut report = format!("\n{BOLD}{}: {}{BOLD:#}\n", chapter.name, chapter.page.question);
    match &chapter.outcome {
        Outcome::Done => {}
        Outcome::Skipped(reason) => report += &wrapped(&format!("skipped: {reason}"), "  "),
        Outcome::Failed(reason) => report += &wrapped(&format!("failed: {reason}"), "  "),
    }
    let findings = &chapter.findings;
    report += &wrapped(&findings.answer, "");
    for claim in &findings.claims {
        report += &wrapped(&format!("claim: {} ({})", claim.claim, claim.source), "  ");
        report += &wrapped(
            &format!("theirs: {}; here: {}: {}", claim.theirs, claim.ours, claim.verdict.words()),
            "    ",
        );
    }
    for table in findings.tables.iter().chain(&findings.evidence) {
        report += &format!("\n{}", grid(table));
    }
    for missing in &findings.missing {
        report += &wrapped(missing, "  ");
    }
    report
}

fn grid(of: &Table) -> String {
    let columns = of.columns.iter().map(|column| (column.name.as_str(), Right));
    let columns: Vec<_> = std::iter::once((of.title.as_str(), Left)).chain(columns).collect();
    let mut table = table(2, &columns);
    for row in &of.rows {
        let cells = row.cells.iter().zip(&of.columns).map(|(cell, column)| show(cell, column.unit));
        table.add_row(std::iter::once(row.name.clone()).chain(cells));
    }
    text(&table)
}

/// A cell in words.
fn show(cell: &Cell, unit: Unit) -> String {
    let Some(value) = cell.value else { return cell.text.clone().unwrap_or_else(|| "-".into()) };
    match cell.interval {
        Some([low, high]) => {
            format!("{} ({} to {})", number(value, unit), number(low, unit), number(high, unit))
        }
        None => number(value, unit),
    }
}

/// A number as its unit wants it.
fn number(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Count | Unit::PerSecond => rounded(value),
        Unit::Mean => format!("{value:.1}"),
        Unit::Microseconds => microseconds(value),
        Unit::Ratio => format!("{value:.3}"),
        Unit::Part => format!("{:.1} %", value * 100.0),
        Unit::Probability => format!("{value:.2}"),
        Unit::Text => value.to_string(),
    }
}

/// What all of it says, at the end.
pub fn summary(lab: &Lab) -> String {
    let mut report = String::new();
    for chapter in &lab.chapters {
        for claim in &chapter.findings.claims {
            let line = format!("{}: {}: {}", chapter.name, claim.claim, claim.verdict.words());
            report += &wrapped(&line, "  ");
        }
    }
    report
}

/// All of it as Markdown.
pub fn markdown(lab: &Lab) -> String {
    lab.chapters.iter().map(chapter).collect()
}
