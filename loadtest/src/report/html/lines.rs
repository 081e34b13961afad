//! Lines over a common axis, with shaded spans. Labels are outside of the `svg`, in the padding of its box.
//!
//! No plotting crate: plotters, the usual one, places everything in pixels, writes colours that do not follow
//! the reader's light or dark mode, and has no custom attributes, such as those that make figures testable.

use maud::{Markup, html};

use crate::report::format::{number, tick};
use crate::report::html::look::{colour, dashes, legend, mark};
use crate::report::html::scale::{Scale, across, anchor};
use crate::report::model::{Axis, Series, Unit};

/// In pixels.
const HEIGHT: f64 = 280.0;

/// The room above lines for the names of spans, as a part of their height.
const ROOM: f64 = 1.25;

/// A line with more points than this has dots instead of marks.
const MOST_MARKS: usize = 24;

/// Up to this many different places along a logarithmic axis each have a number: 1, 2, 4 … workers.
const MOST_TICKS: usize = 10;

/// The percentiles with a number below them, and a mark on each line.
const PERCENTILES: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 99.99];

/// A part of the x axis with a name.
type Span = (f64, f64, String);

/// The picture with its legend.
pub fn draw(
    title: &str,
    [x_axis, y_axis]: [&Axis; 2],
    series: &[Series],
    spans: &[Span],
) -> Markup {
    let points = || series.iter().flat_map(|series| &series.points);
    let ends = spans.iter().flat_map(|(from, to, _)| [*from, *to]);
    let along: Vec<f64> = points().map(|point| point.0).collect();
    let x = match x_axis.unit {
        Unit::Percentile => Scale::percentiles(),
        _ => Scale::exactly(along.iter().copied().chain(ends), x_axis.logarithmic),
    };
    let up = points().map(|point| point.1);
    let y = match y_axis.logarithmic {
        true => Scale::logarithmic(up),
        false => {
            let room = if spans.is_empty() { 1.0 } else { ROOM };
            let top = up.clone().filter(|up| up.is_finite()).fold(0.0, f64::max) * room;
            Scale::linear(up.chain([0.0, top]))
        }
    };
    let logarithmic = if y_axis.logarithmic { ", logarithmic" } else { "" };
    html! {
        div.plot {
            svg.picture role="img" aria-label=(describe(title, [x_axis, y_axis], series, spans))
                width="100%" height=(HEIGHT)
            {
                @for (from, to, _) in spans {
                    @let (from, to) = (x.place(*from), x.place(*to));
                    rect.noise x=(across(from)) width=(across((to - from).max(0.0)))
                        y="0" height=(HEIGHT) {}
                }
                @for at in along_ticks(x_axis, &x, along) {
                    @let place = across(x.place(at));
                    line.grid x1=(place) x2=(place) y1="0" y2=(HEIGHT) {}
                    text.tick.below x=(place) y=(HEIGHT + 18.0) { (tick(at, x_axis.unit)) }
                }
                text.what.below x="50%" y=(HEIGHT + 38.0) { (x_axis.name) }
                text.what x="-50" y="-14" { (y_axis.name) (logarithmic) }
                @for at in y.ticks() {
                    @let place = down(y.place(at));
                    line.grid x1="0%" x2="100%" y1=(place) y2=(place) {}
                    text.tick.left x="-8" y=(place) dy="4" { (tick(at, y_axis.unit)) }
                }
                @for (place, of) in series.iter().enumerate() {
                    (line(place, of, [&x, &y], [x_axis.unit, y_axis.unit]))
                }
                @for (number, (from, to, name)) in spans.iter().enumerate() {
                    @let middle = (x.place(*from) + x.place(*to)) / 2.0;
                    text.label text-anchor=(anchor(middle, 0.2)) x=(across(middle))
                        y=(14.0 + 16.0 * (number % 3) as f64) { (name) }
                }
            }
        }
        (legend(series.iter().map(|series| series.name.as_str())))
    }
}

/// A vertical place; 0 of the axis is at the bottom.
fn down(place: f64) -> String {
    format!("{:.1}", HEIGHT * (1.0 - place))
}

/// The description: all figures of percentiles; otherwise a summary.
fn describe(title: &str, [x, y]: [&Axis; 2], series: &[Series], spans: &[Span]) -> String {
    if x.unit == Unit::Percentile {
        let each = series.iter().map(|series| {
            let points = series.points.iter().filter(|point| PERCENTILES.contains(&point.0));
            let points = points
                .map(|(at, value)| format!("{} {}", number(*at, x.unit), number(*value, y.unit)));
            format!(" {}: {}.", series.name, points.collect::<Vec<_>>().join(", "))
        });
        return format!("{title}.{}", each.collect::<String>());
    }
    let names: Vec<&str> = series.iter().map(|series| series.name.as_str()).collect();
    let spans = spans.iter().map(|(from, to, name)| {
        let [from, to] = [from, to].map(|end| tick(*end, x.unit));
        format!("; {name} from {from} to {to}")
    });
    let (lines, spans) = (names.join(", "), spans.collect::<String>());
    format!("{title}: {} over {}, a line each for {lines}{spans}.", y.name, x.name)
}

/// The places of the numbers along the axis: the measured ones if they are few, or round ones.
fn along_ticks(axis: &Axis, scale: &Scale, mut measured: Vec<f64>) -> Vec<f64> {
    if axis.unit == Unit::Percentile {
        return PERCENTILES.to_vec();
    }
    measured.retain(|value| value.is_finite() && *value > 0.0);
    measured.sort_by(f64::total_cmp);
    measured.dedup();
    let few = (2..=MOST_TICKS).contains(&measured.len());
    let apart = measured.windows(2).all(|two| scale.place(two[1]) - scale.place(two[0]) > 0.06);
    if axis.logarithmic && few && apart { measured } else { scale.ticks() }
}

/// A line, which is stretched with the picture while its width is not, and its points, each with a tooltip.
fn line(place: usize, series: &Series, [x, y]: [&Scale; 2], units: [Unit; 2]) -> Markup {
    let points = || series.points.iter().filter(|at| at.0.is_finite() && at.1.is_finite());
    let places = points().map(|at| format!("{:.2},{}", x.place(at.0) * 100.0, down(y.place(at.1))));
    let percentiles = units[0] == Unit::Percentile;
    let dots = series.points.len() > MOST_MARKS && !percentiles;
    html! {
        g class=(colour(place)) {
            svg.stretched viewBox={ "0 0 100 " (HEIGHT) } preserveAspectRatio="none"
                width="100%" height=(HEIGHT)
            {
                polyline.curve points=(places.collect::<Vec<_>>().join(" "))
                    stroke-dasharray=(dashes(place)) vector-effect="non-scaling-stroke" {}
            }
            @for point in points().filter(|at| !percentiles || PERCENTILES.contains(&at.0)) {
                @let (left, top) = (across(x.place(point.0)), down(y.place(point.1)));
                g data-value=(point.1) {
                    @if dots { circle.dot r="1.4" cx=(left) cy=(top) {} }
                    @else { (mark(place, &left, &top)) }
                    title {
                        (series.name) ", " (tick(point.0, units[0])) ": " (number(point.1, units[1]))
                    }
                }
            }
        }
    }
}
