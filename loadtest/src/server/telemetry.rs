//! What the workers of a server did, read from its scoreboard or from the kernel.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::kernel::procfs::{ContextSwitches, CpuSeconds, Usage};
pub use crate::kernel::workers::Role;

/// What one worker did during a load. What cannot be known of a server is `None`, never 0.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct WorkerUsage {
    /// Its slot of the scoreboard; without one, its place among the workers by process id.
    pub index: usize,
    /// Its process id.
    pub pid: u32,
    /// How it takes part.
    #[serde(default)]
    pub role: Role,
    /// The inode of the listening socket that it accepts from: the same one in all workers that
    /// share it.
    pub socket_inode: Option<u64>,
    /// Connections it accepted, by its own count.
    pub connections: Option<u64>,
    /// Connections that it had open on average, if only the kernel's view is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<f64>,
    /// Requests it answered, by its own count.
    pub requests: Option<u64>,
    /// CPU time it used.
    pub cpu_seconds: CpuSeconds,
    /// Seconds that its threads were ready to run and waited for a CPU; `None` without schedstat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_queue_wait_seconds: Option<f64>,
    /// How often it left the CPU.
    pub context_switches: ContextSwitches,
    /// How often its accept loop was woken and found no connection, because another worker had taken it.
    pub wakeups_without_connection: Option<u64>,
    /// Connections that a load-aware policy gave to it (`--steer least-conn`).
    pub steered: Option<u64>,
    /// Connections that such a policy gave to it after the worker that they waited for had died.
    pub migrated: Option<u64>,
    /// How often it left a connection to a worker with fewer (`--accept least-conn`).
    pub gated: Option<u64>,
}

/// A worker's counters at some moment, since its start.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Totals since the start; its times are in `usage`, and `held` is what it has open now.
    pub(super) totals: WorkerUsage,
    pub(super) usage: Usage,
    /// Whether it was seen to serve. Other processes are read as well: they may serve later.
    pub(super) serves: bool,
    /// Sum over all samples of the connections it had open.
    pub(super) held_sum: u64,
    /// The number of samples.
    pub(super) samples: u64,
}

/// The counters of all workers of a server at some moment.
#[derive(Clone, Debug, Default)]
pub struct Readings(pub(super) Vec<Reading>);

impl Readings {
    /// What each worker did from an earlier reading to this one.
    /// Fails when these are not the same workers.
    pub fn since(&self, earlier: &Self) -> Result<Vec<WorkerUsage>> {
        let pids = |readings: &Self| readings.workers().map(|(_, pid)| pid).collect::<Vec<_>>();
        let (then, now) = (pids(earlier), pids(self));
        ensure!(
            then.iter().all(|pid| now.contains(pid)) && self.pairs(earlier).count() == now.len(),
            "the workers changed during the run: pids {then:?} became {now:?}"
        );
        Ok(self.pairs(earlier).map(|(now, then)| now.since(then)).collect())
    }

    /// CPU time, and time spent waiting for a CPU, of all workers since an earlier reading, in seconds; and how many
    /// threads they have.
    pub fn spent_since(&self, earlier: &Self) -> (f64, f64, u64) {
        let both = self.pairs(earlier);
        both.map(|(now, then)| now.usage.since(&then.usage)).fold((0.0, 0.0, 0), |sum, usage| {
            let wait = usage.wait_nanoseconds as f64 / 1e9;
            (sum.0 + usage.cpu_seconds(), sum.1 + wait, sum.2 + usage.threads)
        })
    }

    /// The workers' process ids and places.
    pub(super) fn workers(&self) -> impl Iterator<Item = (usize, u32)> {
        let serving = self.0.iter().filter(|reading| reading.serves);
        serving.map(|reading| (reading.totals.index, reading.totals.pid))
    }

    /// Each worker's reading with its earlier one, if it has one.
    fn pairs<'a>(&'a self, earlier: &'a Self) -> impl Iterator<Item = (&'a Reading, &'a Reading)> {
        self.0.iter().filter(|reading| reading.serves).filter_map(|now| {
            let same = |then: &&Reading| then.totals.pid == now.totals.pid;
            Some((now, earlier.0.iter().find(same)?))
        })
    }
}

impl Reading {
    fn since(&self, earlier: &Self) -> WorkerUsage {
        let usage = self.usage.since(&earlier.usage);
        let wait = usage.wait_nanoseconds as f64 / 1e9;
        let added = |of: fn(&WorkerUsage) -> Option<u64>| {
            Some(of(&self.totals)?.saturating_sub(of(&earlier.totals)?))
        };
        let samples = self.samples.saturating_sub(earlier.samples);
        let held = self.held_sum.saturating_sub(earlier.held_sum) as f64 / samples as f64;
        WorkerUsage {
            connections: added(|worker| worker.connections),
            held: (samples > 0).then_some(held),
            requests: added(|worker| worker.requests),
            cpu_seconds: usage.cpu,
            run_queue_wait_seconds: (usage.cpu_nanoseconds > 0).then_some(wait),
            context_switches: usage.switches,
            wakeups_without_connection: added(|worker| worker.wakeups_without_connection),
            steered: added(|worker| worker.steered),
            migrated: added(|worker| worker.migrated),
            gated: added(|worker| worker.gated),
            ..self.totals.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(pid: u32, requests: Option<u64>) -> Reading {
        let totals = WorkerUsage { pid, requests, ..WorkerUsage::default() };
        Reading { totals, serves: true, ..Reading::default() }
    }

    #[test]
    fn a_worker_that_was_replaced_makes_no_row() {
        let before = Readings(vec![reading(10, Some(3))]);
        assert!(Readings(vec![reading(11, Some(3))]).since(&before).is_err());
        assert!(Readings(vec![]).since(&before).is_err());
        let usage = Readings(vec![reading(10, Some(5))]).since(&before).unwrap();
        assert_eq!(usage[0].requests, Some(2));
    }

    #[test]
    fn a_process_that_turned_out_to_be_a_worker_has_a_row() {
        let before = Readings(vec![Reading { serves: false, ..reading(10, None) }]);
        assert!(before.since(&before).unwrap().is_empty());
        assert_eq!(Readings(vec![reading(10, None)]).since(&before).unwrap().len(), 1);
    }

    #[test]
    fn what_cannot_be_known_stays_unknown_and_connections_are_averaged_over_the_samples() {
        let then = Reading { held_sum: 10, samples: 2, ..reading(1, None) };
        let now = Reading { held_sum: 40, samples: 6, ..reading(1, None) };
        let usage = now.since(&then);
        assert_eq!((usage.requests, usage.connections, usage.held), (None, None, Some(7.5)));
        assert_eq!(then.since(&then).held, None);
    }
}
