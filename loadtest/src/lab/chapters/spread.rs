//! Who gets how many connections?
//!
//! # The claim
//! The commit that brought SO_REUSEPORT (Herbert, c617f398edd4) says of several threads that accept
//! from one shared socket that the one with most connections got up to 3 times as many as the one
//! with fewest, and of own sockets that they get them uniformly. granian#544 saw one or two of four
//! workers on a shared socket handle most of the load.
//!
//! # What the kernel does
//! It does not spread connections over workers that share a socket: they lie in one queue, and
//! whoever calls accept(2) first gets the next. So what decides is who is awake, and in which order
//! sleepers are woken. Over own sockets the hash is a lottery, each connection a ticket: 200
//! connections to four workers are not 50 each, but 50 give or take 6 (the standard deviation of
//! that lottery).
//!
//! # The set-up
//! Four workers, every policy, and 200 connections, all of them held open. *Trickle*: one at a
//! time, each with a request that is answered before the next one comes. *Burst*: all are opened as
//! fast as one client can, then each asks, then each is answered. Several rounds, each with a
//! server that was started for it; between trickle and burst it comes to rest. Counted are the
//! connections that each worker accepted, by its scoreboard.
//!
//! # The criterion
//! *3 to 1*: what the busiest worker got over what the one with fewest got (or over 1, if that got
//! none); its median over the rounds has a 95 % interval, which lies below 3 or not. *Two take
//! most*: the same with the part of all connections that the two busiest workers got, and 0.75.
//! *Even*: chi-square against equal parts, summed over all rounds of trickle and burst, is one that
//! a fair lottery exceeds with a probability of at least 0.01.
//!
//! # Elsewhere
//! With more cores more workers are awake at the same time, and a shared socket's burst is spread
//! more evenly; its trickle is not. `cpu` goes by the core that handles the packet: on the loopback
//! that is the client's, so one client fills one worker, where a network card with a queue for each
//! core would spread them.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::lab::chapter::{Claim, Findings, Verdict};
use crate::lab::client::Client;
use crate::lab::estimate::{Sure, cell, percent, words};
use crate::lab::interleaved::below;
use crate::lab::store::Notebook;
use crate::matrix::workloads::{LOAD_AWARE, POLICIES};
use crate::report::model::{Cell, Picture, Table, Unit};
use crate::server::{Server, Spec};
use crate::statistics::significance::{Evenness, evenness};
use crate::statistics::{bootstrap, median};

/// Connections, and between how many workers.
const CONNECTIONS: usize = 200;
const WORKERS: usize = 4;

/// The busiest worker's connections over those of the one with fewest, as Herbert saw it.
const THREE_TO_ONE: f64 = 3.0;

/// The part of all connections that is "most", for two of four workers.
const MOST: f64 = 0.75;

/// A fair lottery is as uneven as this with this probability.
const UNLIKELY: f64 = 0.01;

/// How long the server may take to notice that all connections are closed.
const REST: std::time::Duration = std::time::Duration::from_secs(5);

/// The policies that claims are about.
const SITS_IN_ACCEPT: &str = "shared/blocking";
const TOKIO: &str = "shared/epoll";
const HASH: &str = "reuseport/hash";

/// What one server's workers accepted.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Round {
    trickle: Vec<u64>,
    burst: Vec<u64>,
    /// Times that a thread of the server slept and was woken, for each connection.
    trickle_switches: f64,
    burst_switches: f64,
}

/// The two ways in which connections come.
#[derive(Clone, Copy, PartialEq)]
enum Coming {
    Trickle,
    Burst,
}

use Coming::{Burst, Trickle};

impl Coming {
    fn name(self) -> &'static str {
        match self {
            Trickle => "trickle",
            Burst => "burst",
        }
    }

    fn of(self, round: &Round) -> &[u64] {
        match self {
            Trickle => &round.trickle,
            Burst => &round.burst,
        }
    }

    fn switches(self, round: &Round) -> f64 {
        match self {
            Trickle => round.trickle_switches,
            Burst => round.burst_switches,
        }
    }
}

/// Does it.
pub fn run(notebook: &mut Notebook) -> Result<Findings> {
    let rounds = notebook.choose(40, 5);
    let (policies, missing) = notebook.policies(&POLICIES.map(|(name, _)| name));
    let mut seen: Vec<(&str, Vec<Round>)> =
        policies.iter().map(|(name, _)| (*name, Vec::new())).collect();
    // Round by round, so that a machine that is busy for a while disturbs all of them alike.
    for round in 0..rounds {
        for (place, (name, server)) in policies.iter().enumerate() {
            let found = notebook.sample(&format!("{name}/{round}"), |_| once(server))?;
            seen[place].1.push(found);
        }
    }
    Ok(findings(&seen, missing, notebook.seed))
}

fn once(server: &str) -> Result<Round> {
    let workers = ["--workers".to_owned(), WORKERS.to_string()];
    let mut server = Server::start(&Spec::parse(server)?, &workers)?;
    let (trickle, trickle_switches) = counted(&mut server, trickle)?;
    server.wait_until_idle(REST);
    let (burst, burst_switches) = counted(&mut server, burst)?;
    server.stop()?;
    Ok(Round { trickle, burst, trickle_switches, burst_switches })
}

/// What each worker accepts while connections are opened and held.
fn counted(
    server: &mut Server,
    open: impl FnOnce(&Server) -> Result<Vec<Client>>,
) -> Result<(Vec<u64>, f64)> {
    let before = server.read()?;
    let clients = open(server)?;
    let workers = server.read()?.since(&before)?;
    drop(clients);
    let switches: u64 = workers.iter().map(|worker| worker.context_switches.voluntary).sum();
    let accepted = workers.iter().filter_map(|worker| worker.connections).collect();
    Ok((accepted, switches as f64 / CONNECTIONS as f64))
}

fn trickle(server: &Server) -> Result<Vec<Client>> {
    let one = |_| {
        let mut client = Client::connect(server.address())?;
        client.send()?;
        client.answered()?;
        Ok(client)
    };
    (0..CONNECTIONS).map(one).collect()
}

fn burst(server: &Server) -> Result<Vec<Client>> {
    let clients = (0..CONNECTIONS).map(|_| Client::connect(server.address()));
    let mut clients = clients.collect::<Result<Vec<Client>>>()?;
    clients.iter_mut().try_for_each(Client::send)?;
    clients.iter_mut().try_for_each(Client::answered)?;
    Ok(clients)
}

/// The median over rounds of what is made of each round's counts, the greatest first.
fn middle(rounds: &[Round], coming: Coming, seed: u64, figure: fn(&[f64]) -> f64) -> Sure {
    let figures: Vec<f64> = rounds.iter().map(|round| figure(&sorted(coming.of(round)))).collect();
    (median(&figures).unwrap_or(f64::NAN), bootstrap::interval(&figures, median, seed))
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

fn apart(counts: &[f64]) -> f64 {
    counts[0] - counts[counts.len() - 1]
}

fn total(counts: &[f64]) -> f64 {
    counts.iter().sum::<f64>().max(1.0)
}

/// Each place's part of all connections, over all rounds: the busiest of each round first.
fn parts(rounds: &[Round], coming: Coming) -> Vec<f64> {
    let mut sums = vec![0.0; WORKERS];
    for round in rounds {
        for (sum, count) in sums.iter_mut().zip(sorted(coming.of(round))) {
            *sum += count;
        }
    }
    let all = total(&sums);
    sums.into_iter().map(|sum| sum / all).collect()
}

fn chance(rounds: &[Round], coming: &[Coming]) -> Option<Evenness> {
    evenness(coming.iter().flat_map(|coming| rounds.iter().map(|round| coming.of(round))))
}

/// A probability, as far as it says anything.
fn probability(value: f64) -> String {
    if value < 0.0001 { "less than 0.0001".into() } else { format!("{value:.4}") }
}

fn findings(seen: &[(&str, Vec<Round>)], missing: Vec<String>, seed: u64) -> Findings {
    let of = |policy: &str| {
        seen.iter().find(|(name, _)| *name == policy).map_or(&[][..], |(_, rounds)| &rounds[..])
    };
    let noisy = "the interval lies on both sides of the limit; more rounds would tell";
    let to_least = |policy, coming| middle(of(policy), coming, seed, busiest_to_least);
    let of_two = |policy, coming| middle(of(policy), coming, seed, two_busiest);
    let both = |show: &dyn Fn(Coming) -> String| {
        format!("burst {}, trickle {}", show(Burst), show(Trickle))
    };
    // It is claimed to happen, not to happen always: one of the two is enough.
    let either = |reaches: &dyn Fn(Coming) -> Option<bool>| {
        let reached = [reaches(Burst), reaches(Trickle)];
        if reached.contains(&Some(true)) {
            Some(true)
        } else if reached.contains(&None) {
            None
        } else {
            Some(false)
        }
    };
    let reaches = |(_, interval): Sure, limit| below(interval, limit).map(|is_below| !is_below);
    let hash = chance(of(HASH), &[Trickle, Burst]);
    let is_even = hash.map(|hash| hash.as_uneven >= UNLIKELY);
    let herberts = |claim, theirs| {
        let url = Some("https://git.kernel.org/linus/c617f398edd4");
        Claim::by("Herbert, Linux commit c617f398edd4", url, claim, theirs)
    };
    let claims = vec![
        herberts(
            "of threads that accept from a shared socket, one gets up to 3 times the connections \
             of another",
            "up to 3:1",
        )
        .found(
            both(&|coming| format!("{}:1", words(to_least(SITS_IN_ACCEPT, coming), 1))),
            format!("one of both with its whole interval from {THREE_TO_ONE:.0} on"),
            Verdict::of(
                either(&|coming| reaches(to_least(SITS_IN_ACCEPT, coming), THREE_TO_ONE)),
                noisy,
            ),
        ),
        Claim::by(
            "granian#544",
            Some("https://github.com/emmett-framework/granian/issues/544"),
            "of four workers that share a socket, one or two take most of the load",
            "one or two of four",
        )
        .found(
            format!("the two busiest got: {}", both(&|coming| percent(of_two(TOKIO, coming)))),
            format!("one of both with its whole interval from {:.0} % on", MOST * 100.0),
            Verdict::of(either(&|coming| reaches(of_two(TOKIO, coming), MOST)), noisy),
        ),
        herberts("the hash spreads connections over own sockets uniformly", "uniformly").found(
            hash.map_or("nothing".into(), |hash| {
                format!(
                    "chi-square {:.1} where a fair lottery has {:.0}; it exceeds that with \
                     probability {}",
                    hash.chi_square,
                    hash.degrees,
                    probability(hash.as_uneven)
                )
            }),
            format!("probability {UNLIKELY} or more"),
            Verdict::of(is_even, noisy),
        ),
    ];
    let answer = format!(
        "The kernel's hash is {}: of {CONNECTIONS} connections its busiest worker of {WORKERS} \
         gets {} times the average. On a shared socket, as tokio waits for it, the two busiest \
         workers get {} of a burst and {} of a trickle.",
        match is_even {
            Some(true) => "a fair lottery",
            Some(false) => "not as even as a fair lottery here",
            None => "not judged",
        },
        words(middle(of(HASH), Burst, seed, busiest_to_average), 2),
        percent(of_two(TOKIO, Burst)),
        percent(of_two(TOKIO, Trickle)),
    );
    let mends = LOAD_AWARE.iter().filter(|policy| !of(policy).is_empty()).map(|policy| {
        let apart = |coming| words(middle(of(policy), coming, seed, apart), 0);
        format!("{policy}: burst {}, trickle {}", apart(Burst), apart(Trickle))
    });
    let mends: Vec<String> = mends.collect();
    let advice = match mends.is_empty() {
        true => String::new(),
        false => format!(
            "Where connections are kept, use least-conn: the busiest worker then has only so many \
             connections more than the one with fewest: {}. With the hash: burst {}, trickle {}.",
            mends.join("; "),
            words(middle(of(HASH), Burst, seed, apart), 0),
            words(middle(of(HASH), Trickle, seed, apart), 0),
        ),
    };
    let row = |(policy, rounds): &(&str, Vec<Round>), coming: Coming| {
        (format!("{policy}, {}", coming.name()), parts(rounds, coming))
    };
    Findings {
        answer,
        claims,
        advice,
        picture: Some(Picture::Shares {
            title: format!("Who got {CONNECTIONS} connections: the busiest worker first"),
            rows: seen.iter().flat_map(|seen| [Trickle, Burst].map(|c| row(seen, c))).collect(),
        }),
        tables: [Trickle, Burst].map(|coming| table(seen, coming, seed)).into(),
        evidence: vec![evidence(seen)],
        missing,
    }
}

fn table(seen: &[(&str, Vec<Round>)], coming: Coming, seed: u64) -> Table {
    let title = match coming {
        Trickle => "Trickle: one at a time",
        Burst => "Burst: all at once",
    };
    let mut table = Table::new(
        title,
        &[
            ("busiest / average", Unit::Ratio),
            ("busiest / fewest", Unit::Mean),
            ("chi-square/fair", Unit::Mean),
            ("spread", Unit::Text),
        ],
    );
    for (policy, rounds) in seen {
        let sure = |figure| cell(middle(rounds, coming, seed, figure));
        let chance = chance(rounds, &[coming]);
        table.row(
            *policy,
            [
                sure(busiest_to_average),
                sure(busiest_to_least),
                Cell::maybe(chance.map(|chance| chance.chi_square / chance.degrees)),
                chance.map_or_else(Cell::none, |chance| Cell::text(judged(&chance))),
            ],
        );
    }
    table.note = format!(
        "medians over {} rounds of {CONNECTIONS} connections to {WORKERS} workers; \"fewest\" \
         counts as 1 where a worker got none; chi-square of a fair lottery is 1.0 of fair on \
         average; a policy that makes parts equal is evener than chance, and has far less",
        seen.first().map_or(0, |(_, rounds)| rounds.len())
    );
    table
}

/// How a fair lottery compares.
fn judged(found: &Evenness) -> &'static str {
    if found.as_uneven < UNLIKELY {
        "uneven"
    } else if found.as_even < UNLIKELY {
        "evener"
    } else {
        "as chance"
    }
}

fn evidence(seen: &[(&str, Vec<Round>)]) -> Table {
    let mut table = Table::new(
        "A worker's thread slept and was woken, for each connection",
        &[("trickle", Unit::Mean), ("burst", Unit::Mean)],
    );
    for (policy, rounds) in seen {
        let each = |coming: Coming| {
            let switches: Vec<f64> = rounds.iter().map(|round| coming.switches(round)).collect();
            Cell::maybe(median(&switches))
        };
        table.row(*policy, [each(Trickle), each(Burst)]);
    }
    table.note =
        "voluntary context switches of all workers, from /proc; medians over the rounds".into();
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(trickle: &[u64], burst: &[u64]) -> Vec<Round> {
        let (trickle, burst) = (trickle.to_vec(), burst.to_vec());
        vec![Round { trickle, burst, trickle_switches: 2.0, burst_switches: 1.0 }; 4]
    }

    const EVEN: [u64; 4] = [50; 4];
    const CHANCE: [u64; 4] = [55, 44, 57, 44];
    const TURNS: [u64; 4] = [51, 50, 50, 49];

    fn all(blocking: &[u64], epoll: &[u64], hash: &[u64]) -> Findings {
        let seen = [
            (SITS_IN_ACCEPT, rounds(blocking, blocking)),
            (TOKIO, rounds(epoll, &CHANCE)),
            (HASH, rounds(hash, &CHANCE)),
            (LOAD_AWARE[0], rounds(&EVEN, &TURNS)),
        ];
        findings(&seen, vec![], 1)
    }

    fn verdicts(found: &Findings) -> Vec<Verdict> {
        found.claims.iter().map(|claim| claim.verdict.clone()).collect()
    }

    #[test]
    fn a_worker_with_three_times_as_much_and_two_with_nearly_all_reproduce_the_claims() {
        let found = all(&[90, 60, 30, 20], &[150, 40, 10, 0], &CHANCE);
        assert_eq!(verdicts(&found), [const { Verdict::Reproduced }; 3]);
        assert_eq!(
            found.answer,
            "The kernel's hash is a fair lottery: of 200 connections its busiest worker of 4 gets \
             1.14 (1.14 to 1.14) times the average. On a shared socket, as tokio waits for it, \
             the two busiest workers get 56 % (56 to 56) of a burst and 95 % (95 to 95) of a trickle."
        );
        assert!(found.advice.contains("shared/least-conn: burst 2 (2 to 2)"), "{}", found.advice);
    }

    #[test]
    fn turns_and_chance_reproduce_neither_and_a_lopsided_hash_is_found_out() {
        let found = all(&TURNS, &CHANCE, &[120, 40, 30, 10]);
        assert_eq!(verdicts(&found), [const { Verdict::NotReproduced }; 3]);
        assert!(found.answer.contains("not as even as a fair lottery"), "{}", found.answer);
    }

    #[test]
    fn rounds_that_differ_much_decide_nothing() {
        let mut seen = vec![
            (SITS_IN_ACCEPT, rounds(&TURNS, &TURNS)),
            (TOKIO, rounds(&CHANCE, &CHANCE)),
            (HASH, rounds(&CHANCE, &CHANCE)),
        ];
        seen[0].1[..2].clone_from_slice(&rounds(&[150, 40, 10, 0], &TURNS)[..2]);
        let found = findings(&seen, vec![], 1);
        assert!(matches!(verdicts(&found)[0], Verdict::NotDecidable(_)));
        assert_eq!(found.advice, "", "least-conn took no part");
    }

    #[test]
    fn equal_parts_are_evener_than_chance_and_not_called_uneven() {
        let table = all(&TURNS, &CHANCE, &CHANCE).tables.remove(0);
        let judged: Vec<_> = table.rows.iter().map(|row| row.cells[3].text.as_deref()).collect();
        assert_eq!(judged[0], Some("evener"));
        assert_eq!(judged[2], Some("as chance"));
    }
}
