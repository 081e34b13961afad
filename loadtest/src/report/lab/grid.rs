//! A table of the lab on a terminal, whatever its width: at first with each interval beside its
//! figure, then below it, and at last in parts below each other.

use std::ops::Range;

use crate::report::format::{microseconds, rounded};
use crate::report::model::{Cell, Table, Unit};
use crate::report::table::{Left, Right, table, text};
use crate::report::terminal::BOLD;
use crate::report::wrap::{self, hanging, room};

/// How much room a table may take.
#[derive(Clone, Copy)]
struct Form {
    /// Whether intervals stand below their figures.
    below: bool,
    /// Columns for the name of a row, the name of a column, and words.
    row: usize,
    column: usize,
    words: usize,
}

const WIDE: Form = Form { below: false, row: 34, column: 20, words: 40 };
const TALL: Form = Form { below: true, row: 26, column: 14, words: 30 };
const NARROW: Form = Form { below: true, row: 18, column: 12, words: 22 };

/// The table with its title and note.
pub fn grid(of: &Table, width: usize) -> String {
    let mut report = hanging("", &format!("{BOLD}{}{BOLD:#}", of.title), width);
    let all = 0..of.columns.len();
    let fits = |drawn: &String| drawn.lines().all(|line| room(line) <= width);
    let whole = [WIDE, TALL, NARROW].map(|form| drawn(of, all.clone(), form)).into_iter();
    report += &whole.into_iter().find(fits).unwrap_or_else(|| parts(of, width));
    if !of.note.is_empty() {
        report += &hanging("", &of.note, width);
    }
    report
}

/// As many columns as fit, and below them the others; at least one at a time.
fn parts(of: &Table, width: usize) -> String {
    let fits = |drawn: &str| drawn.lines().all(|line| room(line) <= width);
    let mut parts = Vec::new();
    let mut from = 0;
    while from < of.columns.len() {
        let more = (from + 1..=of.columns.len()).rev().map(|upto| from..upto);
        let mut more = more.map(|range| (range.end, drawn(of, range, NARROW)));
        let (upto, part) = more
            .find(|(upto, part)| *upto == from + 1 || fits(part))
            .unwrap_or((of.columns.len(), String::new()));
        parts.push(part);
        from = upto;
    }
    parts.join("\n")
}

fn drawn(of: &Table, columns: Range<usize>, form: Form) -> String {
    let header: Vec<(String, _)> = of.columns[columns.clone()]
        .iter()
        .map(|column| {
            let side = if column.unit == Unit::Text { Left } else { Right };
            (wrap::cell(&column.name, form.column), side)
        })
        .collect();
    let header = header.iter().map(|(name, side)| (name.as_str(), *side));
    let header: Vec<_> = std::iter::once(("", Left)).chain(header).collect();
    let mut grid = table(2, &header);
    for row in &of.rows {
        let name = wrap::cell(&row.name, form.row);
        let cells = row.cells.iter().zip(&of.columns).skip(columns.start).take(columns.len());
        let cells = cells.map(|(cell, column)| show_in(cell, column.unit, form));
        grid.add_row(std::iter::once(name).chain(cells));
    }
    text(&grid)
}

fn show_in(cell: &Cell, unit: Unit, form: Form) -> String {
    match (cell.value, cell.interval) {
        (Some(value), Some(ends)) if form.below => {
            format!("{}\n{}", number(value, unit), interval(ends, unit))
        }
        (None, _) => wrap::cell(&show(cell, unit), form.words),
        _ => show(cell, unit),
    }
}

/// A cell in a line.
pub fn show(cell: &Cell, unit: Unit) -> String {
    match (cell.value, cell.interval) {
        (Some(value), Some(ends)) => format!("{} {}", number(value, unit), interval(ends, unit)),
        (Some(value), None) => number(value, unit),
        (None, _) => cell.text.clone().unwrap_or_else(|| "-".into()),
    }
}

fn interval([low, high]: [f64; 2], unit: Unit) -> String {
    format!("({} to {})", number(low, unit), number(high, unit))
}

/// A number as its unit wants it.
pub fn number(value: f64, unit: Unit) -> String {
    if !value.is_finite() {
        return "-".into(); // what was divided by nothing
    }
    match unit {
        Unit::Count | Unit::PerSecond => rounded(value),
        Unit::Mean => format!("{value:.1}"),
        Unit::Microseconds => microseconds(value),
        Unit::Ratio => format!("{value:.3}"),
        Unit::Part => format!("{:.1} %", value * 100.0),
        Unit::Probability if value > 0.0 && value < 0.005 => format!("{value:.1e}"),
        Unit::Probability => format!("{value:.2}"),
        Unit::Times | Unit::Seconds => format!("{value:.2}"),
        Unit::Id | Unit::Percentile | Unit::Text => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::Row;

    fn broad() -> Table {
        let units = [Unit::PerSecond, Unit::Ratio, Unit::Microseconds, Unit::Part, Unit::Text];
        let names: Vec<String> = (0..8).map(|n| format!("a column of number {n}")).collect();
        let columns: Vec<(&str, Unit)> =
            names.iter().map(String::as_str).zip(units.into_iter().cycle()).collect();
        let mut table = Table::new("A table that is far too broad for any terminal", &columns);
        for row in ["shared, least-conn", "own sockets, one of which gets everything there is"] {
            let cell = |unit| match unit {
                Unit::Text => Cell::text("words that go on and on, until they end at last"),
                _ => Cell::sure(123_456.0, Some([120_000.0, 130_000.0])),
            };
            let cells = columns.iter().map(|(_, unit)| cell(*unit)).collect();
            table.rows.push(Row { name: row.into(), cells });
        }
        table.note = "a note ".repeat(20);
        table
    }

    #[test]
    fn the_broadest_table_fits_and_loses_no_figure() {
        for width in [100, 80, 60] {
            let report = grid(&broad(), width);
            for line in report.lines() {
                assert!(room(line) <= width, "{width}: {line}\n{report}");
            }
            assert_eq!(report.matches("(120 000 to 130 000)").count(), 4, "{report}");
            assert_eq!(report.matches("123 ms").count(), 4, "{report}");
            assert_eq!(report.matches("words that go on").count(), 2, "{report}");
        }
    }

    #[test]
    fn an_interval_stands_beside_its_figure_where_there_is_room() {
        let mut table =
            Table::new("Rates", &[("of shared", Unit::Ratio), ("p", Unit::Probability)]);
        table.row("own", [Cell::sure(0.9641, Some([0.943, 0.9824])), Cell::number(0.0004)]);
        let report = grid(&table, 100);
        assert!(report.contains("own  0.964 (0.943 to 0.982)  4.0e-4"), "{report}");
    }

    #[test]
    fn what_is_no_number_is_a_dash() {
        assert_eq!(number(f64::NAN, Unit::Ratio), "-");
        assert_eq!(show(&Cell::none(), Unit::Count), "-");
    }
}
