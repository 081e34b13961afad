//! Several results in one table, a column each.

use std::fmt::Write as _;

use crate::measure::bench::Bench as Record;
use crate::report::format::{count, microseconds, rounded};
use crate::report::post;
use crate::report::table::{Left, Right, table, text};
use crate::report::terminal::{ABOUT_LATENCIES, errors, latencies, machine, mode};

/// The table, and below it what its figures are of.
pub fn compare(records: &[Record]) -> String {
    let mut columns = vec![("", Left)];
    columns.extend(records.iter().map(|record| (record.server.as_str(), Right)));
    let mut table = table(3, &columns);
    for (name, cells) in rows(records) {
        table.add_row(std::iter::once(name).chain(cells));
    }
    let mut report = text(&table);
    let _ = writeln!(report, "\n* {}: {}", post::SOURCE, post::CONDITIONS);
    let _ = writeln!(report, "{ABOUT_LATENCIES}");
    for record in records {
        let _ = writeln!(
            report,
            "{}: {}, {} connections, {:.1} s, {}, {}",
            record.server,
            mode(record),
            record.load.connections_opened,
            record.load.seconds,
            record.environment.started_at,
            machine(&record.environment)
        );
    }
    report
}

/// Every row's name with its cells.
fn rows(records: &[Record]) -> Vec<(String, Vec<String>)> {
    let mut rows = Vec::new();
    let mut row = |name: &str, cell: &dyn Fn(&Record) -> String| {
        rows.push((name.to_owned(), records.iter().map(cell).collect()));
    };
    let rate = |record: &Record| record.result.requests_per_second;
    row("requests/s", &|r| rounded(rate(r)));
    if let Some(first) = records.first() {
        row("  of the first", &|r| format!("{:.3}", rate(r) / rate(first)));
    }
    row("  the post's*", &|r| {
        let quotation = post::figure_for(&r.server);
        quotation.map_or_else(String::new, |q| count(q.requests_per_second))
    });
    if let Some(first) = records.first() {
        for (index, (name, _)) in latencies(&first.result.latency_us).iter().enumerate() {
            let latency = |r: &Record| microseconds(latencies(&r.result.latency_us)[index].1);
            row(&format!("latency {name}"), &latency);
        }
    }
    row("errors", &|r| errors(&r.result.errors));
    row("workers", &|r| known(r, |r| r.workers.len().to_string()));
    row("busiest / average", &|r| {
        r.spread.map_or_else(String::new, |s| format!("{:.2}", s.max_over_mean))
    });
    row("idle workers", &|r| r.spread.map_or_else(String::new, |s| s.idle_workers.to_string()));
    row("wake-ups for nothing", &|r| {
        known(r, |r| count(r.workers.iter().filter_map(|w| w.wakeups_without_connection).sum()))
    });
    row("server CPU per request", &|r| {
        known(r, |r| {
            let seconds: f64 = r.workers.iter().map(|w| w.cpu_seconds.total()).sum();
            microseconds(seconds * 1e6 / r.result.requests as f64)
        })
    });
    rows
}

/// A cell that only a server started by us can fill.
fn known(record: &Record, cell: impl Fn(&Record) -> String) -> String {
    if record.workers.is_empty() { String::new() } else { cell(record) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::bench::tests::record;

    #[test]
    fn two_results_stand_side_by_side_with_their_ratio_and_the_posts_figures() {
        let (first, mut second) = (record(&[100, 100]), record(&[50, 50]));
        second.server = "reuseport".into();
        let report = compare(&[first, second]);
        let line = |start: &str| {
            let line = report.lines().find(|line| line.starts_with(start)).unwrap();
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(line("requests/s"), ["requests/s", "20", "10"]);
        assert_eq!(line("  of the first"), ["of", "the", "first", "1.000", "0.500"]);
        assert_eq!(line("  the post's*"), ["the", "post's*", "34", "492", "22", "366"]);
    }

    #[test]
    fn what_is_not_known_of_a_server_elsewhere_stays_empty() {
        let mut elsewhere = record(&[]);
        elsewhere.server = "http://10.0.0.1/".into();
        elsewhere.result.requests = 5;
        let rows = rows(&[elsewhere]);
        let cell = |wanted: &str| &rows.iter().find(|(name, _)| name == wanted).unwrap().1[0];
        for name in ["workers", "busiest / average", "server CPU per request", "  the post's*"] {
            assert_eq!(cell(name), "", "{name}");
        }
        assert_ne!(cell("latency p50"), "");
    }
}
