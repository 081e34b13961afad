//! All figures in one table, a column for each subject.

use maud::{Markup, html};

use crate::measure::comparison::{Comparison, Subject, Summary};
use crate::report::format::count;
use crate::report::html::figure::{figure, interval, rate, time, two_digits, whole_time, words};
use crate::report::html::look::{self, plain_name};
use crate::types::Errors;

/// A row's name, and its cell for a subject whose summary lies there in the record.
type Row = (&'static str, fn(&Summary, &str) -> Markup);

const ROWS: &[Row] = &[
    ("slices", |s, at| figure(s.slices, &format!("{at}/slices"), |slices| count(slices as u64))),
    ("requests", |s, at| figure(s.requests, &format!("{at}/requests"), count)),
    ("requests/s, median", |s, at| {
        figure(s.requests_per_second.value, &format!("{at}/requests_per_second/value"), rate)
    }),
    ("95 % interval", |s, at| {
        interval(s.requests_per_second.ends(), &format!("{at}/requests_per_second/interval"), rate)
    }),
    ("server CPU per request", |s, at| {
        known(s.cpu_us_per_request, |cpu| {
            figure(cpu.value, &format!("{at}/cpu_us_per_request/value"), cost)
        })
    }),
    ("95 % interval", |s, at| {
        known(s.cpu_us_per_request, |cpu| {
            interval(cpu.ends(), &format!("{at}/cpu_us_per_request/interval"), cost)
        })
    }),
    ("latency mean", |s, at| figure(s.latency_us.mean, &format!("{at}/latency_us/mean"), time)),
    ("latency p50", |s, at| figure(s.latency_us.p50, &format!("{at}/latency_us/p50"), whole_time)),
    ("latency p90", |s, at| figure(s.latency_us.p90, &format!("{at}/latency_us/p90"), whole_time)),
    ("latency p99", |s, at| figure(s.latency_us.p99, &format!("{at}/latency_us/p99"), whole_time)),
    ("latency p99.9", |s, at| {
        figure(s.latency_us.p99_9, &format!("{at}/latency_us/p99_9"), whole_time)
    }),
    ("latency p99.99", |s, at| {
        figure(s.latency_us.p99_99, &format!("{at}/latency_us/p99_99"), whole_time)
    }),
    ("latency max", |s, at| figure(s.latency_us.max, &format!("{at}/latency_us/max"), whole_time)),
    ("busiest / average worker", |s, at| {
        known(s.spread.as_ref(), |found| {
            figure(found.max_over_mean, &format!("{at}/spread/max_over_mean"), two_digits)
        })
    }),
    ("in the worst slice", |s, at| {
        known(s.spread.as_ref(), |s| {
            figure(s.worst_max_over_mean, &format!("{at}/spread/worst_max_over_mean"), two_digits)
        })
    }),
    ("idle workers", |s, at| {
        known(s.spread.as_ref(), |found| {
            figure(found.idle_workers, &format!("{at}/spread/idle_workers"), two_digits)
        })
    }),
    ("cores used by the server", |s, at| {
        known(s.limit.as_ref(), |found| {
            figure(found.server_cores, &format!("{at}/limit/server_cores"), two_digits)
        })
    }),
    ("by wrk", |s, at| {
        known(s.limit.as_ref(), |found| {
            figure(found.wrk_cores, &format!("{at}/limit/wrk_cores"), two_digits)
        })
    }),
    ("by loadtest itself", |s, at| {
        known(s.limit.as_ref(), |found| {
            figure(found.own_cores, &format!("{at}/limit/own_cores"), |cores| format!("{cores:.3}"))
        })
    }),
    ("errors", |s, at| errors(&s.errors, &format!("{at}/errors"))),
];

/// The table, who was the limit, and what was odd.
pub fn section(comparison: &Comparison) -> Markup {
    let subjects = &comparison.subjects;
    html! {
        section {
            h2 { "All figures" }
            div.scroll tabindex="0" role="region" aria-label="All figures" { (table(subjects)) }
            @if subjects.iter().any(|subject| subject.summary.is_some()) {
                h3 { "Who was the limit" }
                ul {
                    @for (index, subject) in subjects.iter().enumerate() {
                        @if let Some(summary) = &subject.summary {
                            li {
                                b { (plain_name(index, subject)) } ": "
                                (summary.limit.map_or_else(|| "not known".into(), |limit| limit.sentence())) "."
                            }
                        }
                    }
                }
            }
            @if !comparison.anomalies.is_empty() {
                h3 { "What was odd" }
                ul {
                    @for (index, oddity) in comparison.anomalies.iter().enumerate() {
                        li { (words(oddity, &format!("/anomalies/{index}"))) "." }
                    }
                }
            }
        }
    }
}

fn table(subjects: &[Subject]) -> Markup {
    html! {
        table.sticky {
            thead {
                tr {
                    td {}
                    @for (index, subject) in subjects.iter().enumerate() {
                        th scope="col" { (look::name(index, subject)) }
                    }
                }
            }
            tbody {
                tr {
                    th scope="row" { "server" }
                    @for (index, subject) in subjects.iter().enumerate() {
                        td.who {
                            @let at = format!("/subjects/{index}/server");
                            code { (words(&subject.server, &at)) }
                        }
                    }
                }
                tr {
                    th scope="row" { "workers" }
                    @for (index, subject) in subjects.iter().enumerate() {
                        @let at = format!("/subjects/{index}/workers");
                        td { (known(subject.workers, |workers| figure(workers, &at, |w| count(w as u64)))) }
                    }
                }
                @for (name, cell) in ROWS {
                    tr {
                        th scope="row" { (name) }
                        @for (index, subject) in subjects.iter().enumerate() {
                            @let at = format!("/subjects/{index}/summary");
                            td {
                                @match &subject.summary {
                                    Some(summary) => (cell(summary, &at)),
                                    None => "–",
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What is known, or a dash.
fn known<T>(value: Option<T>, show: impl FnOnce(T) -> Markup) -> Markup {
    value.map_or_else(|| html! { "–" }, show)
}

/// CPU time per request: a few microseconds, of which a tenth matters.
fn cost(us: f64) -> String {
    if us < 100.0 { format!("{us:.1} µs") } else { time(us) }
}

fn errors(errors: &Errors, at: &str) -> Markup {
    let some: Vec<_> = errors.kinds().into_iter().filter(|(_, number)| *number > 0).collect();
    html! {
        @if some.is_empty() { "none" }
        @for (place, (kind, number)) in some.iter().enumerate() {
            @if place > 0 { ", " }
            (kind) " " (figure(*number, &format!("{at}/{kind}"), count))
        }
    }
}
