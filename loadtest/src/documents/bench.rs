//! One result of `bench`: the speed, and which worker did the work.

use crate::documents::{self, ABOUT_LATENCIES, LATENCY, connections, errors, facts, opened};
use crate::measure::bench::{Bench, Worker, acceptors};
use crate::measure::comparison::Spread;
use crate::report::format::{self, bar};
use crate::report::model::{Block, Cell, Document, Field, Table, Unit};
use crate::report::post;
use crate::server::telemetry::Role;

/// The most rows: of more workers, only the busiest and the idlest are shown.
const MOST_ROWS: usize = 32;

/// Why the workers' connections are one more than wrk's.
const ABOUT_CONNECTIONS: &str = "wrk opens one additional connection, without a request, to check \
                                 that the server is reachable.";

/// A note about a column.
const ABOUT_WAITING: &str = "Waited: ready to run, but without a core (run-queue wait).";

/// A worker, and the requests of the busiest.
type Ranked<'a> = (&'a Worker, u64);

fn of_worker<'a>() -> [Field<Ranked<'a>>; 16] {
    [
        ("", Unit::Text, |(worker, _)| match worker.role {
            Role::Acceptor => "accepts".into(),
            Role::Child => "child".into(),
            _ => "".into(),
        }),
        ("pid", Unit::Id, |(worker, _)| worker.pid.into()),
        ("inode", Unit::Id, |(worker, _)| worker.socket_inode.into()),
        ("connections", Unit::Count, |(worker, _)| worker.connections.into()),
        ("open on average", Unit::Mean, |(worker, _)| worker.held.into()),
        ("requests", Unit::Count, |(worker, _)| worker.requests.into()),
        ("", Unit::Text, |(worker, most)| bar(worker.requests.unwrap_or(0), *most, 6).into()),
        ("CPU s user", Unit::Seconds, |(worker, _)| worker.cpu_seconds.user.into()),
        ("sys.", Unit::Seconds, |(worker, _)| worker.cpu_seconds.system.into()),
        // A worker with work and without a core: the machine is the limit, not the server.
        ("waited s", Unit::Seconds, |(worker, _)| worker.run_queue_wait_seconds.into()),
        ("switches vol.", Unit::Count, |(one, _)| one.context_switches.voluntary.into()),
        ("invol.", Unit::Count, |(worker, _)| worker.context_switches.involuntary.into()),
        ("empty wake-ups", Unit::Count, |(worker, _)| worker.wakeups_without_connection.into()),
        // A load-aware policy's own counters.
        ("steered to it", Unit::Count, |(worker, _)| worker.steered.into()),
        ("migrated to it", Unit::Count, |(worker, _)| worker.migrated.into()),
        ("stood back", Unit::Count, |(worker, _)| worker.gated.into()),
    ]
}

/// The last of these columns are omitted if nothing was counted.
const OF_POLICIES: usize = 3;

const SPREAD: [Field<Spread>; 3] = [
    ("busiest / average", Unit::Times, |spread| spread.max_over_mean.into()),
    ("best attainable", Unit::Times, |spread| spread.best_attainable.into()),
    ("idle workers", Unit::Count, |spread| spread.idle_workers.into()),
];

/// The document.
pub fn document(record: &Bench) -> Document {
    let (load, result) = (&record.load, &record.result);
    let server = match record.workers.len() {
        0 => format!("{}, ", record.url),
        all => format!("{}, {}, ", format::workers(all, acceptors(&record.workers)), record.url),
    };
    let opened = opened(load.connections_opened, load.connections);
    let threads = format::plural(load.threads, "thread");
    let wrk = format!("{threads}, {opened}, {:.1} s", record.seconds);
    let latency = Table::of("Latency", [&record.server]).with("", &LATENCY, [&result.latency_us]);
    let spread = Table::of("Spread", result.spread.as_ref().map(|_| "requests")).with(
        "",
        &SPREAD,
        &result.spread,
    );
    let even =
        format!("1 is even; {} means that one worker did all the work.", record.workers.len());
    let blocks = vec![
        facts([("server", format!("{server}{}", connections(load.keep_alive))), ("load", wrk)]),
        Block::Heading("Requests and latency".into()),
        Block::Table(requests(record)),
        Block::Table(Table { note: ABOUT_LATENCIES.into(), ..latency }),
        facts([("errors", errors(&result.errors))]),
        Block::Heading("Workers".into()),
        match record.workers.is_empty() {
            true => {
                Block::Text("What each worker did is not known; a warning below says why.".into())
            }
            false => Block::Table(workers(&record.workers)),
        },
        Block::Table(Table { note: even, ..spread }),
    ];
    documents::document(&record.server, record, blocks)
}

fn requests(record: &Bench) -> Table {
    let mut table = Table::new("", &[("Requests/s", Unit::PerSecond), ("requests", Unit::Count)]);
    let result = &record.result;
    table.row(&record.server, [result.requests_per_second.into(), result.requests.into()]);
    if let Some(quoted) = post::figure_for(&record.server) {
        table.row("the post", [quoted.requests_per_second.into(), Cell::default()]);
        table.note =
            format!("The post: {}, {}; {}.", quoted.program, post::CONDITIONS, post::SOURCE);
    }
    table
}

/// A row for each worker or, of many, for the busiest and the idlest, the busiest first.
fn workers(all: &[Worker]) -> Table {
    let most = all.iter().filter_map(|worker| worker.requests).max().unwrap_or(0);
    let mut shown: Vec<Ranked> = all.iter().map(|worker| (worker, most)).collect();
    let mut note = ABOUT_CONNECTIONS.to_owned();
    if shown.len() > MOST_ROWS {
        let cpu = |worker: &Worker| (worker.cpu_seconds.total() * 1e6) as u64;
        shown.sort_by_key(|(worker, _)| std::cmp::Reverse((worker.requests, cpu(worker))));
        let left = shown.drain(MOST_ROWS / 2..all.len() - MOST_ROWS / 2).count();
        let words = "workers between the busiest and the idlest are not shown; --json has all.";
        note = format!("{left} {words} {note}");
    }
    let counts = all.iter().flat_map(|one| [one.steered, one.migrated, one.gated]);
    let has_counts = counts.flatten().any(|count| count > 0);
    let columns = of_worker().len() - if has_counts { 0 } else { OF_POLICIES };
    let names = shown.iter().map(|(worker, _)| worker.index.to_string());
    let table = Table::of("", names).with("", &of_worker()[..columns], &shown);
    if all.iter().any(|worker| worker.run_queue_wait_seconds.is_some()) {
        note = format!("{note} {ABOUT_WAITING}");
    }
    Table { note, ..table.known_columns() }
}
