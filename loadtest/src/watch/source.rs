//! The source of readings: the scoreboard of this repository's servers, the kernel's view of any other.

use std::collections::BTreeMap;

use anyhow::{Error, Result};
use common::kernel::sock_diag::Listener;
use common::scoreboard::Scoreboard;

use crate::cli;
use crate::diagnose::Target;
use crate::diagnose::model::{self, Role};
use crate::kernel::procfs::Running;
use crate::watch::outside::{Outside, Snapshot};
use crate::watch::reading::{Condition, Reading, Server, Worker, cpu_of};
use crate::watch::target;

/// A server that is watched.
#[derive(Debug)]
pub struct Source {
    /// Its scoreboard, if it has one.
    board: Option<Scoreboard>,
    outside: Outside,
    places: Places,
    /// The server of the last reading.
    server: u32,
    /// Why it cannot be diagnosed, or observed any more.
    trouble: Option<Error>,
}

impl Source {
    /// Finds the server.
    ///
    /// # Errors
    /// When there is none, or it may not be observed; with the remedy.
    pub fn find(asked: &cli::Watch) -> Result<Self> {
        let target = Target { port: asked.port, pid: asked.pid };
        let board = match (&asked.path, target) {
            (Some(path), _) => Some(target::at(path)?),
            (None, Target { pid: Some(pid), port: None }) => target::of_process(pid)?,
            _ => None,
        };
        if let Some(board) = board {
            return Ok(Self::inside(board));
        }
        let mut outside = Outside::start(target);
        let found = outside.now()?.readings;
        let board = target::of_process(found.server).ok().flatten();
        if let Some(board) = board.filter(|board| board.address().port() == found.port) {
            return Ok(Self::inside(board));
        }
        Ok(Self::new(None, outside, found.server))
    }

    /// A source with a scoreboard; the kernel's view is that of its port in its server's namespace.
    fn inside(board: Scoreboard) -> Self {
        let server = board.workers().map(|(_, slot)| slot.owner()).find(|&owner| owner != 0);
        let target = Target { port: Some(board.address().port()), pid: server };
        Self::new(Some(board), Outside::start(target), server.unwrap_or_default())
    }

    fn new(board: Option<Scoreboard>, outside: Outside, server: u32) -> Self {
        Self { board, outside, places: Places::default(), server, trouble: None }
    }

    /// A reading; `None` when the server has ended, or cannot be observed any more.
    pub fn take(&mut self) -> Option<Reading> {
        let reading = match &self.board {
            Some(board) => {
                let mut reading = Reading::take(board);
                if self.trouble.is_none() {
                    match self.outside.lately() {
                        Ok(lately) => reading.diagnosis = lately,
                        Err(error) => self.trouble = Some(error),
                    }
                }
                reading.undiagnosed = self.trouble.as_ref().map(|error| format!("{error:#}"));
                reading
            }
            None => match self.outside.now() {
                Ok(snapshot) => seen(snapshot, &mut self.places),
                Err(error) => {
                    self.trouble = Some(error);
                    return None;
                }
            },
        };
        if let [server] = &reading.servers[..] {
            self.server = server.pid;
        }
        (!reading.has_ended()).then_some(reading)
    }

    /// Why there is no reading any more, if the server has not ended.
    pub fn trouble(self) -> Option<Error> {
        let runs = Running::of(self.server).is_some();
        self.trouble.filter(|_| self.board.is_none() && runs)
    }
}

/// A reading from the kernel's view only.
fn seen(snapshot: Snapshot, places: &mut Places) -> Reading {
    let readings = &snapshot.readings;
    let rows = || readings.own().filter(|worker| worker.role != Role::Holder);
    let indexes = places.of(&rows().map(|worker| worker.pid).collect::<Vec<_>>());
    let workers = rows().zip(indexes).map(|(worker, index)| seen_worker(worker, index, &snapshot));
    let mut workers: Vec<Worker> = workers.collect();
    workers.sort_by_key(|worker| worker.index);
    let address = readings.own_sockets().next().map(|socket| socket.address);
    Reading {
        at: snapshot.at,
        address: address.unwrap_or_else(|| ([0, 0, 0, 0], readings.port).into()),
        servers: vec![Server::of(readings.server)],
        look: Default::default(), // foreign sockets are among the findings
        workers,
        connections: snapshot.accepted.values().sum(),
        requests: None,
        undiagnosed: None,
        diagnosis: Some(snapshot),
    }
}

fn seen_worker(worker: &model::Worker, index: usize, snapshot: &Snapshot) -> Worker {
    let socket = worker.sockets.first().copied();
    let found = snapshot.readings.sockets.iter().find(|it| Some(it.inode) == socket);
    Worker {
        index,
        pid: Some(worker.pid),
        condition: match worker.role {
            _ if worker.is_stopped() => Condition::Stopped,
            _ if matches!(worker.state, 'Z' | 'X') => Condition::Gone,
            Role::Acceptor => Condition::Acceptor,
            Role::Old => Condition::Draining,
            _ => Condition::Serving,
        },
        socket: socket.unwrap_or_default(),
        queue: found.map(|it| Listener {
            address: it.address,
            inode: it.inode,
            uid: it.uid,
            queued: it.queued,
            backlog: it.backlog,
        }),
        open: worker.held,
        accepted: snapshot.accepted.get(&worker.pid).copied().unwrap_or_default(),
        cpu: cpu_of(worker.pid),
        ..Worker::default()
    }
}

/// A number for each process. A new process takes the number of one that has ended, since it may replace that worker.
#[derive(Debug, Default)]
struct Places(BTreeMap<usize, u32>);

impl Places {
    fn of(&mut self, pids: &[u32]) -> Vec<usize> {
        let place = |pid: &u32| {
            let has = |wanted: u32| self.0.iter().find(|it| *it.1 == wanted).map(|it| *it.0);
            let free = || self.0.iter().find(|it| !pids.contains(it.1)).map(|it| *it.0);
            let index = has(*pid).or_else(free).unwrap_or(self.0.len());
            self.0.insert(index, *pid);
            index
        };
        pids.iter().map(place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_replaces_a_worker_takes_its_place() {
        let mut places = Places::default();
        assert_eq!(places.of(&[5, 6, 7]), [0, 1, 2]);
        assert_eq!(places.of(&[5, 7]), [0, 2]);
        assert_eq!(places.of(&[5, 7, 8, 9]), [0, 2, 1, 3]);
    }
}
