//! One result of `probe`: the outcome of every request, second by second, and the cost of faults.

use crate::documents::{self, LATENCY, connections, facts, groups};
use crate::probe::fault::FaultRecord;
use crate::probe::record::ProbeRecord as Probe;
use crate::probe::run::AFTER_REFUSAL;
use crate::probe::spread::Held;
use crate::probe::timeline::Bucket;
use crate::report::format::{count, microseconds};
use crate::report::model::{Axis, Block, Cell, Document, Field, Picture, Series, Table, Unit};
use crate::statistics::mean;

/// Buckets in a line of the timeline: a second, unless the run is too long.
const IN_A_LINE: usize = 10;

/// The most workers in the timeline of connections.
const MOST_BARS: usize = 32;

/// The most lines of a timeline; a longer run gets longer buckets.
const MOST_LINES: usize = 60;

fn of_faults<'a>() -> [Field<Vec<&'a FaultRecord>>; 6] {
    [
        ("pid", Unit::Id, |group| match (group.len(), group[0].pid) {
            (1, Some(pid)) if group[0].only_process => {
                Cell::from(pid).note("(the only process)".to_owned())
            }
            (1, Some(pid)) => pid.into(),
            (1, None) => "none".into(),
            _ => "".into(),
        }),
        ("lost", Unit::Count, |group| group.iter().map(|fault| fault.lost).sum::<u64>().into()),
        ("within", Unit::Microseconds, |group| worst(group, |fault| fault.lost_within_ms)),
        ("answers/s before", Unit::PerSecond, |group| average(group, |fault| fault.rate_before)),
        ("answers/s after", Unit::PerSecond, |group| average(group, |fault| fault.rate_after)),
        ("recovered after", Unit::Microseconds, |group| {
            match group.iter().all(|fault| fault.full_strength_after_ms.is_some()) {
                // The timeline's resolution is 100 ms.
                true => match group.iter().filter_map(|it| it.full_strength_after_ms).max() {
                    Some(0) => "within 100 ms".into(),
                    _ => worst(group, |fault| fault.full_strength_after_ms),
                },
                false => "not reached".into(),
            }
        }),
    ]
}

fn worst(group: &[&FaultRecord], ms: fn(&FaultRecord) -> Option<u64>) -> Cell {
    group.iter().filter_map(|fault| ms(fault)).max().map(|ms| ms * 1000).into()
}

fn average(group: &[&FaultRecord], rate: fn(&FaultRecord) -> Option<f64>) -> Cell {
    mean(&group.iter().filter_map(|fault| rate(fault)).collect::<Vec<_>>()).into()
}

/// The document.
pub fn document(record: &Probe) -> Document {
    let pause = microseconds(AFTER_REFUSAL.as_micros() as f64);
    let mut notes = Vec::new();
    if record.outcomes.refused > 0 && record.load.rate.is_none() {
        notes.push(format!(
            "After a refused connection a client waits {pause} before its next request."
        ));
    }
    if let Some(answered) = record.answered_by_server.map(count) {
        notes.push(format!(
            "The server counted {answered} answers. This may exceed `ok` only by answers that were \
             lost on the way."
        ));
    }
    let blocks = vec![
        about(record),
        Block::Heading("Requests".into()),
        Block::Table(outcomes(record)),
        Block::Text(notes.join("\n\n")),
        Block::Table(latency(record)),
        Block::Heading("Timeline".into()),
        Block::Picture(picture(record)),
        Block::Caption("A drop of the line at a mark shows the cost of that fault.".into()),
        Block::Table(timeline(&record.timeline, &record.faults)),
        Block::Heading("Connections of each worker".into()),
        Block::Table(held(&record.held)),
        Block::Heading("Faults".into()),
        Block::Table(faults(&record.faults)),
    ];
    documents::document(&record.server, record, blocks)
}

fn about(record: &Probe) -> Block {
    let load = &record.load;
    let most = count(load.connections);
    let who = match load.rate.map(count) {
        Some(rate) => format!("{rate} requests due each second, at most {most} under way"),
        None if load.connections == 1 => "1 client".into(),
        None => format!("{most} clients, each with one request at a time"),
    };
    let timeout = microseconds(load.timeout_ms as f64 * 1e3);
    facts([
        ("server", format!("{}, {}", load.url, connections(load.keep_alive))),
        ("load", format!("{who}; {:.1} s, timeouts {timeout}", load.seconds)),
    ])
}

/// The outcomes of the requests.
fn outcomes(record: &Probe) -> Table {
    let mut table = Table::new("", &[("requests", Unit::Count), ("of all", Unit::Part)]);
    table.row("attempted", [record.attempted.into(), Cell::default()]);
    for (name, number) in record.outcomes.kinds() {
        let part = (number > 0).then(|| number as f64 / record.attempted.max(1) as f64);
        table.row(name, [number.into(), part.into()]);
    }
    if record.not_sent > 0 {
        table.row("due and not sent", [record.not_sent.into(), Cell::default()]);
    }
    let rate = Cell::from(record.ok_per_second).of(Unit::PerSecond);
    table.row("answered per second", [rate, Cell::default()]);
    table
}

fn latency(record: &Probe) -> Table {
    let names = record.latency_us.as_ref().map(|_| "good answers");
    let mut table = Table::of("Latency", names).with("", &LATENCY, &record.latency_us);
    table.note = match record.load.rate {
        Some(_) => "From the time the request was due.".into(),
        None => "From the time the client sent the request, which a stalled server delays; see \
                 --rate."
            .into(),
    };
    if let (Some(ideal), Some(times)) = (&record.ideal, &record.of_ideal) {
        let times = [times.p50, times.p99].map(|times| Cell::from(times).of(Unit::Times));
        let rows =
            [("the ideal", [ideal.p50, ideal.p99].map(Cell::from)), ("times the ideal", times)];
        for (name, [p50, p99]) in rows {
            let cells = LATENCY.map(|(column, ..)| match column {
                "p50" => p50.clone(),
                "p99" => p99.clone(),
                _ => Cell::default(),
            });
            table.row(name, cells);
        }
        table.note += &format!(
            " The ideal: one queue for {} servers, service time {}, no overhead.",
            count(ideal.servers as u64),
            microseconds(ideal.service_us as f64)
        );
    }
    table
}

/// Answers over time, with the faults.
fn picture(record: &Probe) -> Picture {
    let each = |of: fn(&Bucket) -> u64| -> Vec<(f64, f64)> {
        let buckets = record.timeline.iter();
        buckets.map(|bucket| (bucket.at_ms as f64 / 1e3, of(bucket) as f64)).collect()
    };
    let axis = |name: &str, unit| Axis { name: name.into(), unit, logarithmic: false };
    let mut series = vec![Series { name: "served".into(), points: each(|bucket| bucket.ok) }];
    if record.timeline.iter().any(|bucket| bucket.lost > 0) {
        series.push(Series { name: "lost".into(), points: each(|bucket| bucket.lost) });
    }
    let spans = record.faults.iter().map(|fault| {
        let at = fault.at_ms as f64 / 1e3;
        (at, at, fault.what.to_string())
    });
    Picture::Lines {
        title: "Requests in each 100 ms".into(),
        x: axis("seconds", Unit::Mean),
        y: axis("requests", Unit::Count),
        series,
        // More names would overlap.
        spans: spans.take(6).collect(),
    }
}

/// A row for each second, with lost requests and faults.
fn timeline(buckets: &[Bucket], faults: &[FaultRecord]) -> Table {
    let together = buckets.len().div_ceil(IN_A_LINE * MOST_LINES).max(1);
    let sum = |all: &[Bucket]| all.iter().fold((0, 0), |sum, b| (sum.0 + b.ok, sum.1 + b.lost));
    let cells: Vec<(u64, u64)> = buckets.chunks(together).map(sum).collect();
    let most = cells.iter().map(|cell| cell.0).max().unwrap_or(0);
    let width_ms = 100 * together as u64;
    let line_ms = width_ms * IN_A_LINE as u64;
    let last_fault = faults.last().map_or(0, |fault| fault.at_ms / line_ms + 1) as usize;
    let (text, number) = (Unit::Text, Unit::Count);
    let columns = [("", text), ("served", number), ("", text), ("lost", number), ("done", text)];
    let mut table = Table::new("", &columns);
    for line in 0..cells.len().div_ceil(IN_A_LINE).max(last_fault) {
        let cells = cells.chunks(IN_A_LINE).nth(line).unwrap_or_default();
        let (ok, lost): (Vec<u64>, Vec<u64>) = cells.iter().copied().unzip();
        let from_ms = line as u64 * line_ms;
        let within = faults.iter().filter(|fault| fault.at_ms / line_ms == line as u64);
        let row = [
            ok.iter().map(|ok| height(*ok, most)).collect::<String>().into(),
            ok.iter().sum::<u64>().into(),
            lost.iter().map(|lost| digit(*lost)).collect::<String>().into(),
            lost.iter().sum::<u64>().into(),
            marks(within).into(),
        ];
        table.row(format!("{:.1} s", from_ms as f64 / 1e3), row);
    }
    table.note = format!(
        "{} in each line; a cell is {width_ms} ms, a full cell {} answers.",
        microseconds(line_ms as f64 * 1e3),
        count(most)
    );
    if buckets.iter().any(|bucket| bucket.lost > 0) {
        table.note += " Lost: `.` none, a digit its number, `*` ten or more; each at the time it \
                       was detected.";
    }
    table
}

/// A row for each second, with a bar for each worker.
fn held(held: &[Held]) -> Table {
    let most = held.iter().flat_map(|held| &held.connections).max().copied().unwrap_or(0);
    let (text, number, times) = (Unit::Text, Unit::Count, Unit::Times);
    let columns = [("", text), ("least", number), ("most", number), ("most / average", times)];
    let mut table = Table::new("", &columns);
    for held in held.iter().step_by(held.len().div_ceil(MOST_LINES).max(1)) {
        let all = &held.connections;
        let row = [
            all.iter().take(MOST_BARS).map(|&it| height(it, most)).collect::<String>().into(),
            all.iter().min().copied().into(),
            all.iter().max().copied().into(),
            held.spread().into(),
        ];
        table.row(format!("{:.1} s", held.at_ms as f64 / 1e3), row);
    }
    table.note = format!(
        "A cell is a worker that served at that time, at most {MOST_BARS} of them; a full cell is \
         {} connections.",
        count(most)
    );
    table
}

/// A bar as high as its share, in steps of an eighth; something, however little, is seen.
fn height(value: u64, most: u64) -> char {
    const EIGHTHS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    match value {
        0 => '·',
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

/// The time of the first fault, and the number of faults.
fn name(group: &[&FaultRecord], unit: &str) -> String {
    let times = if group.len() > 1 { format!(" x{}", group.len()) } else { String::new() };
    format!("{:.1}{unit} {}{times}", group[0].at_ms as f64 / 1e3, group[0].what)
}

/// The faults of a line with their times or, if there are many, with their numbers.
fn marks<'a>(faults: impl Iterator<Item = &'a FaultRecord>) -> String {
    let groups = groups(faults, |fault| fault.what);
    groups.iter().map(|group| name(group, "")).collect::<Vec<_>>().join(", ")
}

/// A row for each fault, or for all repetitions of one --fault.
fn faults(faults: &[FaultRecord]) -> Table {
    let groups = groups(faults, |fault| &fault.asked);
    let names = groups.iter().map(|group| name(group, " s"));
    let table = Table::of("", names).with("", &of_faults(), &groups);
    let repeated = groups.iter().filter(|group| group.len() > 1).map(|group| spread(group));
    let note = format!(
        "{}Lost until the next fault, and within what time; recovered: 90 % of the rate before the \
         fault (or before a worker was stopped) in 100 ms, until another fault.",
        repeated.collect::<String>()
    );
    Table { note, ..table }
}

/// The range of a repeated fault's losses.
fn spread(group: &[&FaultRecord]) -> String {
    let lost = || group.iter().map(|fault| fault.lost);
    let back = group.iter().filter(|fault| fault.full_strength_after_ms.is_some()).count();
    format!(
        "{} x{}: lost {:.2} each on average ({} to {}); recovered after {back} of them. ",
        group[0].what,
        group.len(),
        lost().sum::<u64>() as f64 / group.len() as f64,
        count(lost().min().unwrap_or(0)),
        count(lost().max().unwrap_or(0)),
    )
}
