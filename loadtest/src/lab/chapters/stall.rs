//! What do the other workers serve while one is stopped?
//!
//! # The claim
//! PostHog ran its queries in four worker processes with one thread each, under granian. When
//! granian went from one shared socket to a socket for each worker, p90 went from about 6 s to 15
//! to 20 s: a request waited behind the long query of a busy worker while the other three were idle
//! (PostHog#104208, #104220). A worker that stalls, they say, keeps being given connections.
//!
//! # What the kernel does
//! It answers a SYN by itself, and puts the connection, when its handshake is done, into the accept
//! queue of a listening socket; no process takes part in that. With SO_REUSEPORT the hash of
//! addresses and ports chooses the socket (`reuseport_select_sock`), when the SYN comes and for
//! good. A process that was stopped, or is busy, still has its socket open, and that is all that is
//! asked. So each new connection falls to the stalled worker with a chance of one in four, and
//! clients that wait for their answers are soon all with it. Over a shared socket whoever is awake
//! takes what is in the one queue.
//!
//! # The set-up
//! *Stopped*: four workers, 32 clients, each with a connection for each request and the next when
//! it has its answer. The worker that has answered most is stopped (SIGSTOP) for a while, then goes
//! on (SIGCONT). *Busy*, as at PostHog: twelve clients, and each request blocks its worker for 100
//! ms. A worker takes one connection at a time (`--max-connections 1`), which granian calls a
//! backpressure of 1. All servers take their turns in each round, in an order that changes.
//!
//! # The criterion
//! Answers/s while a worker is stopped over those before, averaged over the rounds. A stalled
//! worker *keeps being given connections* if with own sockets the whole 95 % interval lies below
//! 0.5, and with a shared one none of it below 0.7: three workers of four are 0.75 of the whole
//! where workers are the limit. Of blocking handlers: *longer* is a ratio of p90, own sockets to
//! shared, whose whole interval lies above 1.5; PostHog had 2.5 to 3.3.
//!
//! # Elsewhere
//! Any system that gives each listener a queue of its own has this: FreeBSD's SO_REUSEPORT_LB
//! chooses by a hash as well. What stops a worker need not be a signal: a page fault on a slow
//! disk, a debugger, a container out of its CPU quota, a long computation. Clients that open
//! connections at their own pace, and do not wait for others, lose one in four instead of all; what
//! is lost then is time, not requests.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::lab::availability::Policy;
use crate::lab::chapter::{Claim, Findings, Verdict};
use crate::lab::estimate::{Sure, above, both, cell, words};
use crate::lab::inquiry::{Inquiry, ask, ask_and_look};
use crate::lab::interleaved::{average, below, middle, ratio};
use crate::lab::queues::Queues;
use crate::lab::store::Notebook;
use crate::measure::schedule::schedule;
use crate::probe::timeline::BUCKET;
use crate::report::format::microseconds;
use crate::report::model::{Axis, Cell, Picture, Series, Table, Unit};
use crate::server::{Server, Spec};
use crate::statistics::{mean, median};

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
#[derive(Clone, Copy, Debug)]
struct Times {
    stop: u64,
    go_on: u64,
    end: u64,
}

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

/// All that was seen, by policy, each with its rounds.
struct Seen {
    times: Times,
    stopped: Vec<(&'static str, Vec<Stopped>)>,
    blocked: Vec<(&'static str, Vec<Blocked>)>,
}

/// Does it.
pub fn run(notebook: &mut Notebook) -> Result<Findings> {
    let (present, missing) = notebook.policies(&[SHARED, HASH, SHARED_LEAST, OWN_LEAST]);
    let times = notebook.choose(
        Times { stop: 1000, go_on: 2200, end: 3000 },
        Times { stop: 500, go_on: 1000, end: 1300 },
    );
    let stopped = in_turns(notebook, &present, "stopped", notebook.choose(3, 2), |server| {
        stop_one(server, times)
    })?;
    let some: Vec<Policy> = match notebook.quick {
        true => present.into_iter().filter(|(name, _)| [SHARED, HASH].contains(name)).collect(),
        false => present,
    };
    let time = Duration::from_millis(notebook.choose(1500, 1000));
    let blocked = in_turns(notebook, &some, "blocked", notebook.choose(3, 2), |server| {
        block_all(server, time)
    })?;
    Ok(findings(&Seen { times, stopped, blocked }, missing, notebook.seed))
}

/// Everybody in turn, so many times, each time with a fresh server.
fn in_turns<T: Serialize + serde::de::DeserializeOwned>(
    notebook: &mut Notebook,
    policies: &[Policy],
    name: &str,
    rounds: u32,
    make: impl Fn(&str) -> Result<T>,
) -> Result<Vec<(&'static str, Vec<T>)>> {
    let mut seen: Vec<_> = policies.iter().map(|&(policy, _)| (policy, Vec::new())).collect();
    for (round, turns) in (0..).zip(schedule(policies.len(), rounds, notebook.seed)) {
        for place in turns {
            let (policy, server) = policies[place];
            let key = format!("{name}/{policy}/{round}");
            seen[place].1.push(notebook.sample(&key, |_| make(server))?);
        }
    }
    Ok(seen)
}

fn start(server: &str, more: &[&str]) -> Result<Server> {
    let options = ["--workers", "4"].iter().chain(more).map(|&word| word.to_owned());
    Server::start(&Spec::parse(server)?, &options.collect::<Vec<_>>())
}

fn stop_one(server: &str, times: Times) -> Result<Stopped> {
    let mut server = start(server, &[])?;
    let faults =
        [format!("stop-worker@{}ms", times.stop), format!("continue-worker@{}ms", times.go_on)];
    let faults: Vec<&str> = faults.iter().map(String::as_str).collect();
    let mut queues = Queues::of(&server);
    let asked = Inquiry {
        path: "/",
        clients: CLIENTS,
        rate: None,
        keep_alive: false,
        time: Duration::from_millis(times.end),
        answer_within: Duration::from_secs(5),
        faults: &faults,
    };
    let told = ask_and_look(&mut server, &asked, |now| queues.look(now))?;
    server.stop()?;
    let [stop, go_on] = &told.faults[..] else { anyhow::bail!("not both faults were done") };
    let ms = Duration::from_millis;
    let queued = stop.pid.and_then(|pid| queues.longest(pid, ms(stop.at_ms), ms(go_on.at_ms)));
    Ok(Stopped {
        before: stop.rate_before.context("nothing was asked before a worker was stopped")?,
        during: stop.rate_after.context("nothing was asked while a worker was stopped")?,
        back_ms: go_on.full_strength_after_ms,
        lost: told.lost(),
        answers: told.timeline.iter().map(|bucket| bucket.ok).collect(),
        queued: queued.map(|longest| [longest.of_worker, longest.of_others]),
    })
}

fn block_all(server: &str, time: Duration) -> Result<Blocked> {
    let mut server = start(server, &["--lab", "--max-connections", "1"])?;
    let asked = Inquiry {
        path: BLOCK,
        clients: BLOCKED_CLIENTS,
        rate: None,
        keep_alive: false,
        time,
        answer_within: Duration::from_secs(10),
        faults: &[],
    };
    let told = ask(&mut server, &asked)?;
    server.stop()?;
    Ok(Blocked { p50: told.p50, p90: told.p90, max: told.max, per_second: told.ok_per_second })
}

impl Seen {
    /// Answers/s while a worker was stopped over those before, of each round.
    fn while_stopped(&self, policy: &str, seed: u64) -> Option<Sure> {
        let rounds = &self.stopped.iter().find(|(name, _)| *name == policy)?.1;
        Some(average(&each(rounds, |round| round.during / round.before), seed))
    }

    /// p90 over that of a shared socket, round by round.
    fn p90_ratio(&self, policy: &str, seed: u64) -> Option<Sure> {
        let p90 = |policy: &str| {
            let rounds = &self.blocked.iter().find(|(name, _)| *name == policy)?.1;
            Some(each(rounds, |round| round.p90))
        };
        Some(ratio(&p90(policy)?, &p90(SHARED)?, seed))
    }
}

fn each<T>(rounds: &[T], figure: impl Fn(&T) -> f64) -> Vec<f64> {
    rounds.iter().map(figure).collect()
}

fn findings(seen: &Seen, missing: Vec<String>, seed: u64) -> Findings {
    let unknown = (f64::NAN, None);
    let hash = seen.while_stopped(HASH, seed).unwrap_or(unknown);
    let shared = seen.while_stopped(SHARED, seed).unwrap_or(unknown);
    let longer = seen.p90_ratio(HASH, seed).unwrap_or(unknown);
    let starved = both(below(hash.1, STARVED), below(shared.1, SERVING).map(|below| !below));
    let is_longer = above(longer.1, LONGER);
    let noisy =
        "an interval lies on both sides of its limit; a quieter machine or more rounds would tell";
    let claims = vec![
        Claim::by(
            "PostHog#104208",
            Some("https://github.com/PostHog/posthog/pull/104208"),
            "a stalled worker with a socket of its own keeps being given connections, while the \
             others of a shared one take them",
            "a request waits behind a busy worker while the other three are idle",
        )
        .found(
            format!(
                "served while stopped, of before: own sockets {}, shared {}",
                words(hash, 2),
                words(shared, 2)
            ),
            format!("whole intervals: own below {STARVED}, shared from {SERVING} on"),
            Verdict::of(starved, noisy),
        ),
        Claim::by(
            "PostHog#104220",
            Some("https://github.com/PostHog/posthog/pull/104220"),
            "where handlers block, slow requests take longer with own sockets",
            "p90 from about 6 s to 15 to 20 s: 2.5 to 3.3 times",
        )
        .found(
            format!("p90 {} times that of a shared socket", words(longer, 2)),
            format!("whole interval above {LONGER}"),
            Verdict::of(is_longer, noisy),
        ),
    ];
    Findings {
        answer: answer(hash, shared, starved, longer, is_longer),
        claims,
        advice: if starved == Some(true) { advice(seen, seed) } else { String::new() },
        picture: Some(picture(seen)),
        tables: vec![stopped_table(seen, seed), blocked_table(seen, seed)],
        evidence: vec![evidence(seen)],
        missing,
    }
}

fn answer(
    hash: Sure,
    shared: Sure,
    starved: Option<bool>,
    longer: Sure,
    is_longer: Option<bool>,
) -> String {
    let [own, one] = [hash, shared].map(|(part, _)| format!("{:.0} %", part * 100.0));
    let first = match starved {
        Some(true) => format!(
            "While one worker of four is stopped, own sockets serve {own} of what they did: the \
             kernel goes on giving it connections, until every client waits for it. Over a shared \
             socket the others serve {one}."
        ),
        _ => format!(
            "While one worker of four is stopped, own sockets serve {own} here of what they did, and \
             a shared socket {one}."
        ),
    };
    let times = format!("{:.1}", longer.0);
    let second = match is_longer {
        Some(true) => format!(
            "Where handlers block, the same hash makes p90 {times} times as long; at PostHog it was \
             2.5 to 3.3."
        ),
        Some(false) => format!(
            "Where handlers block, p90 is {times} times as long here, less than at PostHog, where \
             queries of very different length met."
        ),
        None => format!("Where handlers block, p90 is {times} times as long, but not surely so."),
    };
    format!("{first} {second}")
}

fn advice(seen: &Seen, seed: u64) -> String {
    let part = |policy| {
        let (part, _) = seen.while_stopped(policy, seed)?;
        Some(format!("{:.0} %", part * 100.0))
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
    if let Some((longer, _)) = seen.p90_ratio(OWN_LEAST, seed) {
        advice +=
            &format!(", and blocking handlers have {longer:.1} times the p90 of a shared one");
    }
    advice + "."
}

fn picture(seen: &Seen) -> Picture {
    let bucket = BUCKET.as_secs_f64();
    let line = |rounds: &[Stopped]| {
        // Answers that came after the end are of requests that were begun before it.
        (0..(seen.times.end as f64 / 1000.0 / bucket) as usize)
            .filter_map(|place| {
                let found: Vec<f64> =
                    rounds.iter().filter_map(|r| r.answers.get(place)).map(|&n| n as f64).collect();
                Some(((place as f64 + 0.5) * bucket, mean(&found)? / bucket))
            })
            .collect()
    };
    let seconds = |ms: u64| ms as f64 / 1000.0;
    Picture::Lines {
        title: "Answers/s while one worker of four is stopped".into(),
        x: Axis { name: "seconds".into(), unit: Unit::Mean, logarithmic: false },
        y: Axis { name: "answers/s".into(), unit: Unit::PerSecond, logarithmic: false },
        series: seen
            .stopped
            .iter()
            .map(|(name, rounds)| Series { name: (*name).into(), points: line(rounds) })
            .collect(),
        spans: vec![(
            seconds(seen.times.stop),
            seconds(seen.times.go_on),
            "one worker stopped".into(),
        )],
    }
}

fn stopped_table(seen: &Seen, seed: u64) -> Table {
    let mut table = Table::new(
        "One worker stopped, 32 clients",
        &[
            ("answers/s before", Unit::PerSecond),
            ("while stopped", Unit::PerSecond),
            ("of before", Unit::Ratio),
            ("back within", Unit::Microseconds),
            ("requests lost", Unit::Count),
        ],
    );
    for (name, rounds) in &seen.stopped {
        // The 100 ms in which it was back began then.
        let end = |ms: u64| (Duration::from_millis(ms) + BUCKET).as_micros() as f64;
        let back: Vec<f64> = rounds.iter().filter_map(|r| r.back_ms).map(end).collect();
        table.row(
            *name,
            [
                Cell::maybe(mean(&each(rounds, |round| round.before))),
                Cell::maybe(mean(&each(rounds, |round| round.during))),
                seen.while_stopped(name, seed).map_or_else(Cell::none, cell),
                Cell::maybe(median(&back)),
                Cell::count(rounds.iter().map(|round| round.lost).sum()),
            ],
        );
    }
    table.note = "means over the rounds; back: until the end of the first 100 ms with 90 % of the rate \
                  before, from when the worker went on, median; nothing is lost because clients wait \
                  for 5 s"
        .into();
    table
}

fn blocked_table(seen: &Seen, seed: u64) -> Table {
    let mut table = Table::new(
        "Every request blocks its worker for 100 ms, 12 clients",
        &[
            ("answers/s", Unit::PerSecond),
            ("p50", Unit::Microseconds),
            ("p90", Unit::Microseconds),
            ("longest", Unit::Microseconds),
            ("p90 of shared", Unit::Ratio),
        ],
    );
    for (name, rounds) in &seen.blocked {
        let longest = rounds.iter().map(|round| round.max).max_by(f64::total_cmp);
        table.row(
            *name,
            [
                Cell::maybe(mean(&each(rounds, |round| round.per_second))),
                cell(middle(&each(rounds, |round| round.p50), seed)),
                cell(middle(&each(rounds, |round| round.p90), seed)),
                Cell::maybe(longest),
                seen.p90_ratio(name, seed).map_or_else(Cell::none, cell),
            ],
        );
    }
    table.note = format!(
        "of the percentiles medians over the rounds; 12 clients, 4 workers and 100 ms make {} if nobody \
         is ever idle",
        microseconds(300_000.0)
    );
    table
}

/// The accept queues, by sock_diag.
fn evidence(seen: &Seen) -> Table {
    let mut table = Table::new(
        "Accept queues while a worker was stopped",
        &[
            ("waiting on its socket", Unit::Mean),
            ("on the others", Unit::Mean),
            ("clients", Unit::Count),
        ],
    );
    for (name, rounds) in &seen.stopped {
        let of = |place: usize| {
            let found: Vec<f64> =
                rounds.iter().filter_map(|r| r.queued).map(|q| f64::from(q[place])).collect();
            Cell::maybe(mean(&found))
        };
        table.row(*name, [of(0), of(1), Cell::count(CLIENTS)]);
    }
    table.note =
        "the longest queue of each round by sock_diag, looked at every 50 ms, averaged; a \
                  shared socket is everybody's"
            .into();
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds in which this part of the rate before was served, up to `spread` more or less.
    fn seen(hash: f64, shared: f64, p90: f64, spread: f64) -> Seen {
        let jitter = |round: u32| if round.is_multiple_of(2) { 1.0 + spread } else { 1.0 - spread };
        let stopped = |part: f64| -> Vec<Stopped> {
            let round = |round: u32| Stopped {
                before: 1000.0,
                during: 1000.0 * part * jitter(round),
                back_ms: Some(100),
                lost: 0,
                answers: vec![100; 30],
                queued: Some([31, 0]),
            };
            (0..4).map(round).collect()
        };
        let blocked = |p90: f64| -> Vec<Blocked> {
            let round = |round: u32| Blocked {
                p50: 300_000.0,
                p90: p90 * jitter(round),
                max: 2.0 * p90,
                per_second: 40.0,
            };
            (0..4).map(round).collect()
        };
        Seen {
            times: Times { stop: 1000, go_on: 2200, end: 3000 },
            stopped: vec![
                (SHARED, stopped(shared)),
                (HASH, stopped(hash)),
                (OWN_LEAST, stopped(0.98)),
            ],
            blocked: vec![
                (SHARED, (0..4).map(|_| blocked(300_000.0)[0].clone()).collect()),
                (HASH, blocked(300_000.0 * (1.0 + spread) * p90)),
            ],
        }
    }

    fn verdicts(seen: &Seen) -> Vec<Verdict> {
        findings(seen, vec![], 1).claims.into_iter().map(|claim| claim.verdict).collect()
    }

    #[test]
    fn a_hash_that_starves_and_a_shared_socket_that_serves_reproduce_both_claims() {
        let seen = seen(0.03, 1.02, 2.6, 0.02);
        assert_eq!(verdicts(&seen), [Verdict::Reproduced, Verdict::Reproduced]);
        let found = findings(&seen, vec![], 1);
        assert!(
            found.answer.contains("own sockets serve 3 % of what they did"),
            "{}",
            found.answer
        );
        assert!(found.answer.contains("p90 2.6 times as long"), "{}", found.answer);
        assert!(found.advice.contains("own sockets serve 98 %"), "{}", found.advice);
    }

    #[test]
    fn own_sockets_that_go_on_serving_or_a_shared_one_that_does_not_reproduce_nothing() {
        assert_eq!(
            verdicts(&seen(0.8, 1.0, 1.1, 0.02)),
            [Verdict::NotReproduced, Verdict::NotReproduced]
        );
        assert_eq!(verdicts(&seen(0.03, 0.4, 2.0, 0.02))[0], Verdict::NotReproduced);
        let answer = findings(&seen(0.8, 1.0, 1.1, 0.02), vec![], 1).answer;
        assert!(answer.contains("less than at PostHog"), "{answer}");
    }

    #[test]
    fn intervals_across_the_limits_decide_nothing() {
        let found = verdicts(&seen(0.5, 1.0, 1.5, 0.3));
        assert!(found.iter().all(|v| matches!(v, Verdict::NotDecidable(_))), "{found:?}");
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
