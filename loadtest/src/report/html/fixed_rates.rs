//! Latencies at rates that do not depend on the answers.

use maud::{Markup, html};

use crate::measure::comparison::{AtRate, Comparison, FixedRate};
use crate::report::format::count;
use crate::report::html::figure::{figure, percent, time, whole_time, words};

/// The table with its words; nothing where there is nothing to show.
pub fn section(comparison: &Comparison) -> Markup {
    html! {
        @if !comparison.fixed_rates.is_empty() {
            section {
                h2 { "Latency at a fixed rate" }
                div.scroll tabindex="0" role="region" aria-label="Latency at a fixed rate" {
                    table {
                        thead {
                            tr {
                                th scope="col" { "requests/s" }
                                th.left { "subject" }
                                th { "p50" } th { "p99" } th { "p99.9" } th { "max" }
                                th { "due" } th { "answered" } th { "not sent" } th { "lost" }
                            }
                        }
                        @for (index, fixed) in comparison.fixed_rates.iter().enumerate() {
                            (rows(fixed, &format!("/fixed_rates/{index}")))
                        }
                    }
                }
                p.caption {
                    "wrk waits for its answer before it asks again (a closed loop), so a server \
                     that stalls is asked less meanwhile, and its worst moments are \
                     under-represented in the picture above, although wrk adds samples to make \
                     up for it. At a fixed rate (an open loop) requests are due whether or not \
                     earlier ones are answered, and each latency counts from when its request \
                     was due."
                }
                p.caption {
                    "The rates are parts of what the slower subject answered to wrk; each \
                     lasted "
                    (figure(comparison.plan.fixed_rate_seconds, "/plan/fixed_rate_seconds", |seconds| seconds.to_string()))
                    " s."
                }
            }
        }
    }
}

/// A body of its own for each rate, so that a rule parts them.
fn rows(fixed: &FixedRate, at: &str) -> Markup {
    html! {
        tbody {
            @for (index, result) in fixed.results.iter().enumerate() {
                tr {
                    @if index == 0 {
                        th scope="rowgroup" rowspan=(fixed.results.len()) {
                            (figure(fixed.rate, &format!("{at}/rate"), count)) " ("
                            @if let Some(share) = fixed.share { (figure(share, &format!("{at}/share"), percent)) } ")"
                        }
                    }
                    (row(result, &format!("{at}/results/{index}")))
                }
            }
        }
    }
}

fn row(result: &AtRate, at: &str) -> Markup {
    html! {
        td.left.who { (words(&result.subject, &format!("{at}/subject"))) }
        @if let Some(latency) = &result.latency_us {
            @for (name, value) in
                [("p50", result.p50), ("p99", result.p99), ("p99_9", result.p99_9)]
            {
                td {
                    @if let Some(found) = value {
                        (figure(found.value, &format!("{at}/{name}/value"), time))
                    }
                }
            }
            td { (figure(latency.max, &format!("{at}/latency_us/max"), whole_time)) }
        } @else {
            td colspan="4" { "no good answer" }
        }
        td { (figure(result.due, &format!("{at}/due"), count)) }
        td { (figure(result.ok, &format!("{at}/ok"), count)) }
        td { (figure(result.not_sent, &format!("{at}/not_sent"), count)) }
        td { (figure(result.lost, &format!("{at}/lost"), count)) }
    }
}
