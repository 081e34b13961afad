#![doc = include_str!("stall.md")]

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::lab::chapter::{Findings, judged};
use crate::lab::context::{Context, Policy, start};
use crate::lab::criterion::{Criterion, Limit, estimated, words};
use crate::lab::probing::{PROBING, Probing, probe};
use crate::lab::queues::Queues;
use crate::lab::samples::Samples;
use crate::probe::timeline::BUCKET;
use crate::report::model::{Axis, Cell, Picture, Series, Table, Unit};
use crate::statistics::estimate::Estimate;
use crate::statistics::mean;

/// The experiment's page.
const PAGE: &str = include_str!("stall.md");

/// Who takes part.
const SHARED: &str = "shared/epoll";
const HASH: &str = "reuseport/hash";
const SHARED_LEAST: &str = "shared/least-conn";
const OWN_LEAST: &str = "reuseport/least-conn";

/// Below this part of the rate before, own sockets have lost more than the stopped worker.
const STARVED: f64 = 0.5;

/// At least this part of it, a shared socket goes on serving.
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

/// What was seen where handlers block: latencies in microseconds.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Blocked {
    p50: f64,
    p90: f64,
    max: f64,
    per_second: f64,
}

/// All that was seen.
struct Seen {
    times: Times,
    stopped: Samples<Stopped>,
    blocked: Samples<Blocked>,
}

/// Runs the experiment.
pub fn run(context: &mut Context) -> Result<Findings> {
    let (present, missing) = context.policies(&[SHARED, HASH, SHARED_LEAST, OWN_LEAST]);
    let (rounds, times) = context.choose((3, [1000, 2200, 3000]), (2, [500, 1000, 1300]));
    let names: Vec<&str> = present.iter().map(|(name, _)| *name).collect();
    let stopped =
        context.in_turns("stopped", &names, rounds, |place| stop_one(present[place].1, times))?;
    let is_in = |name: &str| !context.quick || [SHARED, HASH].contains(&name);
    let some: Vec<Policy> = present.into_iter().filter(|(name, _)| is_in(name)).collect();
    let names: Vec<&str> = some.iter().map(|(name, _)| *name).collect();
    let time = Duration::from_millis(context.choose(1500, 1000));
    let blocked =
        context.in_turns("blocked", &names, rounds, |place| block_all(some[place].1, time))?;
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
        lost: probed.lost(),
        answers: probed.timeline.iter().map(|bucket| bucket.ok).collect(),
        queued: stop.pid.and_then(|pid| queues.longest(pid, ms(stop.at_ms), ms(go_on.at_ms))),
    })
}

fn block_all(server: &str, time: Duration) -> Result<Blocked> {
    let mut server = start(&format!("{server} --workers 4 --lab --max-connections 1"))?;
    let (clients, answer_within) = (BLOCKED_CLIENTS, Duration::from_secs(10));
    let asked = Probing { path: BLOCK, clients, time, answer_within, ..PROBING };
    let found = probe(&mut server, &asked, |_| {})?;
    server.stop()?;
    let [p50, p90, max] =
        [found.latency.p50, found.latency.p90, found.latency.max].map(|us| us as f64);
    Ok(Blocked { p50, p90, max, per_second: found.ok_per_second })
}

impl Seen {
    /// Answers/s while a worker was stopped over those before.
    fn while_stopped(&self, policy: &str) -> Estimate {
        self.stopped.mean(policy, |round| round.during / round.before)
    }

    /// p90 over that of a shared socket, round by round.
    fn p90_ratio(&self, policy: &str) -> Estimate {
        self.blocked.ratio(policy, SHARED, |round| round.p90)
    }
}

fn findings(seen: &Seen, missing: Vec<String>) -> Findings {
    let [hash, shared] = [HASH, SHARED].map(|policy| seen.while_stopped(policy));
    let starved = Criterion::All(vec![
        estimated("served while stopped, of before: own sockets {}", hash)
            .must_be(Limit::Below(STARVED)),
        estimated("shared {}", shared).must_be(Limit::AtLeast(SERVING)),
    ]);
    let longer = estimated("p90 {} times that of a shared socket", seen.p90_ratio(HASH))
        .must_be(Limit::Above(LONGER));
    let is_starved = starved.met() == Some(true);
    Findings {
        answer: answer(seen, is_starved, longer.met()),
        claims: judged(PAGE, &[(&starved, ""), (&longer, "")]),
        advice: if is_starved { advice(seen) } else { String::new() },
        picture: Some(picture(seen)),
        tables: vec![stopped_table(seen), blocked_table(seen)],
        evidence: vec![evidence(&seen.stopped)],
        missing,
    }
}

fn whole_percent(part: Estimate) -> String {
    format!("{:.0} %", part.value * 100.0)
}

fn answer(seen: &Seen, is_starved: bool, is_longer: Option<bool>) -> String {
    let [own, one] = [HASH, SHARED].map(|policy| whole_percent(seen.while_stopped(policy)));
    let first = match is_starved {
        true => format!(
            "While one worker of four is stopped, own sockets serve {own} of what they did: the \
             kernel goes on giving it connections, until every client waits for it. Over a shared \
             socket the others serve {one}."
        ),
        false => format!(
            "While one worker of four is stopped, own sockets serve {own} here of what they did, and \
             a shared socket {one}."
        ),
    };
    let times = words(Estimate { interval: None, ..seen.p90_ratio(HASH) }, 1);
    let second = match is_longer {
        Some(true) => format!(
            "Where handlers block, the same hash makes p90 {times} times as long; at PostHog it was \
             2.5 to 3.3."
        ),
        Some(false) => format!(
            "Where handlers block, p90 is {times} times as long here, less than at PostHog, where \
             queries of very different length met."
        ),
        None => format!(
            "Where handlers block, p90 is {times} times as long, but its interval crosses the limit."
        ),
    };
    format!("{first} {second}")
}

fn advice(seen: &Seen) -> String {
    let part = |policy: &str| {
        let part = seen.while_stopped(policy);
        (!part.value.is_nan()).then(|| whole_percent(part))
    };
    let mut advice = match (part(SHARED_LEAST), part(OWN_LEAST)) {
        (_, Some(own)) => format!(
            "Share the socket; or steer by load: with --steer least-conn own sockets serve {own} \
             while a worker is stopped"
        ),
        (Some(shared), None) => {
            format!("Share the socket; with --accept least-conn it serves {shared}")
        }
        (None, None) => return "Share the socket.".into(),
    };
    let longer = seen.p90_ratio(OWN_LEAST).value;
    if !longer.is_nan() {
        advice +=
            &format!(", and blocking handlers have {longer:.1} times the p90 of a shared one");
    }
    advice + "."
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
    // The 100 ms in which it was back began then.
    let end = |ms: u64| (Duration::from_millis(ms) + BUCKET).as_micros() as f64;
    seen.stopped
        .table(format!("One worker stopped, {CLIENTS} clients"))
        .means("answers/s before", Unit::PerSecond, |round| round.before)
        .means("while stopped", Unit::PerSecond, |round| round.during)
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
    let longest = |_: &str, rounds: &[Blocked]| {
        Cell::maybe(rounds.iter().map(|round| round.max).max_by(f64::total_cmp))
    };
    seen.blocked
        .table(format!("Every request blocks its worker for 100 ms, {BLOCKED_CLIENTS} clients"))
        .means("answers/s", Unit::PerSecond, |round| round.per_second)
        .medians("p50", Unit::Microseconds, |round| round.p50)
        .medians("p90", Unit::Microseconds, |round| round.p90)
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
        .means("waiting on its socket", Unit::Mean, queued(0))
        .means("on the others", Unit::Mean, queued(1))
        .cells("clients", Unit::Count, |_, _| Cell::count(CLIENTS))
        .note(
            "the longest queue of each round by sock_diag, looked at every 50 ms, averaged; a \
             shared socket is everybody's",
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::chapter::Verdict::{self, NotDecidable, NotReproduced, Reproduced};

    /// Rounds in which this part of the rate before was served, up to `spread` more or less.
    fn seen(hash: f64, shared: f64, p90: f64, spread: f64) -> Seen {
        let rounds =
            || (0..4).map(|round| if round % 2 == 0 { 1.0 + spread } else { 1.0 - spread });
        let stopped = |part: f64| -> Vec<Stopped> {
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
        let blocked = |p90: f64| Blocked { p50: 300e3, p90, max: 2.0 * p90, per_second: 40.0 };
        let longer = rounds().map(|jitter| blocked(300e3 * p90 * jitter)).collect();
        let parts = [(SHARED, shared), (HASH, hash), (OWN_LEAST, 0.98)];
        let groups = parts.map(|(name, part)| (name.into(), stopped(part))).into();
        Seen {
            times: [1000, 2200, 3000],
            stopped: Samples { groups, seed: 1 },
            blocked: Samples {
                groups: vec![(SHARED.into(), vec![blocked(300e3); 4]), (HASH.into(), longer)],
                seed: 1,
            },
        }
    }

    fn verdicts(seen: &Seen) -> Vec<Verdict> {
        findings(seen, vec![]).claims.into_iter().map(|claim| claim.verdict).collect()
    }

    #[test]
    fn a_hash_that_starves_and_a_shared_socket_that_serves_reproduce_both_claims() {
        let seen = seen(0.03, 1.02, 2.6, 0.02);
        assert_eq!(verdicts(&seen), [Reproduced, Reproduced]);
        let found = findings(&seen, vec![]);
        let answer = &found.answer;
        assert!(answer.contains("own sockets serve 3 % of what they did"), "{answer}");
        assert!(answer.contains("p90 2.6 times as long"), "{answer}");
        assert!(found.advice.contains("own sockets serve 98 %"), "{}", found.advice);
    }

    #[test]
    fn own_sockets_that_go_on_serving_or_a_shared_one_that_does_not_reproduce_nothing() {
        let otherwise = seen(0.8, 1.0, 1.1, 0.02);
        assert_eq!(verdicts(&otherwise), [NotReproduced, NotReproduced]);
        assert_eq!(verdicts(&seen(0.03, 0.4, 2.0, 0.02))[0], NotReproduced);
        let answer = findings(&otherwise, vec![]).answer;
        assert!(answer.contains("less than at PostHog"), "{answer}");
    }

    #[test]
    fn intervals_across_the_limits_decide_nothing() {
        let found = verdicts(&seen(0.5, 1.0, 1.5, 0.3));
        assert!(found.iter().all(|verdict| matches!(verdict, NotDecidable(_))), "{found:?}");
    }

    #[test]
    fn the_picture_has_a_point_for_each_tenth_of_a_second() {
        let Picture::Lines { series, spans, .. } = picture(&seen(0.1, 1.0, 2.0, 0.0)) else {
            panic!("no lines");
        };
        assert_eq!((series.len(), series[0].points.len()), (3, 30));
        assert_eq!(series[0].points[0].1, 1000.0);
        assert_eq!((spans[0].0, spans[0].1), (1.0, 2.2));
    }
}
