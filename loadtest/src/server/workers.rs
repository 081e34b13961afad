//! Which of a foreign server's processes are workers, and what each does: the kernel's view.
//!
//! A worker is the started process, or a descendant of it, that has the listening socket open and
//!
//! - has registered it in an epoll (`/proc/PID/fdinfo`), or
//! - has a thread in accept(2), select(2) or poll(2) on it (`/proc/PID/task/TID/syscall`), or
//! - was seen holding accepted connections.
//!
//! A process that was a worker once stays one: it may be blocked, or may have closed the socket to
//! drain. A process that only inherited the descriptor is no worker. If a process without the socket holds
//! connections that no worker has, it got them from its parent, which accepts all of them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use procfs::ProcError;

use crate::kernel::open_sockets::OpenSockets;
use crate::kernel::procfs::{Running, Usage, family};
use crate::server::telemetry::{Reading, Readings, Role, WorkerUsage};
use common::kernel::sock_diag::{connections, listeners};

/// How often its processes are sampled while a load runs. Rare enough to cost nothing.
const SAMPLE_EVERY: Duration = Duration::from_millis(250);

/// How often they are sampled while it is unclear which of them serve, and for how long at most.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
const IN_DOUBT_FOR: Duration = Duration::from_millis(500);

/// What is known of a server's processes so far.
#[derive(Debug)]
pub struct Workers {
    /// `None` if the server was not started here: then no process is looked at.
    root: Option<u32>,
    port: u16,
    known: BTreeMap<u32, Known>,
    samples: u64,
    /// Samples since the last one in which a connection was open; `None` until there is one.
    empty: Option<u64>,
    sampled: Instant,
    /// Why some process could not be looked at.
    hidden: Option<String>,
}

/// One process.
#[derive(Clone, Debug, Default)]
struct Known {
    process: Running,
    /// `None` as long as it was not seen to serve.
    role: Option<Role>,
    socket: Option<u64>,
    held: u64,
    held_sum: u64,
}

/// What one look found about one process.
struct Look {
    pid: u32,
    /// The listening socket that it waits for, or has open if it holds connections.
    listens: Option<u64>,
    /// Accepted connections.
    held: BTreeSet<u64>,
}

impl Workers {
    /// The workers of the process that was started here and serves on this port.
    pub fn new(root: Option<u32>, port: u16) -> Self {
        let (known, sampled) = (BTreeMap::new(), Instant::now());
        Self { root, port, known, samples: 0, empty: None, sampled, hidden: None }
    }

    /// Looks at all processes if that is due, and counts the connections of each for the average.
    pub fn sample_if_due(&mut self) -> Result<()> {
        if self.sampled.elapsed() >= SAMPLE_EVERY {
            self.sampled = Instant::now();
            self.look()?;
            self.count_sample();
        }
        Ok(())
    }

    /// Counts what the last look found. Before the first connection opens, and after the last one has closed,
    /// no load runs, and nothing is counted.
    fn count_sample(&mut self) {
        if self.known.values().all(|known| known.held == 0) {
            self.empty = self.empty.map(|empty| empty + 1);
            return;
        }
        self.samples += 1 + self.empty.replace(0).unwrap_or(0);
        self.known.values_mut().for_each(|known| known.held_sum += known.held);
    }

    /// Looks again, or keeps the last look if the kernel does not answer.
    pub fn seen_now(&mut self) -> &Self {
        let _ = self.look();
        self
    }

    /// Looks until it is known whether a parent that listens serves itself, or accepts for its children: with a
    /// connection for each request, that can be seen only while a child has one.
    pub fn settle(&mut self) {
        let begin = Instant::now();
        let before = self.cpu();
        while self.look().is_ok() && self.is_in_doubt() && begin.elapsed() < IN_DOUBT_FOR {
            sleep(LOOK_AGAIN);
        }
        if self.is_in_doubt() {
            let then = |pid: &u32| before.get(pid).copied().unwrap_or(0);
            let used =
                self.cpu().into_iter().map(|(pid, now)| (pid, now.saturating_sub(then(&pid))));
            self.judge_by_cpu(&used.collect());
        }
    }

    /// CPU time of each process, in nanoseconds.
    fn cpu(&self) -> BTreeMap<u32, u64> {
        let of = |&pid: &u32| Some((pid, Usage::of(pid).ok()?.cpu_nanoseconds));
        self.known.keys().filter_map(of).collect()
    }

    /// Connections may be too short to be seen. A child that uses CPU time while the load runs gets connections
    /// from its parent; a helper process uses next to none.
    fn judge_by_cpu(&mut self, used: &BTreeMap<u32, u64>) {
        let all: u64 = used.values().sum();
        for (pid, _) in used.iter().filter(|&(_, used)| used * 10 > all) {
            let Some(known) = self.known.get_mut(pid).filter(|known| known.role.is_none()) else {
                continue;
            };
            known.role = Some(Role::Child);
            if let Some(root) = self.root.and_then(|root| self.known.get_mut(&root)) {
                root.role = Some(Role::Acceptor);
            }
        }
    }

    /// Whether only the started process was seen to serve, and it has children.
    fn is_in_doubt(&self) -> bool {
        self.known.len() > 1 && self.serving().map(|(&pid, _)| Some(pid)).eq([self.root])
    }

    /// Looks at all processes once: which wait for the socket, and which connections each holds.
    /// Fails when the kernel does not tell which sockets there are.
    pub fn look(&mut self) -> Result<&Self> {
        let Some(root) = self.root else { return Ok(self) };
        let listening: BTreeSet<u64> = listeners(self.port)?.iter().map(|l| l.inode).collect();
        let accepted = connections(self.port)?;
        let tree = family(root)?;
        let is_there = |known: &Known| {
            tree.iter().any(|it| (it.pid, it.started) == (known.process.pid, known.process.started))
        };
        self.known.retain(|_, known| is_there(known));
        let mut looks = Vec::new();
        for process in tree {
            self.known.entry(process.pid).or_insert(Known { process, ..Known::default() });
            match OpenSockets::of(process.pid) {
                Ok(open) => looks.push(Look::of(process.pid, &open, &listening, &accepted)),
                Err(error @ ProcError::PermissionDenied(_)) => {
                    self.hidden = Some(format!("process {}: {error}", process.pid));
                }
                Err(_) => {} // it has just ended
            }
        }
        self.judge(&looks);
        Ok(self)
    }

    /// Updates the roles from one look at all processes.
    fn judge(&mut self, looks: &[Look]) {
        let mut of_workers = BTreeSet::new();
        for look in looks {
            let Some(known) = self.known.get_mut(&look.pid) else { continue };
            known.held = look.held.len() as u64;
            if look.listens.is_some() {
                known.socket = look.listens;
                if known.role != Some(Role::Acceptor) {
                    known.role = Some(Role::Worker);
                }
            }
            if known.role == Some(Role::Worker) {
                of_workers.extend(&look.held);
            }
        }
        for look in looks {
            let Some(known) = self.known.get_mut(&look.pid) else { continue };
            if known.role.is_none() && look.held.difference(&of_workers).next().is_some() {
                known.role = Some(Role::Child);
                let parent = known.process.parent;
                if let Some(parent) = self.known.get_mut(&parent) {
                    parent.role = Some(Role::Acceptor);
                }
            }
        }
    }

    /// The processes that serve: all except a parent that only accepts.
    pub fn pids(&self) -> Vec<u32> {
        let serving = self.serving().filter(|(_, known)| known.role != Some(Role::Acceptor));
        serving.map(|(&pid, _)| pid).collect()
    }

    /// All processes that take part in an answer, including a parent that only accepts.
    pub fn all_pids(&self) -> Vec<u32> {
        self.serving().map(|(&pid, _)| pid).collect()
    }

    /// The processes that serve, the busiest first: by connections, then by CPU time.
    pub fn busiest(&self) -> Vec<u32> {
        let mut pids = self.pids();
        pids.sort_by_cached_key(|pid| {
            let cpu = Usage::of(*pid).map_or(0, |usage| usage.cpu_nanoseconds);
            Reverse((self.known[pid].held, cpu))
        });
        pids
    }

    /// How many connections each of these had open at the last look.
    pub fn held(&self) -> Vec<u64> {
        self.pids().iter().map(|pid| self.known[pid].held).collect()
    }

    /// The processes with the listening socket that each waits for, if that is known.
    pub fn sockets(&self) -> Vec<(u32, u64)> {
        self.serving().filter_map(|(&pid, known)| Some((pid, known.socket?))).collect()
    }

    /// The number of children of a parent that accepts for them; 0 if workers accept themselves.
    pub fn children_of_an_acceptor(&self) -> usize {
        self.serving().filter(|(_, known)| known.role == Some(Role::Child)).count()
    }

    /// Why no worker was seen, if some process could not be looked at.
    pub fn hidden(&self) -> Option<&str> {
        self.hidden.as_deref().filter(|_| self.serving().next().is_none())
    }

    fn serving(&self) -> impl Iterator<Item = (&u32, &Known)> {
        self.known.iter().filter(|(_, known)| known.role.is_some())
    }

    /// Reads the counters of all processes, including those that do not serve yet: if one serves later, its work
    /// since this moment is known. A worker that has just ended is missing.
    /// Fails when the kernel does not tell which sockets there are.
    pub fn read(&mut self) -> Result<Readings> {
        // A load begins or ends here: the next sample must be within it.
        (self.sampled, self.empty) = (Instant::now(), None);
        self.look()?;
        let mut readings = Vec::new();
        for (&pid, known) in &self.known {
            let Ok(usage) = Usage::of(pid) else { continue };
            let totals = WorkerUsage {
                index: readings.iter().filter(|reading: &&Reading| reading.serves).count(),
                pid,
                role: known.role.unwrap_or_default(),
                socket_inode: known.socket,
                ..WorkerUsage::default()
            };
            let (serves, held_sum, samples) = (known.role.is_some(), known.held_sum, self.samples);
            readings.push(Reading { totals, usage, serves, held_sum, samples });
        }
        Ok(Readings(readings))
    }
}

impl Look {
    fn of(pid: u32, open: &OpenSockets, listening: &BTreeSet<u64>, all: &BTreeSet<u64>) -> Self {
        let held: BTreeSet<u64> = open.inodes().filter(|inode| all.contains(inode)).collect();
        let has = || open.inodes().filter(|inode| listening.contains(inode));
        let waits = if has().next().is_some() { open.waits_for() } else { BTreeSet::new() };
        let listens = has().find(|inode| waits.contains(inode));
        let listens = listens.or_else(|| has().next().filter(|_| !held.is_empty()));
        Self { pid, listens, held }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A parent 1 and its children 2 and 3.
    fn family() -> Workers {
        let mut workers = Workers::new(Some(1), 80);
        for (pid, parent) in [(1, 0), (2, 1), (3, 1)] {
            let process = Running { pid, parent, started: 0 };
            workers.known.insert(pid, Known { process, ..Known::default() });
        }
        workers
    }

    fn look(pid: u32, listens: Option<u64>, held: &[u64]) -> Look {
        Look { pid, listens, held: held.iter().copied().collect() }
    }

    fn roles(workers: &Workers) -> [Option<Role>; 3] {
        [1, 2, 3].map(|pid| workers.known[&pid].role)
    }

    #[test]
    fn who_waits_for_the_socket_is_a_worker_and_stays_one_while_it_is_blocked() {
        let mut workers = family();
        workers.judge(&[look(1, None, &[]), look(2, Some(7), &[]), look(3, None, &[])]);
        assert_eq!(roles(&workers), [None, Some(Role::Worker), None]);
        workers.judge(&[look(1, None, &[]), look(2, None, &[50]), look(3, Some(8), &[])]);
        assert_eq!(roles(&workers), [None, Some(Role::Worker), Some(Role::Worker)]);
        assert_eq!(workers.sockets(), [(2, 7), (3, 8)]);
        assert_eq!((workers.pids(), workers.children_of_an_acceptor()), (vec![2, 3], 0));
    }

    #[test]
    fn children_that_get_connections_from_their_parent_are_told_from_workers() {
        let mut workers = family();
        workers.judge(&[look(1, Some(7), &[]), look(2, None, &[]), look(3, None, &[])]);
        assert_eq!((workers.pids(), workers.is_in_doubt()), (vec![1], true));
        workers.judge(&[look(1, Some(7), &[]), look(2, None, &[50]), look(3, None, &[51])]);
        let expected = [Some(Role::Acceptor), Some(Role::Child), Some(Role::Child)];
        assert_eq!((roles(&workers), workers.is_in_doubt()), (expected, false));
        workers.judge(&[look(1, Some(7), &[]), look(2, None, &[]), look(3, None, &[])]);
        assert_eq!(roles(&workers), expected);
        assert_eq!((workers.pids(), workers.children_of_an_acceptor()), (vec![2, 3], 2));
    }

    #[test]
    fn a_child_that_works_while_the_load_runs_is_told_from_a_helper() {
        let mut workers = family();
        workers.judge(&[look(1, Some(7), &[])]);
        workers.judge_by_cpu(&BTreeMap::from([(1, 100), (2, 0), (3, 5)]));
        assert_eq!((workers.pids(), workers.is_in_doubt()), (vec![1], true));
        workers.judge_by_cpu(&BTreeMap::from([(1, 100), (2, 0), (3, 50)]));
        assert_eq!(roles(&workers), [Some(Role::Acceptor), None, Some(Role::Child)]);
    }

    #[test]
    fn a_child_that_only_inherited_a_connection_of_a_worker_is_none() {
        let mut workers = family();
        workers.judge(&[look(1, Some(7), &[50]), look(2, None, &[50]), look(3, None, &[])]);
        assert_eq!(roles(&workers), [Some(Role::Worker), None, None]);
    }

    #[test]
    fn what_is_seen_before_the_first_connection_and_after_the_last_is_not_averaged_in() {
        let mut workers = family();
        for held in [&[][..], &[50, 51], &[], &[52], &[], &[]] {
            workers.judge(&[look(2, Some(7), held)]);
            workers.count_sample();
        }
        assert_eq!((workers.samples, workers.known[&2].held_sum), (3, 3));
    }

    #[test]
    fn the_one_with_most_connections_is_the_busiest() {
        let mut workers = family();
        workers.judge(&[look(2, Some(7), &[50]), look(3, Some(7), &[51, 52])]);
        assert_eq!(workers.busiest(), [3, 2]);
    }
}
