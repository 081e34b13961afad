//! A server that is up and that wrk visits now and then.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::kernel::procfs::{own_cpu, waited};
use crate::load::Load;
use crate::load::wrk::{Moment, Wrk};
use crate::measure::comparison::{Slice, Worker};
use crate::measure::cross_check::check_count;
use crate::server::{Readings, Server};
use crate::statistics::latency::Distribution;
use crate::warnings::Warning;

/// How long a server may take to notice that the connections of the last visit are closed. One that
/// takes longer is busy with them still, and that belongs to what is measured.
const BETWEEN_VISITS: Duration = Duration::from_secs(1);

/// When wrk's waiting is looked at: as late as it surely still runs.
const NEAR_THE_END: f64 = 0.9;

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

    /// Where to reach it.
    pub fn address(&self) -> SocketAddr {
        self.servers[0].address()
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
        let servers = &mut self.servers;
        servers.iter_mut().for_each(|server| server.wait_until_idle(BETWEEN_VISITS));
        let before = read(servers)?;
        let requests_before = requests(servers);
        let own_before = own_cpu();
        let at = begin.elapsed();
        let mut wrk_waited = None;
        let measured = wrk.run(load, &self.url, None, |Moment { elapsed, pid }| {
            show(at + elapsed);
            if wrk_waited.is_none() && elapsed >= load.duration.mul_f64(NEAR_THE_END) {
                wrk_waited = waited(pid).map(|time| time.as_secs_f64() / elapsed.as_secs_f64());
            }
            check_alive(servers, &before)
        });
        // First: if a server has died, that is the reason, and not what wrk says of it.
        check_alive(servers, &before)?;
        let measured = measured?;
        let after = read(servers)?;
        let own = own_cpu() - own_before;
        let seconds = measured.duration_us as f64 / 1e6;
        check_count(load, &measured, requests(servers).saturating_sub(requests_before))?;
        let mut slice = Slice {
            round,
            at_seconds: at.as_secs_f64(),
            seconds,
            requests: measured.requests,
            requests_per_second: measured.requests as f64 / seconds,
            errors: measured.errors.clone(),
            server_cpu_seconds: Some(0.0),
            server_wait_seconds: Some(0.0),
            server_switches: Some(0),
            cost: None,
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
                let (connections, requests) = (worker.connections, worker.requests);
                slice.workers.push(Worker { index, connections, requests });
            }
        }
        Ok((slice, measured.interrupted))
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

fn requests(servers: &[Server]) -> u64 {
    servers.iter().filter_map(Server::requests).sum()
}

fn check_alive(servers: &mut [Server], before: &[Readings]) -> Result<()> {
    servers.iter_mut().zip(before).try_for_each(|(server, before)| server.check_alive(before))
}
