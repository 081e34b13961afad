//! SVG files for a README: a heat map, with a row for each group of columns, a column for each row of the table, and
//! in each cell the group's figures side by side; and shares, a row for each name.

use maud::{Markup, PreEscaped, html};

use crate::report::format;
use crate::report::html::table::warmth;
use crate::report::model::{Cell, Column, Mark, Row, Table};

/// The room for names at the left, for names above, for a cell, and the margin, in pixels.
const NAMES: f64 = 190.0;
const HEAD: f64 = 84.0;
const CELL: [f64; 2] = [108.0, 34.0];
const EDGE: f64 = 16.0;

/// From this width on a cell has room for every figure.
const WIDE: f64 = 60.0;

/// The height of a line of the note below, and the letters of a line.
const NOTE: f64 = 18.0;
const LETTERS: usize = 170;

/// Letters and colours, for light and dark.
const STYLE: &str = "text { font: 13px system-ui, sans-serif; fill: #16181d } \
    .quiet { fill: #565c68 } .title { font-size: 16px; font-weight: 600 } \
    .head { font-size: 12px } .small { font-size: 11px } \
    .ground { fill: #fff } .good { fill: #00785a } .bad { fill: #c24a00 } \
    .frame { fill: none; stroke: #c24a00; stroke-width: 2px } \
    .open { fill: none; stroke: #565c68; stroke-dasharray: 4 3 } \
    @media (prefers-color-scheme: dark) { text { fill: #e9ebef } .quiet { fill: #a3a9b6 } \
    .ground { fill: #14161a } .good { fill: #3fcf9f } .bad { fill: #ff9257 } \
    .frame { stroke: #ff9257 } .open { stroke: #a3a9b6 } }";

/// A picture of this size, in pixels, with background and title.
fn framed([width, height]: [f64; 2], title: &str, content: Markup) -> String {
    let picture = html! {
        svg xmlns="http://www.w3.org/2000/svg" role="img" width=(width) height=(height)
            viewBox={ "0 0 " (width) " " (height) }
        {
            title { (title) }
            style { (PreEscaped(STYLE)) }
            rect.ground width=(width) height=(height) rx="8" {}
            text.title x=(EDGE) y="30" { (title) }
            (content)
        }
    };
    picture.into_string()
}

/// The heat map of a table.
pub fn heat(of: &Table, title: &str) -> String {
    let groups = of.groups();
    let notes = textwrap::wrap(&of.note, LETTERS);
    let width = EDGE * 2.0 + NAMES + CELL[0] * of.rows.len() as f64;
    let foot = HEAD + CELL[1] * groups.len() as f64 + 24.0;
    let height = foot + NOTE * notes.len() as f64;
    let left = |place: usize| EDGE + NAMES + CELL[0] * place as f64;
    let content = html! {
        @for (place, row) in of.rows.iter().enumerate() { (head(left(place), row)) }
        @for (line, group) in groups.into_iter().enumerate() {
            @let y = HEAD + CELL[1] * line as f64;
            @let columns = &of.columns[group.clone()];
            text x=(EDGE) y=(y + 15.0) { (columns[0].group) }
            text.quiet.small x=(EDGE) y=(y + 28.0) { (parts(columns)) }
            @for (place, row) in of.rows.iter().enumerate() {
                @let width = (CELL[0] - 4.0) / columns.len() as f64;
                @for (number, (one, column)) in row.cells[group.clone()].iter().zip(columns).enumerate() {
                    (cell(left(place) + 2.0 + width * number as f64, y + 2.0, width - 2.0, one, column))
                }
            }
        }
        @for (line, note) in notes.iter().enumerate() {
            text.quiet.small x=(EDGE) y=(foot + NOTE * line as f64) { (note) }
        }
    };
    framed([width, height], title, content)
}

/// The length of a row of parts that add up to 1, its height, and the room for its name, in pixels.
const ROW: [f64; 2] = [440.0, 22.0];
const ROW_NAME: f64 = 220.0;

/// Shares: a row for each name, a part for each worker.
pub fn shares(rows: &[(String, Vec<f64>)], title: &str) -> String {
    let width = EDGE * 2.0 + ROW_NAME + ROW[0];
    let height = 60.0 + ROW[1] * rows.len() as f64;
    let begin = |parts: &[f64], place: usize| parts[..place].iter().sum::<f64>() * ROW[0];
    let content = html! {
        @for (line, (name, parts)) in rows.iter().enumerate() {
            @let y = 48.0 + ROW[1] * line as f64;
            text x=(EDGE) y=(y + 14.0) { (name) }
            @for (place, part) in parts.iter().enumerate() {
                @let x = EDGE + ROW_NAME + begin(parts, place);
                rect.good x=(format!("{x:.1}")) y=(y)
                    width=(format!("{:.1}", (part * ROW[0] - 2.0).max(0.0))) height=(ROW[1] - 4.0)
                    fill-opacity=(format!("{:.2}", 0.75 - 0.15 * place.min(4) as f64)) {}
            }
        }
    };
    framed([width, height], title, content)
}

/// The names of the figures in a cell, their common beginning only once: `p99 at 50 %, 75 %`.
fn parts(columns: &[Column]) -> String {
    let mut names = columns.iter().map(|column| &*column.name);
    let first = names.next().unwrap_or_default();
    let begin = first.find(|c: char| c.is_ascii_digit() && c != '9').map_or("", |at| &first[..at]);
    let rest = names.map(|name| match begin {
        "" => name,
        begin => name.strip_prefix(begin).unwrap_or(name),
    });
    std::iter::once(first).chain(rest).collect::<Vec<_>>().join(", ")
}

/// A figure in a cell of this width, with fewer digits if it is large and there is no room.
fn short(cell: &Cell, column: &Column, width: f64) -> Option<String> {
    match cell.value {
        Some(value) if width < WIDE && value >= 100.0 => Some(format!("{value:.0}")),
        Some(value) if width < WIDE && value >= 10.0 => Some(format!("{value:.1}")),
        _ => format::figure(cell, column.unit),
    }
}

/// A name above its column, broken at a slash.
fn head(left: f64, row: &Row) -> Markup {
    let (first, second) = row.name.split_once('/').unwrap_or(("", &row.name));
    let middle = left + CELL[0] / 2.0;
    html! {
        text.quiet.head text-anchor="middle" x=(middle) y=(HEAD - 26.0) { (first) }
        text.quiet.head text-anchor="middle" x=(middle) y=(HEAD - 10.0) { (second) }
    }
}

fn cell(x: f64, y: f64, width: f64, cell: &Cell, column: &Column) -> Markup {
    let height = CELL[1] - 4.0;
    let middle = x + width / 2.0;
    let figure = short(cell, column, width);
    // From the worst colour through none in the middle to the best.
    let good = cell.value.zip(column.heat).map(|(value, ends)| warmth(value, ends) * 2.0 - 1.0);
    html! {
        @if let Some(good) = good {
            rect class=(if good < 0.0 { "bad" } else { "good" }) x=(x) y=(y) width=(width)
                height=(height) rx="4" fill-opacity=(format!("{:.2}", good.abs() * 0.5)) {}
        }
        @match cell.mark {
            Some(Mark::Bad) => rect.frame x=(x) y=(y) width=(width) height=(height) rx="4" {},
            Some(Mark::Undecided) => rect.open x=(x) y=(y) width=(width) height=(height) rx="4" {},
            Some(Mark::Good) | None => {},
        }
        text.small[width < WIDE] text-anchor="middle" x=(middle) y=(y + 19.0) {
            (figure.as_deref().unwrap_or(format::NONE))
        }
    }
}
