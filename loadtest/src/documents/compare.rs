//! `compare` and, if the cost of a request is judged, `cost`: the verdicts first, then the figures.

use crate::documents::cost::costs;
use crate::documents::{self, ABOUT_LATENCIES, LATENCY, errors, facts, opened};
use crate::measure::comparison::{
    AtRate, Comparison, FixedRate, Limit, Pair, Spread, Subject, Summary,
};
use crate::report::format::{count, plural, rounded};
use crate::report::model::{
    Axis, Bar, Block, Cell, Document, Field, Mark, Picture, Series, Table, Unit, escaped,
};
use crate::report::post;
use crate::statistics::estimate::Estimate;
use crate::statistics::verdict::{Figure, Ratio, Verdict};

/// Pairs without the baseline are shown for up to this many subjects; all are in the JSON.
const ALL_PAIRS_UPTO: usize = 3;

/// The most pairs in the picture; of more, it shows those with the baseline.
const MOST_INTERVALS: usize = 10;

/// A note about servers that run one at a time.
const ONE_AT_A_TIME: &str = "Each server was started for its slice, loaded for a second before, \
     and ended after it.";

/// A note about closed loops.
const ABOUT_FIXED_RATES: &str = "wrk waits for each answer before it sends the next request (a \
     closed loop). A server that stalls gets fewer requests meanwhile, so wrk's latencies hardly \
     include its stalls (coordinated omission). At a fixed rate (an open loop) a request is due \
     whether or not earlier ones are answered, and its latency counts from the time it was due. \
     Slices in which the client was late are not judged.";

/// Why there is no verdict on a latency.
const CLIENT_LATE: &str = "the client was late in too many slices";

/// The caption of two pictures.
const SEE_LATENCIES: &str = "A line that rises earlier means more slow requests.";
const SEE_SPREAD: &str = "A wide first part means that one worker did most of the work.";

/// A subject with its summary.
pub type Shown<'a> = (&'a Subject, &'a Summary);

fn main_figures<'a>() -> [Field<Shown<'a>>; 3] {
    [
        ("requests/s, median", Unit::PerSecond, |(_, s)| s.requests_per_second.into()),
        ("server CPU per request", Unit::Microseconds, |(_, s)| s.cpu_us_per_request.into()),
        ("context switches per request", Unit::Times, |(_, s)| s.switches_per_request.into()),
    ]
}

const SPREAD: [Field<Spread>; 4] = [
    ("busiest / average worker", Unit::Times, |spread| spread.max_over_mean.into()),
    ("best attainable", Unit::Times, |spread| spread.best_attainable.into()),
    ("in the worst slice", Unit::Times, |spread| spread.worst_max_over_mean.into()),
    ("idle workers", Unit::Times, |spread| spread.idle_workers.into()),
];

const LIMIT: [Field<Limit>; 2] = [
    ("cores used by the server", Unit::Times, |limit| limit.server_cores.into()),
    ("by wrk", Unit::Times, |limit| limit.wrk_cores.into()),
];

fn other_figures<'a>() -> [Field<Shown<'a>>; 6] {
    [
        ("errors", Unit::Text, |(_, summary)| errors(&summary.errors).into()),
        ("slices", Unit::Count, |(_, summary)| summary.slices.into()),
        ("requests", Unit::Count, |(_, summary)| summary.requests.into()),
        ("requests/s, least to greatest", Unit::Text, |(subject, _)| {
            let rates = || subject.slices.iter().map(|slice| slice.requests_per_second);
            let (least, most) =
                (rates().fold(f64::INFINITY, f64::min), rates().fold(0.0, f64::max));
            format!("{} to {}", rounded(least), rounded(most)).into()
        }),
        ("workers", Unit::Count, |(subject, _)| subject.workers.into()),
        ("server", Unit::Text, |(subject, _)| (&subject.server).into()),
    ]
}

const PAIR: [Field<Pair>; 3] = [
    ("ratio", Unit::Ratio, |pair| pair.result.as_ref().into()),
    ("deviation of a round", Unit::Part, |pair| {
        pair.result.as_ref().map(|result| result.deviation).into()
    }),
    ("verdict", Unit::Text, |pair| {
        let Some(result) = &pair.result else { return Cell::from("too few rounds or requests") };
        let needed = result.rounds_needed.map_or_else(String::new, |rounds| {
            format!("; about {} rounds needed", count(rounds.into()))
        });
        let verdict = match result.verdict {
            Verdict::Faster => "faster".into(),
            Verdict::Slower => "slower".into(),
            Verdict::Higher => "higher".into(),
            Verdict::Lower => "lower".into(),
            Verdict::NoDifference => result.no_difference().to_lowercase(),
            Verdict::TooNoisy => "too noisy to tell".into(),
        };
        Cell::from(format!("{verdict}{needed}"))
    }),
];

const AT_RATE: [Field<AtRate>; 10] = [
    ("p50", Unit::Microseconds, |at| at.latencies.p50.into()),
    ("p99", Unit::Microseconds, |at| at.latencies.p99.into()),
    ("p99.9", Unit::Microseconds, |at| at.latencies.p99_9.into()),
    ("max", Unit::Microseconds, |at| at.latency_us.as_ref().map(|latency| latency.max).into()),
    ("answered", Unit::Part, |at| at.answered().into()),
    ("lost", Unit::Count, |at| at.lost.into()),
    ("not sent", Unit::Count, |at| at.not_sent.into()),
    ("slices not judged", Unit::Count, |at| {
        Cell::from(at.late_slices).mark((at.late_slices > 0).then_some(Mark::Undecided))
    }),
    ("p50, times the ideal", Unit::Times, |at| at.latencies.p50_of_ideal.into()),
    ("p99, times the ideal", Unit::Times, |at| at.latencies.p99_of_ideal.into()),
];

/// The document.
pub fn document(comparison: &Comparison) -> Document {
    let all = comparison.subjects.len() <= ALL_PAIRS_UPTO;
    let is_shown = |pair: &&Pair| all || pair.baseline == comparison.plan.baseline;
    let verdicts = comparison.pairs.iter().filter(is_shown);
    let mut blocks: Vec<Block> =
        verdicts.map(|pair| Block::Verdict(pair.sentence.clone())).collect();
    blocks.push(load(comparison));
    blocks.extend(shortcomings(comparison));
    if comparison.plan.judged == Figure::CostPerRequest {
        blocks.extend(costs(comparison));
    }
    let judged = comparison.plan.judged.name();
    let pairs = if comparison.pairs.len() > 1 { &comparison.pairs[..] } else { &[] };
    blocks.extend([
        Block::Heading("Requests per second, slice by slice".into()),
        Block::Picture(slices(comparison)),
        Block::Heading(format!("Ratios of {judged}")),
        Block::Picture(ratios(comparison, judged)),
        Block::Table(table_of_pairs(pairs)),
        Block::Heading("Latency by percentile".into()),
        Block::Picture(latencies(comparison)),
        Block::Caption(SEE_LATENCIES.into()),
    ]);
    if !comparison.fixed_rates.is_empty() {
        blocks.push(Block::Heading("Latency at a fixed rate".into()));
        blocks.extend(comparison.fixed_rates.iter().flat_map(at_rate));
        blocks.push(Block::Text(ABOUT_FIXED_RATES.into()));
    }
    let odd = comparison.anomalies.iter().map(|odd| format!("- {}\n", escaped(odd)));
    blocks.extend([
        Block::Heading("Work of each worker".into()),
        Block::Picture(spread(comparison)),
        Block::Caption(SEE_SPREAD.into()),
        Block::Heading("All figures".into()),
        Block::Table(figures(comparison)),
        Block::Heading("Bottleneck".into()),
        Block::Facts(limits(comparison)),
        Block::Heading("Anomalies".into()),
        Block::Text(odd.collect()),
    ]);
    let names: Vec<&str> = comparison.subjects.iter().map(|one| one.name.as_str()).collect();
    let title = format!("Comparison under load: {}", names.join(", "));
    documents::document(title, comparison, blocks)
}

/// The load, in words.
fn load(comparison: &Comparison) -> Block {
    let (plan, subjects) = (&comparison.plan, &comparison.subjects);
    let is_some = |keep_alive| subjects.iter().any(|one| one.keep_alive == keep_alive);
    let mode = match (is_some(true), is_some(false)) {
        (true, true) => "kept alive within a slice (kept) or a new one for each request (new)",
        (_, false) => "kept alive within a slice",
        (false, true) => "a new one for each request",
    };
    let paths = match &plan.paths[..] {
        [share] => format!("GET {}", share.path),
        shares => {
            let sum: f64 = shares.iter().map(|share| share.weight).sum();
            let each = shares.iter().map(|s| format!("{:.1} % {}", s.weight * 100.0 / sum, s.path));
            each.collect::<Vec<_>>().join(", ")
        }
    };
    let opened = opened(plan.load.connections_opened, plan.load.connections);
    let (rounds, seconds, baseline) = (plan.rounds, plan.slice_seconds, &plan.baseline);
    let turns =
        format!("{rounds} of {seconds} s for each subject, taken in turn, seed {}", plan.seed);
    let noise = plan.threshold * 100.0;
    facts([
        ("rounds", Some(turns)),
        ("load", Some(format!("{}, {opened}, {mode}", plural(plan.load.threads, "thread")))),
        ("paths", Some(paths)),
        (
            "compared",
            Some(format!("with {baseline}; differences up to {noise:.1} % count as noise")),
        ),
        ("servers", plan.one_at_a_time.then(|| ONE_AT_A_TIME.to_owned())),
    ])
}

/// What is missing, and why; empty if nothing is.
fn shortcomings(comparison: &Comparison) -> Vec<Block> {
    let slices = |subject: &Subject| match subject.slices.len() {
        0 => "none".into(),
        number => number.to_string(),
    };
    let mut texts = Vec::new();
    if !comparison.complete {
        let each = comparison.subjects.iter().map(|one| format!("{} {}", one.name, slices(one)));
        texts.push(format!(
            "**This run is not complete.** Slices done, of {} for each server: {}.",
            comparison.plan.rounds,
            escaped(&each.collect::<Vec<_>>().join(", "))
        ));
    }
    for subject in &comparison.subjects {
        if let Some(reason) = &subject.failed {
            let (name, reason) = (escaped(&subject.name), escaped(reason));
            texts.push(format!("**{name} failed:** {reason}. Slices kept: {}.", slices(subject)));
        }
    }
    texts.into_iter().map(Block::Text).collect()
}

/// The subjects with slices; others have no figures.
pub fn shown(comparison: &Comparison) -> Vec<Shown<'_>> {
    comparison.subjects.iter().filter_map(|one| Some((one, one.summary.as_ref()?))).collect()
}

/// All figures.
fn figures(comparison: &Comparison) -> Table {
    let subjects = shown(comparison);
    let table = Table::of("", subjects.iter().map(|(subject, _)| &subject.name))
        .with("", &main_figures(), &subjects)
        .with("latency", &LATENCY, subjects.iter().map(|(_, summary)| &summary.latency_us))
        .with("", &SPREAD, subjects.iter().map(|(_, summary)| summary.spread.as_ref()))
        .with("", &LIMIT, subjects.iter().map(|(_, summary)| summary.limit.as_ref()))
        .with("", &other_figures(), &subjects)
        .known_columns();
    let mut cells = table.rows.iter().flat_map(|row| &row.cells);
    let has_intervals = cells.any(|cell| cell.interval.is_some());
    let about_intervals = if has_intervals { "In brackets: 95 % intervals. " } else { "" };
    Table { note: format!("{about_intervals}{ABOUT_LATENCIES}"), ..table.turned() }
}

/// Requests/s of every slice.
fn slices(comparison: &Comparison) -> Picture {
    let rows = comparison.subjects.iter().map(|subject| {
        let rate = subject.summary.as_ref().map(|summary| summary.requests_per_second);
        let points = subject.slices.iter().map(|at| (at.round + 1, at.requests_per_second));
        let rate = rate.unwrap_or(Estimate::exact(f64::NAN));
        Bar { points: points.collect(), ..Bar::of(&subject.name, rate) }
    });
    // The post's figure for the other server; only if the baseline is a server of the post.
    let baseline = comparison.subjects.iter().find(|one| one.name == comparison.plan.baseline);
    let plain = baseline.filter(|one| one.server.trim() == "shared");
    let median = plain.and_then(|one| Some(one.summary.as_ref()?.requests_per_second.value));
    let name = format!("the post's ratio: {:.3} of {}:", post::ratio(), comparison.plan.baseline);
    Picture::Bars {
        title: "Requests/s of every slice".into(),
        unit: Unit::PerSecond,
        bars: rows.collect(),
        reference: median.map(|median| (median * post::ratio(), name)),
        noise: None,
    }
}

/// Each pair's ratio, without pairs that have too few rounds.
fn ratios(comparison: &Comparison, judged: &str) -> Picture {
    let with_result = || comparison.pairs.iter().filter(|pair| pair.result.is_some());
    let crowded = with_result().count() > MOST_INTERVALS;
    let pairs = with_result().filter(|pair| !crowded || pair.baseline == comparison.plan.baseline);
    let rows = pairs.filter_map(|pair| {
        let Ratio { ratio, interval, .. } = *pair.result.as_ref()?;
        let name = format!("{} / {}", pair.other, pair.baseline);
        Some(Bar::of(name, Estimate { value: ratio, interval: Some(interval) }))
    });
    Picture::Bars {
        title: format!("Ratio of {judged}"),
        unit: Unit::Ratio,
        bars: rows.collect(),
        reference: Some((1.0, String::new())),
        noise: Some(comparison.plan.threshold),
    }
}

/// Pairs with their ratios and verdicts.
fn table_of_pairs(pairs: &[Pair]) -> Table {
    let names = pairs.iter().map(|pair| format!("{} / {}", pair.other, pair.baseline));
    Table::of("All pairs", names).with("", &PAIR, pairs).known_columns()
}

/// The same for each latency that is judged at a rate; if the client was late too often, that is the reason for
/// having no verdict.
fn table_of_latencies(at: &FixedRate) -> Table {
    let of_each = (at.pairs.len() / Figure::LATENCIES.len()).max(1);
    let pairs = Figure::LATENCIES.iter().zip(at.pairs.chunks(of_each));
    let pairs = pairs.flat_map(|(figure, pairs)| pairs.iter().map(|pair| (figure.name(), pair)));
    let names = pairs.map(|(figure, pair)| format!("{figure} {} / {}", pair.other, pair.baseline));
    let mut table = Table::of("", names).with("", &PAIR, &at.pairs);
    let was_late = |name: &str| at.results.iter().any(|r| r.subject == name && r.late_slices > 0);
    for (row, pair) in table.rows.iter_mut().zip(&at.pairs) {
        let late = was_late(&pair.other) || was_late(&pair.baseline);
        if let Some(verdict) = row.cells.last_mut().filter(|_| late && pair.result.is_none()) {
            *verdict = Cell::from(format!("{CLIENT_LATE}; try a lower rate"));
        }
    }
    table.known_columns()
}

/// Latencies under full load, by percentile.
fn latencies(comparison: &Comparison) -> Picture {
    let series = shown(comparison).into_iter().map(|(subject, summary)| {
        let curve = summary.latency_us.curve.iter();
        let points = curve.map(|&(percentile, value)| (percentile, value as f64)).collect();
        Series { name: subject.name.clone(), points }
    });
    let axis = |name: &str, unit| Axis { name: name.into(), unit, logarithmic: true };
    Picture::Lines {
        title: "Latency under full load".into(),
        x: axis("percentile", Unit::Percentile),
        y: axis("latency", Unit::Microseconds),
        series: series.collect(),
        spans: Vec::new(),
    }
}

/// Latencies at a rate that does not depend on the answers, and every verdict on them.
fn at_rate(at: &FixedRate) -> [Block; 2] {
    let share = at.share.map_or_else(String::new, |share| {
        format!(", {:.0} % of what the best serves to the same client", share * 100.0)
    });
    let title = format!("{} requests/s{share}", count(at.rate));
    let names = at.results.iter().map(|result| &result.subject);
    let table = Table::of(&title, names).with("", &AT_RATE, &at.results).known_columns();
    let is_late = at.results.iter().any(|result| result.late_slices > 0);
    let verdicts = match at.pairs.iter().all(|pair| pair.result.is_none()) && is_late {
        true => Block::Text(format!(
            "No verdict on latencies at this rate: {CLIENT_LATE}; try --rate {}.",
            half(at.rate)
        )),
        false => Block::Table(table_of_latencies(at)),
    };
    [Block::Table(table), verdicts]
}

/// About half of a rate, to two digits.
pub fn half(rate: u64) -> u64 {
    let half = rate / 2;
    let unit = 10_u64.pow(half.checked_ilog10().unwrap_or(0).saturating_sub(1));
    (half / unit * unit).max(1)
}

/// The spread of the work over workers, if it can be seen.
fn spread(comparison: &Comparison) -> Picture {
    let rows = shown(comparison).into_iter().flat_map(|(subject, summary)| {
        let parts = summary.spread.iter().flat_map(|spread| {
            [("requests", &spread.requests_by_rank), ("connections", &spread.connections_by_rank)]
        });
        let known = parts.filter(|(_, parts)| !parts.is_empty());
        known.map(|(what, parts)| (format!("{}: {what}", subject.name), parts.clone()))
    });
    let title = "Work by rank: the busiest worker of each slice first, and ranks averaged".into();
    Picture::Shares { title, rows: rows.collect() }
}

/// The bottleneck of each subject.
fn limits(comparison: &Comparison) -> Vec<(String, String)> {
    let limits = shown(comparison).into_iter().filter_map(|(subject, summary)| {
        Some((subject.name.clone(), summary.limit.as_ref()?.sentence()))
    });
    let pinned = comparison.plan.pinned.as_ref();
    limits.chain(pinned.map(|cores| ("cores".to_owned(), cores.sentence()))).collect()
}
