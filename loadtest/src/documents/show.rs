//! Several results of `bench` in one table, a column each.

use crate::documents::bench::latencies;
use crate::documents::{ABOUT_LATENCIES, connections, errors, machine};
use crate::measure::bench::Bench;
use crate::report::model::{Block, Cell, Document, Table, Unit};
use crate::report::post;

/// A row of the table: its name, the unit of its figures, and the figure of each record.
type Row = (&'static str, Unit, fn(&Bench) -> Option<f64>);

const ROWS: [Row; 14] = [
    ("the post's", Unit::PerSecond, |r| {
        Some(post::figure_for(&r.server)?.requests_per_second as f64)
    }),
    ("latency mean", Unit::Microseconds, |r| Some(latencies(&r.result.latency_us)[0])),
    ("latency stdev", Unit::Microseconds, |r| Some(latencies(&r.result.latency_us)[1])),
    ("latency p50", Unit::Microseconds, |r| Some(latencies(&r.result.latency_us)[2])),
    ("latency p75", Unit::Microseconds, |r| Some(latencies(&r.result.latency_us)[3])),
    ("latency p90", Unit::Microseconds, |r| Some(latencies(&r.result.latency_us)[4])),
    ("latency p99", Unit::Microseconds, |r| Some(latencies(&r.result.latency_us)[5])),
    ("latency p99.9", Unit::Microseconds, |r| Some(latencies(&r.result.latency_us)[6])),
    ("latency max", Unit::Microseconds, |r| Some(latencies(&r.result.latency_us)[7])),
    ("workers", Unit::Count, |r| known(r, r.workers.len() as f64)),
    ("busiest / average", Unit::Times, |r| Some(r.spread?.max_over_mean)),
    ("idle workers", Unit::Count, |r| Some(r.spread?.idle_workers as f64)),
    ("wake-ups for nothing", Unit::Count, |r| {
        let empty = r.workers.iter().map(|w| w.wakeups_without_connection);
        known(r, empty.sum::<Option<u64>>()? as f64)
    }),
    ("server CPU per request", Unit::Microseconds, |r| {
        let seconds: f64 = r.workers.iter().map(|w| w.cpu_seconds.total()).sum();
        known(r, seconds * 1e6 / r.result.requests as f64)
    }),
];

/// What only a server whose workers can be seen has.
fn known(record: &Bench, value: f64) -> Option<f64> {
    (!record.workers.is_empty()).then_some(value)
}

/// The table, and below it what its figures are of.
pub fn document(records: &[Bench]) -> Document {
    let columns: Vec<(&str, Unit)> =
        records.iter().map(|record| (record.server.as_str(), Unit::PerSecond)).collect();
    let mut table = Table::new("", &columns);
    let rate = |record: &Bench| record.result.requests_per_second;
    table.row("requests/s", records.iter().map(|record| Cell::number(rate(record))));
    if let Some(first) = records.first() {
        let of_first = |r: &Bench| Cell::number(rate(r) / rate(first)).of(Unit::Ratio);
        table.row("of the first", records.iter().map(of_first));
    }
    for (name, unit, figure) in ROWS {
        table.row(name, records.iter().map(|record| Cell::maybe(figure(record)).of(unit)));
    }
    let errors = |record: &Bench| Cell::text(errors(&record.result.errors));
    table.row("errors", records.iter().map(errors));
    table.note = format!("{ABOUT_LATENCIES} The post's: {}; {}.", post::CONDITIONS, post::SOURCE);
    let facts = records.iter().map(|record| {
        let load = &record.load;
        let words = format!(
            "{}, {} connections, {:.1} s, {}, {}",
            connections(load.keep_alive),
            load.connections_opened,
            load.seconds,
            record.environment.started_at,
            machine(&record.environment)
        );
        (record.server.clone(), words)
    });
    let blocks = vec![
        Block::Table(table),
        Block::Facts(facts.collect()),
        Block::Warnings(warnings(records)),
    ];
    Document { title: "Results side by side".into(), blocks }
}

/// Most warnings are true of all of them; each is said once, with whom it concerns.
fn warnings(records: &[Bench]) -> Vec<String> {
    let mut said: Vec<(&str, Vec<&str>)> = Vec::new();
    for record in records {
        for warning in &record.warnings {
            match said.iter_mut().find(|(text, _)| text == warning) {
                Some((_, servers)) => servers.push(&record.server),
                None => said.push((warning, vec![&record.server])),
            }
        }
    }
    let said = said.iter().map(|(text, servers)| match servers.len() == records.len() {
        true => (*text).to_owned(),
        false => format!("{}: {text}", servers.join(", ")),
    });
    said.collect()
}
