//! wrk asks several servers in turn, as in `compare`, and every slice goes into the store.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::kernel::affinity;
use crate::lab::context::{Context, start};
use crate::lab::samples::Samples;
use crate::load::Load;
use crate::load::wrk::Wrk;
use crate::measure::comparison::Slice;
use crate::measure::slice::Visited;
use crate::statistics::latency::{self, Latency};

/// A subject: what tables call it, and the server with its options; of several, the others join the
/// first on its port.
pub type Subject = (String, Vec<String>);

/// What all subjects are put through.
#[derive(Clone, Debug)]
pub struct Interleaved<'a> {
    /// What its samples are called.
    pub part: &'a str,
    /// Threads and connections of wrk.
    pub wrk: [u64; 2],
    /// Whether connections are kept, or one is opened for each request.
    pub keep_alive: bool,
    /// Slices of a second of each.
    pub rounds: u32,
    /// Whether each has a slice before the first round, which counts for nothing.
    pub warm_up: bool,
    /// The cores that servers and wrk may use together; all, if nothing is said.
    pub cores: Option<Vec<usize>>,
}

/// What came of one slice.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct WrkSample {
    /// Answers per second.
    pub requests_per_second: f64,
    /// Answers.
    pub requests: u64,
    /// CPU time of all workers, in seconds.
    pub cpu_seconds: f64,
    /// How often workers left the CPU.
    pub switches: u64,
    /// Requests that each worker answered.
    pub served: Vec<u64>,
    /// Latencies in microseconds, as wrk corrects them.
    pub latency: Latency,
}

impl WrkSample {
    fn of(slice: &Slice) -> Result<Self> {
        let latency = latency::merged([&slice.latencies].into_iter())?;
        let latency = latency.context("nothing was answered")?;
        Ok(Self {
            requests_per_second: slice.requests_per_second,
            requests: slice.requests,
            cpu_seconds: slice.server_cpu_seconds.context("the CPU time cannot be read")?,
            switches: slice.server_switches.unwrap_or_default(),
            served: slice.workers.iter().filter_map(|worker| worker.requests).collect(),
            latency,
        })
    }

    /// CPU time of the server for each request, in microseconds.
    pub fn cpu_us(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.requests as f64
    }

    /// How often a worker left the CPU for each request.
    pub fn switches_each(&self) -> f64 {
        self.switches as f64 / self.requests as f64
    }

    /// The busiest worker's requests over the average worker's.
    pub fn unevenness(&self) -> f64 {
        let most = self.served.iter().max().copied().unwrap_or(0) as f64;
        most * self.served.len() as f64 / self.served.iter().sum::<u64>().max(1) as f64
    }
}

impl Interleaved<'_> {
    /// Has wrk ask everybody, round by round. Servers are started before the first slice that is
    /// not in the store yet, and are up until the last.
    ///
    /// # Errors
    /// When a server does not start or dies, and after Ctrl-C.
    pub fn run(&self, context: &mut Context, subjects: &[Subject]) -> Result<Samples<WrkSample>> {
        let wrk = Wrk::find()?;
        let begin = Instant::now();
        let [threads, connections] = self.wrk;
        let duration = Duration::from_secs(1);
        let load = Load { threads, connections, duration, keep_alive: self.keep_alive };
        load.check()?;
        let slice = |visited: &mut Visited| {
            crate::interrupt::check()?;
            let cores = self.cores.as_deref();
            let slice =
                affinity::on(cores, || visited.slice(&wrk, &load, None, 0, begin, &mut |_| {}))?;
            WrkSample::of(&slice)
        };
        let mut up: Vec<Visited> = Vec::new();
        let names: Vec<&str> = subjects.iter().map(|(name, _)| name.as_str()).collect();
        context.in_turns(self.part, &names, self.rounds, |subject| {
            if up.is_empty() {
                let start = |subject| affinity::on(self.cores.as_deref(), || start_all(subject));
                up = subjects.iter().map(start).collect::<Result<_>>()?;
                if self.warm_up {
                    up.iter_mut().try_for_each(|visited| slice(visited).map(drop))?;
                }
            }
            slice(&mut up[subject])
        })
    }
}

fn start_all((name, servers): &Subject) -> Result<Visited> {
    let mut up = Vec::new();
    let mut join = String::new();
    for server in servers {
        let started = start(&format!("{server}{join}"));
        let started = started.with_context(|| format!("'{name}' takes no part"))?;
        join = format!(" --join --port {}", started.address().port());
        up.push(started);
    }
    let address = up.first().context("a subject without a server")?.address();
    Ok(Visited::new(up, format!("http://{address}/")))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A slice in which this was answered by each worker.
    pub fn slice(requests_per_second: f64, served: &[u64]) -> WrkSample {
        WrkSample {
            requests_per_second,
            requests: served.iter().sum(),
            cpu_seconds: 0.5,
            switches: 1000,
            served: served.to_vec(),
            latency: Latency { stdev: 100.0, ..Latency::default() },
        }
    }

    #[test]
    fn one_worker_of_four_that_does_it_all_is_four_times_the_average() {
        assert_eq!(slice(1000.0, &[0, 1000, 0, 0]).unevenness(), 4.0);
        assert_eq!(slice(1000.0, &[250; 4]).unevenness(), 1.0);
    }
}
