//! wrk visits several servers in turn, as in `compare`, and every visit goes into the notebook.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::kernel::affinity;
use crate::lab::estimate::Sure;
use crate::lab::store::Notebook;
use crate::load::Load;
use crate::measure::comparison::Slice;
use crate::measure::schedule::schedule;
use crate::measure::slice::Visited;
use crate::server::{Server, Spec};
use crate::statistics::latency;
use crate::statistics::{bootstrap, geometric_mean, mean, median};

/// Who takes part.
#[derive(Clone, Debug, PartialEq)]
pub struct Entrant {
    /// What tables call it.
    pub name: String,
    /// The server with its options; of several, the others join the first on its port.
    pub servers: Vec<String>,
}

impl Entrant {
    /// One server.
    pub fn one(name: &str, server: impl Into<String>) -> Self {
        Self { name: name.into(), servers: vec![server.into()] }
    }
}

/// What all of them are put through.
#[derive(Clone, Debug)]
pub struct Course<'a> {
    /// What its samples are called.
    pub name: &'a str,
    /// What is asked of wrk.
    pub load: Load,
    /// What is asked for.
    pub path: &'a str,
    /// Visits of each.
    pub rounds: u32,
    /// Whether each is visited once before the first round; that counts for nothing.
    pub warm_up: bool,
    /// The cores that servers and wrk may use together; all, if nothing is said.
    pub cores: Option<Vec<usize>>,
}

/// What came of one visit.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Visit {
    /// Answers per second.
    pub requests_per_second: f64,
    /// Answers.
    pub requests: u64,
    /// Answers that were errors, and what else went wrong.
    pub errors: u64,
    /// CPU time of all workers, in seconds.
    pub cpu_seconds: f64,
    /// How often workers left the CPU.
    pub switches: u64,
    /// Connections that each worker accepted, and requests that it answered.
    pub connections: Vec<u64>,
    /// As above.
    pub served: Vec<u64>,
    /// Latencies in microseconds, as wrk corrects them: mean, standard deviation, percentiles, greatest.
    pub mean: f64,
    /// As above.
    pub stdev: f64,
    /// As above.
    pub p50: f64,
    /// As above.
    pub p99: f64,
    /// As above.
    pub max: f64,
}

impl Visit {
    fn of(slice: &Slice) -> Result<Self> {
        let latency = latency::merged([&slice.latencies].into_iter())?;
        let latency = latency.context("nothing was answered")?;
        Ok(Self {
            requests_per_second: slice.requests_per_second,
            requests: slice.requests,
            errors: slice.errors.total(),
            cpu_seconds: slice.server_cpu_seconds.unwrap_or(f64::NAN),
            switches: slice.server_switches.unwrap_or_default(),
            connections: slice.workers.iter().filter_map(|worker| worker.connections).collect(),
            served: slice.workers.iter().filter_map(|worker| worker.requests).collect(),
            mean: latency.mean,
            stdev: slice.latencies.standard_deviation(),
            p50: latency.p50 as f64,
            p99: latency.p99 as f64,
            max: latency.max as f64,
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

/// Has wrk visit everybody, round by round. Gives the visits of each, in the order of the entrants.
///
/// # Errors
/// When a server does not start or dies, and after Ctrl-C.
pub fn race(
    notebook: &mut Notebook,
    course: &Course,
    entrants: &[Entrant],
) -> Result<Vec<Vec<Visit>>> {
    course.load.check()?;
    let key = |entrant: &Entrant, round: u32| format!("{}/{}/{round}", course.name, entrant.name);
    let mut visits: Vec<Vec<Visit>> = vec![Vec::new(); entrants.len()];
    let all = |n: &Notebook| {
        entrants.iter().all(|e| (0..course.rounds).all(|round| n.has(&key(e, round))))
    };
    // Nothing is started for a race that is in the notebook already.
    let mut up: Vec<Option<Visited>> = match all(notebook) {
        true => entrants.iter().map(|_| None).collect(),
        false => entrants
            .iter()
            .map(|entrant| {
                affinity::on(course.cores.as_deref(), || start(entrant, course.path)).map(Some)
            })
            .collect::<Result<_>>()?,
    };
    let begin = Instant::now();
    let mut warm = !course.warm_up;
    for (round, turns) in (0..).zip(schedule(entrants.len(), course.rounds, notebook.seed)) {
        for place in turns {
            let key = key(&entrants[place], round);
            if !warm && !notebook.has(&key) {
                warm = true;
                for visited in up.iter_mut().flatten() {
                    visit(visited, notebook, course, begin)?;
                }
            }
            let visited = &mut up[place];
            let found = notebook.sample(&key, |notebook| {
                let visited = visited.as_mut().context("a server that was not started")?;
                visit(visited, notebook, course, begin)
            })?;
            visits[place].push(found);
        }
    }
    Ok(visits)
}

fn visit(
    visited: &mut Visited,
    notebook: &Notebook,
    course: &Course,
    begin: Instant,
) -> Result<Visit> {
    crate::interrupt::check()?;
    let (slice, cut_short) = affinity::on(course.cores.as_deref(), || {
        visited.slice(&notebook.wrk, &course.load, 0, begin, &mut |_| {})
    })?;
    ensure!(!cut_short, "interrupted");
    Visit::of(&slice)
}

fn start(entrant: &Entrant, path: &str) -> Result<Visited> {
    let mut up: Vec<Server> = Vec::new();
    for server in &entrant.servers {
        let mut join = Vec::new();
        if let Some(first) = up.first() {
            let port = first.address().port().to_string();
            join.extend(["--join".into(), "--port".into(), port]);
        }
        let started = Server::start(&Spec::parse(server)?, &join);
        up.push(started.with_context(|| format!("'{}' takes no part", entrant.name))?);
    }
    let address = up.first().context("an entrant without a server")?.address();
    Ok(Visited::new(up, format!("http://{address}{}", course_path(path))))
}

/// A path as a URL needs it.
fn course_path(path: &str) -> &str {
    if path.is_empty() { "/" } else { path }
}

/// One figure of every visit.
pub fn each(visits: &[Visit], figure: impl Fn(&Visit) -> f64) -> Vec<f64> {
    visits.iter().map(figure).collect()
}

/// The median of a figure, with its bootstrap 95 % interval.
pub fn middle(values: &[f64], seed: u64) -> Sure {
    (median(values).unwrap_or(f64::NAN), bootstrap::interval(values, median, seed))
}

/// The mean of a figure that may be 0, such as requests lost, with its bootstrap 95 % interval.
pub fn average(values: &[f64], seed: u64) -> (f64, Option<[f64; 2]>) {
    (mean(values).unwrap_or(f64::NAN), bootstrap::interval(values, mean, seed))
}

/// How a figure compares round by round: the geometric mean of the ratios, with its 95 % interval.
pub fn ratio(of: &[f64], to: &[f64], seed: u64) -> Sure {
    let ratios: Vec<f64> = of.iter().zip(to).map(|(of, to)| of / to).collect();
    let mean = geometric_mean(&ratios).unwrap_or(f64::NAN);
    (mean, bootstrap::interval(&ratios, geometric_mean, seed))
}

/// Whether a whole interval lies below a limit (`Some(true)`) or not below it (`Some(false)`).
pub fn below(interval: Option<[f64; 2]>, limit: f64) -> Option<bool> {
    let [low, high] = interval?;
    if high < limit {
        Some(true)
    } else if low >= limit {
        Some(false)
    } else {
        None
    }
}

/// A load of wrk, in slices of a second.
pub fn slices(threads: u64, connections: u64, keep_alive: bool) -> Load {
    Load { threads, connections, duration: Duration::from_secs(1), keep_alive }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A visit in which this was answered by each worker.
    pub fn visit(requests_per_second: f64, served: &[u64]) -> Visit {
        Visit {
            requests_per_second,
            requests: served.iter().sum(),
            errors: 0,
            cpu_seconds: 0.5,
            switches: 1000,
            connections: served.iter().map(|requests| requests / 100).collect(),
            served: served.to_vec(),
            mean: 400.0,
            stdev: 100.0,
            p50: 380.0,
            p99: 900.0,
            max: 4000.0,
        }
    }

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        let (mean, interval) = ratio(&[50.0, 100.0], &[100.0, 200.0], 1);
        assert_eq!((mean, interval), (0.5, Some([0.5, 0.5])));
    }

    #[test]
    fn an_interval_across_the_limit_decides_nothing() {
        assert_eq!(below(Some([0.5, 0.7]), 0.8), Some(true));
        assert_eq!(below(Some([0.9, 1.1]), 0.8), Some(false));
        assert_eq!(below(Some([0.7, 0.9]), 0.8), None);
        assert_eq!(below(None, 0.8), None);
    }

    #[test]
    fn one_worker_of_four_that_does_it_all_is_four_times_the_average() {
        assert_eq!(visit(1000.0, &[0, 1000, 0, 0]).unevenness(), 4.0);
        assert_eq!(visit(1000.0, &[250; 4]).unevenness(), 1.0);
    }
}
