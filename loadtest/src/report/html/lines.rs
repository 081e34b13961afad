//! Lines over a common axis, with the times or parts that matter shaded.

use maud::{Markup, html};

use crate::report::format::{number, tick};
use crate::report::html::look::{colour, dashes, legend, mark, shortened};
use crate::report::html::picture::anchor;
use crate::report::html::plot::{Plot, across};
use crate::report::html::scale::Scale;
use crate::report::model::{Axis, Series, Unit};

/// In pixels.
const HEIGHT: f64 = 280.0;

/// Above lines, of their height, if something is shaded.
const ROOM: f64 = 1.25;

/// Of a line with more points than this, the points are dots without a mark.
const MOST_MARKS: usize = 24;

/// Of so many different places along a logarithmic axis, each has its number: 1, 2, 4 … workers.
const MOST_TICKS: usize = 10;

/// The percentiles with a number below them, and a mark on each line.
const PERCENTILES: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 99.99];

/// Pixels between the names at the lines' ends.
const LINE_OF_TEXT: f64 = 15.0;

/// Of a longer name at a line's end, only the beginning is shown; the legend has all of it.
const LONGEST_NAME: usize = 14;

/// What is drawn.
pub struct Lines<'a> {
    /// Its name within the page.
    pub id: &'a str,
    /// What is to be seen.
    pub title: &'a str,
    /// The axis along the page.
    pub x: &'a Axis,
    /// The axis up the page.
    pub y: &'a Axis,
    /// The lines.
    pub series: &'a [Series],
    /// From where to where, and what it is.
    pub spans: &'a [(f64, f64, String)],
}

/// The picture and who is who.
pub fn draw(lines: &Lines) -> Markup {
    let points = || lines.series.iter().flat_map(|series| &series.points);
    let ends = lines.spans.iter().flat_map(|(from, to, _)| [*from, *to]);
    let along: Vec<f64> = points().map(|point| point.0).collect();
    let x = match lines.x.unit {
        Unit::Percentile => Scale::percentiles(),
        _ => Scale::exactly(along.iter().copied().chain(ends), lines.x.logarithmic),
    };
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
    let description = describe(lines);
    let plot = Plot {
        id: lines.id,
        title: lines.title,
        description: &description,
        height: HEIGHT,
        class: "curves",
    };
    let ticks = |scale: &Scale, at: Vec<f64>, unit| -> Vec<(f64, String)> {
        at.into_iter().map(|value| (scale.place(value), tick(value, unit))).collect()
    };
    let rows = ticks(&y, y.ticks(), lines.y.unit);
    let columns = ticks(&x, along_ticks(lines.x, &x, along), lines.x.unit);
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
                (line(&plot, place, series, (&x, &y), (lines.x.unit, lines.y.unit)))
            }
            @for (number, (from, to, name)) in lines.spans.iter().enumerate() {
                @let middle = (x.place(*from) + x.place(*to)) / 2.0;
                text.label text-anchor=(anchor(middle, 0.2)) x=(across(middle))
                    y=(14.0 + 16.0 * (number % 3) as f64) { (name) }
            }
            @for (index, name, down) in names(lines.series, &y) {
                text class={ "label wide " (colour(index)) } x="100%" y=(down) dx="10" dy="4" {
                    (name)
                }
            }
        }))
        (legend(lines.series.iter().map(|series| series.name.as_str())))
    }
}

/// The figures of percentiles one by one, since all are wanted; else what there is to see.
fn describe(lines: &Lines) -> String {
    let (x, y) = (lines.x, lines.y);
    if x.unit == Unit::Percentile {
        let each = lines.series.iter().map(|series| {
            let points = series.points.iter().filter(|point| PERCENTILES.contains(&point.0));
            let points = points
                .map(|(at, value)| format!("{} {}", number(*at, x.unit), number(*value, y.unit)));
            format!("{}: {}.", series.name, points.collect::<Vec<_>>().join(", "))
        });
        return each.collect::<Vec<_>>().join(" ");
    }
    let names: Vec<&str> = lines.series.iter().map(|series| series.name.as_str()).collect();
    let spans = lines.spans.iter().map(|(from, to, name)| {
        let [from, to] = [from, to].map(|end| tick(*end, x.unit));
        format!("; {name} from {from} to {to}")
    });
    let spans: String = spans.collect();
    format!("{} over {}, a line each for {}{spans}.", y.name, x.name, names.join(", "))
}

/// Where the numbers along the page stand: on few places that were measured, or on round ones.
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

/// A line with its points, each of which says what it is to whoever points at it.
fn line(
    plot: &Plot,
    place: usize,
    series: &Series,
    (x, y): (&Scale, &Scale),
    units: (Unit, Unit),
) -> Markup {
    let points = || series.points.iter().filter(|at| at.0.is_finite() && at.1.is_finite());
    let places: Vec<(f64, f64)> = points().map(|at| (x.place(at.0), y.place(at.1))).collect();
    let many = series.points.len() > MOST_MARKS;
    let is_marked = |at: &(f64, f64)| units.0 != Unit::Percentile || PERCENTILES.contains(&at.0);
    html! {
        g class=(colour(place)) {
            (plot.curve("curve", dashes(place), &places))
            @for (point, (across_page, up)) in points().zip(&places).filter(|(at, _)| is_marked(at)) {
                g data-value=(point.1) {
                    @if many && units.0 != Unit::Percentile {
                        circle.dot r="1.4" cx=(across(*across_page)) cy=(plot.down(*up)) {}
                    } @else {
                        (mark(place, &across(*across_page), &plot.down(*up)))
                    }
                    title {
                        (series.name) ", " (tick(point.0, units.0)) ": " (number(point.1, units.1))
                    }
                }
            }
        }
    }
}

/// The names at the ends of the lines, moved apart where they would lie on each other.
fn names(series: &[Series], scale: &Scale) -> Vec<(usize, String, f64)> {
    let mut names: Vec<(usize, String, f64)> = (series.iter().enumerate())
        .filter_map(|(index, series)| {
            let end = scale.place(series.points.last()?.1);
            Some((index, shortened(&series.name, LONGEST_NAME), HEIGHT * (1.0 - end)))
        })
        .collect();
    names.sort_by(|one, other| one.2.total_cmp(&other.2));
    for index in 1..names.len() {
        names[index].2 = names[index].2.max(names[index - 1].2 + LINE_OF_TEXT);
    }
    // What was pushed out below pushes back those above it.
    let mut lowest = HEIGHT;
    for name in names.iter_mut().rev() {
        name.2 = name.2.min(lowest);
        lowest = name.2 - LINE_OF_TEXT;
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_at_the_ends_of_lines_do_not_lie_on_each_other() {
        let line = Series { name: "a name that is long".into(), points: vec![(0.0, 1000.0)] };
        let names = names(&vec![line; 9], &Scale::logarithmic([1000.0]));
        let apart = |two: &[(usize, String, f64)]| two[1].2 - two[0].2 >= LINE_OF_TEXT - 1e-9;
        assert!(names.windows(2).all(apart), "{names:?}");
        assert!(names.iter().all(|name| (0.0..=HEIGHT).contains(&name.2)), "{names:?}");
        assert_eq!(names[0].1, "a name that i…");
    }
}
