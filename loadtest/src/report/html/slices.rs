//! Requests/s of every slice, the subjects side by side.

use maud::{Markup, html};

use crate::measure::comparison::{Comparison, Subject};
use crate::report::html::figure::{figure, full, interval, rate};
use crate::report::html::look;
use crate::report::html::plot::{Plot, across};
use crate::report::html::scale::Scale;
use crate::report::post;
use crate::server::Strategy;

/// Which part of its column a subject uses.
const USED: f64 = 0.8;

/// Of more columns than this, only wide windows have room for what stands below them.
const FEW: usize = 4;

/// Letters of a name for which there is room below one of these few columns, even on a phone.
const SHORT: usize = 16;

/// The picture with its words.
pub fn section(comparison: &Comparison) -> Markup {
    html! {
        section {
            h2 { "Requests per second, slice by slice" }
            @if comparison.subjects.iter().all(|subject| subject.slices.is_empty()) {
                p { "There is no slice." }
            } @else {
                (picture(comparison))
            }
        }
    }
}

fn picture(comparison: &Comparison) -> Markup {
    let subjects = &comparison.subjects;
    let reference = reference(comparison);
    let rates = subjects.iter().flat_map(|c| &c.slices).map(|s| s.requests_per_second);
    let scale = Scale::linear(rates.chain(reference));
    let description = description(comparison);
    let plot = Plot {
        id: "slices",
        title: "Requests per second of every slice",
        description: &description,
        height: 300.0,
        class: "columns",
    };
    let ticks: Vec<_> = (scale.ticks().into_iter()).map(|t| (scale.place(t), rate(t))).collect();
    let long = subjects.iter().any(|subject| subject.name.chars().count() > SHORT);
    let crowded = subjects.len() > FEW || long;
    let part = post_ratio();
    html! {
            (plot.draw(&html! {
                (plot.rows("requests/s", &ticks))
                @for (index, subject) in subjects.iter().enumerate() {
                    (column(&plot, &scale, index, subject, comparison))
                }
                @if let Some(rate) = reference {
                    @let y = plot.down(scale.place(rate));
                    line.reference x1="0%" x2="100%" y1=(y) y2=(y) {}
                    text.label x="100%" y=(y) dx="-2" dy="-6" text-anchor="end" {
                        "the post's ratio: " (part) " of "
                        (look::shortened(&comparison.plan.baseline, 24))
                    }
                }
            }))
            div.columns.crowded[crowded] style={ "--columns:" (subjects.len()) } {
                @for (index, subject) in subjects.iter().enumerate() {
                    div { (look::name(index, subject)) (median_of(index, subject)) }
                }
            }
            @if crowded { div.narrow { (look::legend(comparison)) } }
            p.caption {
                "Each point is a slice, from the first round to the last. The thick line is the \
                 median, the box its 95 % interval."
                @if !scale.begins_at_zero() { " The axis does not begin at 0." }
                @if reference.is_some() {
                    " The dashed line is where the post's own-socket server would be beside this "
                    (comparison.plan.baseline) ": " (part) " times its median ("
                    (post::CONDITIONS) "; " (post::SOURCE) ")."
                }
            }
    }
}

/// The ratio of the post's two figures, as text.
fn post_ratio() -> String {
    format!("{:.3}", ratio_of_the_post())
}

fn ratio_of_the_post() -> f64 {
    let of = |strategy| post::figure(strategy).requests_per_second as f64;
    of(Strategy::Reuseport) / of(Strategy::Shared)
}

/// Where the post's other server would be; only beside the server that the post compares it with.
fn reference(comparison: &Comparison) -> Option<f64> {
    let baseline = comparison.subjects.iter().find(|c| c.name == comparison.plan.baseline)?;
    let plain = baseline.server.trim() == Strategy::Shared.name();
    let median = baseline.summary.as_ref().map(|summary| summary.requests_per_second.value);
    median.filter(|_| plain).map(|median| median * ratio_of_the_post())
}

fn column(
    plot: &Plot,
    scale: &Scale,
    index: usize,
    subject: &Subject,
    comparison: &Comparison,
) -> Markup {
    let width = 1.0 / comparison.subjects.len() as f64;
    let left = (index as f64 + (1.0 - USED) / 2.0) * width;
    let rounds = f64::from(comparison.plan.rounds.max(1));
    let at = |round: u32| left + USED * width * (f64::from(round) + 0.5) / rounds;
    let down = |value: f64| plot.down(scale.place(value));
    let estimate = subject.summary.as_ref().map(|summary| &summary.requests_per_second);
    html! {
        g class=(look::colour(index)) {
            @if let Some(estimate) = estimate {
                @let (median, [low, high]) = (estimate.value, estimate.ends());
                @let height = plot.height * (scale.place(high) - scale.place(low));
                rect.interval x=(across(left)) y=(down(high)) width=(across(USED * width))
                    height=(format!("{:.1}", height.max(1.0))) {}
                @let y = down(median);
                line.median x1=(across(left)) x2=(across(left + USED * width)) y1=(y) y2=(y) {}
            } @else {
                @let middle = across(left + USED * width / 2.0);
                text.label x=(middle) y="50%" text-anchor="middle" { "no slice" }
            }
            @for (place, slice) in subject.slices.iter().enumerate() {
                circle.point r="3" cx=(across(at(slice.round))) cy=(down(slice.requests_per_second))
                    data-at={ "/subjects/" (index) "/slices/" (place) "/requests_per_second" }
                    data-value=(full(slice.requests_per_second))
                {
                    title { "round " (slice.round + 1) ": " (rate(slice.requests_per_second)) }
                }
            }
        }
    }
}

/// What stands below a column.
fn median_of(index: usize, subject: &Subject) -> Markup {
    let at = format!("/subjects/{index}/summary/requests_per_second");
    html! {
        @match &subject.summary {
            Some(summary) => {
                @let estimate = summary.requests_per_second;
                strong.wide { (figure(estimate.value, &format!("{at}/value"), rate)) }
                small.wide { (interval(estimate.ends(), &format!("{at}/interval"), rate)) }
            }
            None => small.wide { "no slice" },
        }
    }
}

fn description(comparison: &Comparison) -> String {
    let each = comparison.subjects.iter().map(|subject| match &subject.summary {
        Some(summary) => {
            let [low, high] = summary.requests_per_second.ends();
            let rates = subject.slices.iter().map(|slice| slice.requests_per_second);
            let (least, greatest) = rates
                .fold((f64::INFINITY, 0.0_f64), |(least, most), r| (least.min(r), most.max(r)));
            let median = summary.requests_per_second.value;
            format!(
                "{}: median {}, 95 % interval {} to {}, slices from {} to {}.",
                subject.name,
                rate(median),
                rate(low),
                rate(high),
                rate(least),
                rate(greatest)
            )
        }
        None => format!("{}: no slice.", subject.name),
    });
    each.collect::<Vec<_>>().join(" ")
}
