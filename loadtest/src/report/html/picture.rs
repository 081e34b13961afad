//! Pictures. Most are rows of text with drawings beside or below them, so that names and figures can be
//! read on any width; [`lines`] have axes.

use maud::{Markup, html};

use crate::report::format::{number, tick};
use crate::report::html::lines;
use crate::report::html::look::colour;
use crate::report::html::scale::{Scale, across, anchor};
use crate::report::html::table::{figure, interval};
use crate::report::model::{Bar, Picture, Unit};

/// The height of a row with a bar, of one with points, and of the axis below the rows, in pixels.
const BAR: f64 = 26.0;
const POINTS: f64 = 84.0;
const AXIS: f64 = 46.0;

/// From this part on a strip has room for its figure on a phone.
const ROOM: f64 = 0.14;

/// Draws a picture.
pub fn draw(picture: &Picture) -> Markup {
    let (title, drawn) = match picture {
        Picture::Bars { title, unit, bars, reference, noise } => {
            (title, Rows::new(*unit, bars, reference.as_ref(), *noise).draw(bars))
        }
        Picture::Lines { title, x, y, series, spans } => {
            (title, lines::draw(title, [x, y], series, spans))
        }
        Picture::Shares { title, rows } => (title, shares(rows)),
        Picture::Turns { title, rows } => (title, turns(rows)),
    };
    html! { figure { figcaption { (title) } (drawn) } }
}

/// The common scale of all rows.
struct Rows<'a> {
    unit: Unit,
    scale: Scale,
    reference: Option<&'a (f64, String)>,
    noise: Option<f64>,
    /// Whether rows have points; otherwise they are compared with the reference, or are bars.
    points: bool,
}

impl<'a> Rows<'a> {
    fn new(
        unit: Unit,
        bars: &[Bar],
        reference: Option<&'a (f64, String)>,
        noise: Option<f64>,
    ) -> Self {
        let points = bars.iter().any(|bar| !bar.points.is_empty());
        let figures = bars.iter().flat_map(|bar| {
            let points = bar.points.iter().map(|at| at.1);
            points.chain(bar.interval.into_iter().flatten()).chain([bar.value])
        });
        let around = reference
            .into_iter()
            .flat_map(|(value, _)| [-1.5, 1.5].map(|times| value + times * noise.unwrap_or(0.0)));
        // A bar begins at 0.
        let zero = (!points && noise.is_none()).then_some(0.0);
        let scale = Scale::linear(figures.chain(around).chain(zero));
        Self { unit, scale, reference, noise, points }
    }

    fn at(&self, value: f64) -> String {
        across(self.scale.place(value))
    }

    /// Names, figures and tracks, and below them the axis.
    fn draw(&self, bars: &[Bar]) -> Markup {
        html! {
            div.bars {
                @for (place, bar) in bars.iter().enumerate() {
                    @let height = if bar.points.is_empty() { BAR } else { POINTS };
                    div.bar {
                        span.bar-name { (bar.name) }
                        span.bar-figure { (figure(bar.value, self.unit)) (interval(bar.interval, self.unit)) }
                        svg.picture aria-hidden="true" width="100%" height=(height) {
                            (self.line(height))
                            @if self.points { g class=(colour(place)) { (self.measurements(bar, height)) } }
                            @else if self.noise.is_some() { (self.estimate(bar)) }
                            @else { (self.bar(bar)) }
                        }
                    }
                }
                div.bar {
                    svg.picture aria-hidden="true" width="100%" height=(AXIS) {
                        line.grid x1="0%" x2="100%" y1="1" y2="1" {}
                        @for at in self.scale.ticks() {
                            line.grid x1=(self.at(at)) x2=(self.at(at)) y1="1" y2="6" {}
                            text.tick text-anchor=(anchor(self.scale.place(at), 0.02))
                                x=(self.at(at)) y="19" { (tick(at, self.unit)) }
                        }
                        @if let Some((value, name)) = self.reference.filter(|at| !at.1.is_empty()) {
                            (self.line(26.0))
                            text.label text-anchor=(anchor(self.scale.place(*value), 0.4))
                                x=(self.at(*value)) y="40" { (name) " " (number(*value, self.unit)) }
                        }
                    }
                }
            }
            (self.caption())
        }
    }

    /// The line of the reference.
    fn line(&self, height: f64) -> Markup {
        html! {
            @if let Some((value, _)) = self.reference {
                @if let Some(noise) = self.noise {
                    (self.span("noise", [value - noise, value + noise], 0.0, height))
                }
                line.reference x1=(self.at(*value)) x2=(self.at(*value)) y1="0" y2=(height) {}
            }
        }
    }

    /// A box from one value to another.
    fn span(&self, class: &str, ends: [f64; 2], y: f64, height: f64) -> Markup {
        let [low, high] = ends.map(|end| self.scale.place(end));
        html! { rect.(class) x=(across(low)) width=(across(high - low)) y=(y) height=(height) {} }
    }

    fn bar(&self, bar: &Bar) -> Markup {
        html! {
            (self.span("body", [0.0, bar.value], 4.0, BAR - 8.0))
            @if let Some(ends) = bar.interval {
                @let [low, high] = ends.map(|end| self.at(end));
                line.ends x1=(low) x2=(high) y1=(BAR / 2.0) y2=(BAR / 2.0) {}
                @for x in [low, high] {
                    line.ends x1=(x) x2=(x) y1=(BAR / 2.0 - 4.0) y2=(BAR / 2.0 + 4.0) {}
                }
            }
        }
    }

    fn estimate(&self, Bar { value, interval, .. }: &Bar) -> Markup {
        html! {
            @if let Some([low, high]) = interval.map(|ends| ends.map(|end| self.at(end))) {
                line.whisker x1=(low) x2=(high) y1="50%" y2="50%" {}
            }
            circle.estimate r="5" cx=(self.at(*value)) cy="50%" data-value=(value) {}
        }
    }

    /// Every point, from the first round above to the last below.
    fn measurements(&self, bar: &Bar, height: f64) -> Markup {
        let last = bar.points.iter().map(|at| at.0).max().unwrap_or(1);
        let down = |round: u32| (height - 8.0) * (f64::from(round) - 0.5) / f64::from(last) + 4.0;
        html! {
            @if let Some(ends) = bar.interval { (self.span("interval", ends, 2.0, height - 4.0)) }
            @if bar.value.is_finite() {
                @let x = self.at(bar.value);
                line.median x1=(x) x2=(x) y1="2" y2=(height - 2.0) {}
            }
            @for &(round, value) in bar.points.iter().filter(|at| at.1.is_finite()) {
                circle.point r="3" cx=(self.at(value)) cy=(format!("{:.1}", down(round))) data-value=(value) {
                    title { "round " (round) ": " (number(value, self.unit)) }
                }
            }
        }
    }

    fn caption(&self) -> Markup {
        html! {
            @if let Some(noise) = self.noise {
                p.caption {
                    "The mark is the mean ratio, the bar its 95 % interval. Inside the grey band, "
                    (number(noise, Unit::Part)) " to either side, is what counts as noise: there \
                     is a difference only if the whole bar lies outside of it."
                }
            } @else if self.points {
                p.caption {
                    "Each point is a slice, the first round above and the last below. The thick line \
                     is the median, the box its 95 % interval."
                    @if !self.scale.begins_at_zero() { " The axis does not begin at 0." }
                }
            }
        }
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

/// The order of workers, as chips with the worker's number in its colour.
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
