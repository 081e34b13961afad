#![doc = include_str!("reload.md")]

use super::*;
use crate::lab::replacing::{Row, join, reload};
use crate::report::format::count;

/// HAProxy's rate of connections that a reload resets, and the number of losses that must be expected at
/// this rate before zero losses mean anything: with 3, zero occurs by chance in one case of 20.
const HAPROXYS: f64 = 2.0 / 1_000_000.0;
const EXPECTED: f64 = 3.0;

/// How joined servers replace each other: with the sysctl off and on.
const DRAINED: [&str; 2] =
    ["joined, drained, tcp_migrate_req 0", "joined, drained, tcp_migrate_req 1"];
const AT_ONCE: [&str; 2] =
    ["joined, at once, tcp_migrate_req 0", "joined, at once, tcp_migrate_req 1"];

/// Runs the experiment.
pub fn run(context: &mut Context) -> Result<Findings> {
    let present = context.policies(&QUICK_POLICIES);
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
    context.missing.extend(only_one);
    let ways = |namespace: Namespace| {
        let place = usize::from(namespace.migrates);
        [(DRAINED[place], (namespace, false)), (AT_ONCE[place], (namespace, true))]
    };
    let subjects: Vec<_> = namespaces.into_iter().flat_map(ways).collect();
    let (rounds, reloads) = context.choose((4, 5), (2, 2));
    let joined = context.in_turns("joined", rounds, &subjects, |&(namespace, at_once)| {
        namespace.within(|| join(reloads, at_once))
    })?;
    Ok(findings(handed, joined))
}

/// The sums of requests lost, all requests, and reloads.
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

fn findings(handed: Samples<Row>, joined: Samples<Row>) -> Findings {
    let [without, with] = AT_ONCE.map(|name| each(&joined, name));
    // Four workers that take one connection at a time can have accepted at most this many.
    let drops = without.at_most(4.0).map(|few| !few);
    // The sysctl can help only if something is lost without it.
    let unknown = Estimate { value: f64::NAN, interval: with.interval.map(|_| [f64::NAN; 2]) };
    let helps = if drops == Some(true) { with } else { unknown };
    let [lost, asked, reloads] = sums(joined.of(DRAINED[0]));
    let expected = asked as f64 * HAPROXYS;
    let known = |is_known: bool, lost: u64| if is_known { lost as f64 } else { f64::NAN };
    let all = sums(handed.groups.iter().flat_map(|(_, rows)| rows));
    let drained = if reloads > 0 { in_words([lost, asked, reloads]) } else { String::new() };
    let figures = [
        ("handed", in_words(all).into()),
        ("handed_lost", known(all[2] > 0, all[0]).into()),
        ("without", without.into()),
        ("with", with.into()),
        ("helps", helps.into()),
        ("drained", each(&joined, DRAINED[0]).into()),
        ("drained_words", drained.into()),
        ("drained_lost", known(lost > 0 || expected >= EXPECTED, lost).into()),
    ];
    let no_namespace =
        "tcp_migrate_req can be set in a network namespace alone, and there can be none";
    let no_figure = match (without.value.is_nan() || with.value.is_nan(), drops) {
        (true, _) => no_namespace,
        (false, Some(false)) => "little was lost without it",
        (false, _) => "what is lost without it is not decided",
    };
    let too_few = match reloads {
        0 => no_namespace.into(),
        _ => format!("of so few connections {expected:.2} would be lost at that rate"),
    };
    let why = [no_namespace, no_figure, &too_few, "no server could be reloaded"];
    let mut ways = handed;
    ways.groups.extend(joined.groups);
    let other = |row: &Row| row.outcomes.lost() - row.outcomes.reset - row.outcomes.refused;
    let of_10_000 = |_: &str, rows: &[Row]| {
        let [lost, asked, _] = sums(rows);
        Cell::from(lost as f64 * 10_000.0 / asked.max(1) as f64)
    };
    let table = ways
        .table("Requests lost")
        .sums("reloads", |row| row.reloads)
        .sums("requests", |row| row.outcomes.total())
        .sums("lost", |row| row.outcomes.lost())
        .estimates("for each reload", Unit::Mean, |name| each(&ways, name))
        .cells("of 10 000", Unit::Mean, of_10_000)
        .sums("reset", |row| row.outcomes.reset)
        .sums("refused", |row| row.outcomes.refused)
        .sums("other", other);
    // Whether sockets stayed while processes were replaced, by the scoreboard; and what the kernel migrated.
    let evidence = ways
        .table("Processes and sockets, for each server or row of servers")
        .means("reloads", |row| row.reloads as f64)
        .means("worker processes", |row| row.workers as f64)
        .means("listening sockets", |row| row.sockets as f64)
        .means("TCPMigrateReqSuccess", |row| row.migrated.map(|count| count as f64));
    let title = "Requests lost for each reload";
    let picture = ways.bars(title, Unit::Mean, None, |way| each(&ways, way));
    let page = include_str!("reload.md");
    Findings::of(page, &figures, &why, picture, [table.table], [evidence.table])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::outcome::Outcomes;

    #[test]
    fn who_loses_what_at_a_reload_is_told_or_why_it_cannot_be() {
        let few = ["little was lost without it", "of so few connections 0.04 would be lost"];
        let costs = "each reload costs 10.0, with tcp_migrate_req 2.5; where it accepts first all that \
                     is queued, 0.1.";
        let kept = ["and not SO_REUSEPORT", "set tcp_migrate_req (2.5 lost", costs];
        let lost = ["Even where sockets are handed over", "Share one socket"];
        // Losses in rows of ten reloads: handed over; at once without the sysctl and with it; drained.
        for (handed, without, with, drained, verdicts, words) in [
            (&[0, 0][..], &[120, 80][..], &[30, 20][..], &[1, 0][..], "++++", &kept[..]),
            (&[0, 1], &[120, 80], &[90, 90], &[1, 0], "+-+-", &lost),
            (&[0], &[20], &[20], &[0, 0], "-??+", &few),
            (&[0], &[20], &[20], &[0; 200], "-?-+", &[]),
            (&[0], &[120, 10, 120], &[30], &[0], "???+", &["is not decided"]),
            (&[0], &[120], &[], &[], "+??+", &["namespace"]),
            (&[], &[], &[], &[], "????", &["no server could be reloaded"]),
        ] {
            let row = |&lost: &u64| {
                let outcomes = Outcomes { ok: 10_000 - lost, reset: lost, ..Outcomes::default() };
                Row { reloads: 10, outcomes, workers: 44, sockets: 4, migrated: Some(0) }
            };
            let rows = |lost: &[u64]| lost.iter().map(row).collect::<Vec<Row>>();
            let ways = [(AT_ONCE[0], without), (AT_ONCE[1], with), (DRAINED[0], drained)];
            let ways = ways.into_iter().filter(|(_, lost)| !lost.is_empty());
            let joined = samples_of(ways.map(|(name, lost)| (name, rows(lost))));
            let handed = samples_of([("reuseport/hash, new", rows(handed))]);
            findings(handed, joined).expect(verdicts, words);
        }
    }
}
