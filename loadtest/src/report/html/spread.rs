//! How the work was spread over the workers.

use maud::{Markup, html};

use crate::measure::comparison::{Comparison, Spread, Subject};
use crate::report::html::figure::{figure, full, percent, two_digits};
use crate::report::html::look;
use crate::report::html::plot::{Plot, across};
use crate::report::html::scale::Scale;

/// Of more workers than this, bars would be thinner than the gaps between them: a step line.
const MOST_BARS: usize = 24;

/// Which part of its place a bar takes.
const WIDTH: f64 = 0.38;

/// A picture for each subject.
pub fn section(comparison: &Comparison) -> Markup {
    let shown: Vec<(usize, &Subject, &Spread)> = (comparison.subjects.iter().enumerate())
        .filter_map(|(index, c)| Some((index, c, c.summary.as_ref()?.spread.as_ref()?)))
        .collect();
    html! {
        section {
            h2 { "Who did the work" }
            @if shown.is_empty() { p { "Nobody did any." } }
            div.panels {
                @for (index, subject, spread) in &shown {
                    // Pictures of as many workers can be compared, so they have the same axis.
                    @let alike = shown.iter().filter(|(_, _, other)| {
                        other.requests_by_rank.len() == spread.requests_by_rank.len()
                    });
                    @let values = alike.flat_map(|(_, _, other)| {
                        other.requests_by_rank.iter().chain(&other.connections_by_rank)
                    });
                    @let scale = Scale::linear(values.copied().chain([0.0]));
                    (panel(*index, subject, spread, &scale))
                }
            }
            p.caption {
                "Requests are filled, connections are outlined; the dashed line is the fair \
                 share, 1 / number of workers. Workers are ranked within each slice, the busiest \
                 first, and then ranks are averaged over the slices, because each slice draws \
                 anew which worker is the busiest and sums over workers would look even."
            }
        }
    }
}

fn panel(index: usize, subject: &Subject, spread: &Spread, scale: &Scale) -> Markup {
    let workers = spread.requests_by_rank.len();
    let (id, title) = (format!("spread-{index}"), format!("Work by rank: {}", subject.name));
    let description = describe(spread);
    let plot =
        Plot { id: &id, title: &title, description: &description, height: 170.0, class: "ranks" };
    let at = format!("/subjects/{index}/summary/spread");
    let rows: Vec<_> = (scale.ticks().into_iter()).map(|t| (scale.place(t), percent(t))).collect();
    let fair = plot.down(scale.place(1.0 / workers as f64));
    html! {
        div {
            h3 { (look::name(index, subject)) }
            p {
                "busiest / average "
                (figure(spread.max_over_mean, &format!("{at}/max_over_mean"), two_digits))
                ", idle "
                (figure(spread.idle_workers, &format!("{at}/idle_workers"), two_digits))
                " of "
                @let workers_at = format!("/subjects/{index}/workers");
                (figure(subject.workers.unwrap_or(workers), &workers_at, |workers| workers.to_string()))
            }
            (plot.draw(&html! {
                (plot.rows("share of a slice", &rows))
                g class=(look::colour(index)) {
                    @if workers > MOST_BARS {
                        (steps(&plot, scale, "step filled", &spread.requests_by_rank))
                        (steps(&plot, scale, "step", &spread.connections_by_rank))
                    } @else {
                        (bars(&plot, scale, "filled", &at, "requests", &spread.requests_by_rank))
                        @let connections = &spread.connections_by_rank;
                        (bars(&plot, scale, "hollow", &at, "connections", connections))
                    }
                }
                line.reference x1="0%" x2="100%" y1=(fair) y2=(fair) {}
                text.label x="100%" y=(fair) dy="-5" text-anchor="end" {
                    "fair share " (percent(1.0 / workers as f64))
                }
                text.tick x="0" y=(plot.height + 18.0) { "busiest" }
                text.tick.left x="100%" y=(plot.height + 18.0) { "idlest of " (workers) }
            }))
        }
    }
}

fn bars(plot: &Plot, scale: &Scale, class: &str, at: &str, what: &str, shares: &[f64]) -> Markup {
    let place = 1.0 / shares.len() as f64;
    // Requests to the left of the middle, connections to its right.
    let beside = if what == "requests" { 0.5 - WIDTH - 0.02 } else { 0.52 };
    html! {
        @for (rank, share) in shares.iter().enumerate() {
            rect class=(class) x=(across((rank as f64 + beside) * place))
                width=(across(WIDTH * place))
                y=(plot.down(scale.place(*share)))
                height=(format!("{:.1}", plot.height * scale.place(*share)))
                data-at={ (at) "/" (what) "_by_rank/" (rank) } data-value=(full(*share))
            {
                title { (what) ", rank " (rank + 1) ": " (percent(*share)) }
            }
        }
    }
}

fn steps(plot: &Plot, scale: &Scale, class: &str, shares: &[f64]) -> Markup {
    let place = 1.0 / shares.len() as f64;
    let mut points = vec![(0.0, 0.0)];
    for (rank, share) in shares.iter().enumerate() {
        let y = scale.place(*share);
        points.extend([(rank as f64 * place, y), ((rank + 1) as f64 * place, y)]);
    }
    points.push((1.0, 0.0));
    plot.curve(class, "none", &points)
}

fn describe(spread: &Spread) -> String {
    let list = |shares: &[f64]| match shares {
        [busiest, .., idlest] if shares.len() > MOST_BARS => {
            format!("from {} down to {}", percent(*busiest), percent(*idlest))
        }
        _ => shares.iter().map(|share| percent(*share)).collect::<Vec<_>>().join(", "),
    };
    format!(
        "From the busiest worker of a slice to the idlest. Requests: {}. Connections: {}.",
        list(&spread.requests_by_rank),
        list(&spread.connections_by_rank)
    )
}
