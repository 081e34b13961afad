//! `compare` and, where the cost of a request is judged, `cost`: the verdicts first, then what they
//! rest on.

mod costs;
mod figures;
mod rates;

use crate::documents::{context, opened};
use crate::measure::comparison::{Comparison, Pair, Plan, Subject, Summary};
use crate::report::format::count;
use crate::report::model::{
    Axis, Bar, Block, Cell, Document, Picture, Points, Ranks, Series, Table, Unit, escaped,
};
use crate::report::post;
use crate::statistics::estimate::Estimate;
use crate::statistics::verdict::{Figure, Verdict};

/// Pairs without the baseline are shown for up to so many subjects; all are in the JSON.
const ALL_PAIRS_UPTO: usize = 3;

/// Of more pairs than this, only those with the baseline are in the picture.
const MOST_INTERVALS: usize = 10;

/// What to know of a comparison whose servers never wait for each other.
const ONE_AT_A_TIME: &str = "Each server was started for its slice and ended after it.";

/// The document.
pub fn document(comparison: &Comparison) -> Document {
    let names: Vec<&str> = comparison.subjects.iter().map(|one| one.name.as_str()).collect();
    let mut blocks: Vec<Block> =
        shown(comparison).map(|pair| Block::Verdict(pair.sentence.clone())).collect();
    blocks.push(Block::Facts(load(&comparison.plan)));
    blocks.extend(shortcomings(comparison));
    if comparison.plan.judged == Figure::CostPerRequest {
        blocks.extend(costs::costs(comparison));
    }
    blocks.push(Block::Heading("Requests per second, slice by slice".into()));
    blocks.push(slices(comparison));
    blocks.extend(ratios(comparison));
    blocks.extend(latencies(comparison));
    blocks.extend(rates::fixed_rates(comparison));
    blocks.extend(spread(comparison));
    blocks.push(Block::Heading("All figures".into()));
    blocks.push(Block::Table(figures::figures(comparison)));
    blocks.extend(limits(comparison));
    if !comparison.anomalies.is_empty() {
        let odd = comparison.anomalies.iter().map(|odd| format!("- {}\n", escaped(odd)));
        blocks.push(Block::Heading("Anomalies".into()));
        blocks.push(Block::Text(odd.collect()));
    }
    blocks.extend(context(&comparison.environment, &comparison.arguments, &comparison.warnings));
    Document { title: format!("Compared under load: {}", names.join(", ")), blocks }
}

/// The pairs that belong on top: those with a baseline, and all of a few.
fn shown(comparison: &Comparison) -> impl Iterator<Item = &Pair> {
    let all = comparison.subjects.len() <= ALL_PAIRS_UPTO;
    comparison.pairs.iter().filter(move |pair| all || pair.baseline == comparison.plan.baseline)
}

/// What was asked of all of them, in words.
fn load(plan: &Plan) -> Vec<(String, String)> {
    let mode = match plan.keep_alive {
        true => "kept alive within a slice",
        false => "a new one for each request",
    };
    let paths = match &plan.paths[..] {
        [share] => format!("GET {}", share.path),
        shares => {
            let sum: f64 = shares.iter().map(|share| share.weight).sum();
            let each = shares.iter().map(|s| format!("{:.1} % {}", s.weight * 100.0 / sum, s.path));
            each.collect::<Vec<_>>().join(", ")
        }
    };
    let rounds = format!(
        "{} of {} s for each subject, taken in turn, seed {}",
        plan.rounds, plan.slice_seconds, plan.seed
    );
    let opened = opened(plan.connections_opened, plan.connections_asked);
    let wrk = format!("{} threads, {opened} connections, {mode}", plan.threads);
    let noise = format!(
        "with {}; differences up to {:.1} % count as noise",
        plan.baseline,
        plan.threshold * 100.0
    );
    let once = plan.one_at_a_time.then(|| ("servers", ONE_AT_A_TIME.to_owned()));
    let facts = [("rounds", rounds), ("load", wrk), ("paths", paths), ("compared", noise)];
    facts.into_iter().chain(once).map(|(name, words)| (name.into(), words)).collect()
}

/// What is missing, and why; nothing where all went well.
fn shortcomings(comparison: &Comparison) -> Vec<Block> {
    let slices = |subject: &Subject| match subject.slices.len() {
        0 => "none".into(),
        number => number.to_string(),
    };
    let mut texts = Vec::new();
    if !comparison.complete {
        let each = comparison.subjects.iter().map(|one| format!("{} {}", one.name, slices(one)));
        texts.push(format!(
            "**This run is not complete.** Of {} slices each there are: {}.",
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

fn summaries(comparison: &Comparison) -> impl Iterator<Item = (&Subject, &Summary)> {
    comparison.subjects.iter().filter_map(|one| Some((one, one.summary.as_ref()?)))
}

fn estimate(found: Option<Estimate>) -> Cell {
    found.map_or_else(Cell::none, |found| Cell::sure(found.value, found.interval))
}

/// Requests/s of every slice.
fn slices(comparison: &Comparison) -> Block {
    let columns = comparison.subjects.iter().map(|subject| {
        let rate = subject.summary.as_ref().map(|summary| summary.requests_per_second);
        let points =
            subject.slices.iter().map(|slice| (slice.round + 1, slice.requests_per_second));
        Points {
            name: subject.name.clone(),
            points: points.collect(),
            median: rate.map(|rate| rate.value),
            interval: rate.and_then(|rate| rate.interval),
        }
    });
    // Where the post's other server would be; only beside the server that the post compares it with.
    let baseline = comparison.subjects.iter().find(|one| one.name == comparison.plan.baseline);
    let plain = baseline.filter(|one| one.server.trim() == "shared");
    let median = plain.and_then(|one| Some(one.summary.as_ref()?.requests_per_second.value));
    let reference = median.map(|median| {
        let name =
            format!("the post's ratio: {:.3} of {}", post::ratio(), comparison.plan.baseline);
        (median * post::ratio(), name)
    });
    Block::Picture(Picture::Points {
        title: "Requests/s of every slice".into(),
        unit: Unit::PerSecond,
        columns: columns.collect(),
        reference,
    })
}

/// Each pair's ratio; nothing where no pair has the rounds for one.
fn ratios(comparison: &Comparison) -> Vec<Block> {
    let with_result = || comparison.pairs.iter().filter(|pair| pair.result.is_some());
    let crowded = with_result().count() > MOST_INTERVALS;
    let pairs = with_result().filter(|pair| !crowded || pair.baseline == comparison.plan.baseline);
    let rows: Vec<Bar> = pairs
        .filter_map(|pair| {
            let result = pair.result.as_ref()?;
            let name = format!("{} / {}", pair.other, pair.baseline);
            Some(Bar { name, value: result.ratio, interval: Some(result.interval) })
        })
        .collect();
    if rows.is_empty() {
        return Vec::new();
    }
    let judged = comparison.plan.judged.name();
    let mut blocks = vec![
        Block::Heading(format!("Ratios of {judged}")),
        Block::Picture(Picture::Intervals {
            title: format!("Times the {judged}"),
            rows,
            centre: 1.0,
            noise: comparison.plan.threshold,
        }),
    ];
    if comparison.pairs.len() > 1 {
        blocks.push(Block::Table(pairs_table("All pairs", comparison.pairs.iter())));
    }
    blocks
}

/// Pairs with their ratios and verdicts.
fn pairs_table<'a>(title: &str, pairs: impl Iterator<Item = &'a Pair>) -> Table {
    let columns =
        [("ratio", Unit::Ratio), ("deviation of a round", Unit::Part), ("verdict", Unit::Text)];
    let mut table = Table::new(title, &columns);
    for pair in pairs {
        let name = format!("{} / {}", pair.other, pair.baseline);
        let Some(result) = &pair.result else {
            table.row(name, [Cell::none(), Cell::none(), Cell::text("too few rounds")]);
            continue;
        };
        let needed = result.rounds_needed.map_or_else(String::new, |rounds| {
            format!("; about {} rounds would", count(rounds.into()))
        });
        let verdict = match result.verdict {
            Verdict::Faster => "faster",
            Verdict::Slower => "slower",
            Verdict::Higher => "higher",
            Verdict::Lower => "lower",
            Verdict::NoDifference => "no difference detected",
            Verdict::TooNoisy => "too noisy to tell",
        };
        let cells = [
            Cell::sure(result.ratio, Some(result.interval)),
            Cell::number(result.deviation),
            Cell::text(format!("{verdict}{needed}")),
        ];
        table.row(name, cells);
    }
    table
}

/// Latencies under full load, by percentile.
fn latencies(comparison: &Comparison) -> Vec<Block> {
    let series = summaries(comparison).map(|(subject, summary)| {
        let curve = summary.latency_us.curve.iter();
        let points = curve.map(|&(percentile, value)| (percentile, value as f64)).collect();
        Series { name: subject.name.clone(), points }
    });
    let axis = |name: &str, unit| Axis { name: name.into(), unit, logarithmic: true };
    let picture = Picture::Lines {
        title: "Latency under full load".into(),
        x: axis("percentile", Unit::Percentile),
        y: axis("latency", Unit::Microseconds),
        series: series.collect(),
        spans: Vec::new(),
    };
    vec![Block::Heading("Latency by percentile".into()), Block::Picture(picture)]
}

/// Which workers did the work, where that can be seen.
fn spread(comparison: &Comparison) -> Vec<Block> {
    let panels: Vec<Ranks> = summaries(comparison)
        .filter_map(|(subject, summary)| {
            let spread = summary.spread.as_ref()?;
            let workers = subject.workers.map_or_else(String::new, |all| format!(" of {all}"));
            Some(Ranks {
                name: subject.name.clone(),
                note: format!(
                    "busiest / average {:.2} (best attainable {:.2}), idle {:.2}{workers}",
                    spread.max_over_mean, spread.best_attainable, spread.idle_workers
                ),
                requests: spread.requests_by_rank.clone(),
                connections: spread.connections_by_rank.clone(),
            })
        })
        .collect();
    if panels.is_empty() {
        return Vec::new();
    }
    let picture = Picture::Ranks { title: "Work by rank".into(), panels };
    vec![Block::Heading("Who did the work".into()), Block::Picture(picture)]
}

/// What each was limited by.
fn limits(comparison: &Comparison) -> Vec<Block> {
    let limits = summaries(comparison).filter_map(|(subject, summary)| {
        Some((subject.name.clone(), summary.limit.as_ref()?.sentence()))
    });
    let pinned = comparison.plan.pinned.as_ref();
    let pinned = pinned.map(|cores| ("cores".to_owned(), cores.sentence()));
    let facts: Vec<(String, String)> = limits.chain(pinned).collect();
    match facts.is_empty() {
        true => Vec::new(),
        false => vec![Block::Heading("What was the limit".into()), Block::Facts(facts)],
    }
}
