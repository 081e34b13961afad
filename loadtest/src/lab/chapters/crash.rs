#![doc = include_str!("crash.md")]

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::kernel::netstat::TcpCounters;
use crate::lab::chapter::Findings;
use crate::lab::context::{Context, start};
use crate::lab::criterion::{Criterion, Limit, alone, estimated, words};
use crate::lab::network_namespace::Namespace;
use crate::lab::probing::{PROBING, Probing, probe};
use crate::lab::queues::Queues;
use crate::lab::samples::Samples;
use crate::probe::outcome::Outcomes;
use crate::report::model::{Cell, Table, Unit};
use crate::statistics::estimate::Estimate;

/// The experiment's page.
const PAGE: &str = include_str!("crash.md");

/// Who takes part; the hash without the sysctl and with it.
const SHARED: &str = "shared/epoll";
const HASH: &str = "reuseport/hash";
const OWN_LEAST: &str = "reuseport/least-conn";
const POLICIES: [&str; 4] = [SHARED, HASH, "shared/least-conn", OWN_LEAST];
const WITHOUT: &str = "reuseport/hash, tcp_migrate_req 0";
const WITH: &str = "reuseport/hash, tcp_migrate_req 1";

/// Everybody who asks; losing more than half of them with each death is losing the queue.
const CLIENTS: u64 = 32;
const QUEUE: f64 = CLIENTS as f64 / 2.0;

/// With the sysctl at most this part of what is lost without it.
const KEPT: f64 = 0.5;

/// How long a worker hangs before it is killed, and how long clients go on asking after that.
const HUNG_MS: u64 = 700;
const AFTER_MS: u64 = 400;

/// The two ways to die, and their place in a sample: at once, or after it was stopped for a while.
const KILLED: usize = 0;
const HUNG: usize = 1;

/// What came of one death.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Dead {
    /// How requests ended.
    outcomes: Outcomes,
    /// Who waited on the dead worker's socket when it was last looked at, and on all others.
    queued: Option<[u32; 2]>,
    /// The longest that a good answer took, in microseconds.
    longest: Option<f64>,
    /// What the kernel counted.
    counters: TcpCounters,
}

/// A worker that was killed, and one that hung.
type Deaths = [Dead; 2];

/// Runs the experiment.
pub fn run(context: &mut Context) -> Result<Findings> {
    let (present, mut missing) = context.policies(&POLICIES);
    let (namespaces, only_one) = Namespace::both();
    let apart = only_one.is_none();
    missing.extend(only_one);
    let mut cases = Vec::new();
    for (policy, server) in present {
        // Only where the hash chooses does the sysctl change anything: a shared socket is not
        // closed, and the steering program migrates without it.
        let of_hash =
            namespaces.iter().map(|&it| (if it.migrates { WITH } else { WITHOUT }, (server, it)));
        match policy {
            HASH => cases.extend(of_hash),
            _ => cases.push((policy, (server, namespaces[0]))),
        }
    }
    let (rounds, first) = context.choose((7, 400), (2, 200));
    let deaths = context.in_turns("deaths", rounds, &cases, |&(server, namespace)| {
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
        outcomes: probed.outcomes,
        queued: dead.pid.and_then(|pid| queues.longest(pid, since, at)),
        longest: probed.latency_us.map(|latency| latency.max as f64),
        counters: TcpCounters::now()?.since(&before),
    })
}

/// Requests lost for each death.
fn lost(deaths: &Samples<Deaths>, case: &str, death: usize) -> Estimate {
    deaths.mean(case, |both| both[death].outcomes.lost() as f64)
}

fn findings(deaths: &Samples<Deaths>, apart: bool, missing: Vec<String>) -> Findings {
    let hung = |case: &str| lost(deaths, case, HUNG);
    let [shared, without, with] = [SHARED, WITHOUT, WITH].map(hung);
    let per_death = |label: &str, found| estimated(label, found).digits(1);
    let loses = Criterion::All(vec![
        per_death("lost with a worker that hung: own sockets {}", without)
            .must_be(Limit::Above(QUEUE)),
        per_death("shared {}", shared).must_be(Limit::AtMost(QUEUE)),
    ]);
    let label = format!("lost with it {{}}, without it {}", words(without, 1));
    let helps = per_death(&label, with).must_be(Limit::Below(without.value * KEPT));
    let only_one = "it needs a network namespace, where the sysctl can be set";
    let missing_why = if apart { "nothing was sampled" } else { only_one };
    let figures = [
        ("shared", alone(shared, 1)),
        ("without", alone(without, 1)),
        ("with", alone(with, 1)),
        ("own_least", alone(hung(OWN_LEAST), 1)),
        ("killed", alone(lost(deaths, WITHOUT, KILLED), 1)),
        ("shared_killed", alone(lost(deaths, SHARED, KILLED), 1)),
    ];
    Findings {
        picture: deaths.bars(
            format!("Requests lost when a worker hangs and is killed, of {CLIENTS} clients"),
            Unit::Mean,
            Some((CLIENTS as f64, "every client")),
            hung,
        ),
        tables: vec![table(deaths)],
        evidence: vec![evidence(deaths, apart)],
        missing,
        ..Findings::of(PAGE, &[(&loses, missing_why), (&helps, missing_why)], &figures)
    }
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
        .sums("requests", sum(Outcomes::total))
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
        .means("waiting on its socket", |both| both[HUNG].queued.map(|queued| f64::from(queued[0])))
        .means("TCPMigrateReqSuccess", counted(|all| all.migrate_success))
        .means("TCPMigrateReqFailure", counted(|all| all.migrate_failure))
        .means("ListenDrops", counted(|all| Some(all.listen_drops)))
        .means("ListenOverflows", counted(|all| Some(all.listen_overflows)))
        .middles("longest answer", Unit::Microseconds, |both| both[HUNG].longest)
        .note(format!(
            "{whose}; the queue by sock_diag, just before; means, of the longest answer the median"
        ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::samples::tests::samples_of;

    fn deaths(lost: &[u64]) -> Vec<Deaths> {
        let counters = TcpCounters {
            listen_overflows: 0,
            listen_drops: 0,
            migrate_success: Some(0),
            migrate_failure: Some(0),
        };
        let dead = |lost: u64| Dead {
            outcomes: Outcomes { ok: 1000 - lost, reset: lost, ..Outcomes::default() },
            queued: Some([31, 0]),
            longest: Some(1000.0),
            counters,
        };
        lost.iter().map(|&lost| [dead(3), dead(lost)]).collect()
    }

    #[test]
    fn a_queue_is_lost_or_kept_or_it_cannot_be_told() {
        let kept = [
            "takes 32.0 of 32 clients with it",
            "With tcp_migrate_req it is 2.0,",
            "costs 3.0 with a socket of its own and 3.0 with",
            "migrates by itself (2.0 lost).",
        ];
        for (own, with, shared, verdicts, words) in [
            (&[32, 31, 33][..], &[2, 3, 1][..], &[2, 4, 3][..], "++", &kept[..]),
            (&[3, 2, 4], &[3, 2, 4], &[2, 4, 3], "--", &[]),
            // If a shared socket loses as much, it is not the kind of socket.
            (&[32, 31, 33], &[30, 31, 30], &[32, 31, 30], "--", &[]),
            (&[32, 2, 32, 2], &[32, 1, 32, 1], &[2, 4, 3], "??", &[]),
        ] {
            let cases = [(SHARED, shared), (WITHOUT, own), (WITH, with), (OWN_LEAST, with)];
            let all = samples_of(cases.map(|(case, lost)| (case, deaths(lost))));
            findings(&all, true, vec![]).expect(verdicts, words);
        }
        let only_one = samples_of([(SHARED, deaths(&[2, 3])), (WITHOUT, deaths(&[32, 31]))]);
        findings(&only_one, false, vec![]).expect("+?", &["namespace"]);
    }
}
