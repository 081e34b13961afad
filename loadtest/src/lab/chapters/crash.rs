#![doc = include_str!("crash.md")]

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::kernel::netstat::TcpCounters;
use crate::lab::chapter::{Findings, judged};
use crate::lab::context::{Context, start};
use crate::lab::criterion::{Criterion, Limit, estimated, words};
use crate::lab::network_namespace::Namespace;
use crate::lab::probing::{PROBING, Probing, probe};
use crate::lab::queues::Queues;
use crate::lab::samples::Samples;
use crate::probe::outcome::Outcomes;
use crate::report::model::{Cell, Picture, Table, Unit};
use crate::statistics::estimate::Estimate;

/// The experiment's page.
const PAGE: &str = include_str!("crash.md");

/// Who takes part; the hash without the sysctl and with it.
const SHARED: &str = "shared/epoll";
const HASH: &str = "reuseport/hash";
const SHARED_LEAST: &str = "shared/least-conn";
const OWN_LEAST: &str = "reuseport/least-conn";
const WITHOUT: &str = "reuseport/hash, tcp_migrate_req 0";
const WITH: &str = "reuseport/hash, tcp_migrate_req 1";

/// Everybody who asks.
const CLIENTS: u64 = 32;

/// Losing more than this with each death is losing the queue.
const QUEUE: f64 = CLIENTS as f64 / 2.0;

/// With the sysctl at most this part of what is lost without it.
const KEPT: f64 = 0.5;

/// How long a worker hangs before it is killed, in milliseconds.
const HUNG_MS: u64 = 700;

/// How long after the last fault clients go on asking, in milliseconds.
const AFTER_MS: u64 = 400;

/// The two ways to die, and their place in a sample: at once, or after it was stopped for a while.
const KILLED: usize = 0;
const HUNG: usize = 1;

/// What came of one death.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Dead {
    /// Requests without a good answer, and all.
    lost: u64,
    attempted: u64,
    /// How requests ended.
    outcomes: Outcomes,
    /// Who waited on the dead worker's socket when it was last looked at, and on all others.
    queued: Option<[u32; 2]>,
    /// The longest that a good answer took, in microseconds.
    longest: f64,
    /// What the kernel counted.
    counters: TcpCounters,
}

/// A worker that was killed, and one that hung.
type Deaths = [Dead; 2];

/// Runs the experiment.
pub fn run(context: &mut Context) -> Result<Findings> {
    let (present, mut missing) = context.policies(&[SHARED, HASH, SHARED_LEAST, OWN_LEAST]);
    let (namespaces, only_one) = Namespace::both();
    let apart = only_one.is_none();
    missing.extend(only_one);
    let mut cases = Vec::new();
    for (policy, server) in present {
        // Only where the hash chooses does the sysctl change anything: a shared socket is not
        // closed, and the steering program migrates without it.
        let of_hash =
            namespaces.iter().map(|&it| (if it.migrates { WITH } else { WITHOUT }, server, it));
        match policy {
            HASH => cases.extend(of_hash),
            _ => cases.push((policy, server, namespaces[0])),
        }
    }
    let names: Vec<&str> = cases.iter().map(|(name, ..)| *name).collect();
    let (rounds, first) = context.choose((7, 400), (2, 200));
    let deaths = context.in_turns("deaths", &names, rounds, |place| {
        let (_, server, namespace) = cases[place];
        let die = |death| namespace.within(|| die(server, death, first));
        Ok([die(KILLED)?, die(HUNG)?])
    })?;
    Ok(findings(&deaths, apart, missing))
}

/// Starts a server, has it asked, and ends one of its workers; the first fault is at `first` ms.
fn die(server: &str, death: usize, first: u64) -> Result<Dead> {
    let mut server = start(server)?;
    let (faults, kill) = match death {
        KILLED => (vec![], first),
        _ => (vec![format!("stop-worker@{first}ms")], first + HUNG_MS),
    };
    let faults = [faults, vec![format!("kill-worker@{kill}ms")]].concat();
    let mut queues = Queues::of(&server);
    let before = TcpCounters::now()?;
    let time = Duration::from_millis(kill + AFTER_MS);
    let asked = Probing { clients: CLIENTS, time, faults: &faults, ..PROBING };
    let probed = probe(&mut server, &asked, |now| queues.look(now))?;
    server.stop()?;
    let dead = probed.faults.last().context("nobody was killed")?;
    let at = Duration::from_millis(dead.at_ms);
    // The last look or two before it died.
    let since = at.saturating_sub(Duration::from_millis(120));
    Ok(Dead {
        lost: probed.lost(),
        attempted: probed.attempted,
        outcomes: probed.outcomes,
        queued: dead.pid.and_then(|pid| queues.longest(pid, since, at)),
        longest: probed.latency.max as f64,
        counters: TcpCounters::now()?.since(&before),
    })
}

/// Requests lost for each death.
fn lost(deaths: &Samples<Deaths>, case: &str, death: usize) -> Estimate {
    deaths.mean(case, |both| both[death].lost as f64)
}

fn findings(deaths: &Samples<Deaths>, apart: bool, missing: Vec<String>) -> Findings {
    let [shared, without, with] = [SHARED, WITHOUT, WITH].map(|case| lost(deaths, case, HUNG));
    let loses = Criterion::All(vec![
        estimated("lost with a worker that hung: own sockets {}", without)
            .digits(1)
            .must_be(Limit::Above(QUEUE)),
        estimated("shared {}", shared).digits(1).must_be(Limit::AtMost(QUEUE)),
    ]);
    let label = format!("lost with it {{}}, without it {}", words(without, 1));
    let helps = estimated(label, with).digits(1).must_be(Limit::Below(without.value * KEPT));
    let only_one = "it needs a network namespace, where the sysctl can be set";
    let missing_why = if apart { "nothing was sampled" } else { only_one };
    let advice = match loses.met() {
        Some(true) => advice(deaths, helps.met()),
        _ => String::new(),
    };
    let mut picture = deaths.bars(
        format!("Requests lost when a worker hangs and is killed, of {CLIENTS} clients"),
        Unit::Mean,
        |case| lost(deaths, case, HUNG),
    );
    if let Picture::Bars { reference, .. } = &mut picture {
        *reference = Some((CLIENTS as f64, "every client".into()));
    }
    Findings {
        answer: answer(deaths),
        claims: judged(PAGE, &[(&loses, missing_why), (&helps, missing_why)]),
        advice,
        picture: Some(picture),
        tables: vec![table(deaths)],
        evidence: vec![evidence(deaths, apart)],
        missing,
    }
}

fn answer(deaths: &Samples<Deaths>) -> String {
    let one = |case: &str, death: usize| {
        let lost = lost(deaths, case, death).value;
        (!lost.is_nan()).then(|| format!("{lost:.1}"))
    };
    let [shared, without, with] = [SHARED, WITHOUT, WITH].map(|case| one(case, HUNG));
    let (own, how) = match (&without, &with) {
        (None, Some(with)) => (Some(with), " and the kernel migrates, as this machine does,"),
        _ => (without.as_ref(), ""),
    };
    let (Some(own), Some(shared)) = (own, shared) else {
        return "Here not both ways of listening could be compared.".into();
    };
    let mut answer = format!(
        "A worker that hangs and is killed takes {own} of {CLIENTS} clients with it if it has a \
         socket of its own{how}, and {shared} if all share one."
    );
    if let (Some(_), Some(with)) = (&without, &with) {
        answer += &format!(" With tcp_migrate_req it is {with}.");
    }
    if let (Some(own), Some(shared)) = (one(WITHOUT, KILLED), one(SHARED, KILLED)) {
        answer += &format!(
            " Killed while it works it costs {own} with a socket of its own and {shared} with a shared \
             one: what it had accepted is lost with either, and nothing can prevent that."
        );
    }
    answer
}

fn advice(deaths: &Samples<Deaths>, helps: Option<bool>) -> String {
    let lost = |case| lost(deaths, case, HUNG).value;
    let mut ways = vec!["share the socket".to_owned()];
    if helps == Some(true) {
        ways.push(format!("set tcp_migrate_req ({:.1} lost)", lost(WITH)));
    }
    if !lost(OWN_LEAST).is_nan() {
        let lost = lost(OWN_LEAST);
        ways.push(format!(
            "let --steer least-conn choose, which migrates by itself ({lost:.1} lost)"
        ));
    }
    format!("To keep the queue of a dead worker: {}.", ways.join(", or "))
}

fn table(deaths: &Samples<Deaths>) -> Table {
    let sum =
        |of: fn(&Outcomes) -> u64| move |both: &Deaths| both.iter().map(|d| of(&d.outcomes)).sum();
    deaths
        .table("Requests lost")
        .estimates("killed", Unit::Mean, |case| lost(deaths, case, KILLED))
        .estimates("hung, then killed", Unit::Mean, |case| lost(deaths, case, HUNG))
        .sums("reset", sum(|outcomes| outcomes.reset))
        .sums("closed early", sum(|outcomes| outcomes.closed_early))
        .sums("timed out", sum(|all| all.timed_out_answering + all.timed_out_connecting))
        .sums("refused", sum(|outcomes| outcomes.refused))
        .cells("deaths", Unit::Count, |_, all| Cell::count(2 * all.len() as u64))
        .sums("requests", |both| both.iter().map(|dead| dead.attempted).sum())
        .note("of each death the mean; the outcomes of all deaths together")
}

/// What the kernel saw of the deaths of hung workers, for each of them.
fn evidence(deaths: &Samples<Deaths>, apart: bool) -> Table {
    let counted = |of: fn(&TcpCounters) -> Option<u64>| {
        move |both: &Deaths| of(&both[HUNG].counters).map(|count| count as f64)
    };
    let whose = match apart {
        true => "counted in the server's own network namespace",
        false => "counted on the whole machine, where others may have added to it",
    };
    deaths
        .table("What the kernel saw, for each worker that hung and was killed")
        .means("waiting on its socket", Unit::Mean, |both| {
            both[HUNG].queued.map(|queued| f64::from(queued[0]))
        })
        .means("TCPMigrateReqSuccess", Unit::Mean, counted(|all| all.migrate_success))
        .means("TCPMigrateReqFailure", Unit::Mean, counted(|all| all.migrate_failure))
        .means("ListenDrops", Unit::Mean, counted(|all| Some(all.listen_drops)))
        .means("ListenOverflows", Unit::Mean, counted(|all| Some(all.listen_overflows)))
        .middles("longest answer", Unit::Microseconds, |both| both[HUNG].longest)
        .note(format!(
            "{whose}; the queue by sock_diag, just before; means, of the longest answer the median"
        ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::chapter::Verdict::{self, NotDecidable, NotReproduced, Reproduced};

    fn deaths(case: &str, lost: &[u64]) -> (String, Vec<Deaths>) {
        let dead = |lost: u64| Dead {
            lost,
            attempted: 1000,
            outcomes: Outcomes { ok: 1000 - lost, reset: lost, ..Outcomes::default() },
            queued: Some([31, 0]),
            longest: 1000.0,
            counters: TcpCounters {
                listen_overflows: 0,
                listen_drops: 0,
                migrate_success: Some(0),
                migrate_failure: Some(0),
            },
        };
        (case.into(), lost.iter().map(|&lost| [dead(3), dead(lost)]).collect())
    }

    fn found(groups: Vec<(String, Vec<Deaths>)>, apart: bool) -> Findings {
        findings(&Samples { groups, seed: 1 }, apart, vec![])
    }

    fn usual(own: &[u64], with: &[u64], shared: &[u64]) -> Findings {
        let cases = [(SHARED, shared), (WITHOUT, own), (WITH, with), (OWN_LEAST, with)];
        found(cases.map(|(case, lost)| deaths(case, lost)).into(), true)
    }

    fn verdicts(found: &Findings) -> Vec<Verdict> {
        found.claims.iter().map(|claim| claim.verdict.clone()).collect()
    }

    #[test]
    fn a_queue_that_is_lost_and_is_kept_with_the_sysctl_reproduces_both_claims() {
        let found = usual(&[32, 31, 33], &[2, 3, 1], &[2, 4, 3]);
        assert_eq!(verdicts(&found), [Reproduced, Reproduced]);
        for words in [
            "takes 32.0 of 32 clients with it",
            "With tcp_migrate_req it is 2.0.",
            "costs 3.0 with a socket of its own and 3.0 with a shared one",
        ] {
            assert!(found.answer.contains(words), "{}", found.answer);
        }
        assert!(found.advice.contains("migrates by itself (2.0 lost)"), "{}", found.advice);
    }

    #[test]
    fn where_little_is_lost_nothing_is_reproduced() {
        let little = usual(&[3, 2, 4], &[3, 2, 4], &[2, 4, 3]);
        assert_eq!(verdicts(&little), [NotReproduced, NotReproduced]);
        // If a shared socket loses as much, it is not the kind of socket.
        let all = usual(&[32, 31, 33], &[30, 31, 30], &[32, 31, 30]);
        assert_eq!(verdicts(&all), [NotReproduced, NotReproduced]);
    }

    #[test]
    fn what_varies_too_much_or_cannot_be_set_is_not_decided() {
        let all = verdicts(&usual(&[32, 2, 32, 2], &[32, 1, 32, 1], &[2, 4, 3]));
        assert!(all.iter().all(|verdict| matches!(verdict, NotDecidable(_))), "{all:?}");
        let found = found(vec![deaths(SHARED, &[2, 3]), deaths(WITHOUT, &[32, 31])], false);
        assert_eq!(found.claims[0].verdict, Reproduced);
        let words = found.claims[1].verdict.words();
        assert!(words.contains("namespace"), "{words}");
    }
}
