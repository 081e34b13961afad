//! Whether `loadtest diagnose` can be trusted: every cause is made so many times, and as many healthy
//! servers. `make diagnose-validation` runs it, and writes the table that RESULTS.md shows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::causes::{CAUSES, HEALTHY, Make};
use super::{accusations, findings, look_at};
use crate::support::skip;

/// How often each cause is made, and how many healthy servers there are.
const TIMES: usize = 20;

/// So many of them are to be named, and so few healthy ones accused.
const NAMED: usize = 19;
const ACCUSED: usize = 1;

/// For so long each is looked at.
const LOOK: &str = "1500ms";

/// What came of one cause.
#[derive(Default)]
struct Counters {
    made: usize,
    named: usize,
    /// How often a certain worker was meant, and how often that one was named.
    meant: usize,
    right_worker: usize,
    /// What else was found, and how often.
    others: BTreeMap<String, usize>,
}

impl Counters {
    fn of(id: &str, make: Make) -> Self {
        let mut counters = Self::default();
        for _ in 0..TIMES {
            let Some(case) = make() else { continue };
            let (json, _) = look_at(&case, LOOK);
            counters.made += 1;
            let is_it = |found: &&serde_json::Value| found["id"] == id;
            let found = findings(&json).into_iter().find(is_it);
            counters.named += usize::from(found.is_some());
            let is_right = |worker: u32| found.is_some_and(|found| found["worker"] == worker);
            counters.meant += usize::from(case.worker.is_some());
            counters.right_worker += usize::from(case.worker.is_some_and(is_right));
            for other in findings(&json).into_iter().filter(|found| found["id"] != id) {
                *counters.others.entry(other["id"].as_str().unwrap().into()).or_default() += 1;
            }
        }
        counters
    }

    fn row(&self, id: &str) -> String {
        let others = self.others.iter().map(|(id, count)| format!("{id} {count}"));
        let others = others.collect::<Vec<_>>().join(", ");
        let right = if self.meant > 0 { self.right_worker.to_string() } else { "-".into() };
        format!("| {id} | {} | {} | {right} | {others} |\n", self.made, self.named)
    }
}

/// What came of the healthy servers.
#[derive(Default)]
struct Healthy {
    looked: usize,
    accused: usize,
    /// Who was, of what.
    of: Vec<String>,
    /// Who could not be had here.
    missing: BTreeSet<&'static str>,
}

impl Healthy {
    /// They take turns, those that can be had, until there were enough.
    fn look() -> Self {
        let mut all = Self::default();
        for (name, make) in HEALTHY.iter().cycle() {
            if all.looked == TIMES {
                break;
            }
            let Some(case) = make() else {
                all.missing.insert(name);
                continue;
            };
            let (json, _) = look_at(&case, LOOK);
            all.looked += 1;
            let found = accusations(&json);
            all.accused += usize::from(!found.is_empty());
            let found = found.iter().map(|found| found["id"].as_str().unwrap());
            all.of.extend(found.map(|id| format!("{name}: {id}")));
        }
        all
    }

    fn in_words(&self) -> String {
        let Self { looked, accused, of, missing } = self;
        let names = HEALTHY.iter().map(|(name, _)| *name);
        let (missing, had): (Vec<_>, Vec<_>) = names.partition(|name| missing.contains(name));
        let mut text = format!("\n{accused} of {looked} healthy servers were accused of something");
        if !of.is_empty() {
            text += &format!(": {}", of.join(", "));
        }
        text += &format!(". They took turns: {}.", had.join("; "));
        if !missing.is_empty() {
            text += &format!(" Not to be had on that machine: {}.", missing.join("; "));
        }
        text + " An `info` of a herd of few does not count: epoll without EPOLLEXCLUSIVE is one.\n"
    }
}

#[test]
fn servers_of_others_are_among_the_healthy_and_one_that_cannot_be_had_is_named() {
    for name in ["nginx, hardly asked", "nginx reuseport", "Python, own sockets, coming and going"]
    {
        assert!(HEALTHY.iter().any(|(healthy, _)| *healthy == name), "{name}");
        let healthy = Healthy { looked: TIMES, missing: [name].into(), ..Healthy::default() };
        let words = healthy.in_words();
        let (had, missing) = words.split_once("Not to be had on that machine: ").unwrap();
        assert!(missing.starts_with(&format!("{name}. ")) && !had.contains(name), "{words}");
        assert!(had.contains("0 of 20") && had.contains("shared, accept(2)"), "{words}");
    }
}

#[test]
fn every_cause_is_named_nearly_always_and_hardly_a_healthy_server_accused() {
    let Some(path) = std::env::var_os("DIAGNOSE_VALIDATION") else { return };
    let mut table = String::from(
        "## Can `diagnose` be trusted?\n\nEvery cause was made on purpose, and looked at for 1.5 s each time. \
         Named is how often its id was among the findings; where a worker was meant, right is how often that \
         one was named.\n\n| cause | made | named | right | also found |\n|---|---:|---:|---:|---|\n",
    );
    let mut missed = Vec::new();
    for (id, make) in CAUSES {
        let counters = Counters::of(id, make);
        table += &counters.row(id);
        if counters.made < TIMES {
            skip(&format!("{id} cannot be made here"));
        } else if counters.named < NAMED || counters.meant - counters.right_worker > TIMES - NAMED {
            missed.push(id);
        }
    }
    let healthy = Healthy::look();
    for name in &healthy.missing {
        skip(&format!("{name} cannot be had here"));
    }
    table += &healthy.in_words();
    std::fs::write(Path::new(&path), &table).unwrap();
    assert!(missed.is_empty() && healthy.accused <= ACCUSED, "missed {missed:?}\n{table}");
}
