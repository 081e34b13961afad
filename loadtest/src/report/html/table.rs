//! Tables, including heat maps.

use maud::{Markup, html};

use crate::report::format::{self, number};
use crate::report::html::prose::{self, is_of_the_web};
use crate::report::model::{Cell, Column, Mark, Table, Unit, with_code};

/// The table with its title and note.
pub fn draw(of: &Table) -> Markup {
    let class = match (of.heat, of.is_of_words()) {
        (true, _) => "heat sticky",
        (false, true) => "claims",
        (false, false) => "sticky found",
    };
    html! {
        @if !of.title.is_empty() { h3.title { (of.title) } }
        div.scroll tabindex="0" role="region" aria-label=(of.title) {
            table class=(class) {
                thead {
                    @if of.columns.iter().any(|column| !column.group.is_empty()) {
                        tr.groups {
                            th {}
                            @for group in of.groups() {
                                th colspan=(group.len()) scope="colgroup" { (of.columns[group.start].group) }
                            }
                        }
                    }
                    tr {
                        th {}
                        @for column in &of.columns {
                            th class=(side(column.unit)) scope="col" { (column.name) }
                        }
                    }
                }
                tbody {
                    @for row in &of.rows {
                        tr {
                            th scope="row" { (row.name) }
                            @for (one, column) in row.cells.iter().zip(&of.columns) { (cell(one, column)) }
                        }
                    }
                }
            }
        }
        @if !of.note.is_empty() { div.caption { (prose::markup(&with_code(&of.note))) } }
    }
}

fn side(unit: Unit) -> &'static str {
    if unit == Unit::Text { "left" } else { "right" }
}

/// A number as all forms show it, also readable by programs.
pub fn figure(value: f64, unit: Unit) -> Markup {
    let shown = number(value, unit);
    match value.is_finite() {
        true => html! { data value=(value) { (shown) } },
        false => html! { (shown) },
    }
}

/// The ends of an interval, if there is one.
pub fn interval(ends: Option<[f64; 2]>, unit: Unit) -> Markup {
    html! {
        @if let Some([low, high]) = ends {
            " " small.ends { "(" (figure(low, unit)) " to " (figure(high, unit)) ")" }
        }
    }
}

/// The class of a judgement.
pub fn class(mark: Option<Mark>) -> &'static str {
    match mark {
        Some(Mark::Good) => "yes",
        Some(Mark::Bad) => "no",
        Some(Mark::Undecided) => "open",
        None => "",
    }
}

/// A cell; in a heat map its colour is between those of the worst and the best value.
fn cell(of: &Cell, column: &Column) -> Markup {
    let unit = of.unit.unwrap_or(column.unit);
    let good = of.value.zip(column.heat).map(|(value, ends)| warmth(value, ends) * 100.0);
    let judged = if of.value.is_some() { class(of.mark) } else { "none" };
    html! {
        td class={ (side(column.unit)) " " (judged) } style=[good.map(|good| format!("--good: {good:.0}%"))]
            data-label=(column.name)
        {
            @match (of.value, of.text.as_ref()) {
                (Some(value), text) => {
                    span.figure { (figure(value, unit)) (of.mark.map_or("", Mark::sign)) }
                    (interval(of.interval, unit))
                    @if let Some(text) = text { " " small { (text) } }
                }
                (None, Some(text)) if of.mark.is_some() => span.badge.(class(of.mark)) { (text) },
                (None, Some(text)) => @match of.link.as_deref().filter(|url| is_of_the_web(url)) {
                    Some(url) => a href=(url) rel="noreferrer" { (text) },
                    None => (text),
                },
                (None, None) => (format::NONE),
            }
        }
    }
}

/// How good a value is, 0 to 1, between the worst and the best.
pub fn warmth(value: f64, [worst, best]: [f64; 2]) -> f64 {
    let place = (value - worst) / (best - worst);
    if place.is_finite() { place.clamp(0.0, 1.0) } else { 0.5 }
}
