#![doc = include_str!("order.md")]

use anyhow::ensure;

use super::*;
use crate::lab::idle::{Stopped, accept_threads, settle};
use crate::server::telemetry::WorkerUsage;
use crate::statistics::significance;

/// Accept policies on a shared socket, workers of each server, and connections to it, one at a time.
const POLICIES: [&str; 4] = ["blocking", "exclusive", "epoll", "least-conn"];
const WORKERS: usize = 3;
const CONNECTIONS: usize = 12;

/// The most attempts at a connection: an attempt does not count if a worker was not idle.
const ATTEMPTS: u32 = 50;

/// The result for one server. Workers are named by their place, 0 to 2.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Seen {
    /// The worker that got each connection while all were idle, and the one that got the third
    /// connection of each trial.
    turns: Vec<usize>,
    trials: Vec<Who>,
    /// For each connection: how often a worker was woken and found none, and how often a worker's
    /// thread left the CPU.
    woken_in_vain: f64,
    switches: f64,
}

/// The worker that got a connection: A, the first in order when all are idle; B, which began to wait
/// last; or C, which has waited longest.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Who {
    First,
    Last,
    Longest,
}

/// Runs the experiment.
pub fn run(context: &mut Context) -> Result<Findings> {
    let (servers, trials) = context.choose((5, 8), (2, 4));
    let policies = POLICIES.map(|policy| (policy, policy));
    let seen = context.in_turns("servers", servers, &policies, |policy| watch(policy, trials))?;
    Ok(findings(&seen))
}

fn watch(policy: &str, trials: usize) -> Result<Seen> {
    let mut server = start(&format!("shared --accept {policy} --workers {WORKERS}"))?;
    settle(&mut server)?;
    let before = server.read()?;
    let one = |_| undisturbed(|| one_connection(&mut server));
    let turns = (0..CONNECTIONS).map(one).collect::<Result<_>>()?;
    let workers = server.read()?.since(&before)?;
    let each = |count: fn(&WorkerUsage) -> u64| {
        workers.iter().map(count).sum::<u64>() as f64 / CONNECTIONS as f64
    };
    let woken_in_vain = each(|worker| worker.wakeups_without_connection.unwrap_or(0));
    let switches = each(|worker| worker.context_switches.voluntary);
    let trials = (0..trials).map(|_| who_of_three(&mut server)).collect::<Result<_>>()?;
    server.stop()?;
    Ok(Seen { turns, trials, woken_in_vain, switches })
}

/// Opens a connection and closes it, and waits until all workers are idle again. Returns the worker that
/// accepted it; `None` if another worker's accept thread ran meanwhile. The kernel wakes one worker; any
/// other that ran checked the queue by itself, as each does now and then, and so was not idle.
fn one_connection(server: &mut Server) -> Result<Option<usize>> {
    let (before, threads_before) = (server.accepted(), accept_threads(server)?);
    ask(server.address(), 1)?;
    settle(server)?;
    let (after, threads_after) = (server.accepted(), accept_threads(server)?);
    let mut more = after.iter().zip(&before).map(|(after, before)| after.wrapping_sub(*before));
    let by = more.position(|more| more == 1);
    let by = by.with_context(|| format!("of {before:?} connections one became {after:?}"))?;
    let mut both = threads_before.iter().zip(&threads_after).enumerate();
    let disturbed = both.any(|(who, (before, after))| who != by && before != after);
    Ok((!disturbed).then_some(by))
}

/// The worker that gets a connection when one worker began to wait last, another is first in order, and
/// a third has waited longest.
fn who_of_three(server: &mut Server) -> Result<Who> {
    undisturbed(|| {
        let pids = server.worker_pids();
        ensure!(pids.len() == WORKERS, "{} workers, not {WORKERS}", pids.len());
        let first = undisturbed(|| one_connection(server))?;
        let first_stops = Stopped::new(pids[first])?;
        let last = undisturbed(|| one_connection(server))?;
        ensure!(first != last, "a worker that was stopped accepted a connection");
        let last_stops = Stopped::new(pids[last])?;
        drop(first_stops);
        settle(server)?;
        drop(last_stops);
        settle(server)?;
        // A disturbed connection changes which worker began to wait last: then the trial starts anew.
        Ok(one_connection(server)?.map(|by| match by {
            who if who == first => Who::First,
            who if who == last => Who::Last,
            _ => Who::Longest,
        }))
    })
}

/// Repeats an attempt until one is not disturbed.
fn undisturbed<T>(mut attempt: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let found = (0..ATTEMPTS).find_map(|_| attempt().transpose()).transpose()?;
    found.with_context(|| {
        format!("{ATTEMPTS} times in a row a worker was not idle when a connection came")
    })
}

/// The part of all runs of `length` connections for which `is_so` holds.
fn runs_of(seen: &[Seen], length: usize, is_so: impl Fn(&[usize]) -> bool) -> f64 {
    let runs = || seen.iter().flat_map(|seen| seen.turns.windows(length));
    runs().filter(|run| is_so(run)).count() as f64 / runs().count().max(1) as f64
}

/// The part of runs of three that went to three different workers, and the part of connections that went
/// to the same worker as the one three before.
fn differ(seen: &[Seen]) -> f64 {
    runs_of(seen, WORKERS, |run| (0..WORKERS).all(|worker| run.contains(&worker)))
}

fn repeat(seen: &[Seen]) -> f64 {
    runs_of(seen, WORKERS + 1, |run| run[0] == run[WORKERS])
}

/// The part of a server's connections that its busiest worker got.
fn busiest(seen: &Seen) -> f64 {
    let count = |worker| seen.turns.iter().filter(|&&turn| turn == worker).count();
    (0..WORKERS).map(count).max().unwrap_or(0) as f64 / seen.turns.len().max(1) as f64
}

/// The part of the third connections that this worker got.
fn third(seen: &[Seen], who: Who) -> Estimate {
    let trials = || seen.iter().flat_map(|seen| &seen.trials);
    let (got, all) = (trials().filter(|&&got| got == who).count(), trials().count());
    let interval = significance::part(got as u64, all as u64);
    Estimate { value: got as f64 / all as f64, interval }
}

fn findings(seen: &Samples<Seen>) -> Findings {
    let (blocking, exclusive) = (seen.of("blocking"), seen.of("exclusive"));
    let of_third = |who| third(exclusive, who).into();
    let turns = |of: &[Seen]| {
        let turns = of.first().map_or(&[][..], |seen| &seen.turns);
        turns.iter().map(usize::to_string).collect::<Vec<_>>().join(" ").into()
    };
    let one_takes = seen.median("exclusive", busiest);
    let figures = [
        ("turns", turns(blocking)),
        ("differ", differ(blocking).into()),
        ("repeat", repeat(blocking).into()),
        ("exclusive_turns", turns(exclusive)),
        ("busiest", one_takes.into()),
        ("median", one_takes.value.into()),
        ("first", of_third(Who::First)),
        ("last", of_third(Who::Last)),
        ("longest", of_third(Who::Longest)),
        ("least", seen.median("least-conn", busiest).into()),
    ];
    let part = |of: fn(&[Seen]) -> f64| move |name: &str| Estimate::exact(of(seen.of(name)));
    let got = |who| move |name: &str| third(seen.of(name), who);
    let one_at_a_time = seen
        .table("One at a time")
        .estimates("three in a row differ", Unit::Part, part(differ))
        .estimates("as three before", Unit::Part, part(repeat))
        .medians("the busiest got", Unit::Part, busiest);
    let who_was_idle_last = seen
        .table("Who gets it")
        .estimates("first in order (A)", Unit::Part, got(Who::First))
        .estimates("idle last (B)", Unit::Part, got(Who::Last))
        .estimates("idle longest (C)", Unit::Part, got(Who::Longest));
    let wake_ups = seen
        .table("Wake-ups, for each connection")
        .middles("a thread slept and woke", Unit::Mean, |seen| seen.switches)
        .middles("found nothing in accept", Unit::Mean, |seen| seen.woken_in_vain);
    let row =
        |(policy, seen): &(String, Vec<Seen>)| Some((policy.clone(), seen.first()?.turns.clone()));
    let title = "Who of three idle workers got each connection".into();
    let picture = Picture::Turns { title, rows: seen.groups.iter().filter_map(row).collect() };
    let tables = [one_at_a_time.table, who_was_idle_last.table];
    let page = include_str!("order.md");
    Findings::of(page, &figures, &[], picture, tables, [wake_ups.table])
}

#[cfg(test)]
mod tests {
    use super::*;
    use Who::{First, Last, Longest};

    const TURNS: [usize; 12] = [2, 1, 0, 2, 1, 0, 2, 1, 0, 2, 1, 0];
    const SAME: [usize; 12] = [0; 12];
    const MIXED: [usize; 12] = [0, 0, 1, 2, 2, 1, 0, 1, 1, 2, 0, 0];
    /// Different workers in each three, but in another order each time.
    const SHUFFLED: [usize; 12] = [0, 1, 2, 2, 1, 0, 1, 0, 2, 0, 2, 1];

    #[test]
    fn turns_favourites_and_who_was_idle_last_are_told_apart() {
        let always_first = "Workers that sit in accept(2) take turns (2 1 0 2 1 0 2 1 0 2 1 0). With \
             EPOLLEXCLUSIVE it is a fixed order and not LIFO: when another worker had begun to \
             wait last, that one got 0 % (0 to 14) of the connections, and the first in order \
             100 % (86 to 100). Where all are idle both rules look the same, as in Cloudflare's \
             six connections.";
        for (blocking, exclusive, trials, verdicts, words) in [
            (TURNS, SAME, &[First; 8][..], "++-+", always_first),
            (TURNS, SAME, &[Last; 8], "+++-", "it is LIFO."),
            (TURNS, SAME, &[Last, Last, Last, Last, Last, Last, First], "++?-", ""),
            (TURNS, SAME, &[First, Last, Longest], "++--", "who had waited longest 33 %"),
            (MIXED, MIXED, &[First; 8], "---+", "do not take turns here (0 0 1"),
            (SHUFFLED, SAME, &[], "-+??", ""),
        ] {
            let seen = |turns: [usize; 12], trials: &[Who]| {
                let (turns, trials) = (turns.into(), trials.into());
                vec![Seen { turns, trials, woken_in_vain: 0.0, switches: 4.0 }; 3]
            };
            let found = findings(&samples_of([
                ("blocking", seen(blocking, &[Longest; 8])),
                ("exclusive", seen(exclusive, trials)),
                ("least-conn", seen(exclusive, trials)),
            ]));
            found.expect(verdicts, &[words]);
        }
    }
}
