//! One result of `bench`: how fast, and which worker did the work.

use crate::documents::{ABOUT_LATENCIES, connections, context, errors, opened};
use crate::measure::bench::{Bench, Worker};
use crate::report::format::{bar, count};
use crate::report::model::{Block, Cell, Document, Table, Unit};
use crate::report::post;
use crate::server::telemetry::Role;
use crate::statistics::latency::Latency;

/// Of more workers than this, only the busiest and the idlest are shown.
const MOST_ROWS: usize = 32;

/// Why the workers' connections are one more than wrk's.
const ABOUT_CONNECTIONS: &str = "wrk opens one connection more, without a request on it, to see \
                                 whether the server is there.";

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
        load.threads,
        opened(load.connections_opened, load.connections_asked),
        load.seconds
    );
    let mut blocks = vec![
        Block::Facts(vec![
            ("server".into(), format!("{what}{}", connections(load.keep_alive))),
            ("load".into(), wrk),
        ]),
        Block::Heading("Requests and latency".into()),
        Block::Table(requests(record)),
        Block::Table(latency(&[(&record.server, &record.result.latency_us)])),
        Block::Facts(vec![("errors".into(), errors(&record.result.errors))]),
        Block::Heading("Workers".into()),
    ];
    if record.workers.is_empty() {
        blocks.push(Block::Text("No rows for workers: they cannot be seen from here.".into()));
    } else {
        blocks.push(Block::Table(workers(&record.workers)));
        blocks.extend(policy(&record.workers));
    }
    if let Some(spread) = &record.spread {
        let mut table = Table::new(
            "Spread",
            &[
                ("busiest / average", Unit::Times),
                ("best attainable", Unit::Times),
                ("idle workers", Unit::Count),
            ],
        );
        table.row(
            "requests",
            [
                Cell::number(spread.max_over_mean),
                Cell::number(spread.best_attainable),
                Cell::count(spread.idle_workers as u64),
            ],
        );
        table.note = format!("1 is even, {} is one worker doing it all.", record.workers.len());
        blocks.push(Block::Table(table));
    }
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

/// Latencies, a row for each server.
fn latency(of: &[(&str, &Latency)]) -> Table {
    let names = ["mean", "stdev", "p50", "p75", "p90", "p99", "p99.9", "max"];
    let mut table = Table::new("Latency", &names.map(|name| (name, Unit::Microseconds)));
    for (name, latency) in of {
        table.row(*name, latencies(latency).map(Cell::number));
    }
    table.note = ABOUT_LATENCIES.into();
    table
}

/// Every latency in the order of [`latency`]'s columns, in microseconds.
pub fn latencies(latency: &Latency) -> [f64; 8] {
    let Latency { mean, stdev, p50, p75, p90, p99, p99_9, max, .. } = latency;
    let whole = [p50, p75, p90, p99, p99_9, max].map(|&value| value as f64);
    let [p50, p75, p90, p99, p99_9, max] = whole;
    [*mean, *stdev, p50, p75, p90, p99, p99_9, max]
}

/// A row for each worker, or for the most telling of them.
fn workers(workers: &[Worker]) -> Table {
    let mut table = Table::new(
        "",
        &[
            ("", Unit::Text),
            ("pid", Unit::Id),
            ("inode", Unit::Id),
            ("connections", Unit::Count),
            ("open on average", Unit::Mean),
            ("requests", Unit::Count),
            ("", Unit::Text),
            ("CPU s user", Unit::Seconds),
            ("system", Unit::Seconds),
            ("switches voluntary", Unit::Count),
            ("invol.", Unit::Count),
            ("empty wake-ups", Unit::Count),
        ],
    );
    let requests = |worker: &Worker| worker.requests.unwrap_or(0);
    let most = workers.iter().map(requests).max().unwrap_or(0);
    let known = |count: Option<u64>| Cell::maybe(count.map(|count| count as f64));
    let shown = rows(workers);
    for worker in &shown {
        table.row(
            worker.index.to_string(),
            [
                Cell::text(role(worker)),
                Cell::count(worker.pid.into()),
                known(worker.socket_inode),
                known(worker.connections),
                Cell::maybe(worker.held),
                known(worker.requests),
                Cell::text(bar(requests(worker), most, 8)),
                Cell::number(worker.cpu_seconds.user),
                Cell::number(worker.cpu_seconds.system),
                Cell::count(worker.context_switches.voluntary),
                Cell::count(worker.context_switches.involuntary),
                known(worker.wakeups_without_connection),
            ],
        );
    }
    table.keep_known_columns();
    table.note = ABOUT_CONNECTIONS.into();
    if shown.len() < workers.len() {
        let left = workers.len() - shown.len();
        table.note = format!(
            "{left} more workers lie between the busiest and the idlest; --json has all. \
             {ABOUT_CONNECTIONS}"
        );
    }
    table
}

/// How it takes part, where that is not as a worker.
fn role(worker: &Worker) -> &'static str {
    match worker.role {
        Role::Worker => "",
        Role::Acceptor => "accepts",
        Role::Child => "child",
    }
}

/// What a policy that looks at the load did, where there is one; nothing elsewhere.
fn policy(workers: &[Worker]) -> Option<Block> {
    let each = |of: fn(&Worker) -> Option<u64>| -> Option<String> {
        let shown = rows(workers);
        let counts = || shown.iter().filter_map(|worker| of(worker));
        let all: Vec<String> = counts().map(count).collect();
        counts().any(|count| count > 0).then(|| all.join(", "))
    };
    let facts = [
        ("the policy's own count: steered to each worker", each(|worker| worker.steered)),
        ("migrated to each worker", each(|worker| worker.migrated)),
        ("times each stood back", each(|worker| worker.gated)),
    ];
    let facts = facts.into_iter().filter_map(|(name, counts)| Some((name.into(), counts?)));
    let facts: Vec<(String, String)> = facts.collect();
    (!facts.is_empty()).then_some(Block::Facts(facts))
}

/// All workers in their order or, where they are many, the busiest and the idlest, busiest first.
fn rows(workers: &[Worker]) -> Vec<&Worker> {
    let mut rows: Vec<&Worker> = workers.iter().collect();
    if rows.len() > MOST_ROWS {
        let cpu = |worker: &Worker| (worker.cpu_seconds.total() * 1e6) as u64;
        rows.sort_by_key(|worker| std::cmp::Reverse((worker.requests, cpu(worker))));
        rows.drain(MOST_ROWS / 2..rows.len() - MOST_ROWS / 2);
    }
    rows
}
