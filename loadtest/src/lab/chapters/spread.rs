#![doc = include_str!("spread.md")]

use super::*;
use crate::lab::client::{answered, served};
use crate::lab::figure::filled;
use crate::matrix::workloads::LOAD_AWARE;
use crate::statistics::by_rank;
use crate::statistics::significance::{Evenness, evenness};

/// The number of connections, and of workers.
const CONNECTIONS: usize = 200;
const WORKERS: usize = 4;

/// A probability below this counts as more than chance.
const UNLIKELY: f64 = 0.01;

/// The two ways in which connections arrive, and their places in a round.
const TRICKLE: usize = 0;
const BURST: usize = 1;
const WAYS: [&str; 2] = ["trickle", "burst"];

/// A trickle and a burst on one server.
type Round = [Counted; 2];

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Counted {
    accepted: Vec<u64>,
    /// How often a thread of the server slept and was woken, for each connection.
    switches: f64,
}

/// Runs the experiment.
pub fn run(context: &mut Context) -> Result<Findings> {
    let policies = context.policies(&POLICIES.map(|(name, _)| name));
    let rounds = context.choose(40, 5);
    let seen = context.in_turns("connections", rounds, &policies, |server| round(server))?;
    Ok(findings(&seen))
}

fn round(server: &str) -> Result<Round> {
    let mut server = start(&format!("{server} --workers {WORKERS}"))?;
    let trickle = counted(&mut server, |server| {
        (0..CONNECTIONS).map(|_| served(server.address())).collect()
    })?;
    server.wait_until_idle(Duration::from_secs(5));
    let burst = counted(&mut server, |server| {
        let clients = (0..CONNECTIONS).map(|_| Connection::open(server.address()));
        let mut clients = clients.collect::<Result<Vec<Connection>>>()?;
        clients.iter_mut().try_for_each(|client| client.ask("/"))?;
        clients.iter_mut().try_for_each(answered)?;
        Ok(clients)
    })?;
    server.stop()?;
    Ok([trickle, burst])
}

/// Counts what each worker accepts while connections are opened and held.
fn counted(
    server: &mut Server,
    open: impl FnOnce(&Server) -> Result<Vec<Connection>>,
) -> Result<Counted> {
    let before = server.read()?;
    let clients = open(server)?;
    let workers = server.read()?.since(&before)?;
    drop(clients);
    let switches: u64 = workers.iter().map(|worker| worker.context_switches.voluntary).sum();
    let accepted = workers.iter().filter_map(|worker| worker.connections).collect();
    Ok(Counted { accepted, switches: switches as f64 / CONNECTIONS as f64 })
}

/// A figure of one way, made from the workers' counts, the greatest first.
fn of(way: usize, figure: fn(&[f64]) -> f64) -> impl Fn(&Round) -> f64 {
    move |round| figure(&round[way].sorted())
}

impl Counted {
    fn sorted(&self) -> Vec<f64> {
        let mut counts: Vec<f64> = self.accepted.iter().map(|&count| count as f64).collect();
        counts.sort_by(|a, b| b.total_cmp(a));
        counts
    }
}

/// The most connections of a worker over the fewest, and over the average; the difference of most and
/// fewest; and the part of the two busiest.
const TO_LEAST: fn(&[f64]) -> f64 = |counts| counts[0] / counts[counts.len() - 1].max(1.0);
const TO_AVERAGE: fn(&[f64]) -> f64 = |counts| counts[0] * counts.len() as f64 / total(counts);
const DIFFERENCE: fn(&[f64]) -> f64 = |counts| counts[0] - counts[counts.len() - 1];
const TWO_BUSIEST: fn(&[f64]) -> f64 = |counts| (counts[0] + counts[1]) / total(counts);

fn total(counts: &[f64]) -> f64 {
    counts.iter().sum::<f64>().max(1.0)
}

/// The part of all connections by rank, over all rounds: the busiest worker of each round first.
fn parts(rounds: &[Round], way: usize) -> Vec<f64> {
    by_rank(rounds.iter().map(|round| round[way].accepted.clone())).unwrap_or_default()
}

fn chance(rounds: &[Round], ways: &[usize]) -> Option<Evenness> {
    evenness(rounds.iter().flat_map(|round| ways.iter().map(|&way| &round[way].accepted[..])))
}

fn findings(seen: &Samples<Round>) -> Findings {
    let hash = chance(seen.of(HASH), &[TRICKLE, BURST]);
    let in_words = |hash: Evenness| {
        let Evenness { chi_square, degrees, as_uneven: p, .. } = hash;
        let p = if p < 0.0001 { "p < 0.0001".into() } else { format!("p = {p:.4}") };
        format!("chi-square = {chi_square:.1}, df = {degrees:.0}, {p}")
    };
    let apart = |policy: &str| {
        let [trickle, burst] = [TRICKLE, BURST].map(|way| seen.median(policy, of(way, DIFFERENCE)));
        let figures = [("burst", burst.into()), ("trickle", trickle.into())];
        filled("burst {burst:0}, trickle {trickle:0}", &figures).0
    };
    let took_part = |policy: &&str| !seen.of(policy).is_empty();
    let aware = LOAD_AWARE.into_iter().filter(took_part);
    let aware: Vec<String> = aware.map(|name| format!("{name}: {}", apart(name))).collect();
    let figure = |policy: &str, way, of_counts| seen.median(policy, of(way, of_counts)).into();
    let figures = [
        ("burst", figure(BLOCKING, BURST, TO_LEAST)),
        ("trickle", figure(BLOCKING, TRICKLE, TO_LEAST)),
        ("two_burst", figure(EPOLL, BURST, TWO_BUSIEST)),
        ("two_trickle", figure(EPOLL, TRICKLE, TWO_BUSIEST)),
        ("chance", hash.map(in_words).into()),
        ("p", hash.map_or(f64::NAN, |hash| hash.as_uneven).into()),
        ("hash", figure(HASH, BURST, TO_AVERAGE)),
        ("aware", aware.join("; ").into()),
        ("rounds", seen.groups.first().map_or(0, |(_, rounds)| rounds.len()).into()),
        ("apart", took_part(&HASH).then(|| apart(HASH)).into()),
    ];
    let rows = seen.groups.iter().flat_map(|(policy, rounds)| {
        [TRICKLE, BURST].map(|way| (format!("{policy}, {}", WAYS[way]), parts(rounds, way)))
    });
    let title = format!("Who got {CONNECTIONS} connections: the busiest worker first");
    let picture = Picture::Shares { title, rows: rows.collect() };
    let tables =
        [table(seen, "Trickle: one at a time", TRICKLE), table(seen, "Burst: all at once", BURST)];
    let woken = seen
        .table("A worker's thread slept and was woken, for each connection")
        .middles("trickle", Unit::Mean, |round| round[TRICKLE].switches)
        .middles("burst", Unit::Mean, |round| round[BURST].switches);
    let page = include_str!("spread.md");
    Findings::of(page, &figures, &[], picture, tables, [woken.table])
}

fn table(seen: &Samples<Round>, title: &str, way: usize) -> Table {
    let over_degrees = |all: &[Round]| chance(all, &[way]).map(|c| c.chi_square / c.degrees);
    let judged = |all: &[Round]| match chance(all, &[way]) {
        None => Cell::default(),
        Some(Evenness { as_uneven, .. }) if as_uneven < UNLIKELY => Cell::from("uneven"),
        Some(Evenness { as_even, .. }) if as_even < UNLIKELY => Cell::from("evener"),
        Some(_) => Cell::from("as chance"),
    };
    seen.table(title)
        .medians("busiest / average", Unit::Ratio, of(way, TO_AVERAGE))
        .medians("busiest / fewest", Unit::Mean, of(way, TO_LEAST))
        .cells("chi-square / df", Unit::Mean, |_, all| Cell::from(over_degrees(all)))
        .cells("spread", Unit::Text, |_, all| judged(all))
        .table
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANCE: [u64; 4] = [55, 44, 57, 44];
    const TURNS: [u64; 4] = [51, 50, 50, 49];
    const LOPSIDED: [u64; 4] = [150, 40, 10, 0];

    #[test]
    fn a_busiest_worker_turns_and_chance_are_told_apart() {
        let rounds = |trickle: &[u64], burst: &[u64]| {
            let counted = |accepted: &[u64]| Counted { accepted: accepted.into(), switches: 2.0 };
            vec![[counted(trickle), counted(burst)]; 4]
        };
        let steady = |counts: [u64; 4]| rounds(&counts, &counts);
        let differ = [&steady(TURNS)[2..], &steady(LOPSIDED)[2..]].concat();
        let even = "The kernel's hash is as even as chance: of 200 connections its busiest worker of 4 \
             gets 1.14 (1.14 to 1.14) times the average. On a shared socket, as tokio waits for it, \
             the two busiest workers get 56 % (56 to 56) of a burst and 95 % (95 to 95) of a trickle.";
        let told = [even, "shared/least-conn: burst 2 (2 to 2)"];
        let lopsided = [90, 60, 30, 20];
        let (uneven, odd) = ([120, 40, 30, 10], "not as even as chance");
        for (blocking, epoll, hash, verdicts, words, judged) in [
            (steady(lopsided), LOPSIDED, CHANCE, "+++", &told[..], "uneven, uneven, as chance"),
            (steady(TURNS), CHANCE, uneven, "---", &[odd], "evener, as chance, uneven"),
            (differ, CHANCE, CHANCE, "?-+", &[], "uneven, as chance, as chance"),
        ] {
            let seen = samples_of([
                (BLOCKING, blocking),
                (EPOLL, rounds(&epoll, &CHANCE)),
                (HASH, rounds(&hash, &CHANCE)),
                (SHARED_LEAST, rounds(&[50; 4], &TURNS)),
            ]);
            let found = findings(&seen);
            found.expect(verdicts, words);
            let spread = |row: usize| found.tables[0].rows[row].cells[3].text.as_deref();
            assert_eq!([0, 1, 2].map(spread).map(Option::unwrap).join(", "), judged);
        }
        let without = findings(&samples_of([(HASH, rounds(&CHANCE, &CHANCE))]));
        assert_eq!(without.advice, "", "least-conn took no part");
    }
}
