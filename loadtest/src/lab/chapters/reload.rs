//! How many requests does a reload lose?
//!
//! # The claim
//! granian#567: when a worker with a socket of its own ends, at a reload or otherwise, its backlog
//! is dropped, and all who wait there get ECONNRESET, although others listen on the port. HAProxy
//! (*Truly Seamless Reloads*, 2017) had a milder form: a listening socket cannot be drained, a few
//! connections stayed in the old process's queue, and were reset when it closed: 2 to 3 of a
//! million at each reload (55 000 connections/s, ten reloads a second). HAProxy 1.8 therefore hands
//! its listening sockets over to the new process. granian, since #897, leaves it to
//! `net.ipv4.tcp_migrate_req`.
//!
//! # What the kernel does
//! A SYN chooses its listening socket when it comes, and the connection stays with that one. There
//! is no way to say "no more, but let me have what is under way": until close(2) the socket is in
//! the group and is chosen. So even between the last accept(2) that found nothing and close(2) a
//! connection may arrive, and one may be within its handshake. `inet_csk_listen_stop` resets them,
//! or gives them to another socket of the group (see `crash`). A socket that was passed on over a
//! Unix socket (SCM_RIGHTS) is the same socket with its queue, whoever has it open: nothing is
//! closed, nothing lost.
//!
//! # The set-up
//! 32 clients ask without a pause. *SIGHUP* to a server of this project, again and again, replaces
//! all four workers, and the new ones are handed the sockets of the old ones; with a connection for
//! each request, and with kept ones. *Joined*: another server joins on the same port (`--join`),
//! then the first is told to end, again and again. *Joined, drained* (SIGTERM): the old one accepts
//! all that is queued, closes its sockets and answers what it has, as well as a program can.
//! *Joined, at once* (SIGQUIT): it drops what it has; its four workers take one connection at a
//! time (`--max-connections 1`) and burn 1 ms for each request, so that the queues are full and
//! they have accepted four at most. Both with tcp_migrate_req off and on, each in a network
//! namespace of its own. A request is lost if its connection is refused, reset or closed without an
//! answer, or if none comes in 2 s.
//!
//! # The criterion
//! Requests lost. The queue *is dropped* if joined servers that end at once lose more than 4 for
//! each reload, the most that four workers can have accepted, with the whole 95 % interval of the
//! mean; migration *mends it* if with the sysctl the whole interval lies at 4 or below. *Closing
//! loses even after draining* if a single request is lost, and does not if none is where by
//! HAProxy's rate 3 should be. *Handing over loses none* means none at all, over all reloads of all
//! policies, with both kinds of load.
//!
//! # Elsewhere
//! nginx, HAProxy since 1.8, Envoy and systemd's socket units pass sockets on. A program that
//! cannot, and whose kernel is older than 5.14, can only make it rare. What a load balancer in
//! front does is another matter: it asks again, and its users never know.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use common::scoreboard::Scoreboard;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::kernel::netstat::TcpCounters;
use crate::lab::chapter::{Claim, Findings, Verdict};
use crate::lab::estimate::{self, Sure, above, cell};
use crate::lab::inquiry::{Inquiry, ask_and_look};
use crate::lab::interleaved::average;
use crate::lab::network_namespace::Room;
use crate::lab::store::Notebook;
use crate::measure::schedule::schedule;
use crate::probe::arrivals::Arrivals;
use crate::probe::drive::{self, Load, Until};
use crate::probe::outcome::Outcomes;
use crate::probe::target::Target;
use crate::report::format::count;
use crate::report::model::{Bar, Cell, Picture, Table, Unit};
use crate::server::{Server, Spec, Strategy};
use crate::statistics::mean;

/// Who is reloaded.
const POLICIES: [&str; 4] =
    ["shared/epoll", "reuseport/hash", "shared/least-conn", "reuseport/least-conn"];

/// Everybody who asks.
const CLIENTS: u64 = 32;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Time from one reload to the next; all workers are replaced in it.
const EVERY_MS: u64 = 250;

/// Time between two servers that join.
const PAUSE: Duration = Duration::from_millis(50);

/// How often it looks whether a server is gone.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Clients of joined servers ask for so long at a time, until the last reload is over.
const STRETCH: Duration = Duration::from_millis(500);

/// What four workers that take one connection at a time can have accepted.
const ACCEPTED: f64 = 4.0;

/// Servers whose queues are full.
const BUSY: [&str; 4] = ["--max-connections", "1", "--handler-cost", "1ms"];

/// HAProxy's rate: of so many connections, one is reset at a reload.
const HAPROXYS: f64 = 2.0 / 1_000_000.0;

/// So many must be expected for none to mean anything: by chance there are none in one case of 20.
const EXPECTED: f64 = 3.0;

/// What came of some reloads in a row.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
struct Row {
    /// How many.
    reloads: u64,
    /// How requests ended.
    outcomes: Outcomes,
    /// Worker processes that were seen, and listening sockets.
    workers: usize,
    sockets: usize,
    /// Connections that the kernel gave to another socket; `None` if it does not count them.
    migrated: Option<u64>,
}

/// How one generation makes place for the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// It hands its sockets over.
    HandsOver,
    /// Another server has joined it: it accepts what is queued, closes its sockets, and answers.
    Drained { migrates: bool },
    /// The same, but it drops everything.
    AtOnce { migrates: bool },
}

/// All rows of one way to reload.
#[derive(Clone, Debug)]
struct Way {
    name: String,
    rows: Vec<Row>,
    how: How,
}

/// Does it.
pub fn run(notebook: &mut Notebook) -> Result<Findings> {
    let (present, mut missing) = notebook.policies(&POLICIES);
    let (rooms, only_one) = Room::both();
    missing.extend(only_one);
    let (rounds, reloads) = notebook.choose((2, 10), (1, 4));
    let mut ways: Vec<Way> = Vec::new();
    let loads = [(false, "new connections"), (true, "kept connections")];
    for &(policy, _) in &present {
        let of = |(_, load)| Way {
            name: format!("{policy}, {load}"),
            rows: Vec::new(),
            how: How::HandsOver,
        };
        ways.extend(loads.map(of));
    }
    for (round, turns) in (0..).zip(schedule(ways.len(), rounds, notebook.seed)) {
        for place in turns {
            let (server, (keep_alive, _)) = (present[place / 2].1, loads[place % 2]);
            let key = format!("{}/{round}", ways[place].name);
            let row = notebook.sample(&key, |_| reload(server, keep_alive, reloads))?;
            ways[place].rows.push(row);
        }
    }
    let (rounds, reloads) = notebook.choose((4, 5), (2, 2));
    let mut joined: Vec<(Room, Way)> = Vec::new();
    for &room in &rooms {
        let migrates = room.migrates;
        for (how, words) in
            [(How::Drained { migrates }, "drained"), (How::AtOnce { migrates }, "at once")]
        {
            let name = format!("joined, {words}, {}", room.name());
            joined.push((room, Way { name, rows: Vec::new(), how }));
        }
    }
    for (round, turns) in (0..).zip(schedule(joined.len(), rounds, notebook.seed)) {
        for place in turns {
            let (room, way) = &mut joined[place];
            let key = format!("{}/{round}", way.name);
            let at_once = matches!(way.how, How::AtOnce { .. });
            let row = notebook.sample(&key, |_| room.within(|| join(reloads, at_once)))?;
            way.rows.push(row);
        }
    }
    ways.extend(joined.into_iter().map(|(_, way)| way));
    Ok(findings(&ways, missing, notebook.seed))
}

/// A view of its own of a server's scoreboard.
fn scoreboard(server: &Server) -> Result<Scoreboard> {
    Scoreboard::of_process(server.pid().context("it was not started here")?)
}

/// Reloads a server again and again while it is asked.
fn reload(server: &str, keep_alive: bool, reloads: u64) -> Result<Row> {
    let mut server = Server::start(&Spec::parse(server)?, &[])?;
    let fault = format!("reload@300ms*{reloads}/{EVERY_MS}ms");
    let mut seen = Seen::default();
    let scoreboard = scoreboard(&server)?;
    let before = TcpCounters::now()?;
    let asked = Inquiry {
        path: "/",
        clients: CLIENTS,
        rate: None,
        keep_alive,
        time: Duration::from_millis(300 + reloads * EVERY_MS + 200),
        answer_within: PATIENCE,
        faults: &[&fault],
    };
    let told = ask_and_look(&mut server, &asked, |_| seen.look(&scoreboard))?;
    server.stop()?;
    seen.row(reloads, told.outcomes, &before)
}

/// Has one server take the place of another on the same port again and again, while they are asked.
fn join(reloads: u64, at_once: bool) -> Result<Row> {
    let options: Vec<String> = match at_once {
        true => BUSY.map(str::to_owned).into(),
        false => Vec::new(),
    };
    let first = Server::start(&Spec::ours(Strategy::Reuseport, &options), &[])?;
    let address = first.address();
    let port = address.port().to_string();
    let mut join = options;
    join.extend(["--join", "--port", &port].map(str::to_owned));
    let before = TcpCounters::now()?;
    let (over, start) = (AtomicBool::new(false), Instant::now());
    let mut outcomes = Outcomes::default();
    let (asked, done) = thread::scope(|scope| {
        let replace = || -> Result<(Seen, Server)> {
            let (mut seen, mut old) = (Seen::default(), first);
            let look = |seen: &mut Seen, server: &Server| -> Result<()> {
                seen.look(&scoreboard(server)?);
                Ok(())
            };
            look(&mut seen, &old)?;
            for _ in 0..reloads {
                thread::sleep(PAUSE);
                let new = Server::start(&Spec::ours(Strategy::Reuseport, &join), &[])?;
                look(&mut seen, &new)?;
                let mut ending = std::mem::replace(&mut old, new);
                if at_once {
                    ending.signal(Signal::SIGQUIT);
                    let begin = Instant::now();
                    while !ending.has_ended() && begin.elapsed() < PATIENCE {
                        thread::sleep(LOOK_EVERY);
                    }
                }
                ending.stop()?;
            }
            // The last one serves until nobody asks any more.
            Ok((seen, old))
        };
        let replacing = scope.spawn(|| {
            let replaced = replace();
            over.store(true, Relaxed);
            replaced
        });
        let mut ask = || -> Result<()> {
            while !over.load(Relaxed) {
                crate::interrupt::check()?;
                let target = Target::new(address, &address.to_string(), "/", false, PATIENCE);
                let until = Until::Time(start.elapsed() + STRETCH);
                let load = Load {
                    connections: CLIENTS,
                    rate: None,
                    arrivals: Arrivals::Even,
                    keep_alive: false,
                    until,
                };
                outcomes = outcomes.plus(&drive::run(target, &load, start, |_, _| {})?.outcomes);
            }
            Ok(())
        };
        let asked = ask();
        (asked, replacing.join())
    });
    let (seen, last) = done.map_err(|_| anyhow!("the thread that replaces servers panicked"))??;
    asked?;
    last.stop()?;
    seen.row(reloads, outcomes, &before)
}

/// Processes and sockets that were seen on a scoreboard.
#[derive(Debug, Default)]
struct Seen {
    workers: BTreeSet<u32>,
    sockets: BTreeSet<u64>,
}

impl Seen {
    fn look(&mut self, scoreboard: &Scoreboard) {
        for (_, slot) in scoreboard.workers() {
            // A worker writes down its socket when it has one.
            let inode = slot.socket_inode.load(Relaxed);
            if let (Some(pid), 1..) = (slot.pid(), inode) {
                self.workers.insert(pid);
                self.sockets.insert(inode);
            }
        }
    }

    fn row(&self, reloads: u64, outcomes: Outcomes, before: &TcpCounters) -> Result<Row> {
        Ok(Row {
            reloads,
            outcomes,
            workers: self.workers.len(),
            sockets: self.sockets.len(),
            migrated: TcpCounters::now()?.since(before).migrate_success,
        })
    }
}

impl Way {
    fn sum(&self, figure: impl Fn(&Row) -> u64) -> u64 {
        self.rows.iter().map(figure).sum()
    }

    fn lost(&self) -> u64 {
        self.sum(|row| row.outcomes.lost())
    }

    fn reloads(&self) -> u64 {
        self.sum(|row| row.reloads)
    }

    fn requests(&self) -> u64 {
        self.sum(|row| row.outcomes.total())
    }

    /// Requests lost for each reload.
    fn each(&self, seed: u64) -> Sure {
        let each = |row: &Row| row.outcomes.lost() as f64 / row.reloads as f64;
        average(&self.rows.iter().map(each).collect::<Vec<_>>(), seed)
    }

    /// Requests lost of ten thousand.
    fn of_ten_thousand(&self) -> f64 {
        self.lost() as f64 * 10_000.0 / self.requests().max(1) as f64
    }

    /// `24 of 180 000 requests in 24 reloads`.
    fn words(&self) -> String {
        let [lost, requests] = [self.lost(), self.requests()].map(count);
        format!("{lost} of {requests} requests in {} reloads", self.reloads())
    }
}

fn findings(ways: &[Way], missing: Vec<String>, seed: u64) -> Findings {
    let found = |how| ways.iter().find(|way| way.how == how);
    let [without, with] = [false, true].map(|migrates| found(How::AtOnce { migrates }));
    let drained = found(How::Drained { migrates: false });
    let rows = ways.iter().filter(|way| way.how == How::HandsOver).flat_map(|way| way.rows.clone());
    let handed = Way { name: "SIGHUP".into(), rows: rows.collect(), how: How::HandsOver };
    let each = |way: Option<&Way>| way.map_or((f64::NAN, None), |way| way.each(seed));
    let drops = above(each(without).1, ACCEPTED);
    let mends = match drops {
        Some(true) => above(each(with).1, ACCEPTED).map(|above| !above),
        _ => None,
    };
    let no_room =
        "tcp_migrate_req can be turned in a network namespace alone, and there can be none";
    let noisy = "the interval lies on both sides of the limit; more reloads would tell";
    let haproxys = "https://www.haproxy.com/blog/truly-seamless-reloads-with-haproxy-no-more-hacks";
    let per_reload =
        |way: Option<&Way>| way.map_or("-".into(), |way| estimate::words(way.each(seed), 1));
    let expected = drained.map_or(0.0, |way| way.requests() as f64 * HAPROXYS);
    let claims = vec![
        Claim::by(
            "granian#567",
            Some("https://github.com/emmett-framework/granian/issues/567"),
            "all who wait for a server that ends are reset, although another listens on the port",
            "its backlog is simply dropped",
        )
        .found(
            format!("{} lost for each reload, of {CLIENTS} clients", per_reload(without)),
            format!("whole interval above {ACCEPTED:.0}, the most that workers had accepted"),
            Verdict::of(drops, if without.is_some() { noisy } else { no_room }),
        ),
        Claim::by(
            "granian#897",
            Some("https://github.com/emmett-framework/granian/pull/897"),
            "tcp_migrate_req mends that",
            "own sockets again, since the kernel can migrate",
        )
        .found(
            format!("{} lost for each reload", per_reload(with)),
            format!("whole interval not above {ACCEPTED:.0}"),
            Verdict::of(
                mends,
                match (without.is_some() && with.is_some(), drops) {
                    (false, _) => no_room,
                    (true, Some(false)) => "little was lost without it",
                    (true, _) => noisy,
                },
            ),
        ),
        Claim::by(
            "HAProxy",
            Some(haproxys),
            "a server that accepts all it can before it closes still loses a few",
            "2 to 3 of a million connections at each reload",
        )
        .found(
            drained.map_or("-".into(), Way::words),
            "one or more lost",
            Verdict::of(
                drained.and_then(|way| match way.lost() {
                    0 => (expected >= EXPECTED).then_some(false),
                    _ => Some(true),
                }),
                &match drained {
                    Some(_) => {
                        format!("of so few connections {expected:.2} would be lost at that rate")
                    }
                    None => no_room.to_owned(),
                },
            ),
        ),
        Claim::by(
            "HAProxy",
            Some(haproxys),
            "handing the listening sockets over loses none",
            "the connection is never closed",
        )
        .found(
            handed.words(),
            "none lost",
            Verdict::of(
                (handed.reloads() > 0).then_some(handed.lost() == 0),
                "no server could be reloaded",
            ),
        ),
    ];
    let bar = |way: &Way| {
        let (value, interval) = way.each(seed);
        Bar { name: way.name.clone(), value, interval }
    };
    Findings {
        answer: answer(&handed, without, with, drained, seed),
        claims,
        advice: advice(&handed, mends, with, seed),
        picture: Some(Picture::Bars {
            title: "Requests lost for each reload".into(),
            unit: Unit::Mean,
            bars: ways.iter().map(bar).collect(),
            reference: None,
        }),
        tables: vec![table(ways, seed)],
        evidence: vec![evidence(ways)],
        missing,
    }
}

fn answer(
    handed: &Way,
    without: Option<&Way>,
    with: Option<&Way>,
    drained: Option<&Way>,
    seed: u64,
) -> String {
    let mut answer = match handed.lost() {
        0 => format!(
            "None, with either kind of socket, if the new worker is handed the old one's socket: {}.",
            handed.words()
        ),
        _ => format!("Even where sockets are handed over, {} were lost.", handed.words()),
    };
    let each = |way: &Way| format!("{:.1}", way.each(seed).0);
    if let Some(without) = without {
        answer += &format!(
            " What loses is to close a listening socket, and not SO_REUSEPORT: where one server joins \
             another that is busy and ends at once, each reload costs {}",
            each(without)
        );
        answer +=
            &with.map_or(String::new(), |with| format!(", with tcp_migrate_req {}", each(with)));
        answer += &drained.map_or(String::new(), |drained| {
            format!("; where it accepts first all that is queued, {}", each(drained))
        });
        answer += ".";
    }
    answer
}

fn advice(handed: &Way, mends: Option<bool>, with: Option<&Way>, seed: u64) -> String {
    let mut advice = match handed.lost() {
        0 => "Hand the sockets over, as these servers do at SIGHUP".to_owned(),
        _ => "Share one socket that outlives the workers".to_owned(),
    };
    if let (Some(true), Some(with)) = (mends, with) {
        let (lost, _) = with.each(seed);
        advice += &format!(
            "; where that cannot be, accept all that is queued before closing, and set \
             tcp_migrate_req ({lost:.1} lost for each reload with that alone)"
        );
    }
    advice + "."
}

fn table(ways: &[Way], seed: u64) -> Table {
    let mut table = Table::new(
        "Requests lost",
        &[
            ("reloads", Unit::Count),
            ("requests", Unit::Count),
            ("lost", Unit::Count),
            ("for each reload", Unit::Mean),
            ("of 10 000", Unit::Mean),
            ("reset", Unit::Count),
            ("refused", Unit::Count),
            ("other", Unit::Count),
        ],
    );
    for way in ways {
        let (reset, refused) =
            (way.sum(|row| row.outcomes.reset), way.sum(|row| row.outcomes.refused));
        table.row(
            way.name.as_str(),
            [
                Cell::count(way.reloads()),
                Cell::count(way.requests()),
                Cell::count(way.lost()),
                cell(way.each(seed)),
                Cell::number(way.of_ten_thousand()),
                Cell::count(reset),
                Cell::count(refused),
                Cell::count(way.lost() - reset - refused),
            ],
        );
    }
    table.note =
        "joined: another server joins on the port, then the first ends; the others: SIGHUP".into();
    table
}

/// Whether sockets stayed while processes went, from the scoreboard; and what the kernel migrated.
fn evidence(ways: &[Way]) -> Table {
    let mut table = Table::new(
        "Processes and sockets, for each server or row of servers",
        &[
            ("reloads", Unit::Mean),
            ("worker processes", Unit::Mean),
            ("listening sockets", Unit::Mean),
            ("TCPMigrateReqSuccess", Unit::Mean),
        ],
    );
    for way in ways {
        let average = |figure: &dyn Fn(&Row) -> Option<f64>| {
            Cell::maybe(mean(&way.rows.iter().filter_map(figure).collect::<Vec<_>>()))
        };
        table.row(
            way.name.as_str(),
            [
                average(&|row| Some(row.reloads as f64)),
                average(&|row| Some(row.workers as f64)),
                average(&|row| Some(row.sockets as f64)),
                average(&|row| row.migrated.map(|count| count as f64)),
            ],
        );
    }
    table.note =
        "processes and the inodes of their sockets as the scoreboard showed them, looked at \
                  every 10 ms: a worker that lived for less is not among them"
            .into();
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(name: &str, how: How, lost: &[u64]) -> Way {
        let row = |&lost: &u64| Row {
            reloads: 10,
            outcomes: Outcomes { ok: 10_000 - lost, reset: lost, ..Outcomes::default() },
            workers: 44,
            sockets: if how == How::HandsOver { 4 } else { 44 },
            migrated: Some(0),
        };
        Way { name: name.into(), rows: lost.iter().map(row).collect(), how }
    }

    /// What each of these lost; for ten reloads.
    fn ways(handed: &[u64], without: &[u64], with: &[u64], drained: &[u64]) -> Vec<Way> {
        vec![
            way("reuseport/hash", How::HandsOver, handed),
            way("at once", How::AtOnce { migrates: false }, without),
            way("at once, migrated", How::AtOnce { migrates: true }, with),
            way("drained", How::Drained { migrates: false }, drained),
            way("drained, migrated", How::Drained { migrates: true }, &[0]),
        ]
    }

    fn verdicts(ways: &[Way]) -> Vec<Verdict> {
        findings(ways, vec![], 1).claims.into_iter().map(|claim| claim.verdict).collect()
    }

    #[test]
    fn closing_loses_the_queue_and_handing_over_and_migration_lose_none() {
        let ways = ways(&[0, 0], &[120, 80], &[30, 20], &[1, 0]);
        assert!(verdicts(&ways).iter().all(|verdict| *verdict == Verdict::Reproduced));
        let found = findings(&ways, vec![], 1);
        assert!(found.answer.contains("and not SO_REUSEPORT"), "{}", found.answer);
        assert!(
            found.answer.ends_with(
                "each reload costs 10.0, with tcp_migrate_req 2.5; where it accepts first all that is \
                 queued, 0.1."
            ),
            "{}",
            found.answer
        );
        assert!(found.advice.contains("set tcp_migrate_req (2.5 lost"), "{}", found.advice);
    }

    #[test]
    fn what_is_otherwise_is_not_reproduced_and_said() {
        // Too many lost with migration, and some where sockets are handed over.
        let ways = ways(&[0, 1], &[120, 80], &[90, 90], &[1, 0]);
        let found = verdicts(&ways);
        assert_eq!((&found[1], &found[3]), (&Verdict::NotReproduced, &Verdict::NotReproduced));
        let found = findings(&ways, vec![], 1);
        assert!(found.answer.starts_with("Even where sockets are handed over"), "{}", found.answer);
        assert!(!found.advice.contains("Hand the sockets over"), "{}", found.advice);
    }

    #[test]
    fn none_of_few_connections_decides_nothing_and_none_of_very_many_does() {
        let few = verdicts(&ways(&[0], &[20], &[20], &[0, 0]));
        assert_eq!(few[0], Verdict::NotReproduced);
        assert_eq!(few[1].words(), "not decidable here: little was lost without it");
        assert_eq!(
            few[2].words(),
            "not decidable here: of so few connections 0.04 would be lost at that rate"
        );
        let many = verdicts(&ways(&[0], &[20], &[20], &[0; 200]));
        assert_eq!(many[2], Verdict::NotReproduced);
    }

    #[test]
    fn without_a_room_or_with_intervals_across_the_limit_nothing_is_decided() {
        let all = ways(&[0], &[120, 10, 120], &[30], &[0]);
        assert!(matches!(verdicts(&all)[0], Verdict::NotDecidable(_)));
        let found = verdicts(&ways(&[0], &[120], &[3], &[0])[..2]);
        assert_eq!(found[0], Verdict::Reproduced);
        assert!(found[1].words().contains("namespace"), "{found:?}");
        assert!(matches!(verdicts(&[])[3], Verdict::NotDecidable(_)));
    }
}
