//! A heat map as a picture that stands alone, for a README: a row for each group of columns, a column
//! for each row of the table, and in each cell the group's figures side by side.

use maud::{Markup, PreEscaped, html};

use crate::report::format;
use crate::report::html::table::warmth;
use crate::report::model::{Cell, Column, Mark, Row, Table};

/// Room for names to the left, for names above, for a cell, and around everything, in pixels.
const NAMES: f64 = 170.0;
const HEAD: f64 = 84.0;
const CELL: [f64; 2] = [108.0, 34.0];
const EDGE: f64 = 16.0;

/// Room below for a line of the notes, and the letters of a line.
const NOTE: f64 = 18.0;
const LETTERS: usize = 150;

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

/// The picture of a table with heat.
pub fn heat(of: &Table, title: &str) -> String {
    let groups = of.groups();
    let notes = textwrap::wrap(&of.note, LETTERS);
    let width = EDGE * 2.0 + NAMES + CELL[0] * of.rows.len() as f64;
    let foot = HEAD + CELL[1] * groups.len() as f64 + 24.0;
    let height = foot + NOTE * notes.len() as f64;
    let left = |place: usize| EDGE + NAMES + CELL[0] * place as f64;
    let picture = html! {
        svg xmlns="http://www.w3.org/2000/svg" role="img" width=(width) height=(height)
            viewBox={ "0 0 " (width) " " (height) }
        {
            title { (title) }
            style { (PreEscaped(STYLE)) }
            rect.ground width=(width) height=(height) rx="8" {}
            text.title x=(EDGE) y="30" { (title) }
            @for (place, row) in of.rows.iter().enumerate() { (head(left(place), row)) }
            @for (line, group) in groups.into_iter().enumerate() {
                @let y = HEAD + CELL[1] * line as f64;
                @let columns = &of.columns[group.clone()];
                @let parts: Vec<&str> = columns.iter().map(|column| &*column.name).collect();
                text x=(EDGE) y=(y + 15.0) { (columns[0].group) }
                text.quiet.small x=(EDGE) y=(y + 28.0) { (parts.join(" | ")) }
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
        }
    };
    picture.into_string()
}

/// A name above its column, broken where it has a slash.
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
    let figure = format::figure(cell, column.unit);
    // From the worst over no colour in the middle to the best.
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
        text text-anchor="middle" x=(middle) y=(y + 19.0) {
            (figure.as_deref().unwrap_or(format::NONE))
        }
    }
}
