//! From records to documents: one short function for each command. The common parts are here: the machine,
//! warnings, and the commands that reproduce the result.

pub mod answers;
pub mod bench;
pub mod cases;
pub mod compare;
pub mod cost;
pub mod diagnose;
pub mod lab;
pub mod matrix;
pub mod policies;
pub mod probe;
pub mod readme;
pub mod results;
pub mod runs;
pub mod self_check;
pub mod servers;
pub mod show;
pub mod trade;

use std::time::Duration;

use crate::environment::Environment;
use crate::record::Record;
use crate::report::format::{number, plural};
use crate::report::model::{Block, Document, Field, Unit};
use crate::statistics::latency::Latency;
use crate::types::Errors;

/// A note about wrk's latencies.
const ABOUT_LATENCIES: &str = "Latencies are of the requests that wrk made, without the samples that \
                               it adds for coordinated omission.";

/// The figures of a distribution.
const LATENCY: [Field<Latency>; 9] = [
    ("mean", Unit::Microseconds, |of| of.mean.into()),
    ("stdev", Unit::Microseconds, |of| of.stdev.into()),
    ("p50", Unit::Microseconds, |of| of.p50.into()),
    ("p75", Unit::Microseconds, |of| of.p75.into()),
    ("p90", Unit::Microseconds, |of| of.p90.into()),
    ("p99", Unit::Microseconds, |of| of.p99.into()),
    ("p99.9", Unit::Microseconds, |of| of.p99_9.into()),
    ("p99.99", Unit::Microseconds, |of| of.p99_99.into()),
    ("max", Unit::Microseconds, |of| of.max.into()),
];

/// A command's blocks, with the common end of every document.
fn document<T>(title: impl Into<String>, record: &Record<T>, mut blocks: Vec<Block>) -> Document {
    let commit = record.environment.commit.as_deref();
    // The sources of a commit with "-dirty" cannot be checked out.
    let clean = commit.filter(|commit| !commit.ends_with("-dirty"));
    let checkout = clean.map(|commit| format!("git checkout {commit}"));
    let commands = ["make build".into(), command(&record.arguments)];
    blocks.extend([
        Block::Warnings(record.warnings.clone()),
        Block::Heading("The machine".into()),
        circumstances(&record.environment),
        Block::Reproduce(checkout.into_iter().chain(commands).collect()),
    ]);
    Document { title: title.into(), blocks }
}

/// Names with their values, without unknown ones.
fn facts<T: Into<Option<String>>, const N: usize>(facts: [(&str, T); N]) -> Block {
    let known = facts.into_iter().filter_map(|(name, what)| Some((name.to_owned(), what.into()?)));
    Block::Facts(known.collect())
}

/// The machine, in a line.
pub fn machine(environment: &Environment) -> String {
    let cpu = environment.cpu.as_deref().unwrap_or("unnamed CPU");
    let cores = plural(environment.cores as u64, "core");
    let memory = environment.memory_bytes.map_or_else(String::new, |bytes| {
        format!(", {:.1} GiB", bytes as f64 / (1u64 << 30) as f64)
    });
    format!("{}, {cpu}, {cores}{memory}", environment.kernel)
}

/// The machine, the time and the versions.
fn circumstances(environment: &Environment) -> Block {
    let commit = environment.commit.as_deref().unwrap_or("unknown");
    facts([
        ("machine", Some(machine(environment))),
        ("begun", Some(environment.started_at.clone())),
        ("commit", Some(commit.into())),
        ("load generator", environment.wrk.clone()),
        ("compiler", Some(environment.rustc.clone())),
    ])
}

/// The command line, quoted for a shell.
fn command(arguments: &[String]) -> String {
    let words = ["target/release/loadtest"].into_iter().chain(arguments.iter().map(String::as_str));
    // Arguments contain no NUL, the only character that cannot be quoted.
    shlex::try_join(words.clone()).unwrap_or_else(|_| words.collect::<Vec<_>>().join(" "))
}

/// Errors by kind, or "none".
fn errors(errors: &Errors) -> String {
    if errors.total() == 0 { "none".into() } else { errors.occurred() }
}

/// The kind of connections, in words.
fn connections(keep_alive: bool) -> &'static str {
    if keep_alive { "connections kept alive" } else { "a new connection for each request" }
}

/// The number of connections, in words, and the requested number if it differs.
fn opened(opened: u64, asked: u64) -> String {
    let words = plural(opened, "connection");
    if opened == asked { words } else { format!("{words} ({asked} asked for)") }
}

/// A time in words, to the second.
pub fn duration(time: Duration) -> String {
    match time.as_secs_f64().round() as u64 {
        0 => "less than 1s".into(),
        seconds => humantime::format_duration(Duration::from_secs(seconds)).to_string(),
    }
}

/// A list in words: a, b and c.
fn list(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Groups of items with the same key, in the order of their first ones.
fn groups<T, K: PartialEq>(
    items: impl IntoIterator<Item = T>,
    key: impl Fn(&T) -> K,
) -> Vec<Vec<T>> {
    let mut groups: Vec<Vec<T>> = Vec::new();
    for item in items {
        match groups.iter_mut().find(|group| key(&group[0]) == key(&item)) {
            Some(group) => group.push(item),
            None => groups.push(vec![item]),
        }
    }
    groups
}

/// The least and the greatest of some ratios; `None` with fewer than two.
fn range(ratios: impl IntoIterator<Item = f64>) -> Option<String> {
    let mut ratios: Vec<f64> = ratios.into_iter().collect();
    ratios.sort_by(f64::total_cmp);
    let [least, .., most] = ratios[..] else { return None };
    let [least, most] = [least, most].map(|ratio| number(ratio, Unit::Times));
    Some(if least == most { least } else { format!("{least} to {most}") })
}

#[cfg(test)]
mod tests;
