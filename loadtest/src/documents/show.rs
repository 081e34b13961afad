//! Several results of `bench` in one table, a column each.

use crate::documents::{ABOUT_LATENCIES, LATENCY, connections, errors, groups, machine};
use crate::measure::bench::{Bench, Worker};
use crate::measure::comparison::Spread;
use crate::report::model::{Block, Cell, Document, Field, Table, Unit};
use crate::report::post;

const LOAD: [Field<Bench>; 2] = [
    ("requests/s", Unit::PerSecond, |r| r.result.requests_per_second.into()),
    ("the post's", Unit::PerSecond, |r| {
        post::figure_for(&r.server).map(|quoted| quoted.requests_per_second).into()
    }),
];

const WORKERS: [Field<Bench>; 6] = [
    ("workers", Unit::Count, |r| known(r, |workers| Some(workers.len() as f64))),
    ("busiest / average", Unit::Times, |r| spread(r).map(|all| all.max_over_mean).into()),
    ("idle workers", Unit::Count, |r| spread(r).map(|all| all.idle_workers).into()),
    ("empty wake-ups", Unit::Count, |r| {
        let empty = |worker: &Worker| Some(worker.wakeups_without_connection? as f64);
        known(r, |workers| workers.iter().map(empty).sum())
    }),
    ("server CPU per request", Unit::Microseconds, |r| r.result.cpu_us_per_request.into()),
    ("errors", Unit::Text, |r| errors(&r.result.errors).into()),
];

fn spread(record: &Bench) -> Option<&Spread> {
    record.result.spread.as_ref()
}

/// A figure that needs a server whose workers can be seen.
fn known(record: &Bench, figure: impl Fn(&[Worker]) -> Option<f64>) -> Cell {
    figure(&record.workers).filter(|_| !record.workers.is_empty()).into()
}

/// The table, and below it the origin of its figures.
pub fn document(records: &[Bench]) -> Document {
    let mut table = Table::of("", records.iter().map(|record| &record.server))
        .with("", &LOAD, records)
        .with("latency", &LATENCY, records.iter().map(|record| &record.result.latency_us))
        .with("", &WORKERS, records)
        .turned();
    if let Some(first) = records.first() {
        let rate = |r: &Bench| r.result.requests_per_second.value;
        let part = |r: &Bench| rate(r) / rate(first);
        table.row("of the first", records.iter().map(|r| Cell::from(part(r)).of(Unit::Ratio)));
        let last = table.rows.len() - 1;
        table.rows[1..=last].rotate_right(1);
    }
    table.note = format!("{ABOUT_LATENCIES} The post's: {}; {}.", post::CONDITIONS, post::SOURCE);
    let facts = records.iter().map(|record| {
        let load = &record.load;
        let words = format!(
            "{}, {} connections, {:.1} s, {}, {}",
            connections(load.keep_alive),
            load.connections_opened,
            record.seconds,
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

/// Most warnings apply to all results; each is shown once, with the results that it is about.
fn warnings(records: &[Bench]) -> Vec<String> {
    let all = records.iter().flat_map(|one| one.warnings.iter().map(|it| (it, &*one.server)));
    let said = groups(all, |(warning, _)| *warning).into_iter().map(|group| {
        let (warnings, servers): (Vec<&String>, Vec<&str>) = group.into_iter().unzip();
        match servers.len() == records.len() {
            true => warnings[0].clone(),
            false => format!("{}: {}", servers.join(", "), warnings[0]),
        }
    });
    said.collect()
}
