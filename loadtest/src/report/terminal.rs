//! A document on a terminal of any width: plain lines, tables without boxes, few colours.
//!
//! In a table an interval is beside its figure or, with less room, below it; with even less, columns are
//! divided into parts below each other. Words are wrapped within their columns, or shown as a list.

use std::io::{ErrorKind, Write as _};

use anstyle::{AnsiColor, Style};
use anyhow::{Context, Result};
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, Width};
use pulldown_cmark::{Event, Parser, Tag, TagEnd};

use crate::report::format::parts;
use crate::report::model::{Block, Cell, Document, Table, Unit, shown};
use crate::report::wrap::{hanging, room};

/// The style of headings.
const BOLD: Style = Style::new().bold();

/// The style of the word "warning".
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();

/// Below this width a table of words is shown as a list.
const ROOM_FOR_WORDS: usize = 88;

/// A longer word in a table may be broken.
const LONG_WORD: usize = 24;

/// The blank between words that must not be separated.
const NO_BREAK: &str = "\u{a0}";

/// Placeholders for the colours of good, bad and undecided, and for their end, during layout: characters without
/// width.
const COLOURS: [(&str, AnsiColor); 3] =
    [("\u{200b}", AnsiColor::Green), ("\u{200c}", AnsiColor::Red), ("\u{200d}", AnsiColor::Yellow)];
const END: &str = "\u{2060}";

/// Prints a report on stdout, with colours if stdout supports them.
///
/// # Errors
/// When it cannot be written; a closed pipe (`| head`) is no error.
pub fn print(report: &str) -> Result<()> {
    let mut out = anstream::stdout().lock();
    match out.write_all(report.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write the report to stdout")
        }
        _ => Ok(()),
    }
}

/// Prints warnings on stderr, one line each.
pub fn warn(warnings: &[String]) {
    let mut err = anstream::stderr().lock();
    for warning in warnings {
        // If stderr is closed, there is no place to report that.
        let _ = writeln!(err, "{YELLOW}warning:{YELLOW:#} {warning}");
    }
}

/// The document without its warnings, which [`warn`] prints on stderr.
pub fn render(document: &Document, width: usize) -> String {
    let body = blocks(&document.blocks, width);
    match document.title.is_empty() {
        true => body.trim_start_matches('\n').to_owned(),
        false => bold(&document.title, width) + &body,
    }
}

fn bold(text: &str, width: usize) -> String {
    hanging("", &format!("{BOLD}{text}{BOLD:#}"), width)
}

fn blocks(blocks: &[Block], width: usize) -> String {
    let (mut report, mut after_heading) = (String::new(), false);
    for one in shown(blocks, |one| {
        !matches!(one, Block::Picture(_) | Block::Caption(_) | Block::Warnings(_))
    }) {
        let text = block(one, width);
        report += if after_heading { text.trim_start_matches('\n') } else { &text };
        after_heading = matches!(one, Block::Heading(_));
    }
    report
}

fn block(block: &Block, width: usize) -> String {
    match block {
        Block::Heading(text) => format!("\n{}", bold(text, width)),
        Block::Text(text) => paragraphs(text, width),
        Block::Verdict(text) => bold(text, width),
        Block::Facts(all) => facts(all.iter().map(|(name, what)| (&**name, what.clone())), width),
        Block::Table(of) => format!("\n{}", table(of, width)),
        Block::Picture(_) | Block::Caption(_) | Block::Warnings(_) => String::new(),
        Block::Details(title, inner) => format!("\n{}{}", bold(title, width), blocks(inner, width)),
        Block::Reproduce(commands) => {
            let first = |place| if place == 0 { "Reproduce  " } else { "           " };
            let lines = commands.iter().enumerate();
            lines.map(|(place, command)| hanging(first(place), command, width)).collect()
        }
    }
}

/// Names, and beside or below them their values.
fn facts<'a>(facts: impl Iterator<Item = (&'a str, String)> + Clone, width: usize) -> String {
    let longest = facts.clone().map(|(name, _)| room(name)).max().unwrap_or(0);
    let lines = facts.map(|(name, what)| match longest * 2 <= width {
        true => hanging(&format!("  {name:longest$}  "), &what, width),
        false => hanging("  ", name, width) + &hanging("    ", &what, width),
    });
    lines.collect()
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

/// A table with its title and note.
fn table(of: &Table, width: usize) -> String {
    let mut report = String::new();
    if !of.title.is_empty() {
        report += &bold(&of.title, width);
    }
    report += &match of.is_of_words() && width < ROOM_FOR_WORDS {
        true => list(of, width),
        false => side_by_side(of, width),
    };
    if !of.note.is_empty() {
        report += &hanging("", &of.note, width);
    }
    report = report.replace(NO_BREAK, " ").replace(END, &format!("{BOLD:#}"));
    COLOURS.iter().fold(report, |report, (letter, colour)| {
        report.replace(letter, &colour.on_default().bold().to_string())
    })
}

/// A table of words as a list, if there is no room for a table: each row is a paragraph.
fn list(of: &Table, width: usize) -> String {
    let rows = of.rows.iter().map(|row| {
        let name = if row.name.is_empty() { String::new() } else { bold(&row.name, width) };
        let cells = of.columns.iter().zip(&row.cells);
        name + &facts(cells.map(|(column, cell)| (&*column.name, words(cell, Unit::Text))), width)
    });
    rows.collect()
}

/// The text of a cell, in its colour; a figure, an interval and a judgement are not broken.
fn words(cell: &Cell, unit: Unit) -> String {
    let mut parts = parts(cell, unit);
    let breakable = cell.text.is_some() && cell.mark.is_none();
    let whole = parts.len() - usize::from(breakable);
    parts[..whole].iter_mut().for_each(|part| *part = part.replace(' ', NO_BREAK));
    match cell.mark.filter(|_| cell.value.is_none()) {
        None => parts.join(" "),
        Some(mark) => [COLOURS[mark as usize].0, &parts.join(" "), END].concat(),
    }
}

/// The layout of a column.
struct Column {
    side: CellAlignment,
    /// The cells, the header first.
    cells: Vec<String>,
    /// Its least width.
    narrowest: usize,
}

impl Column {
    fn new(unit: Unit, header: String, cells: impl Iterator<Item = String>) -> Self {
        let cells: Vec<String> = std::iter::once(header).chain(cells).collect();
        let longest = cells.iter().flat_map(|cell| cell.split([' ', '\n'])).map(room).max();
        let (side, most) = match unit {
            Unit::Text => (CellAlignment::Left, LONG_WORD),
            _ => (CellAlignment::Right, usize::MAX),
        };
        Self { side, cells, narrowest: longest.unwrap_or(0).min(most) }
    }
}

/// As many columns as fit, and below them the others; at least one at a time. A name that equals that of the row
/// above is not repeated.
fn side_by_side(of: &Table, width: usize) -> String {
    let mut above = "";
    let names = of.rows.iter().map(|row| match std::mem::replace(&mut above, &row.name) {
        above if above == row.name => String::new(),
        _ => row.name.clone(),
    });
    let names = Column::new(Unit::Text, String::new(), names);
    let columns = of.columns.iter().enumerate().map(|(place, column)| {
        let cells = of.rows.iter().map(|row| words(&row.cells[place], column.unit));
        Column::new(column.unit, column.full_name(), cells)
    });
    let columns: Vec<Column> = columns.collect();
    let (mut parts, mut rest) = (Vec::new(), &columns[..]);
    while !rest.is_empty() {
        let mut room = names.narrowest;
        let fit = rest.iter().take_while(|column| {
            room += 2 + column.narrowest;
            room <= width
        });
        let (part, others) = rest.split_at(fit.count().max(1));
        parts.push(grid(std::iter::once(&names).chain(part).collect(), width));
        rest = others;
    }
    parts.join("\n")
}

/// These columns: no boxes, a rule under the header.
fn grid(columns: Vec<&Column>, width: usize) -> String {
    let line = |place| columns.iter().map(move |column| &column.cells[place]);
    let rule = LineStyle::none().fill('─').junction('─');
    let mut grid = comfy_table::Table::new();
    grid.load_style(NOTHING.header_separator(rule))
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width as u16)
        .set_header(line(0))
        .add_rows((1..columns[0].cells.len()).map(line));
    for (place, (of, column)) in columns.iter().zip(grid.column_iter_mut()).enumerate() {
        let gap = u16::from(place + 1 < columns.len());
        let least = Width::Fixed(of.narrowest as u16 + gap);
        column.set_padding((0, gap)).set_cell_alignment(of.side);
        column.set_constraint(ColumnConstraint::LowerBoundary(least));
    }
    grid.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}
