//! A server that is up, and that wrk or the prober visits now and then.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::interrupt;
use crate::kernel::procfs::{own_cpu, waited};
use crate::load::Load;
use crate::load::perf::Meter;
use crate::load::wrk::{Moment, Wrk};
use crate::measure::comparison::{Cost, RateSlice, Slice, Worker};
use crate::measure::cross_check::check_count;
use crate::probe::counters::Counters;
use crate::probe::drive;
use crate::probe::ideal::Service;
use crate::probe::target::Target;
use crate::server::{Readings, Server};
use crate::statistics::latency::{Distribution, percentile_of};
use crate::warnings::Warning;

/// How long a server may take to notice that the connections of the last visit are closed. One that
/// takes longer is busy with them still, and that belongs to what is measured.
const BETWEEN_VISITS: Duration = Duration::from_secs(1);

/// When wrk's waiting is looked at: as late as it surely still runs.
const NEAR_THE_END: f64 = 0.9;

/// How long an answer to the prober may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Who is visited: one server, or several that share a port and count as one.
pub struct Visited {
    servers: Vec<Server>,
    url: String,
}

impl Visited {
    /// Servers on the port that this URL names.
    pub fn new(servers: Vec<Server>, url: String) -> Self {
        Self { servers, url }
    }

    /// How many workers it has; `None` where they cannot be seen.
    pub fn workers(&mut self) -> Option<usize> {
        let pids: usize = self.servers.iter_mut().map(|server| server.worker_pids().len()).sum();
        (pids > 0).then_some(pids)
    }

    /// Has wrk visit it. Gives the slice, and whether it was cut short.
    ///
    /// # Errors
    /// When it dies, or wrk and the server count differently.
    pub fn slice(
        &mut self,
        wrk: &Wrk,
        load: &Load,
        round: u32,
        begin: Instant,
        show: &mut dyn FnMut(Duration),
    ) -> Result<(Slice, bool)> {
        self.slice_with(wrk, load, None, round, begin, show)
    }

    /// The same, and counts with a meter what each request costs.
    ///
    /// # Errors
    /// As for [`slice`](Self::slice), and when nothing can be counted.
    pub fn slice_with(
        &mut self,
        wrk: &Wrk,
        load: &Load,
        meter: Option<&Meter>,
        round: u32,
        begin: Instant,
        show: &mut dyn FnMut(Duration),
    ) -> Result<(Slice, bool)> {
        let servers = &mut self.servers;
        servers.iter_mut().for_each(|server| server.wait_until_idle(BETWEEN_VISITS));
        let before = read(servers)?;
        let requests_before = requests(servers);
        let own_before = own_cpu();
        let at = begin.elapsed();
        let mut wrk_waited = None;
        let pids: Vec<u32> = servers.iter_mut().flat_map(Server::worker_pids).collect();
        let look = |Moment { elapsed, pid }| {
            show(at + elapsed);
            if wrk_waited.is_none() && elapsed >= load.duration.mul_f64(NEAR_THE_END) {
                wrk_waited = waited(pid).map(|time| time.as_secs_f64() / elapsed.as_secs_f64());
            }
            check_alive(servers, &before)
        };
        let measured = match meter {
            None => wrk.run(load, &self.url, None, look).map(|measured| (measured, None)),
            Some(meter) => meter
                .measure(&pids, wrk, load, &self.url, look)
                .map(|(measured, spent)| (measured, Some(spent))),
        };
        // First: if a server has died, that is the reason, and not what wrk says of it.
        check_alive(servers, &before)?;
        let (measured, spent) = measured?;
        let after = read(servers)?;
        let own = own_cpu() - own_before;
        let seconds = measured.duration_us as f64 / 1e6;
        let served = requests(servers).zip(requests_before);
        check_count(load, &measured, served.map(|(now, then)| now.saturating_sub(then)))?;
        let each = |spent: f64| spent / measured.requests as f64;
        let visible = !pids.is_empty();
        let mut slice = Slice {
            round,
            at_seconds: at.as_secs_f64(),
            seconds,
            requests: measured.requests,
            requests_per_second: measured.requests as f64 / seconds,
            errors: measured.errors.clone(),
            server_cpu_seconds: visible.then_some(0.0),
            server_wait_seconds: visible.then_some(0.0),
            server_switches: visible.then_some(0),
            cost: spent.map(|spent| Cost {
                user: each(spent.user),
                system: each(spent.system),
                total: each(spent.total),
            }),
            wrk_cpu_seconds: measured.cpu_seconds,
            wrk_wait_seconds: wrk_waited.unwrap_or(0.0) * seconds,
            own_cpu_seconds: own.as_secs_f64(),
            latencies: Distribution::of(&measured.distribution)?,
            workers: Vec::new(),
        };
        for (after, before) in after.iter().zip(&before) {
            let (cpu, wait) = after.spent_since(before);
            slice.server_cpu_seconds = slice.server_cpu_seconds.map(|sum| sum + cpu);
            slice.server_wait_seconds = slice.server_wait_seconds.map(|sum| sum + wait);
            for worker in after.since(before)? {
                let switches = worker.context_switches;
                let switches = switches.voluntary + switches.involuntary;
                slice.server_switches = slice.server_switches.map(|sum| sum + switches);
                // Several servers number their workers each for itself.
                let index = if servers.len() == 1 { worker.index } else { slice.workers.len() };
                let held = worker.held.map(|held| held.round() as u64);
                let (connections, requests) = (worker.connections.or(held), worker.requests);
                slice.workers.push(Worker { index, connections, requests });
            }
        }
        Ok((slice, measured.interrupted))
    }

    /// Has the prober visit it.
    ///
    /// # Errors
    /// When it dies, and after Ctrl-C.
    fn probe(
        &mut self,
        path: &str,
        expect: Option<&str>,
        load: &drive::Load,
        mut show: impl FnMut(Duration),
    ) -> Result<Counters> {
        let servers = &mut self.servers;
        servers.iter_mut().for_each(|server| server.wait_until_idle(BETWEEN_VISITS));
        let before = read(servers)?;
        let mut target = Target::of(&servers[0], path, load.keep_alive, ANSWER_WITHIN);
        if let Some(text) = expect {
            target.expect = Some(text.into());
        }
        let counters = drive::run(target, load, Instant::now(), |_, elapsed| show(elapsed));
        check_alive(servers, &before)?;
        interrupt::check()?;
        counters
    }

    /// What it serves to so many clients of the prober, each of which waits for its answer, in
    /// requests/s.
    ///
    /// # Errors
    /// When it dies or answers nothing, and after Ctrl-C.
    pub fn closed_loop(
        &mut self,
        path: &str,
        expect: Option<&str>,
        load: &drive::Load,
        show: impl FnMut(Duration),
    ) -> Result<f64> {
        let counters = self.probe(path, expect, load, show)?;
        ensure!(
            counters.outcomes.ok > 0,
            "it gave the prober no good answer{}",
            counters.first_wrong.map_or_else(String::new, |reason| format!(": {reason}"))
        );
        Ok(counters.outcomes.ok as f64 / counters.lasted.as_secs_f64())
    }

    /// Has the prober ask at a fixed rate. Where the service time is known, the slice has the ideal.
    ///
    /// # Errors
    /// When it dies, and after Ctrl-C.
    pub fn rate_slice(
        &mut self,
        path: &str,
        expect: Option<&str>,
        load: &drive::Load,
        service: Option<Service>,
        round: u32,
        show: impl FnMut(Duration),
    ) -> Result<RateSlice> {
        let counters = self.probe(path, expect, load, show)?;
        let ideal = service.map(|service| service.ideal(&counters.arrivals)).transpose()?;
        let ideal = ideal.filter(|ideal| !ideal.is_empty());
        Ok(RateSlice {
            round,
            due: counters.attempted + counters.not_sent,
            ok: counters.outcomes.ok,
            not_sent: counters.not_sent,
            lost: counters.attempted - counters.outcomes.ok,
            lateness_p99_us: percentile_of(&counters.lateness, 99.0),
            client_late: counters.client_was_late(),
            latencies: Distribution::from_histogram(&counters.latency),
            ideal_us: ideal.map(|ideal| [50.0, 99.0].map(|part| percentile_of(&ideal, part))),
        })
    }

    /// Stops it. Gives what its log says.
    pub fn stop(self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        for server in self.servers {
            let program = server.name().to_owned();
            warnings.extend(server.warnings());
            if let Ok(Some(how)) = server.stop() {
                warnings.push(Warning::DidNotStop { program, how });
            }
        }
        warnings
    }
}

fn read(servers: &mut [Server]) -> Result<Vec<Readings>> {
    servers.iter_mut().map(Server::read).collect()
}

/// Requests by their own count; `None` if one has none.
fn requests(servers: &[Server]) -> Option<u64> {
    servers.iter().map(Server::requests).sum()
}

fn check_alive(servers: &mut [Server], before: &[Readings]) -> Result<()> {
    servers.iter_mut().zip(before).try_for_each(|(server, before)| server.check_alive(before))
}
