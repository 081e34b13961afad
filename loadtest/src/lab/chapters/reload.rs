#![doc = include_str!("reload.md")]

use anyhow::Result;

use crate::lab::chapter::Findings;
use crate::lab::context::Context;
use crate::lab::criterion::{Criterion, Limit, alone, estimated, exact};
use crate::lab::network_namespace::Namespace;
use crate::lab::replacing::{CLIENTS, Row, join, reload};
use crate::lab::samples::Samples;
use crate::report::format::count;
use crate::report::model::{Cell, Table, Unit};
use crate::statistics::estimate::Estimate;

/// The experiment's page.
const PAGE: &str = include_str!("reload.md");

/// Who is reloaded.
const POLICIES: [&str; 4] =
    ["shared/epoll", "reuseport/hash", "shared/least-conn", "reuseport/least-conn"];

/// What four workers that take one connection at a time can have accepted.
const ACCEPTED: f64 = 4.0;

/// HAProxy's rate: of so many connections, one is reset at a reload.
const HAPROXYS: f64 = 2.0 / 1_000_000.0;

/// So many must be expected for none to mean anything: by chance there are none in one case of 20.
const EXPECTED: f64 = 3.0;

/// How joined servers make place for each other: with the sysctl off and on.
const DRAINED: [&str; 2] =
    ["joined, drained, tcp_migrate_req 0", "joined, drained, tcp_migrate_req 1"];
const AT_ONCE: [&str; 2] =
    ["joined, at once, tcp_migrate_req 0", "joined, at once, tcp_migrate_req 1"];

/// Runs the experiment.
pub fn run(context: &mut Context) -> Result<Findings> {
    let (present, mut missing) = context.policies(&POLICIES);
    let loads = |(policy, server)| {
        [("new", false), ("kept", true)]
            .map(|(load, kept)| (format!("{policy}, {load} connections"), (server, kept)))
    };
    let subjects: Vec<_> = present.into_iter().flat_map(loads).collect();
    let (rounds, reloads) = context.choose((2, 10), (1, 4));
    let handed = context.in_turns("SIGHUP", rounds, &subjects, |&(server, keep_alive)| {
        reload(server, keep_alive, reloads)
    })?;
    let (namespaces, only_one) = Namespace::both();
    missing.extend(only_one);
    let ways = |namespace: Namespace| {
        let place = usize::from(namespace.migrates);
        [(DRAINED[place], (namespace, false)), (AT_ONCE[place], (namespace, true))]
    };
    let subjects: Vec<_> = namespaces.into_iter().flat_map(ways).collect();
    let (rounds, reloads) = context.choose((4, 5), (2, 2));
    let joined = context.in_turns("joined", rounds, &subjects, |&(namespace, at_once)| {
        namespace.within(|| join(reloads, at_once))
    })?;
    Ok(findings(handed, joined, missing))
}

/// Lost, asked, and reloads, of all these together.
fn sums<'a>(rows: impl IntoIterator<Item = &'a Row>) -> [u64; 3] {
    rows.into_iter().fold([0; 3], |[lost, asked, reloads], row| {
        [lost + row.outcomes.lost(), asked + row.outcomes.total(), reloads + row.reloads]
    })
}

/// `24 of 180 000 requests in 24 reloads`.
fn in_words([lost, asked, reloads]: [u64; 3]) -> String {
    format!("{} of {} requests in {reloads} reloads", count(lost), count(asked))
}

/// Requests lost for each reload.
fn each(all: &Samples<Row>, name: &str) -> Estimate {
    all.mean(name, |row| row.outcomes.lost() as f64 / row.reloads as f64)
}

fn findings(handed: Samples<Row>, joined: Samples<Row>, missing: Vec<String>) -> Findings {
    let [without, with] = AT_ONCE.map(|name| each(&joined, name));
    let drained = joined.of(DRAINED[0]);
    let per_reload = |label: &str, found| estimated(label, found).digits(1);
    let drops = per_reload(&format!("{{}} lost for each reload, of {CLIENTS} clients"), without)
        .must_be(Limit::Above(ACCEPTED));
    let helps = per_reload("{} lost for each reload", with).must_be(Limit::AtMost(ACCEPTED));
    // Only where something is lost without it can it help.
    let helps = match drops.met() {
        Some(true) => helps,
        _ => Criterion::Fact(helps.figures(), helps.limits(), None),
    };
    let [lost, asked, reloads] = sums(drained);
    let expected = asked as f64 * HAPROXYS;
    let tells = lost > 0 || expected >= EXPECTED;
    let loses = exact(
        if drained.is_empty() { "-".into() } else { in_words([lost, asked, reloads]) },
        if tells { lost as f64 } else { f64::NAN },
    )
    .must_be(Limit::AtLeast(1.0));
    let all = sums(handed.groups.iter().flat_map(|(_, rows)| rows));
    let none_lost = exact(in_words(all), if all[2] > 0 { all[0] as f64 } else { f64::NAN })
        .must_be(Limit::AtMost(0.0));
    let no_namespace =
        "tcp_migrate_req can be set in a network namespace alone, and there can be none";
    let no_figure = match (without.value.is_nan() || with.value.is_nan(), drops.met()) {
        (true, _) => no_namespace,
        (false, Some(false)) => "little was lost without it",
        (false, _) => "what is lost without it is not decided",
    };
    let too_few = match drained {
        [] => no_namespace.into(),
        _ => format!("of so few connections {expected:.2} would be lost at that rate"),
    };
    let criteria = [
        (&drops, no_namespace),
        (&helps, no_figure),
        (&loses, &too_few),
        (&none_lost, "no server could be reloaded"),
    ];
    let figures = [
        ("handed", in_words(all)),
        ("without", alone(without, 1)),
        ("with", alone(with, 1)),
        ("drained", alone(each(&joined, DRAINED[0]), 1)),
    ];
    let mut ways = handed;
    ways.groups.extend(joined.groups);
    let picture =
        ways.bars("Requests lost for each reload", Unit::Mean, None, |way| each(&ways, way));
    Findings {
        picture,
        tables: vec![table(&ways)],
        evidence: vec![evidence(&ways)],
        missing,
        ..Findings::of(PAGE, &criteria, &figures)
    }
}

fn table(ways: &Samples<Row>) -> Table {
    let other = |row: &Row| row.outcomes.lost() - row.outcomes.reset - row.outcomes.refused;
    let of_10_000 = |_: &str, rows: &[Row]| {
        let [lost, asked, _] = sums(rows);
        Cell::number(lost as f64 * 10_000.0 / asked.max(1) as f64)
    };
    ways.table("Requests lost")
        .sums("reloads", |row| row.reloads)
        .sums("requests", |row| row.outcomes.total())
        .sums("lost", |row| row.outcomes.lost())
        .estimates("for each reload", Unit::Mean, |name| each(ways, name))
        .cells("of 10 000", Unit::Mean, of_10_000)
        .sums("reset", |row| row.outcomes.reset)
        .sums("refused", |row| row.outcomes.refused)
        .sums("other", other)
        .note("joined: another server joins on the port, then the first ends; the others: SIGHUP")
}

/// Whether sockets stayed while processes went, from the scoreboard; and what the kernel migrated.
fn evidence(ways: &Samples<Row>) -> Table {
    ways.table("Processes and sockets, for each server or row of servers")
        .means("reloads", |row| row.reloads as f64)
        .means("worker processes", |row| row.workers as f64)
        .means("listening sockets", |row| row.sockets as f64)
        .means("TCPMigrateReqSuccess", |row| row.migrated.map(|count| count as f64))
        .note(
            "processes and the inodes of their sockets as the scoreboard showed them, looked at \
             every 10 ms: a worker that lived for less is not among them",
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::samples::tests::samples_of;
    use crate::probe::outcome::Outcomes;

    #[test]
    fn who_loses_what_at_a_reload_is_told_or_why_it_cannot_be() {
        let few = ["little was lost without it", "of so few connections 0.04 would be lost"];
        let kept = [
            "and not SO_REUSEPORT",
            "set tcp_migrate_req (2.5 lost",
            "each reload costs 10.0, \
                     with tcp_migrate_req 2.5; where it accepts first all that is queued, 0.1.",
        ];
        // What each lost in rows of ten reloads: handed over, at once without and with, drained.
        for (handed, without, with, drained, verdicts, words) in [
            (&[0, 0][..], &[120, 80][..], &[30, 20][..], &[1, 0][..], "++++", &kept[..]),
            (
                &[0, 1],
                &[120, 80],
                &[90, 90],
                &[1, 0],
                "+-+-",
                &["Even where sockets are handed over", "Share one socket"],
            ),
            (&[0], &[20], &[20], &[0, 0], "-??+", &few),
            (&[0], &[20], &[20], &[0; 200], "-?-+", &[]),
            (&[0], &[120, 10, 120], &[30], &[0], "???+", &["is not decided"]),
            (&[0], &[120], &[], &[], "+??+", &["namespace"]),
            (&[], &[], &[], &[], "????", &["no server could be reloaded"]),
        ] {
            let row = |&lost: &u64| Row {
                reloads: 10,
                outcomes: Outcomes { ok: 10_000 - lost, reset: lost, ..Outcomes::default() },
                workers: 44,
                sockets: 4,
                migrated: Some(0),
            };
            let rows = |lost: &[u64]| lost.iter().map(row).collect::<Vec<Row>>();
            let ways = [(AT_ONCE[0], without), (AT_ONCE[1], with), (DRAINED[0], drained)];
            let ways = ways.into_iter().filter(|(_, lost)| !lost.is_empty());
            let joined = samples_of(ways.map(|(name, lost)| (name, rows(lost))));
            let handed = samples_of([("reuseport/hash, new", rows(handed))]);
            findings(handed, joined, vec![]).expect(verdicts, words);
        }
    }
}
