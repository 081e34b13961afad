//! wrk asks several servers in turn, as in `compare`, and every slice goes into the store.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::interrupt;
use crate::kernel::affinity;
use crate::lab::context::{Context, start};
use crate::lab::samples::{Grid, Samples};
use crate::load::Load;
use crate::load::wrk::Wrk;
use crate::measure::comparison::Slice;
use crate::measure::slice::Running;
use crate::report::model::Unit;

/// A subject: what tables call it, and the server with its options; of several, the others join the
/// first on its port.
pub type Subject = (&'static str, Vec<String>);

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

/// CPU time of the server for each request, in microseconds.
pub fn cpu_us(slice: &Slice) -> Option<f64> {
    Some(slice.server_cpu_seconds? * 1e6 / slice.requests as f64)
}

/// How often a worker left the CPU for each request.
pub fn switches_each(slice: &Slice) -> Option<f64> {
    Some(slice.server_switches? as f64 / slice.requests as f64)
}

/// What the kernel saw of workers: how evenly they were busy, and how often they left the CPU.
pub fn evidence<'a>(samples: &'a Samples<Slice>, title: &str) -> Grid<'a, Slice> {
    let unevenness = |slice: &Slice| slice.unevenness(|worker| worker.requests);
    let grid = samples.table(title).middles("busiest / average worker", Unit::Ratio, unevenness);
    grid.middles("switches per request", Unit::Ratio, switches_each)
}

/// Kept connections on all cores, without a warm-up, as many as the post had.
pub const WRK: Interleaved = Interleaved {
    part: "",
    wrk: [12, 100],
    keep_alive: true,
    rounds: 0,
    warm_up: false,
    cores: None,
};

impl Interleaved<'_> {
    /// Has wrk ask everybody, round by round. Servers are started before the first slice that is
    /// not in the store yet, and are up until the last.
    pub fn run(&self, context: &mut Context, subjects: &[Subject]) -> Result<Samples<Slice>> {
        let wrk = Wrk::find()?;
        let begin = Instant::now();
        let [threads, connections] = self.wrk;
        let duration = Duration::from_secs(1);
        let load = Load::new(threads, connections, duration, self.keep_alive);
        load.check()?;
        let cores = self.cores.as_deref();
        let slice = |running: &mut Running| {
            interrupt::check()?;
            let run = || running.run_wrk(&wrk, &load, None, 0, begin, &mut |_| {})?.whole();
            let slice = affinity::on(cores, run)?;
            ensure!(slice.requests > 0, "nothing was answered");
            Ok(slice)
        };
        let mut up: Vec<Running> = Vec::new();
        let places = subjects.iter().enumerate().map(|(place, (name, _))| (*name, place));
        context.in_turns(self.part, self.rounds, &places.collect::<Vec<_>>(), |&place| {
            if up.is_empty() {
                let start = |subject| affinity::on(cores, || start_all(subject));
                up = subjects.iter().map(start).collect::<Result<_>>()?;
                if self.warm_up {
                    up.iter_mut().try_for_each(|running| slice(running).map(drop))?;
                }
            }
            slice(&mut up[place])
        })
    }
}

fn start_all((name, servers): &Subject) -> Result<Running> {
    let (mut up, mut join) = (Vec::new(), String::new());
    for server in servers {
        let started = start(&format!("{server}{join}"));
        let started = started.with_context(|| format!("cannot start '{name}'"))?;
        join = format!(" --join --port {}", started.address().port());
        up.push(started);
    }
    let address = up.first().context("a subject without a server")?.address();
    Ok(Running::new(up, format!("http://{address}/")))
}
