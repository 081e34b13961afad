//! Tables, heat maps among them.

use maud::{Markup, html};

use crate::report::format::{self, number};
use crate::report::html::prose::{self, is_of_the_web};
use crate::report::model::{Cell, Column, Mark, Table, Unit, with_code};

/// The table with its title and note.
pub fn draw(of: &Table) -> Markup {
    let are_words = of.columns.len() > 2 && of.columns.iter().all(|one| one.unit == Unit::Text);
    let class = match (of.heat, are_words) {
        (true, _) => "heat sticky",
        (false, true) => "claims",
        (false, false) => "sticky found",
    };
    html! {
        @if !of.title.is_empty() { h3.title { (of.title) } }
        div.scroll tabindex="0" role="region" aria-label=(of.title) {
            table class=(class) {
                thead {
                    @if of.columns.iter().any(|column| !column.group.is_empty()) { (groups(of)) }
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
                            @for (one, column) in row.cells.iter().zip(&of.columns) {
                                @if of.heat { (warm(one, column)) } @else {
                                    td class=(side(column.unit)) data-label=(column.name) {
                                        (cell(one, column.unit))
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        @if !of.note.is_empty() { div.caption { (prose::markup(&with_code(&of.note))) } }
    }
}

/// What neighbouring columns have in common.
fn groups(of: &Table) -> Markup {
    let mut groups: Vec<(&str, usize)> = Vec::new();
    for column in &of.columns {
        match groups.last_mut() {
            Some((name, width)) if *name == column.group && !name.is_empty() => *width += 1,
            _ => groups.push((&column.group, 1)),
        }
    }
    html! {
        tr.groups {
            th {}
            @for (name, width) in groups { th colspan=(width) scope="colgroup" { (name) } }
        }
    }
}

fn side(unit: Unit) -> &'static str {
    if unit == Unit::Text { "left" } else { "right" }
}

/// A number that can be read by programs, as all forms show it.
pub fn figure(value: f64, unit: Unit) -> Markup {
    let shown = number(value, unit);
    match value.is_finite() {
        true => html! { data value=(value) { (shown) } },
        false => html! { (shown) },
    }
}

/// A number, perhaps with its interval.
pub fn with_interval(value: f64, ends: Option<[f64; 2]>, unit: Unit) -> Markup {
    html! {
        (figure(value, unit))
        @if let Some([low, high]) = ends {
            " " span.ends { "(" (figure(low, unit)) " to " (figure(high, unit)) ")" }
        }
    }
}

fn cell(of: &Cell, unit: Unit) -> Markup {
    let unit = of.unit.unwrap_or(unit);
    let class = match of.mark {
        Some(Mark::Good) => "badge yes",
        Some(Mark::Bad) => "badge no",
        Some(Mark::Undecided) => "badge open",
        None => "",
    };
    html! {
        @match (of.value, &of.text) {
            (Some(value), text) => {
                (with_interval(value, of.interval, unit))
                @if of.mark.is_some() { " " (sign(of.mark)) }
                @if let Some(text) = text { " " small { (text) } }
            }
            (None, Some(text)) if of.mark.is_some() => span class=(class) { (text) },
            (None, Some(text)) => @match of.link.as_deref().filter(|url| is_of_the_web(url)) {
                Some(url) => a href=(url) rel="noreferrer" { (text) },
                None => (text),
            },
            (None, None) => (format::NONE),
        }
    }
}

fn sign(mark: Option<Mark>) -> &'static str {
    match mark {
        Some(Mark::Bad) => "!",
        Some(Mark::Undecided) => "?",
        Some(Mark::Good) | None => "",
    }
}

/// A cell of a heat map: its colour lies between those of the worst and the best value.
fn warm(of: &Cell, column: &Column) -> Markup {
    let unit = of.unit.unwrap_or(column.unit);
    let Some(value) = of.value else { return html! { td.none { (cell(of, unit)) } } };
    let good = column.heat.map(|ends| warmth(value, ends) * 100.0);
    let class = match of.mark {
        Some(Mark::Bad) => "bad",
        Some(Mark::Undecided) => "undecided",
        _ => "good",
    };
    html! {
        td class=(class) style=[good.map(|good| format!("--good: {good:.0}%"))] {
            strong { (figure(value, unit)) @if of.mark.is_some() { (sign(of.mark)) } }
            @if let Some([low, high]) = of.interval {
                small { "(" (figure(low, unit)) " to " (figure(high, unit)) ")" }
            }
            @if let Some(text) = &of.text { small { (text) } }
        }
    }
}

/// How good a value is, 0 to 1, where these are the worst and the best.
pub fn warmth(value: f64, [worst, best]: [f64; 2]) -> f64 {
    let place = (value - worst) / (best - worst);
    if place.is_finite() { place.clamp(0.0, 1.0) } else { 0.5 }
}
