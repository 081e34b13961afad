//! wrk loads several servers in turn, as in `compare`, and every slice goes into the store.

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

/// A subject: its name in tables, and its server with options. If there are several servers, the others
/// join the first on its port.
pub type Subject = (&'static str, Vec<String>);

/// The load on all subjects.
#[derive(Clone, Debug)]
pub struct Interleaved<'a> {
    /// The name of its samples.
    pub part: &'a str,
    /// Threads and connections of wrk.
    pub wrk: [u64; 2],
    /// Whether connections are kept, or a new one is opened for each request.
    pub keep_alive: bool,
    /// Slices of each subject, of a second each.
    pub rounds: u32,
    /// Whether each subject has one more slice before the first round, which is not counted.
    pub warm_up: bool,
    /// Whether each subject is started for each of its slices, and warmed up for it: hundreds of idle processes would
    /// disturb the others.
    pub one_at_a_time: bool,
    /// The cores that servers and wrk share; `None`: all.
    pub cores: Option<Vec<usize>>,
}

/// Context switches of the server for each request.
pub fn switches_each(slice: &Slice) -> Option<f64> {
    Some(slice.server_switches? as f64 / slice.requests as f64)
}

/// What the kernel reported of workers: how evenly they were busy, and how often they left the CPU.
pub fn evidence<'a>(samples: &'a Samples<Slice>, title: &str) -> Grid<'a, Slice> {
    let unevenness = |slice: &Slice| slice.unevenness(|worker| worker.requests);
    let grid = samples.table(title).middles("busiest / average worker", Unit::Ratio, unevenness);
    grid.middles("switches per request", Unit::Ratio, switches_each)
}

/// The post's load: kept connections on all cores, without a warm-up.
pub const WRK: Interleaved = Interleaved {
    part: "",
    wrk: [12, 100],
    keep_alive: true,
    rounds: 0,
    warm_up: false,
    one_at_a_time: false,
    cores: None,
};

impl Interleaved<'_> {
    /// wrk loads all subjects, round by round. The servers start before the first slice that is not in
    /// the store yet, and run until the last.
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
            let start = |subject| affinity::on(cores, || start_all(subject));
            if self.one_at_a_time {
                let mut running = start(&subjects[place])?;
                slice(&mut running)?;
                return slice(&mut running);
            }
            if up.is_empty() {
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
