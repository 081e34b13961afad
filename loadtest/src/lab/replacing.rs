//! Servers that are replaced under load: by a reload, or by another server on their port.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use common::scoreboard::Scoreboard;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::interrupt;
use crate::kernel::netstat::TcpCounters;
use crate::lab::context::start;
use crate::lab::probing::{asking, probe};
use crate::probe::load::Load;
use crate::probe::outcome::Outcomes;
use crate::probe::run::run;
use crate::server::Server;

/// How long a server may take to end after SIGQUIT.
const PATIENCE: Duration = Duration::from_secs(2);

/// Time from one reload to the next: enough to replace all workers. Pause between two joining servers.
const EVERY_MS: u64 = 250;
const PAUSE: Duration = Duration::from_millis(50);

/// How often to check whether a server has ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The length of each load on joined servers; loads follow each other until the last reload is over.
const STRETCH: Duration = Duration::from_millis(500);

/// A server with per-worker sockets, and one that also has full queues.
const CALM: &str = "reuseport";
const BUSY: &str = "reuseport --max-connections 1 --handler-cost 1ms";

/// The result of several reloads in a row.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Row {
    /// The number of reloads.
    pub reloads: u64,
    /// How requests ended.
    pub outcomes: Outcomes,
    /// The number of worker processes seen.
    pub workers: usize,
    /// The number of listening sockets seen.
    pub sockets: usize,
    /// Connections that the kernel migrated to another socket; `None` if it does not count them.
    pub migrated: Option<u64>,
}

/// Reloads a server again and again under load.
pub fn reload(server: &str, keep_alive: bool, reloads: u64) -> Result<Row> {
    let mut server = start(server)?;
    let faults = &[format!("reload@300ms*{reloads}/{EVERY_MS}ms")];
    let mut seen = Seen::default();
    let scoreboard = scoreboard(&server)?;
    let before = TcpCounters::now()?;
    let seconds = (300 + reloads * EVERY_MS + 200) as f64 / 1e3;
    let asked = Load { keep_alive, seconds, ..asking("/") };
    let probed = probe(&mut server, &asked, faults, |_| seen.look(&scoreboard))?;
    server.stop()?;
    seen.row(reloads, probed.outcomes, &before)
}

/// Replaces one server by another on the same port again and again, under load. The old servers end at
/// once with full queues, or drain their queues first.
pub fn join(reloads: u64, at_once: bool) -> Result<Row> {
    let server = if at_once { BUSY } else { CALM };
    let first = start(server)?;
    let address = first.address();
    let joining = format!("{server} --join --port {}", address.port());
    let before = TcpCounters::now()?;
    let load = Load { connections: asking("/").connections, ..Load::of(&first, "/") };
    let begin = Instant::now();
    let over = AtomicBool::new(false);
    let ask = || -> Result<Outcomes> {
        let mut outcomes = Outcomes::default();
        while !over.load(Relaxed) {
            interrupt::check()?;
            let seconds = (begin.elapsed() + STRETCH).as_secs_f64();
            let load = Load { seconds, ..load.clone() };
            outcomes += run(address, &load, begin, |_, _| {})?.unbroken()?.outcomes;
        }
        Ok(outcomes)
    };
    let (asked, done) = thread::scope(|scope| {
        let replacing = scope.spawn(|| {
            let replaced = replace(first, &joining, reloads, at_once);
            over.store(true, Relaxed);
            replaced
        });
        (ask(), replacing.join())
    });
    let (seen, mut last) =
        done.map_err(|_| anyhow!("the thread that replaces servers panicked"))??;
    let outcomes = asked?;
    last.stop()?;
    seen.row(reloads, outcomes, &before)
}

/// Starts one server after the other on the same port, and ends the previous one each time. Returns the
/// last one, which serves until the load is over.
fn replace(first: Server, joining: &str, reloads: u64, at_once: bool) -> Result<(Seen, Server)> {
    let (mut seen, mut old) = (Seen::default(), first);
    seen.look(&scoreboard(&old)?);
    for _ in 0..reloads {
        thread::sleep(PAUSE);
        let new = start(joining)?;
        seen.look(&scoreboard(&new)?);
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
    Ok((seen, old))
}

fn scoreboard(server: &Server) -> Result<Scoreboard> {
    Scoreboard::of_process(server.pid().context("it was not started here")?)
}

#[derive(Debug, Default)]
struct Seen {
    workers: BTreeSet<u32>,
    sockets: BTreeSet<u64>,
}

impl Seen {
    fn look(&mut self, scoreboard: &Scoreboard) {
        for (_, slot) in scoreboard.workers() {
            // A worker enters its socket as soon as it has one.
            let inode = slot.socket_inode.load(Relaxed);
            if let (Some(pid), 1..) = (slot.pid(), inode) {
                self.workers.insert(pid);
                self.sockets.insert(inode);
            }
        }
    }

    fn row(&self, reloads: u64, outcomes: Outcomes, before: &TcpCounters) -> Result<Row> {
        let migrated = TcpCounters::now()?.since(before).migrate_success;
        let (workers, sockets) = (self.workers.len(), self.sockets.len());
        Ok(Row { reloads, outcomes, workers, sockets, migrated })
    }
}
