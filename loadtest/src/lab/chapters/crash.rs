#![doc = include_str!("crash.md")]

use super::*;
use crate::kernel::netstat::TcpCounters;
use crate::probe::outcome::Outcomes;

/// The hash without the sysctl and with it.
const WITHOUT: &str = "reuseport/hash, tcp_migrate_req 0";
const WITH: &str = "reuseport/hash, tcp_migrate_req 1";

const CLIENTS: u64 = 32;

/// How long a worker hangs before it is killed, how long the load goes on after that, and how long the
/// queues are looked at before it: enough for a look or two.
const HUNG_MS: u64 = 700;
const AFTER_MS: u64 = 400;
const LOOK_FOR: Duration = Duration::from_millis(120);

/// The death of a worker that was killed at once, and of one that was stopped for a while before.
type Deaths = [Disturbed; 2];
const KILLED: usize = 0;
const HUNG: usize = 1;

/// Runs the experiment.
pub fn run(context: &mut Context) -> Result<Findings> {
    let present = context.policies(&QUICK_POLICIES);
    let (namespaces, only_one) = Namespace::both();
    let apart = only_one.is_none();
    context.missing.extend(only_one);
    let mut cases = Vec::new();
    for (policy, server) in present {
        // The sysctl changes something only where the hash chooses: a shared socket is not closed,
        // and the steering program migrates without the sysctl.
        let of_hash =
            namespaces.iter().map(|&it| (if it.migrates { WITH } else { WITHOUT }, (server, it)));
        match policy {
            HASH => cases.extend(of_hash),
            _ => cases.push((policy, (server, namespaces[0]))),
        }
    }
    let (rounds, first) = context.choose((7, 400), (2, 200));
    let deaths = context.in_turns("deaths", rounds, &cases, |&(server, namespace)| {
        let die = |faults: &[String], kill: u64| {
            let faults = &[faults, &[format!("kill-worker@{kill}ms")]].concat();
            let seconds = (kill + AFTER_MS) as f64 / 1e3;
            let asked = Load { connections: CLIENTS, seconds, ..asking("/") };
            namespace.within(|| disturbed(server, &asked, faults, LOOK_FOR))
        };
        Ok([die(&[], first)?, die(&[format!("stop-worker@{first}ms")], first + HUNG_MS)?])
    })?;
    Ok(findings(&deaths, apart))
}

fn findings(deaths: &Samples<Deaths>, apart: bool) -> Findings {
    let lost = |case: &str, death: usize| {
        deaths.mean(case, |both: &Deaths| both[death].found.outcomes.lost() as f64)
    };
    let hung = |case: &str| lost(case, HUNG);
    let only_one = "it needs a network namespace, where the sysctl can be set";
    let why = if apart { "nothing was sampled" } else { only_one };
    let whose = match apart {
        true => "counted in the server's own network namespace",
        false => "counted on the whole machine, where others may have added to it",
    };
    let figures = [
        ("shared", hung(EPOLL).into()),
        ("without", hung(WITHOUT).into()),
        ("half", (hung(WITHOUT).value / 2.0).into()),
        ("with", hung(WITH).into()),
        ("own_least", hung(OWN_LEAST).into()),
        ("killed", lost(WITHOUT, KILLED).into()),
        ("shared_killed", lost(EPOLL, KILLED).into()),
        ("whose", whose.into()),
    ];
    let sum = |of: fn(&Outcomes) -> u64| {
        move |both: &Deaths| both.iter().map(|dead| of(&dead.found.outcomes)).sum()
    };
    let requests_lost = deaths
        .table("Requests lost")
        .estimates("killed", Unit::Mean, |case| lost(case, KILLED))
        .estimates("hung, then killed", Unit::Mean, hung)
        .sums("reset", sum(|outcomes| outcomes.reset))
        .sums("closed early", sum(|outcomes| outcomes.closed_early))
        .sums("timed out", sum(|all| all.timed_out_answering + all.timed_out_connecting))
        .sums("refused", sum(|outcomes| outcomes.refused))
        .cells("deaths", Unit::Count, |_, all| Cell::from(2 * all.len() as u64))
        .sums("requests", sum(Outcomes::total))
        .table;
    let counted = |of: fn(&TcpCounters) -> Option<u64>| {
        move |both: &Deaths| of(&both[HUNG].counters).map(|count| count as f64)
    };
    let longest = |both: &Deaths| Some(both[HUNG].found.latency_us.as_ref()?.max as f64);
    let seen = deaths
        .table("What the kernel saw, for each worker that hung and was killed")
        .means("waiting on its socket", |both| both[HUNG].queued.map(|queued| f64::from(queued[0])))
        .means("TCPMigrateReqSuccess", counted(|all| all.migrate_success))
        .means("TCPMigrateReqFailure", counted(|all| all.migrate_failure))
        .means("ListenDrops", counted(|all| Some(all.listen_drops)))
        .means("ListenOverflows", counted(|all| Some(all.listen_overflows)))
        .middles("longest answer", Unit::Microseconds, longest)
        .table;
    let title = format!("Requests lost when a worker hangs and is killed, of {CLIENTS} clients");
    let every_client = Some((CLIENTS as f64, "every client"));
    let picture = deaths.bars(title, Unit::Mean, every_client, hung);
    let page = include_str!("crash.md");
    Findings::of(page, &figures, &[why, why], picture, [requests_lost], [seen])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::probing::tests::disturbed;
    use crate::probe::record::ProbeBody;
    use crate::statistics::latency::Latency;

    #[test]
    fn a_queue_is_lost_or_kept_or_it_cannot_be_told() {
        let dead = |lost: u64| {
            let outcomes = Outcomes { ok: 1000 - lost, reset: lost, ..Outcomes::default() };
            let latency_us = Some(Latency { max: 1000, ..Latency::default() });
            disturbed(ProbeBody { outcomes, latency_us, ..ProbeBody::default() })
        };
        let deaths = |(case, lost): (_, &[u64])| {
            (case, lost.iter().map(|&lost| [dead(3), dead(lost)]).collect())
        };
        let kept = [
            "takes 32.0 of 32 clients with it",
            "With tcp_migrate_req it is 2.0,",
            "costs 3.0 with a socket of its own and 3.0 with",
            "migrates by itself (2.0 lost).",
        ];
        for (own, with, shared, verdicts, words) in [
            (&[32, 31, 33][..], &[2, 3, 1][..], &[2, 4, 3][..], "++", &kept[..]),
            (&[3, 2, 4], &[3, 2, 4], &[2, 4, 3], "--", &[]),
            // If a shared socket loses as much, the kind of socket is not the cause.
            (&[32, 31, 33], &[30, 31, 30], &[32, 31, 30], "--", &[]),
            (&[32, 2, 32, 2], &[32, 1, 32, 1], &[2, 4, 3], "??", &[]),
        ] {
            let cases = [(EPOLL, shared), (WITHOUT, own), (WITH, with), (OWN_LEAST, with)];
            findings(&samples_of(cases.map(deaths)), true).expect(verdicts, words);
        }
        let only_one = [(EPOLL, &[2, 3][..]), (WITHOUT, &[32, 31])].map(deaths);
        findings(&samples_of(only_one), false).expect("+?", &["namespace"]);
    }
}
