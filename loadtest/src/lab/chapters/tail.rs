#![doc = include_str!("tail.md")]

use std::time::Duration;

use anyhow::Result;

use crate::environment::cores;
use crate::lab::chapter::{Findings, judged};
use crate::lab::context::{Context, Policy, start};
use crate::lab::criterion::{Criterion, Limit, estimated, words};
use crate::lab::interleaved::{Interleaved, Subject, WrkSample};
use crate::lab::probing::{PROBING, Probed, Probing, probe};
use crate::lab::samples::Samples;
use crate::report::model::{Table, Unit};
use crate::statistics::estimate::Estimate;
use crate::statistics::latency::Latency;

/// The experiment's page.
const PAGE: &str = include_str!("tail.md");

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

/// Runs the experiment.
pub fn run(context: &mut Context) -> Result<Findings> {
    let (policies, missing) = context.policies(context.choose(&POLICIES[..], &POLICIES[..3]));
    let is_in = |name: &str| !context.quick || [SHARED, OWN].contains(&name);
    let subjects = policies.iter().filter(|(name, _)| is_in(name));
    let subjects: Vec<Subject> =
        subjects.map(|&(name, server)| (name.into(), vec![server.into()])).collect();
    let (wrk, rounds) = ([12, 100], context.choose(ROUNDS + 2, ROUNDS));
    let course =
        Interleaved { part: "short", wrk, keep_alive: true, rounds, warm_up: false, cores: None };
    let short = course.run(context, &subjects)?;
    let closed = heavy(context, "closed", &policies, None)?;
    let served = closed.median(SHARED, |probed| probed.ok_per_second).value;
    let rate = (served * OPEN).max(1.0) as u64;
    let open = heavy(context, "open", &policies, Some(rate))?;
    Ok(findings(&short, &closed, &open, rate, missing))
}

/// Heavy requests, in turn to each.
fn heavy(
    context: &mut Context,
    part: &str,
    policies: &[Policy],
    rate: Option<u64>,
) -> Result<Samples<Probed>> {
    let workers = cores() as u64;
    let asked = Probing {
        path: HEAVY,
        clients: if rate.is_some() { 10_000 } else { CLIENTS * workers },
        rate,
        time: Duration::from_millis(context.choose(1500, 300)),
        answer_within: Duration::from_secs(10),
        ..PROBING
    };
    let names: Vec<&str> = policies.iter().map(|(name, _)| *name).collect();
    context.in_turns(part, &names, ROUNDS, |place| {
        let mut server = start(&format!("{} --lab --workers {workers}", policies[place].1))?;
        let probed = probe(&mut server, &asked, |_| {})?;
        server.stop()?;
        Ok(probed)
    })
}

fn findings(
    short: &Samples<WrkSample>,
    closed: &Samples<Probed>,
    open: &Samples<Probed>,
    rate: u64,
    missing: Vec<String>,
) -> Findings {
    let nginx = short.ratio(OWN, SHARED, |slice| slice.latency.stdev);
    let wider = |all: &Samples<Probed>, than| all.ratio(OWN, than, |probed| probed.latency.stdev);
    let (cloudflare, tokio) = (wider(closed, ONE_BY_ONE), wider(closed, SHARED));
    let must_be =
        |found: Estimate, limit| -> Criterion { estimated("stdev {} times", found).must_be(limit) };
    let narrows = must_be(nginx, Limit::Below(NARROW));
    let [widens, of_tokio, opened] = [cloudflare, tokio, wider(open, ONE_BY_ONE)]
        .map(|found| must_be(found, Limit::AtLeast(WIDE)));
    let worst = |name: &str| open.median(name, |probed| probed.latency.p99 as f64);
    let milliseconds = |name: &str| format!("{:.0} ms", worst(name).value / 1e3);
    let answer = format!(
        "Own sockets have {} times the standard deviation of a shared one with \
         short requests on kept connections. With requests of 2 ms on new ones they have {} times that of a shared \
         socket whose workers accept one at a time, and {} times where each takes all it finds, as with tokio. At 0.7 of what can \
         be served, the slowest hundredth takes {} with own sockets, {} and {} with those shared ones.",
        words(nginx, 2),
        words(cloudflare, 2),
        words(tokio, 2),
        milliseconds(OWN),
        milliseconds(ONE_BY_ONE),
        milliseconds(SHARED)
    );
    // Whoever has the least, whoever it is: looking at the load helps only if the figures say so.
    let least = open.names().min_by(|a, b| worst(a).value.total_cmp(&worst(b).value));
    let advice = least.map_or_else(String::new, |name| {
        format!("The shortest tail at that rate has {name}: {}.", milliseconds(name))
    });
    let title = format!("Slowest hundredth (p99) of heavy requests, {rate} requests/s");
    let heavy = |title, all| {
        let note = "medians over the rounds";
        table(all, title, |probed: &Probed| probed.ok_per_second, |probed| &probed.latency, note)
    };
    Findings {
        answer,
        claims: judged(PAGE, &[(&narrows, ""), (&widens, ""), (&of_tokio, ""), (&opened, "")]),
        advice,
        picture: Some(open.bars(title, Unit::Microseconds, worst)),
        tables: vec![
            table(
                short,
                "Short requests, kept connections (wrk)".into(),
                |slice| slice.requests_per_second,
                |slice| &slice.latency,
                "medians over the slices; wrk adds samples for waits",
            ),
            heavy("Heavy requests, closed loop".into(), closed),
            heavy(format!("Heavy requests, open loop, {rate} requests/s"), open),
        ],
        evidence: vec![
            short
                .table("Short requests")
                .middles("busiest / average worker", Unit::Ratio, WrkSample::unevenness)
                .middles("switches per request", Unit::Ratio, WrkSample::switches_each)
                .note(""),
        ],
        missing,
    }
}

/// Requests/s and latencies; the standard deviation with its interval, since verdicts are about it.
fn table<S>(
    all: &Samples<S>,
    title: String,
    rate: fn(&S) -> f64,
    latency: fn(&S) -> &Latency,
    note: &str,
) -> Table {
    all.table(title)
        .middles("requests/s", Unit::PerSecond, rate)
        .middles("mean", Unit::Microseconds, |one| latency(one).mean)
        .middles("p50", Unit::Microseconds, |one| latency(one).p50 as f64)
        .medians("stdev", Unit::Microseconds, |one| latency(one).stdev)
        .middles("p99", Unit::Microseconds, |one| latency(one).p99 as f64)
        .middles("max", Unit::Microseconds, |one| latency(one).max as f64)
        .note(note)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::chapter::Verdict;
    use crate::lab::interleaved::tests::slice;
    use crate::lab::probing::tests::probed;

    fn found(short: f64, heavy: f64) -> Findings {
        let latency = |stdev| Latency { stdev, ..Latency::default() };
        let slice = |stdev| WrkSample { latency: latency(stdev), ..slice(50_000.0, &[100; 4]) };
        let slices = |stdev| vec![slice(stdev); 8];
        let rounds = |times: f64| {
            let stdev = |round| 2000.0 * times * (1.0 + 0.01 * f64::from(round));
            (0..6).map(|round| Probed { latency: latency(stdev(round)), ..probed() }).collect()
        };
        let all = [(SHARED, 1.0), (OWN, heavy), (ONE_BY_ONE, 1.0)];
        let heavy = Samples {
            groups: all.map(|(name, times)| (name.into(), rounds(times))).into(),
            seed: 1,
        };
        let groups = vec![(SHARED.into(), slices(900.0)), (OWN.into(), slices(900.0 * short))];
        findings(&Samples { groups, seed: 1 }, &heavy, &heavy, 700, vec![])
    }

    #[test]
    fn both_claims_hold_where_short_requests_narrow_and_heavy_ones_widen() {
        for (short, heavy, expected) in [(0.2, 9.0, [true; 4]), (0.9, 1.1, [false; 4])] {
            let claims = found(short, heavy).claims.into_iter();
            let reproduced = claims.map(|claim| claim.verdict == Verdict::Reproduced);
            assert_eq!(reproduced.collect::<Vec<_>>(), expected);
        }
        let answer = found(0.2, 9.0).answer;
        for figure in ["0.20 (0.20 to 0.20) times", "9.00 (9.00 to 9.00) times"] {
            assert!(answer.contains(figure), "{answer}");
        }
    }
}
