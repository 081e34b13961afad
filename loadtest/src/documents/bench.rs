//! One result of `bench`: how fast, and which worker did the work.

use crate::documents::{ABOUT_LATENCIES, LATENCY, connections, context, errors, opened};
use crate::measure::bench::{Bench, Spread, Worker};
use crate::report::format::bar;
use crate::report::model::{Block, Cell, Document, Field, Table, Unit};
use crate::report::post;
use crate::server::telemetry::Role;

/// Of more workers than this, only the busiest and the idlest are shown.
const MOST_ROWS: usize = 32;

/// Why the workers' connections are one more than wrk's.
const ABOUT_CONNECTIONS: &str = "wrk opens one connection more, without a request on it, to see \
                                 whether the server is there.";

/// A worker, and the requests of the busiest.
type Ranked<'a> = (&'a Worker, u64);

fn of_worker<'a>() -> [Field<Ranked<'a>>; 15] {
    [
        ("", Unit::Text, |(worker, _)| {
            Cell::text(match worker.role {
                Role::Worker => "",
                Role::Acceptor => "accepts",
                Role::Child => "child",
            })
        }),
        ("pid", Unit::Id, |(worker, _)| Cell::count(worker.pid.into())),
        ("inode", Unit::Id, |(worker, _)| count(worker.socket_inode)),
        ("connections", Unit::Count, |(worker, _)| count(worker.connections)),
        ("open on average", Unit::Mean, |(worker, _)| Cell::maybe(worker.held)),
        ("requests", Unit::Count, |(worker, _)| count(worker.requests)),
        ("", Unit::Text, |(worker, most)| Cell::text(bar(worker.requests.unwrap_or(0), *most, 8))),
        ("CPU s user", Unit::Seconds, |(worker, _)| Cell::number(worker.cpu_seconds.user)),
        ("system", Unit::Seconds, |(worker, _)| Cell::number(worker.cpu_seconds.system)),
        ("switches voluntary", Unit::Count, |(one, _)| Cell::count(one.context_switches.voluntary)),
        ("invol.", Unit::Count, |(one, _)| Cell::count(one.context_switches.involuntary)),
        ("empty wake-ups", Unit::Count, |(one, _)| count(one.wakeups_without_connection)),
        // What a policy that looks at the load did, by its own count.
        ("steered to it", Unit::Count, |(worker, _)| count(worker.steered)),
        ("migrated to it", Unit::Count, |(worker, _)| count(worker.migrated)),
        ("stood back", Unit::Count, |(worker, _)| count(worker.gated)),
    ]
}

/// The last of these columns are left out where nothing was counted.
const OF_POLICIES: usize = 3;

const SPREAD: [Field<Spread>; 3] = [
    ("busiest / average", Unit::Times, |spread| Cell::number(spread.max_over_mean)),
    ("best attainable", Unit::Times, |spread| Cell::number(spread.best_attainable)),
    ("idle workers", Unit::Count, |spread| Cell::count(spread.idle_workers as u64)),
];

fn count(value: Option<u64>) -> Cell {
    Cell::maybe(value.map(|value| value as f64))
}

/// The document.
pub fn document(record: &Bench) -> Document {
    let load = &record.load;
    let what = match record.workers.len() {
        // The server is named by its URL already.
        0 => String::new(),
        1 => format!("1 worker, {}, ", load.url),
        many => format!("{many} workers, {}, ", load.url),
    };
    let wrk = format!(
        "{} threads, {} connections, {:.1} s",
        load.wrk.threads,
        opened(load.wrk.connections_opened, load.wrk.connections),
        load.seconds
    );
    let mut latency =
        Table::of("Latency", [&record.server]).with("", &LATENCY, [&record.result.latency_us]);
    latency.note = ABOUT_LATENCIES.into();
    let mut spread =
        Table::of("Spread", record.spread.map(|_| "requests")).with("", &SPREAD, &record.spread);
    spread.note = format!("1 is even, {} is one worker doing it all.", record.workers.len());
    let mut blocks = vec![
        Block::Facts(vec![
            ("server".into(), format!("{what}{}", connections(load.wrk.keep_alive))),
            ("load".into(), wrk),
        ]),
        Block::Heading("Requests and latency".into()),
        Block::Table(requests(record)),
        Block::Table(latency),
        Block::Facts(vec![("errors".into(), errors(&record.result.errors))]),
        Block::Heading("Workers".into()),
        match record.workers.is_empty() {
            true => Block::Text("No rows for workers: they cannot be seen from here.".into()),
            false => Block::Table(workers(&record.workers)),
        },
        Block::Table(spread),
    ];
    blocks.extend(context(&record.environment, &record.arguments, &record.warnings));
    Document { title: record.server.clone(), blocks }
}

fn requests(record: &Bench) -> Table {
    let mut table = Table::new("", &[("Requests/s", Unit::PerSecond), ("requests", Unit::Count)]);
    let result = &record.result;
    table.row(
        &record.server,
        [Cell::number(result.requests_per_second), Cell::count(result.requests)],
    );
    if let Some(quotation) = post::figure_for(&record.server) {
        table.row("the post", [Cell::count(quotation.requests_per_second), Cell::none()]);
        table.note =
            format!("The post: {}, {}; {}.", quotation.program, post::CONDITIONS, post::SOURCE);
    }
    table
}

/// A row for each worker or, where they are many, for the busiest and the idlest, busiest first.
fn workers(all: &[Worker]) -> Table {
    let most = all.iter().filter_map(|worker| worker.requests).max().unwrap_or(0);
    let mut shown: Vec<Ranked> = all.iter().map(|worker| (worker, most)).collect();
    let mut note = String::new();
    if shown.len() > MOST_ROWS {
        let cpu = |worker: &Worker| (worker.cpu_seconds.total() * 1e6) as u64;
        shown.sort_by_key(|(worker, _)| std::cmp::Reverse((worker.requests, cpu(worker))));
        let left = shown.drain(MOST_ROWS / 2..all.len() - MOST_ROWS / 2).count();
        note =
            format!("{left} more workers lie between the busiest and the idlest; --json has all. ");
    }
    let has_counts = all
        .iter()
        .any(|one| [one.steered, one.migrated, one.gated].iter().flatten().any(|&n| n > 0));
    let columns = of_worker().len() - if has_counts { 0 } else { OF_POLICIES };
    let names = shown.iter().map(|(worker, _)| worker.index.to_string());
    let mut table = Table::of("", names).with("", &of_worker()[..columns], &shown);
    table.keep_known_columns();
    table.note = note + ABOUT_CONNECTIONS;
    table
}
