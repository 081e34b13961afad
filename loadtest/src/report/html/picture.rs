//! Pictures: bars, shares and turns are rows of text with something drawn beside or below them, so
//! that names and figures can be read on any width; the others lie over axes.

use maud::{Markup, html};

use crate::report::format::{number, tick};
use crate::report::html::look::colour;
use crate::report::html::plot::across;
use crate::report::html::scale::Scale;
use crate::report::html::table::{figure, with_interval};
use crate::report::html::{lines, points, ranks};
use crate::report::model::{Bar, Picture, Unit};

/// Height of a bar's row, and of the axis below all of them, in pixels.
const BAR: f64 = 26.0;
const AXIS: f64 = 46.0;

/// From this part on a strip has room for its figure, on a phone.
const ROOM: f64 = 0.14;

/// Draws it. `id` is its name within the page.
pub fn draw(id: &str, picture: &Picture) -> Markup {
    let (title, drawn) = match picture {
        Picture::Bars { title, unit, bars, reference } => {
            (title, bars_of(*unit, bars, reference.as_ref()))
        }
        Picture::Lines { title, x, y, series, spans } => {
            (title, lines::draw(&lines::Lines { id, title, x, y, series, spans }))
        }
        Picture::Shares { title, rows } => (title, shares(rows)),
        Picture::Turns { title, rows } => (title, turns(rows)),
        Picture::Points { title, unit, columns, reference } => {
            (title, points::draw(id, title, *unit, columns, reference.as_ref()))
        }
        Picture::Intervals { title, rows, centre, noise } => {
            (title, points::intervals(id, title, rows, *centre, *noise))
        }
        Picture::Ranks { title, panels } => (title, ranks::draw(id, panels)),
    };
    html! { figure { figcaption { (title) } (drawn) } }
}

fn bars_of(unit: Unit, bars: &[Bar], reference: Option<&(f64, String)>) -> Markup {
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
            @for bar in bars {
                div.bar {
                    span.bar-name { (bar.name) }
                    span.bar-figure { (with_interval(bar.value, bar.interval, unit)) }
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
                    @for at in scale.ticks() {
                        @let x = across(scale.place(at));
                        line.grid x1=(x) x2=(x) y1="1" y2="6" {}
                        text.tick text-anchor=(anchor(scale.place(at), 0.02)) x=(x) y="19" {
                            (tick(at, unit))
                        }
                    }
                    @if let Some((value, name)) = reference {
                        @let place = scale.place(*value);
                        text.label text-anchor=(anchor(place, 0.2)) x=(across(place)) y="40" {
                            (name) " " (number(*value, unit))
                        }
                    }
                }
            }
        }
    }
}

/// Keeps a label within the picture: it is moved if it lies within this part of an end.
pub fn anchor(place: f64, margin: f64) -> &'static str {
    match place {
        _ if place < margin => "start",
        _ if place >= 1.0 - margin => "end",
        _ => "middle",
    }
}

/// Each row's parts side by side, the greatest first; a colour is a place in that order.
fn shares(rows: &[(String, Vec<f64>)]) -> Markup {
    html! {
        div.strips {
            @for (name, parts) in rows {
                @let none = parts.iter().filter(|part| **part == 0.0).count();
                div.strip-row {
                    span.bar-name { (name) }
                    span.bar-figure {
                        (parts.len()) " took part" @if none > 0 { ", " (none) " got none" }
                    }
                    div.strip {
                        @for (number, part) in parts.iter().enumerate().filter(|(_, p)| **p > 0.0) {
                            span.part.(colour(number)) style=(format!("flex-grow: {part:.6}"))
                                title=(self::number(*part, Unit::Part))
                            {
                                @if *part >= ROOM { data value=(part) { (format!("{:.0} %", part * 100.0)) } }
                            }
                        }
                    }
                }
            }
            p.caption { "Each colour is one of them, the one with the greatest part first." }
        }
    }
}

/// Who came when, as chips with the worker's number in its colour.
fn turns(rows: &[(String, Vec<usize>)]) -> Markup {
    html! {
        div.strips {
            @for (name, turns) in rows {
                div.strip-row {
                    span.bar-name { (name) }
                    div.turns {
                        @for worker in turns {
                            span.chip.(colour(*worker)) { (figure(*worker as f64, Unit::Id)) }
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
