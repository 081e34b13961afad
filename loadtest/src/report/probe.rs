//! One result of `probe` on a terminal, within 100 columns.

use std::fmt::Write as _;

use crate::probe::drive::AFTER_REFUSAL;
use crate::probe::record::{FaultRecord, ProbeBody, ProbeRecord};
use crate::probe::timeline::Bucket;
use crate::record::Record;
use crate::report::format::{count, microseconds, rounded};
use crate::report::table::{Left, Right, table, text};
use crate::report::terminal::{BOLD, machine};
use crate::statistics::latency::Latency;

/// Buckets in a line of the timeline: a second, in a run that is not too long.
const IN_A_LINE: usize = 10;

/// Lines of a timeline; a longer run gets longer buckets.
const MOST_LINES: usize = 60;

/// The whole report.
pub fn probe(record: &ProbeRecord) -> String {
    let mut report = String::new();
    // Writing to a String cannot fail.
    let _ = header(&mut report, record).and_then(|()| summary(&mut report, &record.body));
    let body = &record.body;
    report += &timeline(&body.timeline, &body.faults);
    if !body.faults.is_empty() {
        report += &faults(&body.faults);
    }
    report
}

fn header(report: &mut String, record: &ProbeRecord) -> std::fmt::Result {
    let Record { environment, body: record, .. } = record;
    let load = &record.load;
    let mode = match load.keep_alive {
        true => "connections kept alive",
        false => "a new connection for each request",
    };
    // A server elsewhere is named by its URL already.
    let url = if record.server == load.url { String::new() } else { format!("{}, ", load.url) };
    writeln!(report, "{BOLD}{}{BOLD:#}  {url}{mode}", record.server)?;
    let (seconds, timeout) = (load.seconds, load.timeout_ms as f64 * 1e3);
    let who = match load.rate {
        Some(rate) => format!(
            "{} requests due each second, at most {} under way",
            count(rate),
            count(load.connections)
        ),
        None if load.connections == 1 => "1 client".into(),
        None => format!("{} clients, each with one request at a time", count(load.connections)),
    };
    writeln!(report, "{who}; {seconds:.1} s, timeouts {}", microseconds(timeout))?;
    writeln!(report, "{}", machine(environment))
}

fn summary(report: &mut String, record: &ProbeBody) -> std::fmt::Result {
    let outcomes = record.outcomes;
    writeln!(
        report,
        "\n{BOLD}Requests{BOLD:#}    {} attempted, {} answered per second",
        count(record.attempted),
        rounded(record.ok_per_second)
    )?;
    for (name, number) in outcomes.kinds() {
        let share = number as f64 * 100.0 / record.attempted.max(1) as f64;
        let share = if number > 0 { format!("{share:9.3} %") } else { String::new() };
        writeln!(report, "{}", format!("  {name:<20} {:>11}{share}", count(number)).trim_end())?;
    }
    if record.not_sent > 0 {
        writeln!(report, "  {:<20} {:>11}", "due and not sent", count(record.not_sent))?;
    }
    if outcomes.refused > 0 && record.load.rate.is_none() {
        let pause = microseconds(AFTER_REFUSAL.as_micros() as f64);
        writeln!(report, "  a client that was refused waits {pause} before it asks again")?;
    }
    if let Some(answered) = record.answered_by_server {
        writeln!(
            report,
            "The server counts {} answers: it may exceed `ok` only by answers that were lost on \
             the way.",
            count(answered)
        )?;
    }
    let Some(latency) = &record.latency_us else { return Ok(()) };
    let mut names = String::new();
    let mut values = String::new();
    for (name, value) in latencies(latency) {
        write!(names, " {name:>8}")?;
        write!(values, " {:>8}", microseconds(value))?;
    }
    writeln!(report, "\n{BOLD}Latency{BOLD:#}    {names}\n           {values}")?;
    let from = match record.load.rate {
        Some(_) => "from when the request was due",
        None => "from when the client asked, which a stalled server delays: see --rate",
    };
    writeln!(report, "            of good answers, {from}")?;
    let (Some(ideal), Some(times)) = (record.ideal, record.of_ideal) else { return Ok(()) };
    writeln!(
        report,
        "  ideal     p50 {}, p99 {}: one queue before {} servers, {} each, no overhead\n            \
         measured latencies are {:.2} and {:.2} times that",
        microseconds(ideal.p50 as f64),
        microseconds(ideal.p99 as f64),
        count(ideal.servers as u64),
        microseconds(ideal.service_us as f64),
        times.p50,
        times.p99
    )
}

fn latencies(latency: &Latency) -> [(&'static str, f64); 6] {
    [
        ("mean", latency.mean),
        ("p50", latency.p50 as f64),
        ("p90", latency.p90 as f64),
        ("p99", latency.p99 as f64),
        ("p99.9", latency.p99_9 as f64),
        ("max", latency.max as f64),
    ]
}

/// Some lines of bars, a second each, with what was lost and what was done to the server.
fn timeline(buckets: &[Bucket], faults: &[FaultRecord]) -> String {
    let together = buckets.len().div_ceil(IN_A_LINE * MOST_LINES).max(1);
    let cells: Vec<Cell> = buckets.chunks(together).map(Cell::of).collect();
    let most = cells.iter().map(|cell| cell.ok).max().unwrap_or(0);
    let width_ms = 100 * together as u64;
    let line_ms = width_ms * IN_A_LINE as u64;
    let lines = cells.len().div_ceil(IN_A_LINE);
    let last_fault = faults.last().map_or(0, |fault| fault.at_ms / line_ms + 1) as usize;

    let mut report = format!(
        "\n{BOLD}Timeline{BOLD:#}    {} in each line; a cell is {width_ms} ms, a full one {} answers\n\
         {:>8}  {:10}  {:>9}  {:10}  {:>7}\n",
        microseconds(line_ms as f64 * 1e3),
        count(most),
        "from",
        "served",
        "",
        "lost",
        ""
    );
    for line in 0..lines.max(last_fault) {
        let begin = line * IN_A_LINE;
        let cells = cells.get(begin..).unwrap_or_default();
        let cells = &cells[..cells.len().min(IN_A_LINE)];
        let served: String = cells.iter().map(|cell| height(cell.ok, most)).collect();
        let lost: String = cells.iter().map(|cell| digit(cell.lost)).collect();
        let from_ms = line as u64 * line_ms;
        let within = faults.iter().filter(|f| (from_ms..from_ms + line_ms).contains(&f.at_ms));
        let row = format!(
            "{:>6.1} s  {served:10}  {:>9}  {lost:10}  {:>7}  {}",
            from_ms as f64 / 1e3,
            count(cells.iter().map(|cell| cell.ok).sum()),
            count(cells.iter().map(|cell| cell.lost).sum()),
            marks(within)
        );
        let _ = writeln!(report, "{}", row.trim_end());
    }
    if buckets.iter().any(|bucket| bucket.lost > 0) {
        report += "            lost: `.` none, a digit so many, `*` ten or more; each when it was known\n";
    }
    report
}

/// Some buckets seen as one.
struct Cell {
    ok: u64,
    lost: u64,
}

impl Cell {
    fn of(buckets: &[Bucket]) -> Self {
        Self { ok: buckets.iter().map(|b| b.ok).sum(), lost: buckets.iter().map(|b| b.lost).sum() }
    }
}

/// A bar as high as its share, in steps of an eighth; something, however little, is seen.
fn height(value: u64, most: u64) -> char {
    const EIGHTHS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    match value {
        0 => ' ',
        _ => EIGHTHS[((value * 8).div_ceil(most.max(1)) as usize).clamp(1, 8) - 1],
    }
}

fn digit(lost: u64) -> char {
    match lost {
        0 => '.',
        1..=9 => char::from(b'0' + lost as u8),
        _ => '*',
    }
}

/// What was done within a line, each with its time, or with its number where it is too much.
fn marks<'a>(faults: impl Iterator<Item = &'a FaultRecord>) -> String {
    let mut kinds: Vec<(&str, u64, u32)> = Vec::new();
    for fault in faults {
        match kinds.iter_mut().find(|(what, ..)| *what == fault.what) {
            Some((.., number)) => *number += 1,
            None => kinds.push((&fault.what, fault.at_ms, 1)),
        }
    }
    let marks = kinds.into_iter().map(|(what, at_ms, number)| {
        let times = if number > 1 { format!(" x{number}") } else { String::new() };
        format!("< {:.1} {what}{times}", at_ms as f64 / 1e3)
    });
    marks.collect::<Vec<_>>().join(" ")
}

/// A line for each fault, or for all that one --fault asked for.
fn faults(faults: &[FaultRecord]) -> String {
    let mut groups: Vec<Vec<&FaultRecord>> = Vec::new();
    for fault in faults {
        match groups.iter_mut().find(|group| group[0].asked == fault.asked) {
            Some(group) => group.push(fault),
            None => groups.push(vec![fault]),
        }
    }
    let mut table = table(
        3,
        &[
            ("Fault", Left),
            ("pid", Right),
            ("lost", Right),
            ("within", Right),
            ("answers/s\nbefore", Right),
            ("\nafter", Right),
            ("full strength\nafter", Right),
        ],
    );
    let mut several = String::new();
    for group in &groups {
        table.add_row(fault_row(group));
        if let [_, _, ..] = group[..] {
            several += &spread(group);
        }
    }
    format!(
        "\n{}{several}Lost until the next fault, and within what time; full strength: 90 % of the \
         rate before the fault\n(or before a worker was stopped) in 100 ms, until another fault.\n",
        text(&table)
    )
}

fn fault_row(group: &[&FaultRecord]) -> [String; 7] {
    let first = group[0];
    let ms = |time: u64| format!("{} ms", count(time));
    let worst = |of: fn(&FaultRecord) -> Option<u64>| group.iter().filter_map(|f| of(f)).max();
    let mean = |of: fn(&FaultRecord) -> Option<f64>| {
        let rates: Vec<f64> = group.iter().filter_map(|fault| of(fault)).collect();
        let mean = rates.iter().sum::<f64>() / rates.len() as f64;
        if rates.is_empty() { "-".into() } else { rounded(mean) }
    };
    let at = format!("{:>5.1} s {}", first.at_ms as f64 / 1e3, first.what);
    let back = match group.iter().all(|fault| fault.full_strength_after_ms.is_some()) {
        true => worst(|fault| fault.full_strength_after_ms).map_or_else(String::new, ms),
        false => "not reached".into(),
    };
    [
        if group.len() > 1 { format!("{at} x{}", group.len()) } else { at },
        match (group.len(), first.pid) {
            (1, Some(pid)) => pid.to_string(),
            (1, None) => "nobody".into(),
            _ => String::new(),
        },
        count(group.iter().map(|fault| fault.lost).sum()),
        worst(|fault| fault.lost_within_ms).map_or_else(|| "-".into(), ms),
        mean(|fault| fault.rate_before),
        mean(|fault| fault.rate_after),
        back,
    ]
}

/// How far the losses of a repeated fault lie apart.
fn spread(group: &[&FaultRecord]) -> String {
    let lost = || group.iter().map(|fault| fault.lost);
    let back = group.iter().filter(|fault| fault.full_strength_after_ms.is_some()).count();
    format!(
        "{} x{}: lost {:.2} each on average ({} to {}); full strength again after {back}\n",
        group[0].what,
        group.len(),
        lost().sum::<u64>() as f64 / group.len() as f64,
        count(lost().min().unwrap_or(0)),
        count(lost().max().unwrap_or(0)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::bench;
    use crate::probe::outcome::Outcomes;
    use crate::probe::record::{Ideal, OfIdeal, ProbeLoad};

    fn fault(at_ms: u64, what: &str, asked: &str, lost: u64) -> FaultRecord {
        FaultRecord {
            at_ms,
            what: what.into(),
            asked: asked.into(),
            pid: Some(4_194_303),
            lost,
            lost_within_ms: Some(12),
            rate_before: Some(123_456.7),
            rate_after: Some(400.0),
            full_strength_after_ms: None,
        }
    }

    fn example(buckets: usize, faults: Vec<FaultRecord>) -> ProbeRecord {
        let bucket = |place| Bucket { at_ms: place as u64 * 100, ok: 12_345, lost: place as u64 };
        let body = ProbeBody {
            server: "reuseport".into(),
            load: ProbeLoad {
                url: "http://127.0.0.1:12345/".into(),
                connections: 1_000_000,
                rate: Some(1_000_000),
                keep_alive: false,
                seconds: 10.0,
                timeout_ms: 2000,
                ..ProbeLoad::default()
            },
            attempted: 12_345_678,
            outcomes: Outcomes { ok: 12_345_600, reset: 78, ..Outcomes::default() },
            not_sent: 5,
            ok_per_second: 1_234_560.0,
            answered_by_server: Some(12_345_610),
            latency_us: Some(Latency {
                mean: 1020.5,
                p50: 870,
                p90: 1500,
                p99: 4000,
                p99_9: 12_000,
                max: 1_230_000,
                ..Latency::default()
            }),
            timeline: (0..buckets).map(bucket).collect(),
            faults,
            ideal: Some(Ideal { service_us: 123_456, servers: 1024, p50: 123_456, p99: 999_999 }),
            of_ideal: Some(OfIdeal { p50: 123.45, p99: 1234.56 }),
            ..ProbeBody::default()
        };
        let arguments = vec!["probe".into(), "reuseport".into()];
        ProbeRecord::new(arguments, bench::tests::record(&[1]).environment, body)
    }

    fn plain(report: &str) -> String {
        anstream::adapter::strip_str(report).to_string()
    }

    #[test]
    fn it_fits_into_100_columns_even_with_large_figures() {
        let stop = fault(2000, "continue-worker", "continue-worker@2s", 0);
        let kills =
            (0..100).map(|n| fault(2100 + n * 100, "remove-worker", "remove-worker@1s", 9999));
        let record = example(123, std::iter::once(stop).chain(kills).collect());
        for line in plain(&probe(&record)).lines() {
            assert!(line.chars().count() <= 100, "{}: {line}", line.chars().count());
        }
    }

    #[test]
    fn every_fate_is_shown_and_faults_stand_at_their_second_and_in_a_line_each() {
        let faults = vec![
            fault(2000, "stop-worker", "stop-worker@2s", 0),
            fault(2900, "kill-worker", "kill-worker@2900ms", 32),
        ];
        let report = plain(&probe(&example(50, faults)));
        for part in
            ["12 345 600", "timed out in connect", "due and not sent", "p99.9", "12 345 610"]
        {
            assert!(report.contains(part), "{part} in {report}");
        }
        assert!(report.contains("< 2.0 stop-worker < 2.9 kill-worker"), "{report}");
        let row = report.lines().find(|line| line.starts_with("  2.9 s kill-worker")).unwrap();
        for part in ["4194303", "32", "12 ms", "123 457", "400", "not reached"] {
            assert!(row.contains(part), "{part} in {row}");
        }
    }

    #[test]
    fn a_repeated_fault_takes_one_line_with_its_sum_and_one_with_its_spread() {
        let faults = (1..=3).map(|n| fault(n * 100, "reload", "reload@100ms*3/100ms", n)).collect();
        let report = plain(&probe(&example(10, faults)));
        assert!(report.contains("reload x3 "), "{report}");
        assert!(report.contains("reload x3: lost 2.00 each on average (1 to 3)"), "{report}");
    }

    #[test]
    fn a_long_run_gets_longer_cells_and_not_more_lines() {
        let report = plain(&timeline(&example(6000, vec![]).body.timeline, &[]));
        assert!(report.lines().count() <= MOST_LINES + 4);
        assert!(report.contains("10.0 s in each line; a cell is 1000 ms"), "{report}");
    }

    #[test]
    fn heights_and_digits_show_even_a_little() {
        assert_eq!([0, 1, 50, 100].map(|value| height(value, 100)), [' ', '▁', '▄', '█']);
        assert_eq!([0, 1, 9, 10].map(digit), ['.', '1', '9', '*']);
    }
}
