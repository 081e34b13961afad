//! The faults of `--fault`: `FAULT@TIME`, or `FAULT@TIME*COUNT/EVERY`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::server::signals::Action;

/// The most faults of one option: more would be an attack, not an experiment.
const MOST: u32 = 10_000;

/// One `--fault`.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    kind: Action,
    /// The text of the option.
    text: String,
    /// The time from the start of the load.
    at: Duration,
    times: u32,
    every: Duration,
}

/// A planned fault and, after the run, its impact until the next fault.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct FaultRecord {
    /// When, in milliseconds from the start of the load.
    pub at_ms: u64,
    /// The action.
    pub what: Action,
    /// The option `--fault` that it belongs to.
    pub asked: String,
    /// The process that it acted on; `null` before, and when there was none.
    pub pid: Option<u32>,
    /// Whether the fault was for a worker, but the server has only one process.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub only_process: bool,
    /// Requests lost after it.
    pub lost: u64,
    /// How long after it the last of these was known to be lost.
    pub lost_within_ms: Option<u64>,
    /// Good answers per second since the fault before, or since the start.
    pub rate_before: Option<f64>,
    /// Good answers per second until the next fault, or the end.
    pub rate_after: Option<f64>,
    /// How long after it the first 100 ms with 90 % of the rate before began (if a worker was stopped then, of the rate
    /// before that); `null` if that was not before the next fault of another `--fault`.
    pub full_strength_after_ms: Option<u64>,
}

impl FaultRecord {
    /// The time from the start of the load.
    pub fn at(&self) -> Duration {
        Duration::from_millis(self.at_ms)
    }
}

impl Fault {
    /// The action.
    pub fn kind(&self) -> Action {
        self.kind
    }

    /// When the last repetition is due.
    pub fn last(&self) -> Duration {
        self.at + self.every * (self.times - 1)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "expected FAULT@TIME, such as reload@1s, or FAULT@TIME*COUNT/EVERY, such as \
                    reload@1s*20/250ms";
        let (name, when) = text.split_once('@').ok_or(form)?;
        let kind = Action::from_str(name, false).map_err(|_| {
            format!("there is no fault {name:?}; there are {}", Action::names(|_| true))
        })?;
        let time = |text: &str| {
            humantime::parse_duration(text).map_err(|error| format!("{text:?}: {error}; {form}"))
        };
        let (at, times, every) = match when.split_once('*') {
            None => (time(when)?, 1, Duration::ZERO),
            Some((at, repeat)) => {
                let (times, every) = repeat.split_once('/').ok_or(form)?;
                let times = times.parse().ok().filter(|times| (1..=MOST).contains(times));
                let times = times.ok_or_else(|| format!("COUNT is a number from 1 to {MOST}"))?;
                (time(at)?, times, time(every)?)
            }
        };
        // Longer than any run, and short enough that the last time does not overflow.
        if at.max(every) > Duration::from_secs(24 * 60 * 60) {
            return Err("that is longer than a day; choose up to 24h".into());
        }
        Ok(Self { kind, text: text.into(), at, times, every })
    }
}

/// Parses faults that this program wrote itself.
pub fn parsed(faults: &[String]) -> Result<Vec<Fault>> {
    faults.iter().map(|text| text.parse().map_err(anyhow::Error::msg)).collect()
}

/// All faults, in the order of time.
pub fn plan(faults: &[Fault]) -> Vec<FaultRecord> {
    let each = faults.iter().flat_map(|fault| {
        (0..fault.times).map(|count| FaultRecord {
            at_ms: (fault.at + fault.every * count).as_millis() as u64,
            what: fault.kind,
            asked: fault.text.clone(),
            ..FaultRecord::default()
        })
    });
    let mut plan: Vec<FaultRecord> = each.collect();
    // Faults that are due at the same time keep the order of the command line.
    plan.sort_by_key(|due| due.at_ms);
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Fault, String> {
        text.parse()
    }

    #[test]
    fn every_fault_has_a_name_that_is_understood_and_can_be_repeated() {
        let ms = Duration::from_millis;
        for &kind in Action::value_variants() {
            let fault = parse(&format!("{kind}@1500ms")).unwrap();
            assert_eq!((fault.kind, fault.at, fault.times), (kind, ms(1500), 1));
            assert_eq!(fault.last(), fault.at);
            // Results use the same name.
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.to_string());
        }
        let fault = parse("reload@1s*20/250ms").unwrap();
        assert_eq!((fault.at, fault.times, fault.every), (ms(1000), 20, ms(250)));
        assert_eq!(fault.last(), ms(5750));
    }

    #[test]
    fn the_plan_is_in_the_order_of_time_and_then_of_asking() {
        let faults =
            ["term@3s", "reload@1s*3/1s", "kill-worker@2s"].map(|text| parse(text).unwrap());
        let plan = plan(&faults);
        let shown: Vec<_> =
            plan.iter().map(|due| (due.at_ms / 1000, due.what.to_string())).collect();
        let expected =
            [(1, "reload"), (2, "reload"), (2, "kill-worker"), (3, "drain"), (3, "reload")];
        assert_eq!(shown, expected.map(|(at, name)| (at, name.to_owned())));
        assert_eq!(plan[1].asked, "reload@1s*3/1s");
    }

    #[test]
    fn what_is_no_fault_is_refused_by_name() {
        for (text, reason) in [
            ("reload", "FAULT@TIME"),
            ("explode@1s", "no fault \"explode\"; there are stop-worker, continue-worker"),
            ("reload@", "FAULT@TIME"),
            ("reload@soon", "\"soon\""),
            ("reload@1", "\"1\""),
            ("reload@1s*20", "COUNT/EVERY"),
            ("reload@1s*0/1s", "from 1 to"),
            ("reload@1s*x/1s", "from 1 to"),
            ("reload@1s*2/x", "\"x\""),
            ("reload@1s*4000000000/1s", "from 1 to"),
            ("reload@1s*9/1000000years", "24h"),
        ] {
            let refusal = parse(text).unwrap_err();
            assert!(refusal.contains(reason), "{text}: {refusal}");
        }
    }
}
