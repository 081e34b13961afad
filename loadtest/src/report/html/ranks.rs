//! How the work was spread over the workers.

use maud::{Markup, html};

use crate::report::format::{number, tick};
use crate::report::html::look;
use crate::report::html::plot::{Plot, across};
use crate::report::html::scale::Scale;
use crate::report::model::{Ranks, Unit};

/// Of more workers than this, bars would be thinner than the gaps between them: a step line.
const MOST_BARS: usize = 24;

/// Which part of its place a bar takes.
const WIDTH: f64 = 0.38;

/// A panel for each subject.
pub fn draw(id: &str, panels: &[Ranks]) -> Markup {
    html! {
        div.panels {
            @for (index, of) in panels.iter().enumerate() {
                // Pictures of as many workers can be compared, so they have the same axis.
                @let alike = panels.iter().filter(|other| workers(other) == workers(of));
                @let values = alike.flat_map(|other| other.requests.iter().chain(&other.connections));
                @let scale = Scale::linear(values.copied().chain([0.0]));
                (panel(&format!("{id}-{index}"), index, of, &scale))
            }
        }
        p.caption {
            "Requests are filled, connections are outlined; the dashed line is the fair share, \
             1 / number of workers. Workers are ranked within each slice, the busiest first, and \
             then ranks are averaged over the slices, because each slice draws anew which worker \
             is the busiest and sums over workers would look even."
        }
    }
}

fn workers(of: &Ranks) -> usize {
    of.requests.len().max(of.connections.len())
}

fn panel(id: &str, index: usize, of: &Ranks, scale: &Scale) -> Markup {
    let workers = workers(of);
    let title = format!("Work by rank: {}", of.name);
    let description = describe(of);
    let plot = Plot { id, title: &title, description: &description, height: 170.0, class: "ranks" };
    let rows: Vec<_> =
        scale.ticks().into_iter().map(|at| (scale.place(at), tick(at, Unit::Part))).collect();
    let share = 1.0 / workers.max(1) as f64;
    let fair = plot.down(scale.place(share));
    html! {
        div {
            h3 { (look::name(index, &of.name)) }
            p { (of.note) }
            (plot.draw(&html! {
                (plot.rows("share of a slice", &rows))
                g class=(look::colour(index)) {
                    @if workers > MOST_BARS {
                        (steps(&plot, scale, "step filled", &of.requests))
                        (steps(&plot, scale, "step", &of.connections))
                    } @else {
                        (bars(&plot, scale, "filled", 0.5 - WIDTH - 0.02, &of.requests))
                        (bars(&plot, scale, "hollow", 0.52, &of.connections))
                    }
                }
                line.reference x1="0%" x2="100%" y1=(fair) y2=(fair) {}
                text.label x="100%" y=(fair) dy="-5" text-anchor="end" {
                    "fair share " (number(share, Unit::Part))
                }
                text.tick x="0" y=(plot.height + 18.0) { "busiest" }
                text.tick.left x="100%" y=(plot.height + 18.0) { "idlest of " (workers) }
            }))
        }
    }
}

/// Bars that begin at this part of their places.
fn bars(plot: &Plot, scale: &Scale, class: &str, beside: f64, shares: &[f64]) -> Markup {
    let place = 1.0 / shares.len().max(1) as f64;
    html! {
        @for (rank, share) in shares.iter().enumerate() {
            rect class=(class) x=(across((rank as f64 + beside) * place))
                width=(across(WIDTH * place)) y=(plot.down(scale.place(*share)))
                height=(format!("{:.1}", plot.height * scale.place(*share))) data-value=(share)
            {
                title { "rank " (rank + 1) ": " (number(*share, Unit::Part)) }
            }
        }
    }
}

fn steps(plot: &Plot, scale: &Scale, class: &str, shares: &[f64]) -> Markup {
    let place = 1.0 / shares.len().max(1) as f64;
    let mut points = vec![(0.0, 0.0)];
    for (rank, share) in shares.iter().enumerate() {
        let y = scale.place(*share);
        points.extend([(rank as f64 * place, y), ((rank + 1) as f64 * place, y)]);
    }
    points.push((1.0, 0.0));
    plot.curve(class, "none", &points)
}

fn describe(of: &Ranks) -> String {
    let show = |share: &f64| number(*share, Unit::Part);
    let list = |shares: &[f64]| match shares {
        [busiest, .., idlest] if shares.len() > MOST_BARS => {
            format!("from {} down to {}", show(busiest), show(idlest))
        }
        [] => "not known".into(),
        _ => shares.iter().map(show).collect::<Vec<_>>().join(", "),
    };
    format!(
        "From the busiest worker of a slice to the idlest. Requests: {}. Connections: {}.",
        list(&of.requests),
        list(&of.connections)
    )
}
