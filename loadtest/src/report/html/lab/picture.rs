//! The picture that answers a chapter's question at a glance.
//!
//! Bars, shares and turns are rows of text with something drawn beside or below them, so that names
//! and figures can be read on any width; only lines over an axis are a picture of the other kind.

use maud::{Markup, html};

use crate::report::html::figure::{figure, full, percent, round_time, words};
use crate::report::html::lab::{lines, with_interval};
use crate::report::html::look::colour;
use crate::report::html::plot::across;
use crate::report::html::scale::Scale;
use crate::report::lab::grid::number;
use crate::report::model::{Bar, Picture, Unit};

/// Height of a bar's row, and of the axis below all of them, in pixels.
const BAR: f64 = 26.0;
const AXIS: f64 = 46.0;

/// From this part on a strip has room for its figure, on a phone.
const ROOM: f64 = 0.14;

/// Draws it. `name` is the chapter's, `at` where the record has it.
pub fn draw(name: &str, picture: &Picture, at: &str) -> Markup {
    let title = match picture {
        Picture::Bars { title, .. }
        | Picture::Lines { title, .. }
        | Picture::Shares { title, .. }
        | Picture::Turns { title, .. }
        | Picture::Points { title, .. }
        | Picture::Intervals { title, .. }
        | Picture::Ranks { title, .. } => title,
    };
    html! {
        figure {
            figcaption { (words(title, &format!("{at}/title"))) }
            @match picture {
                Picture::Bars { unit, bars, reference, .. } => {
                    (bars_of(*unit, bars, reference.as_ref(), at))
                }
                Picture::Lines { title, x, y, series, spans } => {
                    (lines::draw(&lines::Lines { name, title, x, y, series, spans, at }))
                }
                Picture::Shares { rows, .. } => (shares(rows, at)),
                Picture::Turns { rows, .. } => (turns(rows, at)),
                Picture::Points { .. } | Picture::Intervals { .. } | Picture::Ranks { .. } => {}
            }
        }
    }
}

fn bars_of(unit: Unit, bars: &[Bar], reference: Option<&(f64, String)>, at: &str) -> Markup {
    let ends = bars.iter().flat_map(|bar| [Some(bar.value), bar.interval.map(|ends| ends[1])]);
    let ends = ends.flatten().chain([0.0]).chain(reference.map(|(value, _)| *value));
    let scale = Scale::linear(ends);
    let line = |height: f64| {
        html! {
            @if let Some((value, _)) = reference {
                @let x = across(scale.place(*value));
                line.reference x1=(x) x2=(x) y1="0" y2=(height) {}
            }
        }
    };
    html! {
        div.bars {
            @for (place, bar) in bars.iter().enumerate() {
                @let at = format!("{at}/bars/{place}");
                div.bar {
                    span.bar-name { (words(&bar.name, &format!("{at}/name"))) }
                    span.bar-figure { (with_interval(bar.value, bar.interval, &at, unit)) }
                    svg.picture aria-hidden="true" width="100%" height=(BAR) {
                        rect.body width=(across(scale.place(bar.value))) y="4" height=(BAR - 8.0) {}
                        (line(BAR))
                        @if let Some(ends) = bar.interval {
                            @let [low, high] = ends.map(|end| across(scale.place(end)));
                            line.ends x1=(low) x2=(high) y1=(BAR / 2.0) y2=(BAR / 2.0) {}
                            @for x in [low, high] {
                                line.ends x1=(x) x2=(x) y1=(BAR / 2.0 - 4.0) y2=(BAR / 2.0 + 4.0) {}
                            }
                        }
                    }
                }
            }
            div.bar {
                svg.picture aria-hidden="true" width="100%" height=(AXIS) {
                    line.grid x1="0%" x2="100%" y1="1" y2="1" {}
                    (line(26.0))
                    @for tick in scale.ticks() {
                        @let x = across(scale.place(tick));
                        line.grid x1=(x) x2=(x) y1="1" y2="6" {}
                        text.tick text-anchor=(at_the_end(scale.place(tick))) x=(x) y="19" {
                            (tick_of(tick, unit))
                        }
                    }
                    @if let Some((value, name)) = reference {
                        @let place = scale.place(*value);
                        text.label text-anchor=(anchor(place)) x=(across(place)) y="40"
                            data-at={ (at) "/reference/0" } data-value=(full(*value)) {
                            (name) " " (number(*value, unit))
                        }
                    }
                }
            }
        }
    }
}

/// Keeps a number on an axis within the picture.
fn at_the_end(place: f64) -> &'static str {
    match place {
        ..0.02 => "start",
        0.98.. => "end",
        _ => "middle",
    }
}

/// Keeps a label within the picture.
pub fn anchor(place: f64) -> &'static str {
    match place {
        ..0.2 => "start",
        0.8.. => "end",
        _ => "middle",
    }
}

/// A number on an axis: as short as it can be.
pub fn tick_of(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Microseconds => round_time(value),
        Unit::Part => percent(value),
        _ if value.abs() >= 1000.0 => number(value, Unit::Count),
        _ => {
            let text = format!("{value:.3}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    }
}

/// Each row's parts side by side, the greatest first; a colour is a place in that order.
fn shares(rows: &[(String, Vec<f64>)], at: &str) -> Markup {
    html! {
        div.strips {
            @for (place, (name, parts)) in rows.iter().enumerate() {
                @let at = format!("{at}/rows/{place}");
                @let none = parts.iter().filter(|part| **part == 0.0).count();
                div.strip-row {
                    span.bar-name { (words(name, &format!("{at}/0"))) }
                    span.bar-figure {
                        (parts.len()) " took part" @if none > 0 { ", " (none) " got none" }
                    }
                    div.strip {
                        @for (number, part) in parts.iter().enumerate().filter(|(_, p)| **p > 0.0) {
                            @let at = format!("{at}/1/{number}");
                            @if *part >= ROOM {
                                span.part.(colour(number)) style=(width(*part)) {
                                    (figure(*part, &at, whole_percent))
                                }
                            } @else {
                                span.part.(colour(number)) style=(width(*part))
                                    title=(percent(*part)) data-at=(at) data-value=(full(*part)) {}
                            }
                        }
                    }
                }
            }
            p.caption { "Each colour is one of them, the one with the greatest part first." }
        }
    }
}

fn width(part: f64) -> String {
    format!("flex-grow: {part:.6}")
}

fn whole_percent(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}

/// Who came when, as chips with the worker's number in its colour.
fn turns(rows: &[(String, Vec<usize>)], at: &str) -> Markup {
    html! {
        div.strips {
            @for (place, (name, turns)) in rows.iter().enumerate() {
                @let at = format!("{at}/rows/{place}");
                div.strip-row {
                    span.bar-name { (words(name, &format!("{at}/0"))) }
                    div.turns {
                        @for (number, worker) in turns.iter().enumerate() {
                            span.chip.(colour(*worker)) {
                                @let at = format!("{at}/1/{number}");
                                (figure(*worker, &at, |worker| worker.to_string()))
                            }
                        }
                    }
                }
            }
            p.caption {
                "Who got the first connection, the second, and so on: the worker's number."
            }
        }
    }
}
