//! One result of `bench` on a terminal, within 100 columns.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};

use anstyle::{AnsiColor, Style};
use anyhow::{Context, Result};

use crate::environment::Environment;
use crate::measure::bench::{Bench as Record, Worker};
use crate::report::format::{bar, count, microseconds, rounded};
use crate::report::post;
use crate::report::table::{Left, Right, table, text};
use crate::statistics::latency::Latency;
use crate::types::Errors;

/// For headings.
pub const BOLD: Style = Style::new().bold();

/// For the word "warning".
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();

/// Of more workers than this, only the busiest and the idlest are shown.
const MOST_ROWS: usize = 32;

/// Width of the longest bar.
const BAR: usize = 8;

/// What is true of all of wrk's latencies.
pub const ABOUT_LATENCIES: &str = "latencies are as wrk corrects them for coordinated omission: \
                                   samples are added for waits";

/// Why the workers' connections are one more than wrk's.
const ABOUT_CONNECTIONS: &str = "wrk opens one connection more, without a request on it, to see \
                                 whether the server is there";

/// Puts a report on stdout, with its colours if they are wanted there.
///
/// # Errors
/// When it cannot be written; a reader who has seen enough (`| head`) is no error.
pub fn print(report: &str) -> Result<()> {
    let mut out = anstream::stdout().lock();
    match out.write_all(report.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write the report to stdout")
        }
        _ => Ok(()),
    }
}

/// Puts warnings on stderr, one line each.
pub fn warn(warnings: impl IntoIterator<Item = String>) {
    let mut err = anstream::stderr().lock();
    for warning in warnings {
        // Nobody is left to be told that nobody reads this.
        let _ = writeln!(err, "{YELLOW}warning:{YELLOW:#} {warning}");
    }
}

/// The whole report.
pub fn bench(record: &Record) -> String {
    let mut report = String::new();
    // Writing to a String cannot fail.
    let _ = header(&mut report, record).and_then(|()| figures(&mut report, record));
    if record.workers.is_empty() {
        report += "\nNo rows for workers: the server was not started here.\n";
    } else {
        report += "\n";
        report += &workers(&record.workers);
        report += &format!("{ABOUT_CONNECTIONS}\n");
        report += &policy(&record.workers);
    }
    if let Some(spread) = &record.spread {
        let _ = writeln!(
            report,
            "\n{BOLD}Spread{BOLD:#}      busiest / average worker {:.2} (1: even, {}: one does it all), \
             idle workers: {}",
            spread.max_over_mean,
            record.workers.len(),
            spread.idle_workers
        );
    }
    report
}

fn header(report: &mut String, record: &Record) -> std::fmt::Result {
    let (load, environment) = (&record.load, &record.environment);
    let what = match record.workers.len() {
        // The server is named by its URL already.
        0 => String::new(),
        1 => format!("1 worker, {}, ", load.url),
        many => format!("{many} workers, {}, ", load.url),
    };
    writeln!(report, "{BOLD}{}{BOLD:#}  {what}{}", record.server, mode(record))?;
    let asked = match load.connections_opened == load.connections_asked {
        true => String::new(),
        false => format!(" ({} asked for)", load.connections_asked),
    };
    writeln!(
        report,
        "{} threads, {} connections{asked}, {:.1} s, {}",
        load.threads,
        load.connections_opened,
        load.seconds,
        environment.wrk.as_deref().unwrap_or("an unknown wrk")
    )?;
    writeln!(report, "{}", machine(environment))
}

/// How connections were used.
pub fn mode(record: &Record) -> &'static str {
    match record.load.keep_alive {
        true => "connections kept alive",
        false => "a new connection for each request",
    }
}

/// Where it ran, in a line.
pub fn machine(environment: &Environment) -> String {
    let memory = environment
        .memory_bytes
        .map(|bytes| format!(", {:.1} GiB", bytes as f64 / (1u64 << 30) as f64));
    format!(
        "{}, {}, {} {}{}",
        environment.kernel,
        environment.cpu.as_deref().unwrap_or("unnamed CPU"),
        environment.cores,
        if environment.cores == 1 { "core" } else { "cores" },
        memory.unwrap_or_default()
    )
}

fn figures(report: &mut String, record: &Record) -> std::fmt::Result {
    let result = &record.result;
    writeln!(
        report,
        "\n{BOLD}Requests/s{BOLD:#}  {:>9}   ({} requests)",
        rounded(result.requests_per_second),
        count(result.requests)
    )?;
    if let Some(quotation) = post::figure_for(&record.server) {
        writeln!(
            report,
            "  the post  {:>9}   {}: {};\n{:24}{}",
            count(quotation.requests_per_second),
            quotation.program,
            post::CONDITIONS,
            "",
            post::SOURCE
        )?;
    }
    let mut names = String::new();
    let mut values = String::new();
    for (name, value) in latencies(&result.latency_us) {
        let value = microseconds(value);
        write!(names, " {name:>8}")?;
        write!(values, " {value:>8}")?;
    }
    writeln!(report, "\n{BOLD}Latency{BOLD:#}    {names}\n           {values}")?;
    writeln!(report, "            {ABOUT_LATENCIES}")?;
    writeln!(report, "{BOLD}Errors{BOLD:#}      {}", errors(&result.errors))
}

/// Every latency with its name, in microseconds.
pub fn latencies(latency: &Latency) -> [(&'static str, f64); 8] {
    [
        ("mean", latency.mean),
        ("stdev", latency.stdev),
        ("p50", latency.p50 as f64),
        ("p75", latency.p75 as f64),
        ("p90", latency.p90 as f64),
        ("p99", latency.p99 as f64),
        ("p99.9", latency.p99_9 as f64),
        ("max", latency.max as f64),
    ]
}

/// Errors by kind, or that there were none.
pub fn errors(errors: &Errors) -> String {
    if errors.total() == 0 {
        return "none".into();
    }
    let kinds = errors.kinds().into_iter().filter(|(_, count)| *count > 0);
    kinds.map(|(kind, number)| format!("{kind} {}", count(number))).collect::<Vec<_>>().join(", ")
}

/// A row per worker, or the most telling of them.
fn workers(workers: &[Worker]) -> String {
    let mut table = table(
        1,
        &[
            ("worker", Right),
            ("pid", Right),
            ("socket\ninode", Right),
            ("connec-\ntions", Right),
            ("", Left),
            ("requests", Right),
            ("", Left),
            ("CPU s\nuser", Right),
            ("\nsystem", Right),
            ("switches\nvoluntary", Right),
            ("\ninvol.", Right),
            ("empty\nwake-ups", Right),
        ],
    );
    let most_connections =
        workers.iter().filter_map(|worker| worker.connections).max().unwrap_or(0);
    let most_requests = workers.iter().filter_map(|worker| worker.requests).max().unwrap_or(0);
    let shown = rows(workers);
    for worker in &shown {
        table.add_row([
            worker.index.to_string(),
            worker.pid.to_string(),
            worker.socket_inode.map_or_else(String::new, |inode| inode.to_string()),
            known(worker.connections),
            bar(worker.connections.unwrap_or(0), most_connections, BAR / 2),
            known(worker.requests),
            bar(worker.requests.unwrap_or(0), most_requests, BAR),
            format!("{:.2}", worker.cpu_seconds.user),
            format!("{:.2}", worker.cpu_seconds.system),
            count(worker.context_switches.voluntary),
            count(worker.context_switches.involuntary),
            known(worker.wakeups_without_connection),
        ]);
    }
    let mut report = text(&table);
    if shown.len() < workers.len() {
        let _ = writeln!(
            report,
            "{} more workers lie between the busiest and the idlest; --json has all",
            workers.len() - shown.len()
        );
    }
    report
}

/// A count, or nothing where it cannot be known.
fn known(number: Option<u64>) -> String {
    number.map_or_else(String::new, count)
}

/// What a policy that looks at the load did, where there is one; nothing elsewhere.
fn policy(workers: &[Worker]) -> String {
    let each = |of: fn(&Worker) -> u64| -> Option<String> {
        let shown = rows(workers);
        let counts = || shown.iter().map(|worker| of(worker));
        let all: Vec<String> = counts().map(count).collect();
        counts().any(|count| count > 0).then(|| all.join(", "))
    };
    let lines = [
        ("steered to each worker", each(|worker| worker.steered.unwrap_or(0))),
        ("migrated to each worker", each(|worker| worker.migrated.unwrap_or(0))),
        ("times each stood back", each(|worker| worker.gated.unwrap_or(0))),
    ];
    let lines = lines.into_iter().filter_map(|(name, counts)| Some((name, counts?)));
    lines.map(|(name, counts)| format!("the policy's own count: {name}: {counts}\n")).collect()
}

/// All workers in their order or, where they are many, the busiest and the idlest, busiest first.
fn rows(workers: &[Worker]) -> Vec<&Worker> {
    let mut rows: Vec<&Worker> = workers.iter().collect();
    if rows.len() > MOST_ROWS {
        rows.sort_by_key(|worker| std::cmp::Reverse(worker.requests));
        rows.drain(MOST_ROWS / 2..rows.len() - MOST_ROWS / 2);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::bench::tests::record;

    fn plain(report: &str) -> String {
        anstream::adapter::strip_str(report).to_string()
    }

    #[test]
    fn it_fits_into_100_columns_even_with_large_figures() {
        let mut record = record(&[1_234_567, 12_345_678]);
        for worker in &mut record.workers {
            worker.pid = 4_194_303;
            worker.socket_inode = Some(99_999_999);
            worker.connections = Some(100_000);
            worker.context_switches.voluntary = 9_999_999;
            worker.context_switches.involuntary = 999_999;
            worker.wakeups_without_connection = Some(9_999_999);
        }
        for line in plain(&bench(&record)).lines() {
            assert!(line.chars().count() <= 100, "{}: {line}", line.chars().count());
        }
    }

    #[test]
    fn every_worker_has_a_row_and_the_spread_stands_below() {
        let report = plain(&bench(&record(&[100, 300])));
        assert!(report.contains("1000") && report.contains("1001"), "{report}");
        assert!(report.contains("average worker 1.50"), "{report}");
    }

    #[test]
    fn the_posts_figure_is_shown_as_a_quotation_and_only_for_its_two_strategies() {
        let mut record = record(&[100]);
        assert!(bench(&record).contains("34 492"));
        assert!(bench(&record).contains("MacBook Pro 2016"));
        record.server = "http://127.0.0.1/".into();
        assert!(!bench(&record).contains("34 492"));
    }

    #[test]
    fn of_many_workers_the_busiest_and_the_idlest_are_shown_and_the_rest_counted() {
        let requests: Vec<u64> = (0..100).collect();
        let record = record(&requests);
        let shown = rows(&record.workers);
        assert_eq!((shown[0].requests, shown[MOST_ROWS - 1].requests), (Some(99), Some(0)));
        assert!(bench(&record).contains("68 more workers"));
    }

    #[test]
    fn a_policy_that_looks_at_the_load_shows_its_own_count_and_others_have_none() {
        let mut record = record(&[100, 200]);
        assert!(!bench(&record).contains("the policy's own count"));
        record.workers[0].steered = Some(48);
        record.workers[1].steered = Some(49);
        assert!(bench(&record).contains("steered to each worker: 48, 49\n"));
    }

    #[test]
    fn without_workers_it_says_why() {
        assert!(bench(&record(&[])).contains("not started here"));
    }
}
