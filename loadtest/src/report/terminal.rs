//! A document on a terminal of any width: plain lines, tables without boxes, few colours.
//!
//! A table has each interval beside its figure while there is room, then below it, and at last its
//! columns in parts below each other. Words are wrapped within their columns, or stand as a list.

use std::io::{ErrorKind, Write as _};
use std::ops::Range;

use anstyle::{AnsiColor, Style};
use anyhow::{Context, Result};
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, LineStyle};
use pulldown_cmark::{Event, Parser, Tag, TagEnd};

use crate::report::format::{self, figure, interval};
use crate::report::model::{Block, Cell, Document, Mark, Table, Unit};
use crate::report::wrap::{self, hanging, room};

/// For headings.
pub const BOLD: Style = Style::new().bold();

/// For the word "warning".
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();

/// Narrower than this, words that belong together are a list and no table.
const ROOM_FOR_WORDS: usize = 88;

/// Puts a report on stdout, with its colours if they are wanted there.
///
/// # Errors
/// When it cannot be written; a reader who has seen enough (`| head`) is no error.
pub fn print(report: &str) -> Result<()> {
    let mut out = anstream::stdout().lock();
    match out.write_all(report.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write the report to stdout")
        }
        _ => Ok(()),
    }
}

/// Puts warnings on stderr, one line each.
pub fn warn(warnings: impl IntoIterator<Item = String>) {
    let mut err = anstream::stderr().lock();
    for warning in warnings {
        // Nobody is left to be told that nobody reads this.
        let _ = writeln!(err, "{YELLOW}warning:{YELLOW:#} {warning}");
    }
}

/// The document, but for its warnings, which [`warn`] puts on stderr.
pub fn render(document: &Document, width: usize) -> String {
    let body = blocks(&document.blocks, width);
    match document.title.is_empty() {
        true => body.trim_start_matches('\n').to_owned(),
        false => hanging("", &format!("{BOLD}{}{BOLD:#}", document.title), width) + &body,
    }
}

/// All blocks; a heading with nothing to show below it, such as a picture, is left out.
fn blocks(blocks: &[Block], width: usize) -> String {
    let (mut report, mut heading) = (String::new(), String::new());
    for one in blocks.iter().filter(|one| !one.is_empty()) {
        let shown = block(one, width);
        match one {
            Block::Heading(_) => heading = shown,
            _ if shown.is_empty() => {}
            _ if heading.is_empty() => report += &shown,
            _ => report += &(std::mem::take(&mut heading) + shown.trim_start_matches('\n')),
        }
    }
    report
}

fn block(block: &Block, width: usize) -> String {
    let bold = |text: &str| hanging("", &format!("{BOLD}{text}{BOLD:#}"), width);
    match block {
        Block::Heading(text) => format!("\n{}", bold(text)),
        Block::Text(text) => paragraphs(text, width),
        Block::Verdict(text) => bold(text),
        Block::Facts(facts) => {
            let longest = facts.iter().map(|(name, _)| room(name)).max().unwrap_or(0);
            let lines = facts.iter().map(|(name, what)| match longest * 2 <= width {
                true => hanging(&format!("  {name:longest$}  "), what, width),
                false => hanging("  ", name, width) + &hanging("    ", what, width),
            });
            lines.collect()
        }
        Block::Table(of) => format!("\n{}", table(of, width)),
        Block::Picture(_) | Block::Warnings(_) => String::new(),
        Block::Details(title, inner) => format!("\n{}{}", bold(title), self::blocks(inner, width)),
        Block::Reproduce(commands) => {
            let first = |place| if place == 0 { "Reproduce  " } else { "           " };
            let lines = commands.iter().enumerate();
            lines.map(|(place, command)| hanging(first(place), command, width)).collect()
        }
    }
}

/// Markdown as plain text, a paragraph or an item in lines of its own.
fn paragraphs(text: &str, width: usize) -> String {
    let (mut report, mut line, mut first, mut url) = (String::new(), String::new(), "", None);
    for event in Parser::new(text) {
        match event {
            Event::Start(Tag::Strong) => line += &BOLD.render().to_string(),
            Event::End(TagEnd::Strong) => line += &BOLD.render_reset().to_string(),
            Event::Start(Tag::Item) => first = "- ",
            Event::Start(Tag::Link { dest_url, .. }) => url = Some(dest_url),
            Event::End(TagEnd::Link) => {
                line += &url.take().map_or_else(String::new, |url| format!(" ({url})"));
            }
            Event::Code(code) => line += &format!("`{code}`"),
            Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => line += &text,
            Event::SoftBreak | Event::HardBreak => line.push(' '),
            Event::End(
                TagEnd::Paragraph | TagEnd::Item | TagEnd::CodeBlock | TagEnd::Heading(_),
            ) if !line.is_empty() => {
                report += &hanging(first, &std::mem::take(&mut line), width);
                first = "";
            }
            _ => {}
        }
    }
    report
}

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

/// A table with its title and note.
fn table(of: &Table, width: usize) -> String {
    let mut report = String::new();
    if !of.title.is_empty() {
        report += &hanging("", &format!("{BOLD}{}{BOLD:#}", of.title), width);
    }
    let fits = |drawn: &String| drawn.lines().all(|line| room(line) <= width);
    let are_words = of.columns.len() > 2 && of.columns.iter().all(|one| one.unit == Unit::Text);
    report += &match are_words {
        true if width >= ROOM_FOR_WORDS => words(of, width),
        true => list(of, width),
        false => {
            let whole = [WIDE, TALL, NARROW].map(|form| drawn(of, 0..of.columns.len(), form));
            whole.into_iter().find(fits).unwrap_or_else(|| parts(of, width))
        }
    };
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

/// Some columns of a table of figures.
fn drawn(of: &Table, columns: Range<usize>, form: Form) -> String {
    let header = of.columns[columns.clone()].iter().map(|column| {
        let side =
            if column.unit == Unit::Text { CellAlignment::Left } else { CellAlignment::Right };
        let name = [column.group.as_str(), &column.name].join(" ");
        (wrap::cell(name.trim(), form.column), side)
    });
    let mut grid = grid(2, std::iter::once((String::new(), CellAlignment::Left)).chain(header));
    for row in &of.rows {
        let name = wrap::cell(&row.name, form.row);
        let cells = row.cells.iter().zip(&of.columns).skip(columns.start).take(columns.len());
        let cells = cells.map(|(cell, column)| show_in(cell, column.unit, form));
        grid.add_row(std::iter::once(name).chain(cells));
    }
    text(&grid)
}

fn show_in(cell: &Cell, unit: Unit, form: Form) -> String {
    match (figure(cell, unit), cell.interval) {
        (Some(_), Some(ends)) if form.below => {
            let first = format::cell(&Cell { interval: None, ..cell.clone() }, unit);
            format!("{first}\n{}", interval(ends, cell.unit.unwrap_or(unit)))
        }
        (None, _) => wrap::cell(&format::cell(cell, unit), form.words),
        _ => format::cell(cell, unit),
    }
}

/// A table of words, which share what room there is.
fn words(of: &Table, width: usize) -> String {
    let names = of.columns.iter().map(|column| column.name.clone());
    let header = std::iter::once(String::new()).chain(names);
    let mut grid = grid(2, header.map(|name| (name, CellAlignment::Left)));
    grid.set_content_arrangement(ContentArrangement::Dynamic).set_width(width as u16);
    for (place, _) in of.columns.iter().enumerate() {
        let is_marked = of.rows.iter().any(|row| row.cells[place].mark.is_some());
        if let Some(column) = grid.column_mut(place + 1).filter(|_| is_marked) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    let mut last = "";
    for row in &of.rows {
        let name = if row.name == last { "" } else { &row.name };
        last = &row.name;
        let cells = row.cells.iter().map(|cell| format::cell(cell, Unit::Text));
        grid.add_row(std::iter::once(name.to_owned()).chain(cells));
    }
    // Coloured afterwards: a table counts escape sequences as room.
    let cells = || of.rows.iter().flat_map(|row| &row.cells).filter(|cell| cell.mark.is_some());
    let drawn = text(&grid);
    let coloured = drawn.lines().map(|line| {
        let ends = |cell: &&Cell| {
            cell.text.as_deref().is_some_and(|text| line.ends_with(&format!("  {text}")))
        };
        let end = cells()
            .find(ends)
            .and_then(|cell| Some((cell, line.strip_suffix(cell.text.as_deref()?)?)));
        match end {
            Some((cell, begin)) => format!("{begin}{}\n", in_colour(cell)),
            None => format!("{line}\n"),
        }
    });
    coloured.collect()
}

/// A table of words where there is no room for one: each row a paragraph.
fn list(of: &Table, width: usize) -> String {
    let mut report = String::new();
    let longest = of.columns.iter().map(|column| room(&column.name)).max().unwrap_or(0);
    for row in &of.rows {
        if !row.name.is_empty() {
            report += &hanging("", &format!("{BOLD}{}{BOLD:#}", row.name), width);
        }
        for (cell, column) in row.cells.iter().zip(&of.columns) {
            report += &hanging(&format!("  {:longest$}  ", column.name), &in_colour(cell), width);
        }
    }
    report
}

/// Words in the colour of their mark.
fn in_colour(cell: &Cell) -> String {
    let text = format::cell(cell, Unit::Text);
    let colour = match cell.mark {
        None => return text,
        Some(Mark::Good) => AnsiColor::Green,
        Some(Mark::Bad) => AnsiColor::Red,
        Some(Mark::Undecided) => AnsiColor::Yellow,
    };
    let style = colour.on_default().bold();
    format!("{style}{text}{style:#}")
}

/// An empty table: no boxes, a rule under the header.
fn grid(gap: u16, columns: impl Iterator<Item = (String, CellAlignment)>) -> comfy_table::Table {
    let (names, sides): (Vec<_>, Vec<_>) = columns.unzip();
    let mut table = comfy_table::Table::new();
    let rule = LineStyle::none().fill('─').junction('─');
    table
        .load_style(NOTHING.header_separator(rule))
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(names);
    for (index, side) in sides.into_iter().enumerate() {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(side);
            column.set_padding((0, gap.saturating_sub(1)));
        }
    }
    table
}

/// The table as text, without the blanks that fill its last column.
fn text(table: &comfy_table::Table) -> String {
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}
