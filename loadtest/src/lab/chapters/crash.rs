//! How many requests does the death of a worker cost?
//!
//! # The claim
//! granian#567: when a worker with a socket of its own exits, for whatever reason, its backlog is
//! dropped and all who wait there get ECONNRESET. granian went back to a shared socket for it
//! (#579), and since #897 leaves it to `net.ipv4.tcp_migrate_req`. The kernel's documentation
//! (ip-sysctl) says of that: when a listener is closed, connections within the handshake and in the
//! accept queue are aborted; with the option they go to another listener of the same port. It is
//! off by default, and came with Linux 5.14.
//!
//! # What the kernel does
//! When a process dies its descriptors are closed. A listening socket that nobody else has open
//! ends with that, and `inet_csk_listen_stop` walks its accept queue: each connection is reset, or,
//! if `reuseport_migrate_sock` finds another listener of the group, put into that one's queue. It
//! looks for one if the sysctl is on, or if a program of the type
//! `BPF_SK_REUSEPORT_SELECT_OR_MIGRATE` chooses among the sockets (commits f9ac779f881c and
//! 55d444b310c6, which counts it), as `--steer least-conn` has one. A socket that several processes
//! share is closed by the last of them, so nothing happens to its queue. What the dead worker had
//! accepted is lost in every case: it was in its memory.
//!
//! # The set-up
//! Four workers, 32 clients, each with a connection for each request and the next when it has its
//! answer. *Killed*: the worker that has answered most gets SIGKILL. *Hung*: it is stopped
//! (SIGSTOP), and killed 0.7 s later, when the queue of a socket of its own is full of those who
//! wait. Every time with a fresh server, in a network namespace of its own where the sysctl is set.
//! A request is lost if its connection is reset or closed without an answer, or if none comes in 2
//! s.
//!
//! # The criterion
//! Requests lost for each death of a *hung* worker. Own sockets *lose the queue* if the whole 95 %
//! interval of the mean lies above 16, half of the clients, and that of a shared socket does not.
//! The sysctl *mends it* if with it the whole interval of the mean lies below half of the mean
//! without it.
//!
//! # Elsewhere
//! Before Linux 5.14, and where the sysctl is off, which is nearly everywhere, only a shared socket
//! keeps the queue. DragonFly hands a closing socket's queue to the others by itself, as nginx's
//! commit for reuseport says. How much is lost depends on how long the queue is: a worker that is
//! killed while it is quick loses few, one that hung for long loses every client.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::kernel::netstat::TcpCounters;
use crate::lab::chapter::{Claim, Findings, Verdict};
use crate::lab::estimate::{Sure, above, both, cell, words};
use crate::lab::inquiry::{Inquiry, ask_and_look};
use crate::lab::interleaved::{average, below};
use crate::lab::network_namespace::Room;
use crate::lab::queues::Queues;
use crate::lab::store::Notebook;
use crate::measure::schedule::schedule;
use crate::probe::outcome::Outcomes;
use crate::report::model::{Bar, Cell, Picture, Table, Unit};
use crate::server::{Server, Spec};
use crate::statistics::{mean, median};

/// Who takes part.
const SHARED: &str = "shared/epoll";
const HASH: &str = "reuseport/hash";
const SHARED_LEAST: &str = "shared/least-conn";
const OWN_LEAST: &str = "reuseport/least-conn";

/// Everybody who asks.
const CLIENTS: u64 = 32;

/// Losing more than this with each death is losing the queue.
const QUEUE: f64 = CLIENTS as f64 / 2.0;

/// With the sysctl at most this part of what is lost without it.
const MENDED: f64 = 0.5;

/// How long a worker hangs before it is killed, in milliseconds.
const HUNG_MS: u64 = 700;

/// How long after the last fault clients go on asking, in milliseconds.
const AFTER_MS: u64 = 400;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// How a worker dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    /// At once.
    Killed,
    /// After it was stopped for a while.
    Hung,
}

impl Death {
    const ALL: [Self; 2] = [Self::Killed, Self::Hung];

    fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Hung => "hung",
        }
    }
}

/// Who dies where.
#[derive(Clone, Debug, PartialEq)]
struct Case {
    policy: &'static str,
    server: &'static str,
    room: Room,
}

impl Case {
    fn name(&self) -> String {
        if self.policy == HASH {
            format!("{HASH}, {}", self.room.name())
        } else {
            self.policy.into()
        }
    }
}

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

/// All deaths of a case: killed, and hung.
struct Deaths {
    name: String,
    policy: &'static str,
    migrates: bool,
    each: [Vec<Dead>; 2],
}

/// Does it.
pub fn run(notebook: &mut Notebook) -> Result<Findings> {
    let (present, mut missing) = notebook.policies(&[SHARED, HASH, SHARED_LEAST, OWN_LEAST]);
    let (rooms, only_one) = Room::both();
    let apart = only_one.is_none();
    missing.extend(only_one);
    let cases: Vec<Case> = present
        .into_iter()
        .flat_map(|(policy, server)| {
            // Only where the hash chooses does the sysctl change anything: a shared socket is not
            // closed, and the steering program migrates without it.
            let rooms = if policy == HASH { &rooms[..] } else { &rooms[..1] };
            rooms.iter().map(move |&room| Case { policy, server, room })
        })
        .collect();
    let rounds = notebook.choose(7, 2);
    let mut deaths: Vec<Deaths> = cases
        .iter()
        .map(|case| Deaths {
            name: case.name(),
            policy: case.policy,
            migrates: case.room.migrates,
            each: [Vec::new(), Vec::new()],
        })
        .collect();
    let quick = notebook.quick;
    for (round, turns) in (0..).zip(schedule(cases.len(), rounds, notebook.seed)) {
        for place in turns {
            for death in Death::ALL {
                let case = &cases[place];
                let key = format!("{}/{}/{round}", death.name(), case.name());
                let dead = notebook
                    .sample(&key, |_| case.room.within(|| die(case.server, death, quick)))?;
                deaths[place].each[death as usize].push(dead);
            }
        }
    }
    Ok(findings(&deaths, apart, missing, notebook.seed))
}

/// Starts a server, has it asked, and ends one of its workers.
fn die(server: &str, death: Death, quick: bool) -> Result<Dead> {
    let mut server = Server::start(&Spec::parse(server)?, &[])?;
    let first = if quick { 200 } else { 400 };
    let (faults, kill) = match death {
        Death::Killed => (vec![format!("kill-worker@{first}ms")], first),
        Death::Hung => {
            let kill = first + HUNG_MS;
            (vec![format!("stop-worker@{first}ms"), format!("kill-worker@{kill}ms")], kill)
        }
    };
    let faults: Vec<&str> = faults.iter().map(String::as_str).collect();
    let mut queues = Queues::of(&server);
    let before = TcpCounters::now()?;
    let asked = Inquiry {
        path: "/",
        clients: CLIENTS,
        rate: None,
        keep_alive: false,
        time: Duration::from_millis(kill + AFTER_MS),
        answer_within: PATIENCE,
        faults: &faults,
    };
    let told = ask_and_look(&mut server, &asked, |now| queues.look(now))?;
    server.stop()?;
    let dead = told.faults.last().context("nobody was killed")?;
    let at = Duration::from_millis(dead.at_ms);
    // The last look or two before it died.
    let queued = dead
        .pid
        .and_then(|pid| queues.longest(pid, at.saturating_sub(Duration::from_millis(120)), at));
    Ok(Dead {
        lost: told.lost(),
        attempted: told.attempted,
        outcomes: told.outcomes,
        queued: queued.map(|longest| [longest.of_worker, longest.of_others]),
        longest: told.max,
        counters: TcpCounters::now()?.since(&before),
    })
}

/// Requests lost for each death, over the rounds.
fn lost(deaths: &Deaths, death: Death, seed: u64) -> Sure {
    let each: Vec<f64> = deaths.each[death as usize].iter().map(|dead| dead.lost as f64).collect();
    average(&each, seed)
}

fn findings(deaths: &[Deaths], apart: bool, missing: Vec<String>, seed: u64) -> Findings {
    let hung = |policy: &str, migrates: bool| {
        let found = deaths.iter().find(|d| d.policy == policy && d.migrates == migrates)?;
        Some(lost(found, Death::Hung, seed))
    };
    let shared = deaths.iter().find(|d| d.policy == SHARED).map(|d| lost(d, Death::Hung, seed));
    let (without, with) = (hung(HASH, false), hung(HASH, true));
    let loses = without.zip(shared).and_then(|(own, shared)| {
        both(above(own.1, QUEUE), above(shared.1, QUEUE).map(|above| !above))
    });
    let mends = without.zip(with).and_then(|(without, with)| below(with.1, without.0 * MENDED));
    let noisy = "the interval lies on both sides of the limit; more rounds would tell";
    let why =
        if apart { noisy } else { "it needs a network namespace, where the sysctl can be turned" };
    let figure = |found: Option<Sure>| found.map_or("-".into(), |found| words(found, 1));
    let claims = vec![
        Claim::by(
            "granian#567",
            Some("https://github.com/emmett-framework/granian/issues/567"),
            "when a worker with a socket of its own dies, all who wait in its queue are reset; over \
             a shared socket the others take them",
            "its backlog is simply dropped, and all pending requests get ECONNRESET",
        )
        .found(
            format!(
                "lost with a worker that hung: own sockets {} of {CLIENTS} clients, shared {}",
                figure(without.or(with)),
                figure(shared)
            ),
            format!("whole intervals: own above {QUEUE:.0}, shared not above it"),
            Verdict::of(loses, if without.is_some() { noisy } else { why }),
        ),
        Claim::by(
            "Linux, ip-sysctl",
            Some("https://docs.kernel.org/networking/ip-sysctl.html"),
            "net.ipv4.tcp_migrate_req hands the queue of a closing socket to another",
            "makes it possible to migrate such child sockets to another listener",
        )
        .found(
            format!("lost with it {}, without it {}", figure(with), figure(without)),
            format!("with it, whole interval below {MENDED} of the mean without"),
            Verdict::of(mends, why),
        ),
    ];
    Findings {
        answer: answer(deaths, without, with, shared, seed),
        claims,
        advice: match loses {
            Some(true) => advice(deaths, mends, with, seed),
            _ => String::new(),
        },
        picture: Some(Picture::Bars {
            title: format!("Requests lost when a worker hangs and is killed, of {CLIENTS} clients"),
            unit: Unit::Mean,
            bars: deaths
                .iter()
                .map(|deaths| {
                    let (value, interval) = lost(deaths, Death::Hung, seed);
                    Bar { name: deaths.name.clone(), value, interval }
                })
                .collect(),
            reference: Some((CLIENTS as f64, "every client".into())),
        }),
        tables: vec![table(deaths, seed)],
        evidence: vec![evidence(deaths, apart)],
        missing,
    }
}

fn answer(
    deaths: &[Deaths],
    without: Option<Sure>,
    with: Option<Sure>,
    shared: Option<Sure>,
    seed: u64,
) -> String {
    let one = |found: Sure| format!("{:.1}", found.0);
    let mut answer = match (without, with, shared) {
        (Some(own), _, Some(shared)) => format!(
            "A worker that hangs and is killed takes {} of {CLIENTS} clients with it if it has a \
             socket of its own, and {} if all share one.",
            one(own),
            one(shared)
        ),
        (None, Some(own), Some(shared)) => format!(
            "A worker that hangs and is killed takes {} of {CLIENTS} clients with it if it has a \
             socket of its own and the kernel migrates, as this machine does, and {} if all share one.",
            one(own),
            one(shared)
        ),
        _ => "Here not both ways of listening could be compared.".into(),
    };
    if let (Some(_), Some(with)) = (without, with) {
        answer += &format!(" With tcp_migrate_req it is {}.", one(with));
    }
    let killed = |policy: &str| {
        let found = deaths.iter().find(|d| d.policy == policy && !d.migrates)?;
        Some(one(lost(found, Death::Killed, seed)))
    };
    if let (Some(own), Some(shared)) = (killed(HASH), killed(SHARED)) {
        answer += &format!(
            " Killed while it works it costs {own} with a socket of its own and {shared} with a shared \
             one: what it had accepted is lost with either, and nothing can prevent that."
        );
    }
    answer
}

fn advice(deaths: &[Deaths], mends: Option<bool>, with: Option<Sure>, seed: u64) -> String {
    let mut ways = vec!["share the socket".to_owned()];
    if let (Some(true), Some((with, _))) = (mends, with) {
        ways.push(format!("set tcp_migrate_req ({with:.1} lost)"));
    }
    if let Some(own) = deaths.iter().find(|deaths| deaths.policy == OWN_LEAST) {
        let (lost, _) = lost(own, Death::Hung, seed);
        ways.push(format!(
            "let --steer least-conn choose, which migrates by itself ({lost:.1} lost)"
        ));
    }
    format!("To keep the queue of a dead worker: {}.", ways.join(", or "))
}

fn table(deaths: &[Deaths], seed: u64) -> Table {
    let mut table = Table::new(
        "Requests lost",
        &[
            ("killed", Unit::Mean),
            ("hung, then killed", Unit::Mean),
            ("reset", Unit::Count),
            ("closed early", Unit::Count),
            ("timed out", Unit::Count),
            ("refused", Unit::Count),
            ("deaths", Unit::Count),
            ("requests", Unit::Count),
        ],
    );
    for of in deaths {
        let all = || of.each.iter().flatten();
        let sum = |outcome: fn(&Outcomes) -> u64| {
            Cell::count(all().map(|dead| outcome(&dead.outcomes)).sum())
        };
        table.row(
            of.name.as_str(),
            [
                cell(lost(of, Death::Killed, seed)),
                cell(lost(of, Death::Hung, seed)),
                sum(|outcomes| outcomes.reset),
                sum(|outcomes| outcomes.closed_early),
                sum(|outcomes| outcomes.timed_out_answering + outcomes.timed_out_connecting),
                sum(|outcomes| outcomes.refused),
                Cell::count(all().count() as u64),
                Cell::count(all().map(|dead| dead.attempted).sum()),
            ],
        );
    }
    table.note = "of each death the mean; the outcomes of all deaths together".into();
    table
}

/// What the kernel saw of the deaths of hung workers, for each of them.
fn evidence(deaths: &[Deaths], apart: bool) -> Table {
    let mut table = Table::new(
        "What the kernel saw, for each worker that hung and was killed",
        &[
            ("waiting on its socket", Unit::Mean),
            ("TCPMigrateReqSuccess", Unit::Mean),
            ("TCPMigrateReqFailure", Unit::Mean),
            ("ListenDrops", Unit::Mean),
            ("ListenOverflows", Unit::Mean),
            ("longest answer", Unit::Microseconds),
        ],
    );
    for of in deaths {
        let hung = &of.each[Death::Hung as usize];
        let each = |figure: &dyn Fn(&Dead) -> Option<f64>| -> Vec<f64> {
            hung.iter().filter_map(figure).collect()
        };
        let average = |figure: &dyn Fn(&Dead) -> Option<f64>| Cell::maybe(mean(&each(figure)));
        let count = |number: u64| Some(number as f64);
        table.row(
            of.name.as_str(),
            [
                average(&|dead| dead.queued.map(|queued| f64::from(queued[0]))),
                average(&|dead| dead.counters.migrate_success.and_then(count)),
                average(&|dead| dead.counters.migrate_failure.and_then(count)),
                average(&|dead| count(dead.counters.listen_drops)),
                average(&|dead| count(dead.counters.listen_overflows)),
                Cell::maybe(median(&each(&|dead| Some(dead.longest)))),
            ],
        );
    }
    let whose = match apart {
        true => "counted in the server's own network namespace",
        false => "counted on the whole machine, where others may have added to it",
    };
    table.note = format!(
        "{whose}; the queue by sock_diag, just before; means, of the longest answer the median"
    );
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deaths(policy: &'static str, migrates: bool, lost: &[u64]) -> Deaths {
        let dead = |&lost: &u64| Dead {
            lost,
            attempted: 1000,
            outcomes: Outcomes { ok: 1000 - lost, reset: lost, ..Outcomes::default() },
            queued: Some([31, 0]),
            longest: 1000.0,
            counters: TcpCounters {
                listen_overflows: 0,
                listen_drops: 0,
                migrate_success: Some(if migrates { 31 } else { 0 }),
                migrate_failure: Some(0),
            },
        };
        let case = Case { policy, server: "", room: Room { migrates, apart: true } };
        let each = [vec![dead(&3); lost.len()], lost.iter().map(dead).collect()];
        Deaths { name: case.name(), policy, migrates, each }
    }

    fn verdicts(all: &[Deaths]) -> Vec<Verdict> {
        let found = findings(all, true, vec![], 1);
        found.claims.into_iter().map(|claim| claim.verdict).collect()
    }

    fn usual(own: &[u64], with: &[u64], shared: &[u64]) -> Vec<Deaths> {
        vec![
            deaths(SHARED, false, shared),
            deaths(HASH, false, own),
            deaths(HASH, true, with),
            deaths(OWN_LEAST, false, with),
        ]
    }

    #[test]
    fn a_queue_that_is_lost_and_is_kept_with_the_sysctl_reproduces_both_claims() {
        let all = usual(&[32, 31, 33], &[2, 3, 1], &[2, 4, 3]);
        assert_eq!(verdicts(&all), [Verdict::Reproduced, Verdict::Reproduced]);
        let found = findings(&all, true, vec![], 1);
        assert!(found.answer.contains("takes 32.0 of 32 clients with it"), "{}", found.answer);
        assert!(found.answer.contains("With tcp_migrate_req it is 2.0."), "{}", found.answer);
        assert!(
            found.answer.contains("costs 3.0 with a socket of its own and 3.0 with a shared one"),
            "{}",
            found.answer
        );
        assert!(found.advice.contains("migrates by itself (2.0 lost)"), "{}", found.advice);
    }

    #[test]
    fn where_little_is_lost_nothing_is_reproduced() {
        let all = usual(&[3, 2, 4], &[3, 2, 4], &[2, 4, 3]);
        assert_eq!(verdicts(&all), [Verdict::NotReproduced, Verdict::NotReproduced]);
        // If a shared socket loses as much, it is not the kind of socket.
        let all = usual(&[32, 31, 33], &[30, 31, 30], &[32, 31, 30]);
        assert_eq!(verdicts(&all), [Verdict::NotReproduced, Verdict::NotReproduced]);
    }

    #[test]
    fn what_varies_too_much_or_cannot_be_turned_is_not_decided() {
        let all = usual(&[32, 2, 32, 2], &[32, 1, 32, 1], &[2, 4, 3]);
        assert!(verdicts(&all).iter().all(|v| matches!(v, Verdict::NotDecidable(_))));
        let all = vec![deaths(SHARED, false, &[2, 3]), deaths(HASH, false, &[32, 31])];
        let found = findings(&all, false, vec![], 1);
        assert_eq!(found.claims[0].verdict, Verdict::Reproduced);
        let Verdict::NotDecidable(reason) = &found.claims[1].verdict else { panic!() };
        assert!(reason.contains("namespace"), "{reason}");
    }
}
