//! The workers of a foreign server that was started here: which of its processes they are, and what each does.
//!
//! A process that was a worker once stays one: it may have closed its socket to drain.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::kernel::procfs::Usage;
use crate::kernel::workers::{Finder, Role, Seen};
use crate::server::telemetry::{Reading, Readings, WorkerUsage};

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
    finder: Finder,
    /// The processes that were seen to serve.
    roles: BTreeMap<u32, Role>,
    samples: u64,
    /// Samples since the last one in which a connection was open; `None` until there is one.
    empty: Option<u64>,
    sampled: Instant,
}

impl Workers {
    /// The workers of the process that was started here and serves on this port.
    pub fn new(root: Option<u32>, port: u16) -> Self {
        Self {
            root,
            finder: Finder::new(port, root),
            roles: BTreeMap::new(),
            samples: 0,
            empty: None,
            sampled: Instant::now(),
        }
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
        if self.finder.seen.values().all(|seen| seen.last.held.is_empty()) {
            self.empty = self.empty.map(|empty| empty + 1);
            return;
        }
        self.samples += 1 + self.empty.replace(0).unwrap_or(0);
        for seen in self.finder.seen.values_mut() {
            seen.held_sum += seen.last.held.len() as u64;
        }
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
        self.finder.seen.keys().filter_map(of).collect()
    }

    /// Connections may be too short to be seen. A child that uses CPU time while the load runs gets connections
    /// from its parent; a helper process uses next to none.
    fn judge_by_cpu(&mut self, used: &BTreeMap<u32, u64>) {
        let all: u64 = used.values().sum();
        let is_busy = |pid: &u32| used.get(pid).is_some_and(|used| used * 10 > all);
        let busy = self.finder.seen.keys().filter(|pid| is_busy(pid));
        let children: Vec<u32> =
            busy.copied().filter(|pid| !self.roles.contains_key(pid)).collect();
        if !children.is_empty() {
            self.roles.extend(self.root.map(|root| (root, Role::Acceptor)));
            self.roles.extend(children.into_iter().map(|child| (child, Role::Child)));
        }
    }

    /// Whether only the started process was seen to serve, and it has children.
    fn is_in_doubt(&self) -> bool {
        self.finder.seen.len() > 1 && self.roles.keys().copied().eq(self.root)
    }

    /// Looks at all processes once: which wait for the socket, and which connections each holds.
    /// Fails when the kernel does not tell which sockets there are.
    pub fn look(&mut self) -> Result<()> {
        if self.root.is_some() {
            self.finder.look()?;
            self.judge();
        }
        Ok(())
    }

    /// Updates the roles from the last look.
    fn judge(&mut self) {
        let seen = &self.finder.seen;
        self.roles.retain(|pid, _| seen.contains_key(pid));
        for (pid, role) in self.finder.roles() {
            let role = match role {
                Role::Holder => continue,
                Role::Child => Role::Child,
                Role::Worker | Role::Old | Role::Acceptor => Role::Worker,
            };
            // A worker that is known has closed its socket to drain. An acceptor stays one when its children end.
            let known = *self.roles.entry(pid).or_insert(role);
            if (known, role) == (Role::Child, Role::Child) {
                let acceptor = self.finder.acceptor_of(pid);
                self.roles.extend(acceptor.map(|pid| (pid, Role::Acceptor)));
            }
        }
    }

    /// What the last look found of each process that takes part, including a parent that only accepts.
    pub fn totals(&self) -> impl Iterator<Item = WorkerUsage> {
        self.roles.iter().enumerate().map(|(index, (&pid, &role))| {
            let seen = &self.finder.seen[&pid];
            WorkerUsage {
                index,
                pid,
                role,
                socket_inode: seen.sockets().first().copied(),
                held: Some(seen.last.held.len() as f64),
                ..WorkerUsage::default()
            }
        })
    }

    /// The processes that serve, the busiest first: by connections, then by CPU time.
    pub fn busiest(&self) -> Vec<u32> {
        let serving = self.roles.iter().filter(|(_, role)| **role != Role::Acceptor);
        let mut pids: Vec<u32> = serving.map(|(&pid, _)| pid).collect();
        pids.sort_by_cached_key(|pid| {
            let cpu = Usage::of(*pid).map_or(0, |usage| usage.cpu_nanoseconds);
            Reverse((self.finder.seen[pid].last.held.len(), cpu))
        });
        pids
    }

    /// Why no worker was seen, if some process could not be looked at.
    pub fn hidden(&self) -> Option<String> {
        let hidden = |(pid, reason): (&u32, &Option<String>)| {
            Some(format!("process {pid}: {}", reason.as_ref()?))
        };
        let mut seen = self.finder.seen.iter().map(|(pid, seen)| (pid, &seen.last.hidden));
        seen.find_map(hidden).filter(|_| self.roles.is_empty())
    }

    /// Reads the counters of all processes, including those that do not serve yet: if one serves later, its work
    /// since this moment is known. A worker that has just ended is missing.
    /// Fails when the kernel does not tell which sockets there are.
    pub fn read(&mut self) -> Result<Readings> {
        // A load begins or ends here: the next sample must be within it.
        (self.sampled, self.empty) = (Instant::now(), None);
        self.look()?;
        let mut serving: BTreeMap<u32, WorkerUsage> =
            self.totals().map(|worker| (worker.pid, worker)).collect();
        let reading = |(&pid, seen): (&u32, &Seen)| {
            let usage = Usage::of(pid).ok()?;
            let (held_sum, samples) = (seen.held_sum, self.samples);
            let totals = serving.remove(&pid);
            let serves = totals.is_some();
            let totals = totals.unwrap_or(WorkerUsage { pid, ..WorkerUsage::default() });
            Some(Reading { totals, usage, serves, held_sum, samples })
        };
        Ok(Readings(self.finder.seen.iter().filter_map(reading).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::open_sockets::How;
    use crate::kernel::procfs::Running;
    use crate::kernel::workers::Found;

    /// What a look found: a process that waits for this socket, and has these connections.
    fn look(waits: Option<u64>, held: &[u64]) -> Found {
        Found {
            listening: waits.iter().map(|&inode| (3, inode)).collect(),
            waits: waits.iter().map(|&inode| (inode, How::Accept)).collect(),
            held: held.iter().copied().collect(),
            ..Found::default()
        }
    }

    /// Looks at a parent 1 and its children 2 and 3.
    fn judge(workers: &mut Workers, found: [Found; 3]) {
        let running = |pid, parent| Running { pid, parent, started: 0 };
        let family = [running(1, 0), running(2, 1), running(3, 1)];
        workers.finder.take(family.into_iter().zip(found).collect());
        workers.judge();
    }

    fn family() -> Workers {
        Workers::new(Some(1), 80)
    }

    fn roles(workers: &Workers) -> [Option<Role>; 3] {
        [1, 2, 3].map(|pid| workers.roles.get(&pid).copied())
    }

    fn sockets(workers: &Workers) -> Vec<Option<u64>> {
        workers.totals().map(|worker| worker.socket_inode).collect()
    }

    #[test]
    fn who_waits_for_the_socket_is_a_worker_and_stays_one_while_it_is_blocked_or_drains() {
        let (mut workers, idle) = (family(), || look(None, &[]));
        judge(&mut workers, [idle(), look(Some(7), &[]), idle()]);
        assert_eq!(roles(&workers), [None, Some(Role::Worker), None]);
        let blocked = Found { waits: vec![], ..look(Some(7), &[50]) };
        judge(&mut workers, [idle(), blocked, look(Some(8), &[])]);
        assert_eq!(roles(&workers), [None, Some(Role::Worker), Some(Role::Worker)]);
        assert_eq!((workers.busiest(), sockets(&workers)), (vec![2, 3], vec![Some(7), Some(8)]));
        for held in [&[50][..], &[]] {
            judge(&mut workers, [idle(), look(None, held), look(Some(8), &[])]);
            assert_eq!(roles(&workers), [None, Some(Role::Worker), Some(Role::Worker)]);
        }
    }

    #[test]
    fn a_worker_that_closes_its_socket_to_drain_is_no_child_and_its_parent_that_serves_no_acceptor()
    {
        let (mut workers, idle) = (family(), || look(None, &[]));
        for draining in [look(Some(7), &[50]), look(None, &[50]), look(None, &[])] {
            judge(&mut workers, [look(Some(7), &[]), draining, idle()]);
            assert_eq!(roles(&workers), [Some(Role::Worker), Some(Role::Worker), None]);
        }
    }

    #[test]
    fn children_that_get_connections_from_their_parent_are_told_from_workers() {
        let (mut workers, idle) = (family(), || look(None, &[]));
        judge(&mut workers, [look(Some(7), &[]), idle(), idle()]);
        assert_eq!((workers.busiest(), workers.is_in_doubt()), (vec![1], true));
        judge(&mut workers, [look(Some(7), &[]), look(None, &[50]), look(None, &[51])]);
        let expected = [Some(Role::Acceptor), Some(Role::Child), Some(Role::Child)];
        assert_eq!((roles(&workers), workers.is_in_doubt()), (expected, false));
        judge(&mut workers, [look(Some(7), &[]), idle(), idle()]);
        assert_eq!(roles(&workers), expected);
        assert_eq!(workers.busiest().len(), 2);
    }

    #[test]
    fn a_child_that_works_while_the_load_runs_is_told_from_a_helper() {
        // Some inherit the listening socket by a plain fork, and do not wait for it.
        let children: [fn() -> Found; 2] =
            [|| look(None, &[]), || Found { waits: vec![], ..look(Some(7), &[]) }];
        for child in children {
            let mut workers = family();
            let judge = |workers: &mut Workers| {
                judge(workers, [look(Some(7), &[]), child(), child()]);
            };
            judge(&mut workers);
            workers.judge_by_cpu(&BTreeMap::from([(1, 100), (2, 0), (3, 5)]));
            assert_eq!((workers.busiest(), workers.is_in_doubt()), (vec![1], true));
            workers.judge_by_cpu(&BTreeMap::from([(1, 100), (2, 0), (3, 50)]));
            for _ in 0..2 {
                assert_eq!(roles(&workers), [Some(Role::Acceptor), None, Some(Role::Child)]);
                judge(&mut workers); // it stays so
            }
        }
    }

    #[test]
    fn a_child_that_only_inherited_a_connection_of_a_worker_is_none() {
        let mut workers = family();
        judge(&mut workers, [look(Some(7), &[50]), look(None, &[50]), look(None, &[])]);
        assert_eq!(roles(&workers), [Some(Role::Worker), None, None]);
    }

    #[test]
    fn what_is_seen_before_the_first_connection_and_after_the_last_is_not_averaged_in() {
        let (mut workers, idle) = (family(), || look(None, &[]));
        for held in [&[][..], &[50, 51], &[], &[52], &[], &[]] {
            judge(&mut workers, [idle(), look(Some(7), held), idle()]);
            workers.count_sample();
        }
        assert_eq!((workers.samples, workers.finder.seen[&2].held_sum), (3, 3));
    }

    #[test]
    fn the_one_with_most_connections_is_the_busiest() {
        let mut workers = family();
        judge(&mut workers, [look(None, &[]), look(Some(7), &[50]), look(Some(7), &[51, 52])]);
        assert_eq!(workers.busiest(), [3, 2]);
    }
}
