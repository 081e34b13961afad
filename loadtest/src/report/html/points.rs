//! Single measurements, round by round, the subjects side by side; and figures with their intervals
//! around a value at which nothing differs.

use maud::{Markup, html};

use crate::report::format::{number, tick};
use crate::report::html::look::{self, shortened};
use crate::report::html::plot::{Plot, across};
use crate::report::html::scale::Scale;
use crate::report::html::table::with_interval;
use crate::report::model::{Bar, Points, Unit};

/// Which part of its column a subject uses.
const USED: f64 = 0.8;

/// Of more columns than this, only wide windows have room for what stands below them.
const FEW: usize = 4;

/// Letters of a name for which there is room below one of these few columns, even on a phone.
const SHORT: usize = 16;

/// Height of an interval's row: a line of text, and below it the interval.
const ROW: f64 = 46.0;

/// Letters of the name of an interval for which a phone has room.
const LONGEST_NAME: usize = 40;

/// All points, each subject's median as a line and its interval as a box.
pub fn draw(
    id: &str,
    title: &str,
    unit: Unit,
    columns: &[Points],
    reference: Option<&(f64, String)>,
) -> Markup {
    let all = || columns.iter().flat_map(|column| &column.points);
    if all().next().is_none() {
        return html! { p { "There is no slice." } };
    }
    let scale = Scale::linear(all().map(|at| at.1).chain(reference.map(|(value, _)| *value)));
    let rounds = all().map(|at| at.0).max().unwrap_or(1);
    let description: Vec<String> = columns.iter().map(|column| describe(column, unit)).collect();
    let description = description.join(" ");
    let plot = Plot { id, title, description: &description, height: 300.0, class: "columns" };
    let ticks: Vec<_> =
        scale.ticks().into_iter().map(|at| (scale.place(at), tick(at, unit))).collect();
    let long = columns.iter().any(|column| column.name.chars().count() > SHORT);
    let crowded = columns.len() > FEW || long;
    html! {
        (plot.draw(&html! {
            (plot.rows("", &ticks))
            @for (index, of) in columns.iter().enumerate() {
                (column(&plot, &scale, (index, columns.len()), of, unit, rounds))
            }
            @if let Some((value, name)) = reference {
                @let y = plot.down(scale.place(*value));
                line.reference x1="0%" x2="100%" y1=(y) y2=(y) {}
                text.label x="100%" y=(y) dx="-2" dy="-6" text-anchor="end" {
                    (shortened(name, 44))
                }
            }
        }))
        div.columns.crowded[crowded] style={ "--columns:" (columns.len()) } {
            @for (index, column) in columns.iter().enumerate() {
                div {
                    (look::name(index, &column.name))
                    small.wide {
                        @match column.median {
                            Some(median) => (with_interval(median, column.interval, unit)),
                            None => "no slice",
                        }
                    }
                }
            }
        }
        @if crowded {
            div.narrow { (look::legend(columns.iter().map(|column| column.name.as_str()))) }
        }
        p.caption {
            "Each point is a slice, from the first round to the last. The thick line is the \
             median, the box its 95 % interval."
            @if !scale.begins_at_zero() { " The axis does not begin at 0." }
        }
    }
}

fn column(
    plot: &Plot,
    scale: &Scale,
    (index, columns): (usize, usize),
    of: &Points,
    unit: Unit,
    rounds: u32,
) -> Markup {
    let width = 1.0 / columns as f64;
    let left = (index as f64 + (1.0 - USED) / 2.0) * width;
    let at = |round: u32| left + USED * width * (f64::from(round) - 0.5) / f64::from(rounds.max(1));
    let down = |value: f64| plot.down(scale.place(value));
    html! {
        g class=(look::colour(index)) {
            @if let Some([low, high]) = of.interval {
                @let height = plot.height * (scale.place(high) - scale.place(low));
                rect.interval x=(across(left)) y=(down(high)) width=(across(USED * width))
                    height=(format!("{:.1}", height.max(1.0))) {}
            }
            @if let Some(median) = of.median {
                @let y = down(median);
                line.median x1=(across(left)) x2=(across(left + USED * width)) y1=(y) y2=(y) {}
            }
            @if of.points.is_empty() {
                @let middle = across(left + USED * width / 2.0);
                text.label x=(middle) y="50%" text-anchor="middle" { "no slice" }
            }
            @for &(round, value) in of.points.iter().filter(|at| at.1.is_finite()) {
                circle.point r="3" cx=(across(at(round))) cy=(down(value)) data-value=(value) {
                    title { "round " (round) ": " (number(value, unit)) }
                }
            }
        }
    }
}

fn describe(column: &Points, unit: Unit) -> String {
    let show = |value| number(value, unit);
    let ends = column.points.iter().map(|at| at.1);
    let [least, most] = [ends.clone().fold(f64::INFINITY, f64::min), ends.fold(0.0, f64::max)];
    let interval = column.interval.map_or_else(String::new, |[low, high]| {
        format!(", 95 % interval {} to {}", show(low), show(high))
    });
    match column.median {
        Some(median) => format!(
            "{}: median {}{interval}, slices from {} to {}.",
            column.name,
            show(median),
            show(least),
            show(most)
        ),
        None => format!("{}: no slice.", column.name),
    }
}

/// Each figure with its interval, beside what counts as noise.
pub fn intervals(id: &str, title: &str, rows: &[Bar], centre: f64, noise: f64) -> Markup {
    let ends = rows.iter().flat_map(|row| row.interval.unwrap_or([row.value; 2]));
    let scale = Scale::linear(ends.chain([centre - 1.5 * noise, centre + 1.5 * noise]));
    let say = |row: &Bar| {
        let [low, high] = row.interval.unwrap_or([row.value; 2]);
        format!("{}: {:.3}, 95 % interval {low:.3} to {high:.3}.", row.name, row.value)
    };
    let description = rows.iter().map(say).collect::<Vec<_>>().join(" ");
    let height = ROW * rows.len() as f64;
    let plot = Plot { id, title, description: &description, height, class: "forest" };
    let ticks = scale.ticks();
    let digits = if ticks.windows(2).any(|two| two[1] - two[0] < 0.01) { 4 } else { 2 };
    let ticks: Vec<_> =
        ticks.into_iter().map(|at| (scale.place(at), format!("{at:.digits$}"))).collect();
    let [low, middle, high] = [-noise, 0.0, noise].map(|off| scale.place(centre + off));
    html! {
        (plot.draw(&html! {
            rect.noise x=(across(low)) width=(across(high - low)) y="0" height=(height) {}
            (plot.columns("", &ticks))
            line.reference x1=(across(middle)) x2=(across(middle)) y1="0" y2=(height) {}
            @for (place, row) in rows.iter().enumerate() {
                @let y = ROW * place as f64 + 32.0;
                text.label x="0" y=(y - 15.0) { (shortened(&row.name, LONGEST_NAME)) }
                @if let Some(ends) = row.interval {
                    @let [low, high] = ends.map(|end| across(scale.place(end)));
                    line.whisker x1=(low) x2=(high) y1=(y) y2=(y) {}
                }
                circle.estimate r="5" cx=(across(scale.place(row.value))) cy=(y)
                    data-value=(row.value) { title { (say(row)) } }
            }
        }))
        p.caption {
            "The mark is the mean ratio, the bar its 95 % interval. Inside the grey band, "
            (number(noise, Unit::Part)) " to either side of " (centre) ", is what counts as noise: \
             there is a difference only if the whole bar lies outside of it."
        }
    }
}
