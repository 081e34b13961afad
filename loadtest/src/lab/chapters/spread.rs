#![doc = include_str!("spread.md")]

use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::lab::chapter::{Findings, judged};
use crate::lab::client::Client;
use crate::lab::context::{Context, start};
use crate::lab::criterion::{Criterion, Limit, estimated, exact, percent, words};
use crate::lab::samples::Samples;
use crate::matrix::workloads::{LOAD_AWARE, POLICIES};
use crate::report::model::{Cell, Picture, Table, Unit};
use crate::server::Server;
use crate::statistics::estimate::Estimate;
use crate::statistics::significance::{Evenness, evenness};

/// The experiment's page.
const PAGE: &str = include_str!("spread.md");

/// Connections, and between how many workers.
const CONNECTIONS: usize = 200;
const WORKERS: usize = 4;

/// The busiest worker's connections over those of the one with fewest, as Herbert saw it.
const THREE_TO_ONE: f64 = 3.0;

/// The part of all connections that is "most", for two of four workers.
const MOST: f64 = 0.75;

/// A probability below this is taken for more than chance.
const UNLIKELY: f64 = 0.01;

/// How long the server may take to notice that all connections are closed.
const REST: Duration = Duration::from_secs(5);

/// The policies that claims are about.
const SITS_IN_ACCEPT: &str = "shared/blocking";
const TOKIO: &str = "shared/epoll";
const HASH: &str = "reuseport/hash";

/// The two ways in which connections come, and their place in a round.
const TRICKLE: usize = 0;
const BURST: usize = 1;
const WAYS: [&str; 2] = ["trickle", "burst"];

/// A trickle and a burst at one server.
type Round = [Counted; 2];

/// What one server's workers accepted.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Counted {
    accepted: Vec<u64>,
    /// Times that a thread of the server slept and was woken, for each connection.
    switches: f64,
}

/// Runs the experiment.
pub fn run(context: &mut Context) -> Result<Findings> {
    let (policies, missing) = context.policies(&POLICIES.map(|(name, _)| name));
    let names: Vec<&str> = policies.iter().map(|(name, _)| *name).collect();
    let rounds = context.choose(40, 5);
    let seen = context.in_turns("connections", &names, rounds, |place| round(policies[place].1))?;
    Ok(findings(&seen, missing))
}

fn round(server: &str) -> Result<Round> {
    let mut server = start(&format!("{server} --workers {WORKERS}"))?;
    let trickle = counted(&mut server, |server| {
        let one = |_| {
            let mut client = Client::connect(server.address())?;
            client.send()?;
            client.answered()?;
            Ok(client)
        };
        (0..CONNECTIONS).map(one).collect()
    })?;
    server.wait_until_idle(REST);
    let burst = counted(&mut server, |server| {
        let clients = (0..CONNECTIONS).map(|_| Client::connect(server.address()));
        let mut clients = clients.collect::<Result<Vec<Client>>>()?;
        clients.iter_mut().try_for_each(Client::send)?;
        clients.iter_mut().try_for_each(Client::answered)?;
        Ok(clients)
    })?;
    server.stop()?;
    Ok([trickle, burst])
}

/// What each worker accepts while connections are opened and held.
fn counted(
    server: &mut Server,
    open: impl FnOnce(&Server) -> Result<Vec<Client>>,
) -> Result<Counted> {
    let before = server.read()?;
    let clients = open(server)?;
    let workers = server.read()?.since(&before)?;
    drop(clients);
    let switches: u64 = workers.iter().map(|worker| worker.context_switches.voluntary).sum();
    let accepted = workers.iter().filter_map(|worker| worker.connections).collect();
    Ok(Counted { accepted, switches: switches as f64 / CONNECTIONS as f64 })
}

/// A figure of one way, made of the workers' counts, the greatest first.
fn of(way: usize, figure: fn(&[f64]) -> f64) -> impl Fn(&Round) -> f64 {
    move |round| figure(&sorted(&round[way].accepted))
}

fn sorted(counts: &[u64]) -> Vec<f64> {
    let mut counts: Vec<f64> = counts.iter().map(|&count| count as f64).collect();
    counts.sort_by(|a, b| b.total_cmp(a));
    counts
}

fn busiest_to_least(counts: &[f64]) -> f64 {
    counts[0] / counts[counts.len() - 1].max(1.0)
}

fn busiest_to_average(counts: &[f64]) -> f64 {
    counts[0] * counts.len() as f64 / total(counts)
}

fn two_busiest(counts: &[f64]) -> f64 {
    (counts[0] + counts[1]) / total(counts)
}

fn difference(counts: &[f64]) -> f64 {
    counts[0] - counts[counts.len() - 1]
}

fn total(counts: &[f64]) -> f64 {
    counts.iter().sum::<f64>().max(1.0)
}

/// Each place's part of all connections, over all rounds: the busiest of each round first.
fn parts(rounds: &[Round], way: usize) -> Vec<f64> {
    let mut sums = vec![0.0; WORKERS];
    for round in rounds {
        let counts = sorted(&round[way].accepted);
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    let all = total(&sums);
    sums.into_iter().map(|sum| sum / all).collect()
}

fn chance(rounds: &[Round], ways: &[usize]) -> Option<Evenness> {
    evenness(rounds.iter().flat_map(|round| ways.iter().map(|&way| &round[way].accepted[..])))
}

fn findings(seen: &Samples<Round>, missing: Vec<String>) -> Findings {
    // It is claimed to happen, not to happen always: one of the two is enough.
    let either =
        |of_way: &dyn Fn(usize) -> Criterion| Criterion::Any(vec![of_way(BURST), of_way(TRICKLE)]);
    let to_least = either(&|way| {
        let found = seen.median(SITS_IN_ACCEPT, of(way, busiest_to_least));
        let label = format!("{} {{}}:1", WAYS[way]);
        estimated(label, found).digits(1).must_be(Limit::AtLeast(THREE_TO_ONE))
    });
    let of_two = |way| seen.median(TOKIO, of(way, two_busiest));
    let most = either(&|way| {
        let label = format!("the two busiest of a {} {{}}", WAYS[way]);
        estimated(label, of_two(way)).in_percent().must_be(Limit::AtLeast(MOST))
    });
    let hash = chance(seen.of(HASH), &[TRICKLE, BURST]);
    let in_words = |hash: Evenness| {
        let Evenness { chi_square, degrees, as_uneven: p, .. } = hash;
        let p = if p < 0.0001 { "p < 0.0001".into() } else { format!("p = {p:.4}") };
        format!("chi-square = {chi_square:.1}, df = {degrees:.0}, {p}")
    };
    let even = exact(hash.map_or("-".into(), in_words), hash.map_or(f64::NAN, |h| h.as_uneven))
        .must_be(Limit::AtLeast(UNLIKELY));
    let answer = format!(
        "The kernel's hash is {}: of {CONNECTIONS} connections its busiest worker of {WORKERS} \
         gets {} times the average. On a shared socket, as tokio waits for it, the two busiest \
         workers get {} of a burst and {} of a trickle.",
        match even.met() {
            Some(true) => "as even as chance",
            Some(false) => "not as even as chance here",
            None => "not judged",
        },
        words(seen.median(HASH, of(BURST, busiest_to_average)), 2),
        percent(of_two(BURST)),
        percent(of_two(TRICKLE)),
    );
    let apart = |policy: &str| {
        let [trickle, burst]: [Estimate; 2] =
            [TRICKLE, BURST].map(|way| seen.median(policy, of(way, difference)));
        format!("burst {}, trickle {}", words(burst, 0), words(trickle, 0))
    };
    let aware = LOAD_AWARE.iter().filter(|policy| !seen.of(policy).is_empty());
    let aware: Vec<String> = aware.map(|name| format!("{name}: {}", apart(name))).collect();
    let advice = format!(
        "Where connections are kept, use least-conn: the busiest worker then has only so many \
         connections more than the one with fewest: {}. With the hash: {}.",
        aware.join("; "),
        apart(HASH)
    );
    let rows = seen.groups.iter().flat_map(|(policy, rounds)| {
        [TRICKLE, BURST].map(|way| (format!("{policy}, {}", WAYS[way]), parts(rounds, way)))
    });
    Findings {
        answer,
        claims: judged(PAGE, &[(&to_least, ""), (&most, ""), (&even, "")]),
        advice: if aware.is_empty() { String::new() } else { advice },
        picture: Some(Picture::Shares {
            title: format!("Who got {CONNECTIONS} connections: the busiest worker first"),
            rows: rows.collect(),
        }),
        tables: vec![
            table(seen, "Trickle: one at a time", TRICKLE),
            table(seen, "Burst: all at once", BURST),
        ],
        evidence: vec![evidence(seen)],
        missing,
    }
}

fn table(seen: &Samples<Round>, title: &str, way: usize) -> Table {
    let over_degrees = |all: &[Round]| chance(all, &[way]).map(|c| c.chi_square / c.degrees);
    let judged = |all: &[Round]| {
        chance(all, &[way]).map_or_else(Cell::none, |chance| {
            Cell::text(match chance {
                Evenness { as_uneven, .. } if as_uneven < UNLIKELY => "uneven",
                Evenness { as_even, .. } if as_even < UNLIKELY => "evener",
                _ => "as chance",
            })
        })
    };
    seen.table(title)
        .medians("busiest / average", Unit::Ratio, of(way, busiest_to_average))
        .medians("busiest / fewest", Unit::Mean, of(way, busiest_to_least))
        .cells("chi-square / df", Unit::Mean, |_, all| Cell::maybe(over_degrees(all)))
        .cells("spread", Unit::Text, |_, all| judged(all))
        .note(format!(
            "medians over {} rounds of {CONNECTIONS} connections to {WORKERS} workers; \"fewest\" \
             counts as 1 where a worker got none; by chance chi-square / df is 1.0 on average; a \
             policy that makes parts equal has far less",
            seen.groups.first().map_or(0, |(_, rounds)| rounds.len())
        ))
}

fn evidence(seen: &Samples<Round>) -> Table {
    seen.table("A worker's thread slept and was woken, for each connection")
        .middles("trickle", Unit::Mean, |round| round[TRICKLE].switches)
        .middles("burst", Unit::Mean, |round| round[BURST].switches)
        .note("voluntary context switches of all workers, from /proc; medians over the rounds")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::chapter::Verdict::{self, NotDecidable, NotReproduced, Reproduced};

    const EVEN: [u64; 4] = [50; 4];
    const CHANCE: [u64; 4] = [55, 44, 57, 44];
    const TURNS: [u64; 4] = [51, 50, 50, 49];

    fn rounds(trickle: &[u64], burst: &[u64]) -> Vec<Round> {
        let counted = |accepted: &[u64]| Counted { accepted: accepted.into(), switches: 2.0 };
        vec![[counted(trickle), counted(burst)]; 4]
    }

    fn samples(blocking: Vec<Round>, epoll: &[u64], hash: &[u64]) -> Samples<Round> {
        let groups = vec![
            (SITS_IN_ACCEPT.into(), blocking),
            (TOKIO.into(), rounds(epoll, &CHANCE)),
            (HASH.into(), rounds(hash, &CHANCE)),
            (LOAD_AWARE[0].into(), rounds(&EVEN, &TURNS)),
        ];
        Samples { groups, seed: 1 }
    }

    fn all(blocking: &[u64], epoll: &[u64], hash: &[u64]) -> Findings {
        findings(&samples(rounds(blocking, blocking), epoll, hash), vec![])
    }

    fn verdicts(found: &Findings) -> Vec<Verdict> {
        found.claims.iter().map(|claim| claim.verdict.clone()).collect()
    }

    #[test]
    fn a_worker_with_three_times_as_much_and_two_with_nearly_all_reproduce_the_claims() {
        let found = all(&[90, 60, 30, 20], &[150, 40, 10, 0], &CHANCE);
        assert_eq!(verdicts(&found), [const { Reproduced }; 3]);
        assert_eq!(
            found.answer,
            "The kernel's hash is as even as chance: of 200 connections its busiest worker of 4 gets \
             1.14 (1.14 to 1.14) times the average. On a shared socket, as tokio waits for it, \
             the two busiest workers get 56 % (56 to 56) of a burst and 95 % (95 to 95) of a trickle."
        );
        assert!(found.advice.contains("shared/least-conn: burst 2 (2 to 2)"), "{}", found.advice);
    }

    #[test]
    fn turns_and_chance_reproduce_neither_and_a_lopsided_hash_is_found() {
        let found = all(&TURNS, &CHANCE, &[120, 40, 30, 10]);
        assert_eq!(verdicts(&found), [const { NotReproduced }; 3]);
        assert!(found.answer.contains("not as even as chance"), "{}", found.answer);
        let judged = |row: usize| found.tables[0].rows[row].cells[3].text.as_deref();
        assert_eq!([judged(0), judged(1), judged(2)], ["evener", "as chance", "uneven"].map(Some));
    }

    #[test]
    fn rounds_that_differ_much_decide_nothing() {
        let mut blocking = rounds(&TURNS, &TURNS);
        blocking[..2].clone_from_slice(&rounds(&[150, 40, 10, 0], &TURNS)[..2]);
        let mut seen = samples(blocking, &CHANCE, &CHANCE);
        seen.groups.pop();
        let found = findings(&seen, vec![]);
        assert!(matches!(verdicts(&found)[0], NotDecidable(_)));
        assert_eq!(found.advice, "", "least-conn took no part");
    }
}
