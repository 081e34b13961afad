#![doc = include_str!("stall.md")]

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::lab::chapter::Findings;
use crate::lab::context::{Context, start};
use crate::lab::criterion::{Criterion, Limit, alone, estimated, percent};
use crate::lab::probing::{PROBING, Probing, Served, probe};
use crate::lab::queues::Queues;
use crate::lab::samples::Samples;
use crate::probe::timeline::BUCKET;
use crate::report::model::{Axis, Cell, Picture, Series, Table, Unit};
use crate::statistics::estimate::Estimate;
use crate::statistics::mean;

/// The experiment's page.
const PAGE: &str = include_str!("stall.md");

/// Who takes part; the first two where handlers block, in the short form.
const POLICIES: [&str; 4] = [SHARED, HASH, SHARED_LEAST, OWN_LEAST];
const SHARED: &str = "shared/epoll";
const HASH: &str = "reuseport/hash";
const SHARED_LEAST: &str = "shared/least-conn";
const OWN_LEAST: &str = "reuseport/least-conn";

/// Below this part of the rate before, own sockets have lost more than the stopped worker; at least
/// that part of it, a shared socket goes on serving.
const STARVED: f64 = 0.5;
const SERVING: f64 = 0.7;

/// From this ratio on, p90 is longer.
const LONGER: f64 = 1.5;

/// Clients while a worker is stopped, and where handlers block.
const CLIENTS: u64 = 32;
const BLOCKED_CLIENTS: u64 = 12;

/// A request that blocks its worker for 100 ms.
const BLOCK: &str = "/block/100000";

/// When a worker is stopped, when it goes on, and when all is over; milliseconds.
type Times = [u64; 3];

/// What was seen while one worker was stopped for a while.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Stopped {
    /// Answers per second before.
    before: f64,
    /// Answers per second while it was stopped.
    during: f64,
    /// How long after it went on the server was back at 90 % of the rate before, if it was.
    back_ms: Option<u64>,
    /// Requests without a good answer.
    lost: u64,
    /// Answers in each 100 ms.
    answers: Vec<u64>,
    /// The longest queue, while it was stopped, of the socket that it accepts from; and of the others.
    queued: Option<[u32; 2]>,
}

/// All that was seen: while a worker was stopped, and where handlers block.
struct Seen {
    times: Times,
    stopped: Samples<Stopped>,
    blocked: Samples<Served>,
}

/// Runs the experiment.
pub fn run(context: &mut Context) -> Result<Findings> {
    let (present, missing) = context.policies(&POLICIES);
    let (rounds, times) = context.choose((3, [1000, 2200, 3000]), (2, [500, 1000, 1300]));
    let stopped =
        context.in_turns("stopped", rounds, &present, |server| stop_one(server, times))?;
    let (some, _) = context.policies(context.choose(&POLICIES[..], &POLICIES[..2]));
    let time = Duration::from_millis(context.choose(1500, 1000));
    let blocked = context.in_turns("blocked", rounds, &some, |server| block_all(server, time))?;
    Ok(findings(&Seen { times, stopped, blocked }, missing))
}

fn stop_one(server: &str, [stop, go_on, end]: Times) -> Result<Stopped> {
    let mut server = start(&format!("{server} --workers 4"))?;
    let faults = [format!("stop-worker@{stop}ms"), format!("continue-worker@{go_on}ms")];
    let mut queues = Queues::of(&server);
    let ms = Duration::from_millis;
    let (time, answer_within) = (ms(end), Duration::from_secs(5));
    let asked = Probing { clients: CLIENTS, time, answer_within, faults: &faults, ..PROBING };
    let probed = probe(&mut server, &asked, |now| queues.look(now))?;
    server.stop()?;
    let [stop, go_on] = &probed.faults[..] else { anyhow::bail!("not both faults were done") };
    Ok(Stopped {
        before: stop.rate_before.context("nothing was asked before a worker was stopped")?,
        during: stop.rate_after.context("nothing was asked while a worker was stopped")?,
        back_ms: go_on.full_strength_after_ms,
        lost: probed.outcomes.lost(),
        answers: probed.timeline.iter().map(|bucket| bucket.ok).collect(),
        queued: stop.pid.and_then(|pid| queues.longest(pid, ms(stop.at_ms), ms(go_on.at_ms))),
    })
}

fn block_all(server: &str, time: Duration) -> Result<Served> {
    let mut server = start(&format!("{server} --workers 4 --lab --max-connections 1"))?;
    let (clients, answer_within) = (BLOCKED_CLIENTS, Duration::from_secs(10));
    let asked = Probing { path: BLOCK, clients, time, answer_within, ..PROBING };
    let found = probe(&mut server, &asked, |_| {})?;
    server.stop()?;
    Ok(Served::of(&found))
}

impl Seen {
    /// Answers/s while a worker was stopped over those before.
    fn while_stopped(&self, policy: &str) -> Estimate {
        self.stopped.mean(policy, |round| round.during / round.before)
    }

    /// p90 over that of a shared socket, round by round.
    fn p90_ratio(&self, policy: &str) -> Estimate {
        self.blocked.ratio(policy, SHARED, |round| round.latency.p90 as f64)
    }
}

fn findings(seen: &Seen, missing: Vec<String>) -> Findings {
    let starved = Criterion::All(vec![
        estimated("served while stopped, of before: own sockets {}", seen.while_stopped(HASH))
            .must_be(Limit::Below(STARVED)),
        estimated("shared {}", seen.while_stopped(SHARED)).must_be(Limit::AtLeast(SERVING)),
    ]);
    let longer = estimated("p90 {} times that of a shared socket", seen.p90_ratio(HASH))
        .must_be(Limit::Above(LONGER));
    let part = |policy| percent(Estimate::exact(seen.while_stopped(policy).value));
    let figures = [
        ("own", part(HASH)),
        ("shared", part(SHARED)),
        ("own_least", part(OWN_LEAST)),
        ("shared_least", part(SHARED_LEAST)),
        ("longer", alone(seen.p90_ratio(HASH), 1)),
        ("least_longer", alone(seen.p90_ratio(OWN_LEAST), 1)),
    ];
    Findings {
        picture: Some(picture(seen)),
        tables: vec![stopped_table(seen), blocked_table(seen)],
        evidence: vec![evidence(&seen.stopped)],
        missing,
        ..Findings::of(PAGE, &[(&starved, ""), (&longer, "")], &figures)
    }
}

fn picture(seen: &Seen) -> Picture {
    let bucket = BUCKET.as_secs_f64();
    let [stop, go_on, end] = seen.times.map(|ms| ms as f64 / 1000.0);
    let line = |name: &str| {
        let point = |place: usize| {
            let found = seen.stopped.each(name, |r| r.answers.get(place).map(|&n| n as f64));
            Some(((place as f64 + 0.5) * bucket, mean(&found)? / bucket))
        };
        // Answers that came after the end are of requests that were begun before it.
        let points = (0..(end / bucket) as usize).filter_map(point).collect();
        Series { name: name.into(), points }
    };
    let axis = |name: &str, unit| Axis { name: name.into(), unit, logarithmic: false };
    Picture::Lines {
        title: "Answers/s while one worker of four is stopped".into(),
        x: axis("seconds", Unit::Mean),
        y: axis("answers/s", Unit::PerSecond),
        series: seen.stopped.names().map(line).collect(),
        spans: vec![(stop, go_on, "one worker stopped".into())],
    }
}

fn stopped_table(seen: &Seen) -> Table {
    let each = |figure: fn(&Stopped) -> f64| {
        move |name: &str| Estimate::exact(seen.stopped.mean(name, figure).value)
    };
    // The 100 ms in which it was back began then.
    let end = |ms: u64| (Duration::from_millis(ms) + BUCKET).as_micros() as f64;
    seen.stopped
        .table(format!("One worker stopped, {CLIENTS} clients"))
        .estimates("answers/s before", Unit::PerSecond, each(|round| round.before))
        .estimates("while stopped", Unit::PerSecond, each(|round| round.during))
        .estimates("of before", Unit::Ratio, |name| seen.while_stopped(name))
        .middles("back within", Unit::Microseconds, |round| round.back_ms.map(end))
        .sums("requests lost", |round| round.lost)
        .note(
            "means over the rounds; back: until the end of the first 100 ms with 90 % of the rate \
             before, from when the worker went on, median; nothing is lost because clients wait \
             for 5 s",
        )
}

fn blocked_table(seen: &Seen) -> Table {
    let longest = |_: &str, rounds: &[Served]| {
        Cell::maybe(rounds.iter().map(|round| round.latency.max as f64).max_by(f64::total_cmp))
    };
    let mean = |name: &str| seen.blocked.mean(name, |round| round.per_second);
    seen.blocked
        .table(format!("Every request blocks its worker for 100 ms, {BLOCKED_CLIENTS} clients"))
        .estimates("answers/s", Unit::PerSecond, |name| Estimate::exact(mean(name).value))
        .medians("p50", Unit::Microseconds, |round| round.latency.p50 as f64)
        .medians("p90", Unit::Microseconds, |round| round.latency.p90 as f64)
        .cells("longest", Unit::Microseconds, longest)
        .estimates("p90 of shared", Unit::Ratio, |name| seen.p90_ratio(name))
        .note(
            "of the percentiles medians over the rounds; 12 clients, 4 workers and 100 ms make \
             300 ms if nobody is ever idle",
        )
}

/// The accept queues, by sock_diag.
fn evidence(stopped: &Samples<Stopped>) -> Table {
    let queued = |place: usize| move |round: &Stopped| round.queued.map(|q| f64::from(q[place]));
    stopped
        .table("Accept queues while a worker was stopped")
        .means("waiting on its socket", queued(0))
        .means("on the others", queued(1))
        .cells("clients", Unit::Count, |_, _| Cell::count(CLIENTS))
        .note(
            "the longest queue of each round by sock_diag, looked at every 50 ms, averaged; a \
             shared socket is everybody's",
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::probing::tests::served;
    use crate::lab::samples::tests::samples_of;

    #[test]
    fn starved_and_serving_and_a_longer_p90_are_told_or_undecided() {
        let starves = [
            "own sockets serve 3 % of what they did",
            "p90 2.6 times as long",
            "own sockets serve 98 %",
        ];
        // The part that the hash and a shared socket served, how much longer p90 is, and the spread.
        for (hash, shared, p90, spread, verdicts, words) in [
            (0.03, 1.02, 2.6, 0.02, "++", &starves[..]),
            (0.8, 1.0, 1.1, 0.02, "--", &["less than at PostHog"]),
            (0.03, 0.4, 2.0, 0.02, "-+", &[]),
            (0.5, 1.0, 1.5, 0.3, "??", &["crosses the limit"]),
        ] {
            let rounds = || [1.0 + spread, 1.0 - spread, 1.0 + spread, 1.0 - spread].into_iter();
            let stopped = |part: f64| {
                let round = |jitter: f64| Stopped {
                    before: 1000.0,
                    during: 1000.0 * part * jitter,
                    back_ms: Some(100),
                    lost: 0,
                    answers: vec![100; 30],
                    queued: Some([31, 0]),
                };
                rounds().map(round).collect()
            };
            let blocked = |times: f64| {
                let mut served = served(0.0);
                served.latency.p90 = (300e3 * times) as u64;
                served
            };
            let longer = rounds().map(|jitter| blocked(p90 * jitter)).collect();
            let parts = [(SHARED, shared), (HASH, hash), (OWN_LEAST, 0.98)];
            let found = findings(
                &Seen {
                    times: [1000, 2200, 3000],
                    stopped: samples_of(parts.map(|(name, part)| (name, stopped(part)))),
                    blocked: samples_of([(SHARED, vec![blocked(1.0); 4]), (HASH, longer)]),
                },
                vec![],
            );
            found.expect(verdicts, words);
            let Some(Picture::Lines { series, spans, .. }) = found.picture else {
                panic!("no lines");
            };
            assert_eq!((series.len(), series[0].points.len()), (3, 30));
            assert_eq!((series[0].points[0].1, spans[0].0, spans[0].1), (1000.0, 1.0, 2.2));
        }
    }
}
