//! Latencies by percentile: one line for each subject.

use maud::{Markup, html};

use crate::measure::comparison::Comparison;
use crate::report::html::figure::{full, round_time, whole_time};
use crate::report::html::look::{self, shortened};
use crate::report::html::plot::{Plot, across};
use crate::report::html::scale::Scale;
use crate::report::terminal::ABOUT_LATENCIES;
use crate::statistics::latency::Latency;

/// The percentiles with a number below them, and a mark on each line.
const TICKS: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 99.99];

/// Where the picture ends.
const LAST: f64 = 99.99;

/// Pixels between the names at the lines' ends.
const LINE_OF_TEXT: f64 = 15.0;

/// Of a longer name at a line's end, only the beginning is shown; the legend has all of it.
const LONGEST_NAME: usize = 14;

/// The picture with its words.
pub fn section(comparison: &Comparison) -> Markup {
    let curves: Vec<(usize, &str, &Latency)> = (comparison.subjects.iter().enumerate())
        .filter_map(|(i, c)| Some((i, c.name.as_str(), &c.summary.as_ref()?.latency_us)))
        .collect();
    html! {
        section {
            h2 { "Latency by percentile" }
            @if curves.is_empty() {
                p { "Nobody answered." }
            } @else {
                (picture(&curves))
                (look::legend(comparison))
                p.caption {
                    "Under full load: at p99, 99 of 100 answers took that long or less. Both \
                     axes are logarithmic, so the slowest answers have as much room as all \
                     others; "
                    (ABOUT_LATENCIES) "."
                }
            }
        }
    }
}

fn picture(curves: &[(usize, &str, &Latency)]) -> Markup {
    let values = curves.iter().flat_map(|(_, _, latency)| &latency.curve);
    let scale = Scale::logarithmic(values.map(|(_, value)| *value as f64));
    let description = curves.iter().map(|(_, name, latency)| describe(name, latency));
    let description = description.collect::<Vec<_>>().join(" ");
    let plot = Plot {
        id: "latency",
        title: "Latency by percentile",
        description: &description,
        height: 300.0,
        class: "curves",
    };
    let rows: Vec<_> =
        (scale.ticks().into_iter()).map(|t| (scale.place(t), round_time(t))).collect();
    let columns = TICKS.map(|percentile| (along(percentile), format!("p{percentile}")));
    plot.draw(&html! {
        (plot.rows("latency", &rows))
        (plot.columns("percentile", &columns))
        @for (index, _, latency) in curves {
            g class=(look::colour(*index)) { (line(&plot, &scale, *index, latency)) }
        }
        @for (index, name, y) in names(&plot, &scale, curves) {
            text class={ "label wide " (look::colour(index)) } x="100%" y=(y) dx="10" dy="4" {
                (name)
            }
        }
    })
}

/// Where a percentile lies: each step of the same length leaves a tenth of the answers.
fn along(percentile: f64) -> f64 {
    (1.0 - percentile / 100.0).log10() / (1.0 - LAST / 100.0).log10()
}

fn line(plot: &Plot, scale: &Scale, index: usize, latency: &Latency) -> Markup {
    let at = |value: u64| scale.place(value as f64);
    let points: Vec<(f64, f64)> =
        latency.curve.iter().map(|&(percentile, value)| (along(percentile), at(value))).collect();
    html! {
        (plot.curve("curve", look::dashes(index), &points))
        @for (place, (percentile, value)) in latency.curve.iter().enumerate() {
            @if TICKS.contains(percentile) {
                g data-at={ "/subjects/" (index) "/summary/latency_us/curve/" (place) "/1" }
                    data-value=(full(*value))
                {
                    title { "p" (percentile) ": " (whole_time(*value)) }
                    (look::mark(index, &across(along(*percentile)), &plot.down(at(*value))))
                }
            }
        }
    }
}

/// The names at the ends of the lines, moved apart where they would lie on each other.
fn names(
    plot: &Plot,
    scale: &Scale,
    curves: &[(usize, &str, &Latency)],
) -> Vec<(usize, String, f64)> {
    let mut names: Vec<(usize, String, f64)> = curves
        .iter()
        .filter_map(|(index, name, latency)| {
            let end = scale.place(latency.curve.last()?.1 as f64);
            Some((*index, shortened(name, LONGEST_NAME), plot.height * (1.0 - end)))
        })
        .collect();
    names.sort_by(|one, other| one.2.total_cmp(&other.2));
    for index in 1..names.len() {
        names[index].2 = names[index].2.max(names[index - 1].2 + LINE_OF_TEXT);
    }
    // What was pushed out below pushes back those above it.
    let mut lowest = plot.height;
    for name in names.iter_mut().rev() {
        name.2 = name.2.min(lowest);
        lowest = name.2 - LINE_OF_TEXT;
    }
    names
}

fn describe(name: &str, latency: &Latency) -> String {
    format!(
        "{name}: p50 {}, p90 {}, p99 {}, p99.9 {}, p99.99 {}.",
        whole_time(latency.p50),
        whole_time(latency.p90),
        whole_time(latency.p99),
        whole_time(latency.p99_9),
        whole_time(latency.p99_99)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_along_the_axis_leaves_a_tenth_of_the_answers() {
        for (percentile, place) in [(0.0, 0.0), (90.0, 0.25), (99.0, 0.5), (99.99, 1.0)] {
            assert!((along(percentile) - place).abs() < 1e-9, "{percentile}");
        }
    }

    #[test]
    fn names_at_the_ends_of_lines_do_not_lie_on_each_other() {
        let latency = Latency { curve: vec![(0.0, 900), (LAST, 1000)], ..Latency::default() };
        let curves: Vec<_> = (0..9).map(|index| (index, "a name that is long", &latency)).collect();
        let plot = Plot { id: "", title: "", description: "", height: 300.0, class: "" };
        let names = names(&plot, &Scale::logarithmic([1000.0]), &curves);
        assert!(
            names.windows(2).all(|two| two[1].2 - two[0].2 >= LINE_OF_TEXT - 1e-9),
            "{names:?}"
        );
        assert!(names.iter().all(|name| (0.0..=300.0).contains(&name.2)), "{names:?}");
        assert_eq!(names[0].1, "a name that i…");
    }
}
