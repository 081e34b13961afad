//! In which order do idle workers get connections that come one at a time?
//!
//! # The claim
//! Cloudflare ("Why does one NGINX worker take all the load?", 2017) let three processes wait for
//! one socket and connected six times. Processes that sat in accept(2) took turns, 2 1 0 2 1 0:
//! first in, first out. Processes that waited with EPOLLEXCLUSIVE did not, 0 0 0 0 0 0, which was
//! called LIFO: the process that came back last to wait is the next to be woken.
//!
//! Six connections to idle processes cannot tell that from another rule: always the first in a
//! *fixed order* that is free. nginx's source says so: "Linux with EPOLLEXCLUSIVE usually notifies
//! only the process which was first to add the listening socket" (`ngx_reorder_accept_events()`).
//!
//! # What the kernel does
//! A connection that is established wakes one exclusive waiter: `__wake_up_common()` goes through
//! the socket's wait queue from its front and stops at the first exclusive entry that says it has
//! woken somebody.
//!
//! accept(2) enters that queue anew each time it finds nothing: `inet_csk_wait_for_connect()` calls
//! `prepare_to_wait_exclusive()`, which appends, and waking removes the entry
//! (`autoremove_wake_function()`). So the queue is in the order in which workers began to wait.
//!
//! epoll enters it once, in epoll_ctl(2): `ep_ptable_queue_proc()` calls
//! `add_wait_queue_exclusive()`, which appends as well. The entry stays where it is. Its
//! `ep_poll_callback()` says that it has woken somebody only if a thread sits in epoll_wait(2) at
//! that moment, so busy workers are passed over. The order is that of registration, for ever.
//! Without EPOLLEXCLUSIVE the entries are not exclusive, all workers are woken, and the fastest
//! gets it.
//!
//! # The set-up
//! A shared socket and three workers, with each way to wait. *One at a time*: connect, ask, close;
//! then wait until no connection is open and all threads of all workers sleep; 12 times, on several
//! servers. Who got it is read in the scoreboard. A connection does not count if the thread of
//! another worker ran meanwhile that the kernel had not woken: with EPOLLEXCLUSIVE, each looks at
//! the queue by itself once a second, and in that moment is not idle.
//!
//! *Who was idle last*: one connection tells who is first, A. A is stopped (SIGSTOP, which takes
//! its threads out of their waits), and a second connection tells who is next, B. B is stopped too.
//! Then A goes on, and when it sleeps again, B. Now all three are idle, and each rule names another
//! worker for the third connection: LIFO says B, which began to wait last; a fixed order says A;
//! FIFO says C, which has waited longest.
//!
//! # The criterion
//! *Taking turns*: at least 0.9 of all runs of three connections went to three different workers,
//! and at least 0.9 of all connections to the same worker as three before. *One takes all*: of each
//! server's connections, at least 0.9 went to the same worker, in the median over the servers.
//! *LIFO*: B got at least 0.9 of the third connections; *not LIFO* if the whole 95 % interval of
//! that part lies below 0.9; in between it is open. The fixed order is judged in the same way, by
//! A.
//!
//! # Elsewhere
//! With more workers or cores the same, since the order is the kernel's and not the scheduler's;
//! but while connections come faster than a worker goes back to wait, the next in order gets some.
//! nginx has a worker that has accepted 16 connections take the socket out of epoll and add it
//! again, which makes it the last in order.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procfs::process::Process;
use serde::{Deserialize, Serialize};

use crate::interrupt;
use crate::lab::chapter::{Claim, Findings, Verdict};
use crate::lab::client::ask_once;
use crate::lab::estimate::{Sure, cell, percent};
use crate::lab::interleaved::below;
use crate::lab::store::Notebook;
use crate::report::model::{Cell, Picture, Table, Unit};
use crate::server::{Server, Spec, Strategy};
use crate::statistics::{bootstrap, median, significance};

/// The ways to wait for a shared socket.
const POLICIES: [&str; 4] = ["blocking", "exclusive", "epoll", "least-conn"];

/// Workers of each server.
const WORKERS: usize = 3;

/// Connections, one at a time, to each server.
const CONNECTIONS: usize = 12;

/// What part counts as "always".
const NEARLY_ALL: f64 = 0.9;

/// How often the workers' threads are looked at. Longer than it takes from a wake-up to a state
/// that can be seen.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// How often a connection is tried again when a worker was not idle as it came.
const ATTEMPTS: u32 = 50;

/// How long it may take until all sleep: far longer than it ever does.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was seen of one server. Workers are named by their place, 0 to 2.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Seen {
    /// Who got each connection, while all were idle.
    turns: Vec<usize>,
    /// Who got the third connection of each trial.
    trials: Vec<Who>,
    /// Times that a worker was woken and found no connection, for each connection.
    woken_in_vain: f64,
    /// Times that a worker's thread left the CPU, for each connection.
    switches: f64,
}

/// Who got a connection, by when it had become idle and by who else was there.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Who {
    /// A: who is first when all have been idle.
    First,
    /// B: who came back to wait last.
    Last,
    /// C: who has waited longest.
    Longest,
}

/// Does it.
pub fn run(notebook: &mut Notebook) -> Result<Findings> {
    let (servers, trials) = notebook.choose((5, 8), (2, 4));
    let mut seen = Vec::new();
    for policy in POLICIES {
        let of_policy = (0..servers)
            .map(|number| notebook.sample(&format!("{policy}/{number}"), |_| watch(policy, trials)))
            .collect::<Result<Vec<Seen>>>()?;
        seen.push((policy, of_policy));
    }
    Ok(findings(&seen, notebook.seed))
}

fn watch(policy: &str, trials: usize) -> Result<Seen> {
    let options = ["--accept", policy, "--workers", &WORKERS.to_string()].map(str::to_owned);
    let mut server = Server::start(&Spec::ours(Strategy::Shared, &options), &[])?;
    settle(&mut server)?;
    let before = server.read()?;
    let turns =
        (0..CONNECTIONS).map(|_| who_gets_one(&mut server)).collect::<Result<Vec<usize>>>()?;
    let workers = server.read()?.since(&before)?;
    let sum = |count: fn(&crate::measure::bench::Worker) -> u64| {
        workers.iter().map(count).sum::<u64>() as f64 / CONNECTIONS as f64
    };
    let woken_in_vain = sum(|worker| worker.wakeups_without_connection.unwrap_or(0));
    let switches = sum(|worker| worker.context_switches.voluntary);
    let trials = (0..trials).map(|_| who_of_three(&mut server)).collect::<Result<Vec<Who>>>()?;
    server.stop()?;
    Ok(Seen { turns, trials, woken_in_vain, switches })
}

/// Who accepted a connection.
struct Accepted {
    /// Its place.
    by: usize,
    /// Whether another worker's waiting thread ran meanwhile. The kernel woke one; another that ran
    /// looked by itself, as each does now and then, and so was not idle when the connection came.
    disturbed: bool,
}

/// Opens a connection and closes it, and waits until all is quiet again.
fn one_connection(server: &mut Server) -> Result<Accepted> {
    let (before, waiters_before) = (server.accepted(), waiters(server)?);
    ask_once(server.address())?;
    settle(server)?;
    let (after, waiters_after) = (server.accepted(), waiters(server)?);
    let mut more = after.iter().zip(&before).map(|(after, before)| after.wrapping_sub(*before));
    let by = more.position(|more| more == 1);
    let by = by.with_context(|| format!("of {before:?} connections one became {after:?}"))?;
    let both = waiters_before.iter().zip(&waiters_after).enumerate();
    let disturbed = both.into_iter().any(|(who, (before, after))| who != by && before != after);
    Ok(Accepted { by, disturbed })
}

/// Who gets a connection when nobody disturbs.
fn who_gets_one(server: &mut Server) -> Result<usize> {
    undisturbed(|| {
        let accepted = one_connection(server)?;
        Ok((!accepted.disturbed).then_some(accepted.by))
    })
}

/// Who gets a connection when one worker began to wait last, another is first, and a third has
/// waited longest.
fn who_of_three(server: &mut Server) -> Result<Who> {
    undisturbed(|| {
        let pids = server.worker_pids();
        ensure!(pids.len() == WORKERS, "{} workers, not {WORKERS}", pids.len());
        let first = who_gets_one(server)?;
        let first_stops = Stopped::new(pids[first])?;
        let last = who_gets_one(server)?;
        ensure!(first != last, "a worker that was stopped accepted a connection");
        let last_stops = Stopped::new(pids[last])?;
        drop(first_stops);
        settle(server)?;
        drop(last_stops);
        settle(server)?;
        // A disturbed one changes who was idle last: then all of this begins anew.
        let accepted = one_connection(server)?;
        Ok((!accepted.disturbed).then_some(match accepted.by {
            who if who == first => Who::First,
            who if who == last => Who::Last,
            _ => Who::Longest,
        }))
    })
}

/// Tries until it was not disturbed.
fn undisturbed<T>(mut attempt: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    for _ in 0..ATTEMPTS {
        if let Some(found) = attempt()? {
            return Ok(found);
        }
    }
    bail!("{ATTEMPTS} times in a row a worker was not idle when a connection came")
}

/// A worker that stands still, until this is dropped.
struct Stopped(u32);

impl Stopped {
    fn new(worker: u32) -> Result<Self> {
        let stopped = Self(worker);
        stopped.send(Signal::SIGSTOP);
        wait_for("a worker to stop", || {
            Ok(threads(worker)?.iter().all(|thread| thread.state == 'T'))
        })?;
        Ok(stopped)
    }

    fn send(&self, signal: Signal) {
        // If it has died meanwhile, what follows fails and says so.
        let _ = kill(Pid::from_raw(self.0 as i32), signal);
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.send(Signal::SIGCONT);
        // It goes on in its own time: until then it shows as stopped, and so as quiet.
        let _ = wait_for("a worker to go on", || {
            Ok(threads(self.0)?.iter().all(|thread| thread.state != 'T'))
        });
    }
}

/// Waits until no connection is open, and all threads of all workers sleep, or are stopped, and
/// none has run between two looks.
fn settle(server: &mut Server) -> Result<()> {
    server.wait_until_idle(PATIENCE);
    let look = |server: &mut Server| -> Result<Vec<Thread>> {
        let threads = server.worker_pids().into_iter().map(threads).collect::<Result<Vec<_>>>();
        Ok(threads?.concat())
    };
    let mut before = look(server)?;
    wait_for("all workers to sleep", || {
        let now = look(server)?;
        let is_quiet = now == before && now.iter().all(|thread| "ST".contains(thread.state));
        before = now;
        Ok(is_quiet)
    })
}

/// A worker's thread.
#[derive(Clone, PartialEq)]
struct Thread {
    name: String,
    /// As ps(1) names it: R, S, T.
    state: char,
    /// How often it has left the CPU.
    left: u64,
}

/// How often the waiting thread of each worker has left the CPU. With epoll and least-conn there is none:
/// there the event loop itself waits.
fn waiters(server: &mut Server) -> Result<Vec<Option<u64>>> {
    let waiter = |pid| -> Result<Option<u64>> {
        Ok(threads(pid)?.iter().find(|thread| thread.name == "waiter").map(|thread| thread.left))
    };
    server.worker_pids().into_iter().map(waiter).collect()
}

/// A process's threads.
fn threads(pid: u32) -> Result<Vec<Thread>> {
    let read = || -> procfs::ProcResult<Vec<Thread>> {
        let tasks = Process::new(pid as i32)?.tasks()?;
        tasks
            .map(|task| {
                let task = task?;
                let (stat, status) = (task.stat()?, task.status()?);
                let left = status.voluntary_ctxt_switches.unwrap_or(0)
                    + status.nonvoluntary_ctxt_switches.unwrap_or(0);
                Ok(Thread { name: stat.comm, state: stat.state, left })
            })
            .collect()
    };
    read().with_context(|| format!("cannot see what worker {pid} does"))
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    loop {
        sleep(LOOK_EVERY);
        interrupt::check()?;
        if is_so()? {
            return Ok(());
        }
        ensure!(begin.elapsed() < PATIENCE, "waited for {what} in vain");
    }
}

/// What all servers of a policy say together.
struct Order {
    /// The part of all runs of three connections that went to three different workers.
    different: f64,
    /// The part of all connections that went to the same worker as three before.
    repeats: f64,
    /// The part of a server's connections that its busiest worker got: the median over servers.
    one_takes: Sure,
    /// The part of the third connections that each of [`Who`] got.
    first: Sure,
    last: Sure,
    longest: Sure,
}

impl Order {
    fn of(seen: &[Seen], seed: u64) -> Self {
        let part = |met: &mut dyn Iterator<Item = bool>| {
            let met: Vec<bool> = met.collect();
            met.iter().filter(|&&met| met).count() as f64 / met.len().max(1) as f64
        };
        let windows = || seen.iter().flat_map(|seen| seen.turns.windows(WORKERS));
        let are_different = |window: &[usize]| (0..WORKERS).all(|worker| window.contains(&worker));
        let later = || seen.iter().flat_map(|seen| seen.turns.windows(WORKERS + 1));
        let most = |seen: &Seen| {
            let count = |worker| seen.turns.iter().filter(|&&turn| turn == worker).count();
            (0..WORKERS).map(count).max().unwrap_or(0) as f64 / seen.turns.len().max(1) as f64
        };
        let most: Vec<f64> = seen.iter().map(most).collect();
        let third = |who| {
            let trials = || seen.iter().flat_map(|seen| &seen.trials);
            let (got, all) = (trials().filter(|&&got| got == who).count(), trials().count());
            (got as f64 / all as f64, significance::part(got as u64, all as u64))
        };
        Self {
            different: part(&mut windows().map(are_different)),
            repeats: part(&mut later().map(|turns| turns[0] == turns[WORKERS])),
            one_takes: (
                median(&most).unwrap_or(f64::NAN),
                bootstrap::interval(&most, median, seed),
            ),
            first: third(Who::First),
            last: third(Who::Last),
            longest: third(Who::Longest),
        }
    }

    fn take_turns(&self) -> bool {
        self.different >= NEARLY_ALL && self.repeats >= NEARLY_ALL
    }
}

/// Whether a part is nearly all, or surely less.
fn nearly_all((part, interval): Sure) -> Option<bool> {
    if part >= NEARLY_ALL {
        return Some(true);
    }
    (below(interval, NEARLY_ALL) == Some(true)).then_some(false)
}

fn in_words(turns: &[usize]) -> String {
    turns.iter().map(usize::to_string).collect::<Vec<_>>().join(" ")
}

fn findings(seen: &[(&str, Vec<Seen>)], seed: u64) -> Findings {
    let orders: Vec<(&str, Order)> =
        seen.iter().map(|(policy, seen)| (*policy, Order::of(seen, seed))).collect();
    let order = |policy: &str| orders.iter().find(|(name, _)| *name == policy).map(|(_, o)| o);
    let turns = |policy: &str| {
        let seen = seen.iter().find(|(name, _)| *name == policy);
        seen.and_then(|(_, seen)| seen.first()).map_or(String::new(), |seen| in_words(&seen.turns))
    };
    let (Some(blocking), Some(exclusive)) = (order("blocking"), order("exclusive")) else {
        return Findings::default(); // both are always among them
    };
    let is_lifo = nearly_all(exclusive.last);
    let is_fixed = nearly_all(exclusive.first) == Some(true);
    let fifo = if blocking.take_turns() {
        format!("Workers that sit in accept(2) take turns ({}).", turns("blocking"))
    } else {
        format!("Workers that sit in accept(2) do not take turns here ({}).", turns("blocking"))
    };
    let rule = match (is_lifo, is_fixed) {
        (Some(true), _) => format!(
            "With EPOLLEXCLUSIVE the worker that began to wait last got {} of the connections: it \
             is LIFO.",
            percent(exclusive.last)
        ),
        (Some(false), true) => format!(
            "With EPOLLEXCLUSIVE it is a fixed order and not LIFO: when another worker had begun \
             to wait last, that one got {} of the connections, and the first in order {}. Where \
             all are idle both rules look the same, as in Cloudflare's six connections.",
            percent(exclusive.last),
            percent(exclusive.first)
        ),
        _ => format!(
            "With EPOLLEXCLUSIVE, the worker that began to wait last got {} of the connections, \
             the first in order {}, and who had waited longest {}.",
            percent(exclusive.last),
            percent(exclusive.first),
            percent(exclusive.longest)
        ),
    };
    let cloudflares = |claim, theirs| {
        let url =
            "https://github.com/cloudflare/cloudflare-blog/tree/master/2017-10-accept-balancing";
        Claim::by("Cloudflare, accept-balancing", Some(url), claim, theirs)
    };
    let few = "the interval lies on both sides of the limit; more trials would tell";
    let nearly = percent((NEARLY_ALL, None));
    let claims = vec![
        cloudflares("workers that sit in accept(2) take turns (FIFO)", "2 1 0 2 1 0").found(
            format!(
                "{}; {} of the runs of three had three workers, {} of the connections went to the \
                 worker of three before",
                turns("blocking"),
                percent((blocking.different, None)),
                percent((blocking.repeats, None))
            ),
            format!("both at least {nearly}"),
            Verdict::of(Some(blocking.take_turns()), ""),
        ),
        cloudflares(
            "of idle workers that wait with EPOLLEXCLUSIVE, one gets every connection",
            "0 0 0 0 0 0",
        )
        .found(
            format!("{}; the busiest got {}", turns("exclusive"), percent(exclusive.one_takes)),
            format!("at least {nearly}"),
            Verdict::of(Some(exclusive.one_takes.0 >= NEARLY_ALL), ""),
        ),
        cloudflares("that one is the worker which began to wait last (LIFO)", "LIFO-like").found(
            format!(
                "the last got {}, the first in order {}",
                percent(exclusive.last),
                percent(exclusive.first)
            ),
            format!("the last got at least {nearly}"),
            Verdict::of(is_lifo, few),
        ),
        Claim::by(
            "nginx, ngx_reorder_accept_events()",
            Some("https://github.com/nginx/nginx/blob/master/src/event/ngx_event_accept.c"),
            "that one is always the first in the order in which workers added the socket",
            "only the process which was first to add the listening socket",
        )
        .found(
            format!("the first in order got {}", percent(exclusive.first)),
            format!("at least {nearly}"),
            Verdict::of(nearly_all(exclusive.first), few),
        ),
    ];
    let least = order("least-conn");
    let advice = least.map_or_else(String::new, |least| {
        format!(
            "The order matters only where connections are kept: with EPOLLEXCLUSIVE they pile up \
             in front. --accept least-conn waits in the same way, and its busiest worker gets {} \
             of connections that are closed at once; but a worker with more open than another stands \
             back (see spread).",
            percent(least.one_takes)
        )
    });
    let row = |(policy, seen): &(&str, Vec<Seen>)| {
        Some(((*policy).to_owned(), seen.first()?.turns.clone()))
    };
    Findings {
        answer: format!("{fifo} {rule}"),
        claims,
        advice,
        picture: Some(Picture::Turns {
            title: "Who of three idle workers got each connection".into(),
            rows: seen.iter().filter_map(row).collect(),
        }),
        tables: vec![one_at_a_time(&orders), who_was_idle_last(&orders)],
        evidence: vec![evidence(seen)],
        missing: vec![],
    }
}

fn one_at_a_time(orders: &[(&str, Order)]) -> Table {
    let mut table = Table::new(
        "One at a time",
        &[
            ("three in a row differ", Unit::Part),
            ("as three before", Unit::Part),
            ("the busiest got", Unit::Part),
        ],
    );
    for (policy, order) in orders {
        table.row(
            *policy,
            [Cell::number(order.different), Cell::number(order.repeats), cell(order.one_takes)],
        );
    }
    table.note = format!("{CONNECTIONS} connections to each server, {WORKERS} idle workers");
    table
}

fn who_was_idle_last(orders: &[(&str, Order)]) -> Table {
    let mut table = Table::new(
        "Who gets it",
        &[
            ("first in order (A)", Unit::Part),
            ("idle last (B)", Unit::Part),
            ("idle longest (C)", Unit::Part),
        ],
    );
    for (policy, order) in orders {
        let cells = [order.first, order.last, order.longest];
        table.row(*policy, cells.map(cell));
    }
    table.note = "a fixed order says A, LIFO says B, FIFO says C".into();
    table
}

fn evidence(seen: &[(&str, Vec<Seen>)]) -> Table {
    let mut table = Table::new(
        "Wake-ups, for each connection",
        &[("a thread slept and woke", Unit::Mean), ("found nothing in accept", Unit::Mean)],
    );
    for (policy, seen) in seen {
        let each = |figure: fn(&Seen) -> f64| {
            Cell::maybe(median(&seen.iter().map(figure).collect::<Vec<_>>()))
        };
        table.row(*policy, [each(|seen| seen.switches), each(|seen| seen.woken_in_vain)]);
    }
    table.note =
        "voluntary context switches of all workers, from /proc, heartbeats included; with \
                  epoll all workers are woken, and most go back to sleep inside epoll_wait(2)"
            .into();
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(turns: &[usize], trials: Vec<Who>) -> Vec<Seen> {
        vec![Seen { turns: turns.into(), trials, woken_in_vain: 0.0, switches: 4.0 }; 3]
    }

    fn all(blocking: &[usize], exclusive: &[usize], trials: Vec<Who>) -> Findings {
        let longest = vec![Who::Longest; 8];
        findings(
            &[
                ("blocking", seen(blocking, longest)),
                ("exclusive", seen(exclusive, trials.clone())),
                ("least-conn", seen(exclusive, trials)),
            ],
            1,
        )
    }

    const TURNS: [usize; 12] = [2, 1, 0, 2, 1, 0, 2, 1, 0, 2, 1, 0];
    const SAME: [usize; 12] = [0; 12];

    fn verdicts(found: &Findings) -> Vec<Verdict> {
        found.claims.iter().map(|claim| claim.verdict.clone()).collect()
    }

    #[test]
    fn who_is_always_first_in_order_is_not_who_was_idle_last() {
        let found = all(&TURNS, &SAME, vec![Who::First; 8]);
        use Verdict::{NotReproduced, Reproduced};
        assert_eq!(verdicts(&found), [Reproduced, Reproduced, NotReproduced, Reproduced]);
        assert_eq!(
            found.answer,
            "Workers that sit in accept(2) take turns (2 1 0 2 1 0 2 1 0 2 1 0). With \
             EPOLLEXCLUSIVE it is a fixed order and not LIFO: when another worker had begun to \
             wait last, that one got 0 % (0 to 14) of the connections, and the first in order \
             100 % (86 to 100). Where all are idle both rules look the same, as in Cloudflare's \
             six connections."
        );
    }

    #[test]
    fn who_was_idle_last_and_gets_it_is_lifo() {
        let found = all(&TURNS, &SAME, vec![Who::Last; 8]);
        assert_eq!(verdicts(&found)[2..], [Verdict::Reproduced, Verdict::NotReproduced]);
        assert!(found.answer.ends_with("it is LIFO."), "{}", found.answer);
    }

    #[test]
    fn sometimes_this_and_sometimes_that_is_not_decidable_only_near_the_limit() {
        let mut trials = vec![Who::Last; 6];
        trials.push(Who::First);
        let found = all(&TURNS, &SAME, trials);
        assert!(matches!(verdicts(&found)[2], Verdict::NotDecidable(_)));
        let found = all(&TURNS, &SAME, vec![Who::First, Who::Last, Who::Longest]);
        assert_eq!(verdicts(&found)[2], Verdict::NotReproduced);
        assert!(found.answer.contains("who had waited longest 33 %"), "{}", found.answer);
    }

    #[test]
    fn no_turns_and_no_favourite_reproduce_nothing() {
        let mixed = [0, 0, 1, 2, 2, 1, 0, 1, 1, 2, 0, 0];
        let found = all(&mixed, &mixed, vec![Who::First; 8]);
        assert_eq!(verdicts(&found)[..2], [Verdict::NotReproduced, Verdict::NotReproduced]);
        assert!(found.answer.contains("do not take turns here (0 0 1"), "{}", found.answer);
        // Different workers in each three, but in another order each time.
        let shuffled = [0, 1, 2, 2, 1, 0, 1, 0, 2, 0, 2, 1];
        assert_eq!(verdicts(&all(&shuffled, &SAME, vec![])).first(), Some(&Verdict::NotReproduced));
    }
}
