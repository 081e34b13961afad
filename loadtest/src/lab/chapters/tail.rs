//! Do own sockets narrow the tail of latencies, or widen it?
//!
//! # The claim
//! Two well-known measurements contradict each other. NGINX 1.9.1 ("Socket sharding") found that SO_REUSEPORT
//! brings the standard deviation of latencies from 26.59 ms down to 3.15. Cloudflare ("Why does one NGINX
//! worker take all the load?", 2017) found that it brings it from 1.58 ms up to 25.27, with a greatest latency of
//! 144.55 ms instead of 72.65. Both are right about their own load.
//!
//! # What the kernel does
//! A connection goes into the accept queue of one socket. If that socket is shared, it waits until *any* worker
//! accepts it, as in a bank with one line for all counters. If each worker has its own, it waits for that
//! worker, as in a supermarket: whoever stands behind a full cart waits, while another till is free. With requests
//! that are short and all alike, the hash spreads them more evenly than workers do that fight for one socket.
//!
//! That the line in the bank works needs one thing more: whoever is free takes *one*. nginx accepts one connection
//! when it is woken (`multi_accept off`). tokio accepts all that are there, so a worker carries several away
//! and serves them one after another while others find nothing: `--accept epoll`. With `exclusive`, a worker takes one.
//!
//! # The set-up
//! NGINX's load: kept connections of `wrk -t12 -c100`, the shortest of requests, four workers, slices of a second in turn.
//! Cloudflare's: each request burns 2 ms of CPU time, as many workers as cores, 16 clients for each worker, and a new
//! connection for each request, asked by a prober that corrects nothing. That is a closed loop: whoever waits asks
//! nothing. So once more with an open one, at 0.7 of the requests/s that the shared socket served before; there a
//! latency counts from when the request was due.
//!
//! # The criterion
//! The standard deviation with own sockets (hash) over that with a shared one, round by round. NGINX's
//! claim (against `epoll`) is reproduced if the whole 95 % interval lies below 0.5 (theirs: 0.12), Cloudflare's (against
//! `exclusive`, which accepts as their nginx did, and against `epoll`) if it lies at or above 2 (theirs: 16); not, if
//! the whole interval lies on the other side.
//!
//! # Elsewhere
//! NGINX measured its latencies between two machines, and its shared socket had more to lose: its accept mutex
//! and epoll's order give most connections to few workers. Cloudflare had 12 workers, each pinned to a core;
//! with more workers it is likelier that one is idle while another has a queue.

use std::time::Duration;

use anyhow::Result;

use crate::environment::cores;
use crate::lab::chapter::{Claim, Findings, Verdict};
use crate::lab::estimate::{self, Sure};
use crate::lab::inquiry::{Inquiry, Told, ask};
use crate::lab::interleaved::{Course, Entrant, Visit, below, each, middle, race, ratio, slices};
use crate::lab::store::Notebook;
use crate::measure::schedule::schedule;
use crate::report::model::{Bar, Cell, Picture, Table, Unit};
use crate::server::{Server, Spec};
use crate::statistics::median;

/// Who is compared; the short form takes the first three.
const POLICIES: [&str; 5] = [
    "shared/epoll",
    "reuseport/hash",
    "shared/exclusive",
    "shared/least-conn",
    "reuseport/least-conn",
];
const SHARED: &str = POLICIES[0];
const OWN: &str = POLICIES[1];
/// The shared socket that nginx had: who is woken accepts one connection, and no more.
const ONE_BY_ONE: &str = POLICIES[2];

/// What a heavy request burns.
const HEAVY: &str = "/spin/2000";

/// Clients for each worker.
const CLIENTS: u64 = 16;

/// The part of the closed loop's requests/s that is asked for in the open one.
const OPEN: f64 = 0.7;

/// Rounds of everything.
const ROUNDS: u32 = 6;

/// NGINX's claim holds below this ratio, Cloudflare's at or above that.
const NARROW: f64 = 0.5;
const WIDE: f64 = 2.0;

/// One policy under heavy requests: what each round said.
type Heavy = Vec<(String, Vec<Told>)>;

/// Does it.
pub fn run(notebook: &mut Notebook) -> Result<Findings> {
    let (policies, missing) = notebook.policies(notebook.choose(&POLICIES[..], &POLICIES[..3]));
    let is_in = |name: &str| !notebook.quick || [SHARED, OWN].contains(&name);
    let entrants: Vec<Entrant> = policies
        .iter()
        .filter(|(name, _)| is_in(name))
        .map(|(name, server)| Entrant::one(name, *server))
        .collect();
    let course = Course {
        name: "short",
        load: slices(12, 100, true),
        path: "/",
        rounds: notebook.choose(ROUNDS + 2, ROUNDS),
        warm_up: false,
        cores: None,
    };
    let visits = race(notebook, &course, &entrants)?;
    let names = entrants.into_iter().map(|entrant| entrant.name);
    let short: Vec<(String, Vec<Visit>)> = names.zip(visits).collect();

    let time = notebook.choose(Duration::from_millis(1500), Duration::from_millis(300));
    let closed = heavy(notebook, "closed", &policies, None, time)?;
    let shared = closed.iter().find(|(name, _)| name == SHARED).map_or(&[][..], |(_, told)| told);
    let served = median(&told(shared, |told| told.ok_per_second)).unwrap_or(0.0);
    let rate = (served * OPEN).max(1.0) as u64;
    let open = heavy(notebook, "open", &policies, Some(rate), time)?;
    Ok(findings(&short, &closed, &open, rate, missing, notebook.seed))
}

/// Heavy requests, in turn to each.
fn heavy(
    notebook: &mut Notebook,
    name: &str,
    policies: &[(&str, &str)],
    rate: Option<u64>,
    time: Duration,
) -> Result<Heavy> {
    let workers = cores() as u64;
    let mut found: Heavy = policies.iter().map(|(name, _)| ((*name).into(), vec![])).collect();
    for (round, turns) in (0..).zip(schedule(policies.len(), ROUNDS, notebook.seed)) {
        for place in turns {
            let (policy, server) = policies[place];
            let key = format!("{name}/{policy}/{round}");
            let told: Told = notebook.sample(&key, |_| {
                let spec = Spec::parse(&format!("{server} --lab --workers {workers}"))?;
                let mut server = Server::start(&spec, &[])?;
                let inquiry = Inquiry {
                    path: HEAVY,
                    clients: if rate.is_some() { 10_000 } else { CLIENTS * workers },
                    rate,
                    keep_alive: false,
                    time,
                    answer_within: Duration::from_secs(10),
                    faults: &[],
                };
                let told = ask(&mut server, &inquiry)?;
                server.stop()?;
                Ok(told)
            })?;
            found[place].1.push(told);
        }
    }
    Ok(found)
}

fn told(all: &[Told], figure: impl Fn(&Told) -> f64) -> Vec<f64> {
    all.iter().map(figure).collect()
}

/// A figure of one policy.
fn of<'a, T>(all: &'a [(String, Vec<T>)], name: &str) -> &'a [T] {
    all.iter().find(|(found, _)| found == name).map_or(&[], |(_, values)| values)
}

fn findings(
    short: &[(String, Vec<Visit>)],
    closed: &Heavy,
    open: &Heavy,
    rate: u64,
    missing: Vec<String>,
    seed: u64,
) -> Findings {
    let deviation = |all: &Heavy, name: &str| told(of(all, name), |told| told.stdev);
    let short_deviation = |name: &str| each(of(short, name), |visit| visit.stdev);
    let wider = |of: Vec<f64>, to: Vec<f64>| ratio(&of, &to, seed);
    let nginx = wider(short_deviation(OWN), short_deviation(SHARED));
    let cloudflare = wider(deviation(closed, OWN), deviation(closed, ONE_BY_ONE));
    let tokio = wider(deviation(closed, OWN), deviation(closed, SHARED));
    let opened = wider(deviation(open, OWN), deviation(open, ONE_BY_ONE));
    let shown = |found: Sure| estimate::words(found, 2);
    let noisy = "the interval lies on both sides of the limit; more rounds would tell";
    let wide = |found: Sure| below(found.1, WIDE).map(|it| !it);
    let judge = |claim: Claim, found: Sure, limit: String, verdict: Option<bool>| {
        claim.found(format!("stdev {} times", shown(found)), limit, Verdict::of(verdict, noisy))
    };
    let sharding = "https://www.nginx.com/blog/socket-sharding-nginx-release-1-9-1/";
    let balancing = "https://blog.cloudflare.com/the-sad-state-of-linux-socket-balancing/";
    let cloudflares =
        |claim, theirs| Claim::by("Cloudflare, accept balancing", Some(balancing), claim, theirs);
    let widened = |claim, found| {
        judge(claim, found, format!("whole interval from {WIDE:.0} on"), wide(found))
    };
    let claims = vec![
        judge(
            Claim::by(
                "NGINX 1.9.1, Socket sharding",
                Some(sharding),
                "own sockets narrow latencies, with short requests",
                "stdev 0.12 times (3.15 of 26.59 ms)",
            ),
            nginx,
            format!("whole interval below {NARROW}"),
            below(nginx.1, NARROW),
        ),
        widened(
            cloudflares(
                "own sockets widen the tail, with heavy requests",
                "stdev 16 times (25.27 of 1.58 ms)",
            ),
            cloudflare,
        ),
        widened(
            cloudflares(
                "the same against a shared socket from which workers accept all they find, as with \
                 tokio",
                "not measured by them",
            ),
            tokio,
        ),
        widened(
            cloudflares(
                "the same when requests do not wait for each other (an open loop)",
                "not measured by them",
            ),
            opened,
        ),
    ];
    let worst = |name: &str| median(&told(of(open, name), |told| told.p99)).unwrap_or(f64::NAN);
    let milliseconds = |us: f64| format!("{:.0} ms", us / 1e3);
    let answer = format!(
        "Own sockets have {} times the standard deviation of a shared one with \
         short requests on kept connections. With requests of 2 ms on new ones they have {} times that of a shared \
         socket whose workers accept one at a time, and {} times where each takes all it finds, as with tokio. At 0.7 of what can \
         be served, the slowest hundredth takes {} with own sockets, {} and {} with those shared ones.",
        shown(nginx),
        shown(cloudflare),
        shown(tokio),
        milliseconds(worst(OWN)),
        milliseconds(worst(ONE_BY_ONE)),
        milliseconds(worst(SHARED))
    );
    // Whoever has the least, be it who it may: looking at the load mends it only if the figures say so.
    let least = open.iter().map(|(name, _)| name.as_str());
    let least = least.min_by(|a, b| worst(a).total_cmp(&worst(b)));
    let advice = least.map_or_else(String::new, |name| {
        format!("The shortest tail at that rate has {name}: {}.", milliseconds(worst(name)))
    });
    let bars = open.iter().map(|(name, told_)| {
        let (value, interval) = middle(&told(told_, |told| told.p99), seed);
        Bar { name: name.clone(), value, interval }
    });
    let picture = Picture::Bars {
        title: format!("Slowest hundredth (p99) of heavy requests, {rate} requests/s"),
        unit: Unit::Microseconds,
        bars: bars.collect(),
        reference: None,
    };
    let first = table(
        "Short requests, kept connections (wrk)",
        "medians over the slices; wrk adds samples for waits",
        short,
        [
            &|visit: &Visit| visit.requests_per_second,
            &|visit| visit.mean,
            &|visit| visit.p50,
            &|visit| visit.stdev,
            &|visit| visit.p99,
            &|visit| visit.max,
        ],
        seed,
    );
    let heavy = |title: &str, all: &Heavy| {
        table(
            title,
            "medians over the rounds",
            all,
            [
                &|told: &Told| told.ok_per_second,
                &|told| told.mean,
                &|told| told.p50,
                &|told| told.stdev,
                &|told| told.p99,
                &|told| told.max,
            ],
            seed,
        )
    };
    let mut switches = Table::new(
        "Short requests",
        &[("busiest / average worker", Unit::Ratio), ("switches per request", Unit::Ratio)],
    );
    for (name, visits) in short {
        switches.row(
            name,
            [
                Cell::maybe(median(&each(visits, Visit::unevenness))),
                Cell::maybe(median(&each(visits, Visit::switches_each))),
            ],
        );
    }
    Findings {
        answer,
        claims,
        advice,
        picture: Some(picture),
        tables: vec![
            first,
            heavy("Heavy requests, closed loop", closed),
            heavy(&format!("Heavy requests, open loop, {rate} requests/s"), open),
        ],
        evidence: vec![switches],
        missing,
    }
}

/// Medians of the same figures of everybody, whoever asked: requests/s, mean, p50, standard deviation
/// (with its interval, since the verdicts are about it), p99, greatest.
fn table<T>(
    title: &str,
    note: &str,
    all: &[(String, Vec<T>)],
    figures: [&dyn Fn(&T) -> f64; 6],
    seed: u64,
) -> Table {
    const STDEV: usize = 3;
    let mut table = Table::new(
        title,
        &[
            ("requests/s", Unit::PerSecond),
            ("mean", Unit::Microseconds),
            ("p50", Unit::Microseconds),
            ("stdev", Unit::Microseconds),
            ("p99", Unit::Microseconds),
            ("max", Unit::Microseconds),
        ],
    );
    for (name, rounds) in all {
        let values = |place: usize| -> Vec<f64> { rounds.iter().map(figures[place]).collect() };
        table.row(
            name,
            (0..figures.len()).map(|place| match place {
                STDEV => estimate::cell(middle(&values(place), seed)),
                _ => Cell::maybe(median(&values(place))),
            }),
        );
    }
    table.note = note.into();
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::interleaved::tests::visit;
    use crate::probe::outcome::Outcomes;

    fn told(stdev: f64) -> Told {
        Told {
            attempted: 100,
            outcomes: Outcomes { ok: 100, ..Outcomes::default() },
            not_sent: 0,
            ok_per_second: 900.0,
            mean: 30_000.0,
            stdev,
            p50: 29_000.0,
            p90: 40_000.0,
            p99: 50_000.0 + stdev,
            max: 90_000.0,
            timeline: vec![],
            faults: vec![],
        }
    }

    fn found(short: f64, heavy: f64) -> Findings {
        let visits = |stdev| vec![Visit { stdev, ..visit(50_000.0, &[100; 4]) }; 8];
        let rounds = |stdev: f64| -> Vec<Told> {
            (0..6).map(|round| told(stdev * (1.0 + 0.01 * f64::from(round)))).collect()
        };
        let both = |own: f64| {
            let all = [(SHARED, 1.0), (OWN, own), (ONE_BY_ONE, 1.0)];
            all.map(|(name, times)| (name.into(), rounds(times * 2000.0))).into()
        };
        let short = [(SHARED.into(), visits(900.0)), (OWN.into(), visits(900.0 * short))];
        findings(&short, &both(heavy), &both(heavy), 700, vec![], 1)
    }

    fn verdicts(findings: Findings) -> Vec<bool> {
        findings.claims.into_iter().map(|claim| claim.verdict == Verdict::Reproduced).collect()
    }

    #[test]
    fn both_claims_hold_where_short_requests_narrow_and_heavy_ones_widen() {
        assert_eq!(verdicts(found(0.2, 9.0)), [true; 4]);
        assert_eq!(verdicts(found(0.9, 1.1)), [false; 4]);
    }

    #[test]
    fn the_answer_names_both_loads_with_their_figures() {
        let answer = found(0.2, 9.0).answer;
        assert!(answer.contains("0.20 (0.20 to 0.20) times"), "{answer}");
        assert!(answer.contains("9.00 (9.00 to 9.00) times"), "{answer}");
    }
}
