//! A running server, and one slice of load on it from wrk or the prober.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::interrupt;
use crate::kernel::procfs::{descendants, own_cpu, waited};
use crate::load::Load;
use crate::load::perf::Unit;
use crate::load::wrk::{Moment, Wrk};
use crate::measure::comparison::{Slice, Worker};
use crate::measure::cross_check::check_count;
use crate::probe::counters::Counters;
use crate::probe::load as probe;
use crate::probe::run::run;
use crate::server::telemetry::WorkerUsage;
use crate::server::{Readings, Server};
use crate::statistics::latency::Distribution;
use crate::warnings::Warning;

/// How long a server may take to notice that the connections of the last slice are closed. If it takes longer,
/// that is part of what is measured.
const IDLE_WITHIN: Duration = Duration::from_secs(1);

/// When wrk's time on the run queue is read: as late as wrk certainly still runs.
const NEAR_THE_END: f64 = 0.9;

/// The result of one run of wrk.
pub struct WrkRun {
    /// The slice, for comparisons.
    pub slice: Slice,
    /// Everything that is known of each worker.
    pub workers: Vec<WorkerUsage>,
    /// Whether Ctrl-C ended it.
    pub interrupted: bool,
}

impl WrkRun {
    /// The slice, unless it was cut short.
    pub fn whole(self) -> Result<Slice> {
        ensure!(!self.interrupted, "interrupted");
        Ok(self.slice)
    }
}

/// A running subject: one server, or several that share a port and count as one.
pub struct Running {
    servers: Vec<Server>,
    url: String,
}

impl Running {
    /// Servers on the port of this URL.
    pub fn new(servers: Vec<Server>, url: String) -> Self {
        Self { servers, url }
    }

    fn pids(&mut self) -> Vec<u32> {
        self.servers.iter_mut().flat_map(Server::worker_pids).collect()
    }

    /// How many workers it has; `None` if they cannot be seen.
    pub fn workers(&mut self) -> Option<usize> {
        Some(self.pids().len()).filter(|&pids| pids > 0)
    }

    /// Loads it with wrk, and measures the cost of a request, if a unit is given.
    ///
    /// # Errors
    /// When it dies, the counts of wrk and the server differ, or the cost cannot be measured.
    pub fn run_wrk(
        &mut self,
        wrk: &Wrk,
        load: &Load,
        cost: Option<Unit>,
        round: u32,
        begin: Instant,
        show: &mut dyn FnMut(Duration),
    ) -> Result<WrkRun> {
        let before = read_idle(&mut self.servers)?;
        let pids = self.pids();
        let servers = &mut self.servers;
        let mut whole: Vec<u32> = Vec::new();
        if cost.is_some() {
            whole.extend(servers.iter_mut().flat_map(Server::serving_pids));
        }
        ensure!(
            cost.is_none() || !whole.is_empty(),
            "cannot see the processes of the server at {}, so what a request costs it cannot be measured; run \
             loadtest on its machine, as its user or as root",
            self.url
        );
        let requests_before = requests(servers);
        let own_before = own_cpu();
        let at = begin.elapsed();
        let mut wrk_waited = None;
        let look = |Moment { elapsed, pid }| {
            show(at + elapsed);
            if wrk_waited.is_none() && elapsed >= load.duration.mul_f64(NEAR_THE_END) {
                // perf starts wrk.
                let below = cost.and_then(|_| descendants(&BTreeSet::from([pid])).ok());
                let pids = below.into_iter().flatten().map(|it| it.pid).chain([pid]);
                let time: Duration = pids.filter_map(waited).sum();
                wrk_waited = Some(time.as_secs_f64() / elapsed.as_secs_f64());
            }
            check_alive(servers, &before)
        };
        let measured = match cost {
            None => wrk.run(load, &self.url, None, look).map(|measured| (measured, None)),
            Some(unit) => unit
                .measure(&whole, wrk, load, &self.url, look)
                .map(|(measured, cost)| (measured, Some(cost))),
        };
        // First: if a server has died, that is the reason, and not wrk's error.
        check_alive(servers, &before)?;
        let (measured, cost) = measured?;
        let after = read(servers)?;
        let own = own_cpu() - own_before;
        let seconds = measured.duration_us as f64 / 1e6;
        let served = requests(servers).zip(requests_before);
        check_count(load, &measured, served.map(|(now, then)| now.saturating_sub(then)))?;

        let (mut cpu_seconds, mut wait_seconds, mut threads) = (0.0, 0.0, 0);
        let mut used = Some(Vec::new());
        for ((server, after), before) in servers.iter_mut().zip(&after).zip(&before) {
            let (cpu, wait, of_server) = after.spent_since(before);
            cpu_seconds += cpu;
            wait_seconds += wait;
            threads += of_server;
            let workers = server.used(before, after)?;
            used = used.zip(workers).map(|(all, workers)| [all, workers].concat());
        }
        let is_visible = used.is_some() && !pids.is_empty();
        let mut workers = used.unwrap_or_default();
        if servers.len() > 1 {
            // Each server numbers its workers from 0.
            workers.iter_mut().enumerate().for_each(|(place, worker)| worker.index = place);
        }
        let switches = workers.iter().map(|worker| worker.context_switches);
        let switches = switches.map(|switches| switches.voluntary + switches.involuntary).sum();
        let slice = Slice {
            round,
            at_seconds: at.as_secs_f64(),
            seconds,
            requests: measured.requests,
            requests_per_second: measured.requests as f64 / seconds,
            errors: measured.errors,
            server_cpu_seconds: is_visible.then_some(cpu_seconds),
            server_wait_seconds: is_visible.then_some(wait_seconds),
            server_switches: is_visible.then_some(switches),
            server_threads: is_visible.then_some(threads),
            cost,
            wrk_cpu_seconds: measured.cpu_seconds,
            wrk_wait_seconds: wrk_waited.unwrap_or(0.0) * seconds,
            own_cpu_seconds: own.as_secs_f64(),
            latencies: Distribution::of(&measured.distribution),
            workers: workers.iter().map(Worker::of).collect(),
        };
        Ok(WrkRun { slice, workers, interrupted: measured.interrupted })
    }

    /// Loads it with the prober: every answer must be `expect`, if that is given.
    ///
    /// # Errors
    /// When it dies, and after Ctrl-C.
    pub fn probe(
        &mut self,
        path: &str,
        expect: Option<&str>,
        load: probe::Load,
    ) -> Result<Counters> {
        let servers = &mut self.servers;
        let before = read_idle(servers)?;
        let of_server = probe::Load::of(&servers[0], path);
        let load = probe::Load {
            url: of_server.url,
            // The paths of a mix have different answers.
            expect: expect.map(str::to_owned).or(of_server.expect.filter(|_| load.mix.is_empty())),
            timeout_ms: of_server.timeout_ms,
            ..load
        };
        let counters = run(servers[0].address(), &load, Instant::now(), |_, _| {});
        check_alive(servers, &before)?;
        interrupt::check()?;
        counters?.unbroken()
    }

    /// Stops it, and returns the warnings of its log.
    pub fn stop(self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        for mut server in self.servers {
            let program = server.name().to_owned();
            warnings.extend(server.warnings());
            if let Ok(Some(how)) = server.stop() {
                warnings.push(Warning::DidNotStop { program, how });
            }
        }
        warnings
    }
}

/// Reads the counters as soon as the servers have finished the slice before.
fn read_idle(servers: &mut [Server]) -> Result<Vec<Readings>> {
    servers.iter().try_for_each(Server::check_reachable)?;
    servers.iter_mut().for_each(|server| server.wait_until_idle(IDLE_WITHIN));
    read(servers)
}

fn read(servers: &mut [Server]) -> Result<Vec<Readings>> {
    servers.iter_mut().map(Server::read).collect()
}

/// Requests by the servers' own count; `None` if one has none.
fn requests(servers: &[Server]) -> Option<u64> {
    servers.iter().map(Server::requests).sum()
}

fn check_alive(servers: &mut [Server], before: &[Readings]) -> Result<()> {
    servers.iter_mut().zip(before).try_for_each(|(server, before)| server.check_alive(before))
}
