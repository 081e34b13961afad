//! Lines over a common axis, with the times or parts that matter shaded.

use maud::{Markup, html};

use crate::report::html::figure::{full, words};
use crate::report::html::lab::picture::{anchor, tick_of};
use crate::report::html::lab::shown;
use crate::report::html::look::{colour, dashes, key, mark};
use crate::report::html::plot::{Plot, across};
use crate::report::html::scale::Scale;
use crate::report::model::{Axis, Series, Unit};

/// In pixels.
const HEIGHT: f64 = 240.0;

/// Above lines, of their height, if something is shaded.
const ROOM: f64 = 1.25;

/// Of a line with more points than this, the points are dots without a mark.
const MOST_MARKS: usize = 24;

/// Of so many different places along a logarithmic axis, each has its number: 1, 2, 4 … workers.
const MOST_TICKS: usize = 10;

/// What is drawn.
pub struct Lines<'a> {
    /// The chapter's.
    pub name: &'a str,
    /// What is to be seen.
    pub title: &'a str,
    /// Both axes.
    pub x: &'a Axis,
    /// As above.
    pub y: &'a Axis,
    /// The lines.
    pub series: &'a [Series],
    /// From where to where, and what it is.
    pub spans: &'a [(f64, f64, String)],
    /// Where the record has it.
    pub at: &'a str,
}

/// The picture and who is who.
pub fn draw(lines: &Lines) -> Markup {
    let points = || lines.series.iter().flat_map(|series| &series.points);
    let ends = lines.spans.iter().flat_map(|(from, to, _)| [*from, *to]);
    let along: Vec<f64> = points().map(|point| point.0).collect();
    let x = Scale::exactly(along.iter().copied().chain(ends), lines.x.logarithmic);
    let up = points().map(|point| point.1);
    let y = match lines.y.logarithmic {
        true => Scale::logarithmic(up),
        false => {
            // Room above the lines for the names of what is shaded.
            let room = if lines.spans.is_empty() { 1.0 } else { ROOM };
            let top = up.clone().filter(|up| up.is_finite()).fold(0.0, f64::max) * room;
            Scale::linear(up.chain([0.0, top]))
        }
    };
    let names: Vec<&str> = lines.series.iter().map(|series| series.name.as_str()).collect();
    let (id, description) = (format!("{}-picture", lines.name), describe(lines, &names));
    let plot = Plot {
        id: &id,
        title: lines.title,
        description: &description,
        height: HEIGHT,
        class: "over",
    };
    let rows: Vec<_> =
        y.ticks().into_iter().map(|tick| (y.place(tick), tick_of(tick, lines.y.unit))).collect();
    let columns: Vec<_> = along_ticks(lines.x, &x, along)
        .into_iter()
        .map(|tick| (x.place(tick), tick_of(tick, lines.x.unit)))
        .collect();
    let kind = if lines.y.logarithmic { ", logarithmic" } else { "" };
    html! {
        (plot.draw(&html! {
            @for (from, to, _) in lines.spans {
                @let (from, to) = (x.place(*from), x.place(*to));
                rect.noise x=(across(from)) width=(across((to - from).max(0.0)))
                    y="0" height=(HEIGHT) {}
            }
            (plot.columns(&lines.x.name, &columns))
            (plot.rows(&format!("{}{kind}", lines.y.name), &rows))
            @for (place, series) in lines.series.iter().enumerate() {
                @let at = format!("{}/series/{place}/points", lines.at);
                (line(&plot, place, series, (&x, &y), (lines.x.unit, lines.y.unit), &at))
            }
            @for (number, (from, to, name)) in lines.spans.iter().enumerate() {
                @let middle = (x.place(*from) + x.place(*to)) / 2.0;
                text.label text-anchor=(anchor(middle)) x=(across(middle))
                    y=(14.0 + 16.0 * (number % 3) as f64) { (name) }
            }
        }))
        ul.legend {
            @for (place, series) in lines.series.iter().enumerate() {
                li class=(colour(place)) {
                    (key(place))
                    (words(&series.name, &format!("{}/series/{place}/name", lines.at)))
                }
            }
        }
    }
}

fn describe(lines: &Lines, names: &[&str]) -> String {
    let spans = lines.spans.iter().map(|(from, to, name)| {
        let [from, to] = [from, to].map(|end| tick_of(*end, lines.x.unit));
        format!("; {name} from {from} to {to}")
    });
    let spans: String = spans.collect();
    format!("{} over {}, a line each for {}{spans}.", lines.y.name, lines.x.name, names.join(", "))
}

/// Where the numbers along the page stand: on few places that were measured, or on round ones.
fn along_ticks(axis: &Axis, scale: &Scale, mut measured: Vec<f64>) -> Vec<f64> {
    measured.retain(|value| value.is_finite() && *value > 0.0);
    measured.sort_by(f64::total_cmp);
    measured.dedup();
    let few = (2..=MOST_TICKS).contains(&measured.len());
    let apart = measured.windows(2).all(|two| scale.place(two[1]) - scale.place(two[0]) > 0.06);
    if axis.logarithmic && few && apart { measured } else { scale.ticks() }
}

/// A line with its points, each of which says what it is to whoever points at it.
fn line(
    plot: &Plot,
    place: usize,
    series: &Series,
    (x, y): (&Scale, &Scale),
    units: (Unit, Unit),
    at: &str,
) -> Markup {
    let points = || {
        let numbered = series.points.iter().enumerate();
        numbered.filter(|(_, point)| point.0.is_finite() && point.1.is_finite())
    };
    let places: Vec<(f64, f64)> =
        points().map(|(_, point)| (x.place(point.0), y.place(point.1))).collect();
    let many = series.points.len() > MOST_MARKS;
    html! {
        g class=(colour(place)) {
            (plot.curve("curve", dashes(place), &places))
            @for ((number, point), (across_page, up)) in points().zip(&places) {
                g data-at={ (at) "/" (number) "/1" } data-value=(full(point.1)) {
                    @if many {
                        circle.dot r="1.4" cx=(across(*across_page)) cy=(plot.down(*up)) {}
                    } @else {
                        (mark(place, &across(*across_page), &plot.down(*up)))
                    }
                    title {
                        (series.name) ", " (tick_of(point.0, units.0)) ": "
                        (shown(point.1, units.1))
                    }
                }
            }
        }
    }
}
