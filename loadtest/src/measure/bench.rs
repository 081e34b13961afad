//! The record of one `bench`: the content of `--json` and of the report.
//!
//! It contains everything that the terminal shows, so that a saved result can be shown again, and
//! everything that is needed to judge it.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::load::Load;
use crate::measure::comparison::{Plan, Slice, Subject, Summary};
use crate::measure::summary::summarize;
use crate::record::{Body, Record};
use crate::server::telemetry::Role;
pub use crate::server::telemetry::WorkerUsage as Worker;

/// The record of one `bench`.
pub type Bench = Record<BenchBody>;

/// One run of wrk against one server.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct BenchBody {
    /// Its name, or the URL of a server that was not started here.
    pub server: String,
    pub url: String,
    /// The load of wrk.
    pub load: Load,
    /// How long the load lasted, as wrk measured it.
    pub seconds: f64,
    /// What a comparison would say of this run, as of a subject with one slice.
    pub result: Summary,
    /// What each worker did; empty for a server that was not started here.
    pub workers: Vec<Worker>,
}

impl Body for BenchBody {
    const SCHEMA: &'static str = "loadtest-bench/3";
    const COMMAND: &'static str = "bench";
}

impl BenchBody {
    /// The record of a run: it is summarized as a comparison of one subject in one round.
    ///
    /// # Errors
    /// When wrk has no latencies.
    pub fn of(
        server: String,
        url: String,
        load: Load,
        slice: Slice,
        workers: Vec<Worker>,
        cores: usize,
    ) -> Result<Self> {
        let (seconds, keep_alive) = (slice.seconds, load.keep_alive);
        let plan = Plan { load, ..Plan::default() };
        let number = Some(workers.len()).filter(|&number| number > 0);
        let slices = vec![slice];
        let subject = Subject { keep_alive, workers: number, slices, ..Subject::default() };
        let result = summarize(&subject, &plan, cores).context("wrk gave no latencies")?;
        Ok(Self { server, url, load: plan.load, seconds, result, workers })
    }
}

/// How many of these processes only accept for others.
pub fn acceptors(workers: &[Worker]) -> usize {
    workers.iter().filter(|worker| worker.role == Role::Acceptor).count()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::load::tests::load;
    use crate::measure::comparison;
    use crate::measure::fixture::{environment, worker};
    use crate::statistics::latency::Distribution;

    /// A record of `bench` with workers that answered these requests in 10 s.
    pub fn record(requests: &[u64]) -> Bench {
        let workers = requests.iter().enumerate().map(|(index, &count)| worker(index, count));
        let workers: Vec<Worker> = workers.collect();
        let total: u64 = requests.iter().sum();
        let is_seen = !workers.is_empty();
        let slice = Slice {
            seconds: 10.0,
            requests: total,
            requests_per_second: total as f64 / 10.0,
            server_cpu_seconds: is_seen.then_some(1.5 * workers.len() as f64),
            latencies: Distribution::of(&[(870, 700), (1500, 200), (12_000, 99), (1_230_000, 1)]),
            workers: workers.iter().map(comparison::Worker::of).collect(),
            ..Slice::default()
        };
        let (server, url) = ("shared".into(), "http://127.0.0.1:8080/".into());
        let body = BenchBody::of(server, url, load(12, 100, 10), slice, workers, 2).unwrap();
        let mut record = Bench::new(vec!["bench".into(), "shared".into()], environment(), body);
        record.warnings = vec!["a warning".into()];
        record
    }

    #[test]
    fn the_fields_are_those_that_were_promised() {
        let value = serde_json::to_value(record(&[10, 30])).unwrap();
        for (pointer, promised) in [
            ("", "arguments environment load result schema seconds server url warnings workers"),
            ("/environment", "commit cores cpu kernel memory_bytes rustc started_at wrk"),
            ("/load", "connections_asked connections_opened keep_alive threads"),
            (
                "/result",
                "cost cost_per_request cpu_us_per_request errors latency_us limit requests \
                 requests_per_second slices spread switches_per_request",
            ),
            (
                "/workers/0",
                "connections context_switches cpu_seconds gated index migrated pid requests role \
                 run_queue_wait_seconds socket_inode steered wakeups_without_connection",
            ),
        ] {
            let object = value.pointer(pointer).unwrap().as_object().unwrap();
            let mut names: Vec<&str> = object.keys().map(String::as_str).collect();
            names.sort();
            assert_eq!(names.join(" "), promised);
        }
    }

    #[test]
    fn the_spread_is_one_when_even_and_the_number_of_workers_when_one_does_it_all() {
        for (requests, expected) in [
            (&[5; 4][..], Some((1.0, 0.0, 1.0))),
            (&[0, 0, 5, 0], Some((4.0, 3.0, 1.0))),
            (&[], None),
        ] {
            let spread = record(requests).body.result.spread;
            let found = spread.map(|it| (it.max_over_mean, it.idle_workers, it.best_attainable));
            assert_eq!(found, expected);
        }
    }
}
