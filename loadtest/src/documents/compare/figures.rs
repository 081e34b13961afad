//! Everything in numbers.

use crate::documents::compare::{estimate, summaries};
use crate::documents::{ABOUT_LATENCIES, errors};
use crate::measure::comparison::{Comparison, Subject, Summary};
use crate::report::format::count;
use crate::report::model::{Cell, Table, Unit};
use crate::statistics::estimate::Estimate;
use crate::statistics::latency::Latency;

/// A row of all figures: its name, and the cell of a subject.
type Row = (&'static str, fn(&Summary) -> Cell);

const ROWS: [Row; 19] = [
    ("requests/s, median", |s| rate(s.requests_per_second)),
    ("server CPU per request", |s| estimate(s.cpu_us_per_request).of(Unit::Microseconds)),
    ("context switches per request", |s| Cell::maybe(s.switches_per_request).of(Unit::Times)),
    ("latency mean", |s| Cell::number(s.latency_us.mean).of(Unit::Microseconds)),
    ("latency p50", |s| latency(s, |l| l.p50)),
    ("latency p90", |s| latency(s, |l| l.p90)),
    ("latency p99", |s| latency(s, |l| l.p99)),
    ("latency p99.9", |s| latency(s, |l| l.p99_9)),
    ("latency p99.99", |s| latency(s, |l| l.p99_99)),
    ("latency max", |s| latency(s, |l| l.max)),
    ("busiest / average worker", |s| times(s.spread.as_ref().map(|one| one.max_over_mean))),
    ("best attainable", |s| times(s.spread.as_ref().map(|one| one.best_attainable))),
    ("in the worst slice", |s| times(s.spread.as_ref().map(|one| one.worst_max_over_mean))),
    ("idle workers", |s| times(s.spread.as_ref().map(|one| one.idle_workers))),
    ("cores used by the server", |s| times(s.limit.as_ref().map(|one| one.server_cores))),
    ("by wrk", |s| times(s.limit.as_ref().map(|one| one.wrk_cores))),
    ("errors", |s| Cell::text(errors(&s.errors))),
    ("slices", |s| Cell::count(s.slices as u64)),
    ("requests", |s| Cell::count(s.requests)),
];

fn rate(found: Estimate) -> Cell {
    estimate(Some(found)).of(Unit::PerSecond)
}

fn latency(summary: &Summary, of: fn(&Latency) -> u64) -> Cell {
    Cell::count(of(&summary.latency_us)).of(Unit::Microseconds)
}

fn times(value: Option<f64>) -> Cell {
    Cell::maybe(value).of(Unit::Times)
}

/// Everything in numbers; one that has no slices has no column.
pub fn figures(comparison: &Comparison) -> Table {
    let subjects: Vec<(&Subject, &Summary)> = summaries(comparison).collect();
    let columns: Vec<(&str, Unit)> =
        subjects.iter().map(|(subject, _)| (subject.name.as_str(), Unit::Count)).collect();
    let mut table = Table::new("", &columns);
    for (name, cell) in ROWS {
        table.row(name, subjects.iter().map(|(_, summary)| cell(summary)));
    }
    let ends = subjects.iter().map(|(subject, _)| {
        let rates = subject.slices.iter().map(|slice| slice.requests_per_second);
        let (least, most) =
            (rates.clone().fold(f64::INFINITY, f64::min), rates.fold(0.0, f64::max));
        Cell::text(format!("{} to {}", count(least.round() as u64), count(most.round() as u64)))
    });
    table.row("requests/s, least to greatest", ends);
    let workers = subjects.iter().map(|(one, _)| Cell::maybe(one.workers.map(|all| all as f64)));
    table.row("workers", workers);
    table.row("server", subjects.iter().map(|(subject, _)| Cell::text(&subject.server)));
    table.note = format!("In brackets: 95 % intervals. {ABOUT_LATENCIES}");
    table
}
