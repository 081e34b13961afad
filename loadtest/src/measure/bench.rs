//! The record of one `bench`: the content of `--json` and of the report.
//!
//! It contains everything that the terminal shows, so that a saved result can be shown again, and
//! everything that is needed to judge it.

use serde::{Deserialize, Serialize};

use crate::load::Load;
use crate::record::{Body, Record};
use crate::server::telemetry::Role;
pub use crate::server::telemetry::WorkerUsage as Worker;
use crate::statistics::latency::Latency;
use crate::statistics::max_over_mean;
use crate::types::Errors;

/// The record of one `bench`.
pub type Bench = Record<BenchBody>;

/// One run of wrk against one server.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct BenchBody {
    /// Its name, or the URL of a server that was not started here.
    pub server: String,
    /// The load.
    pub load: LoadRecord,
    /// The result.
    pub result: Totals,
    /// What each worker did; empty for a server that was not started here.
    pub workers: Vec<Worker>,
    /// How evenly the work was spread; `null` without workers.
    pub spread: Option<Spread>,
}

impl Body for BenchBody {
    const SCHEMA: &'static str = "loadtest-bench/2";
    const COMMAND: &'static str = "bench";
}

/// The load of wrk.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct LoadRecord {
    #[serde(flatten)]
    pub wrk: Load,
    /// How long the load lasted, as wrk measured it.
    pub seconds: f64,
    pub url: String,
}

/// The result, by wrk's own count.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Totals {
    /// Answers received, whatever their status.
    pub requests: u64,
    pub requests_per_second: f64,
    /// Latencies of the requests that were sent, without those that wrk adds for coordinated omission.
    pub latency_us: Latency,
    pub errors: Errors,
}

/// How evenly the workers shared the requests.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Spread {
    /// Requests of the busiest worker over those of the average one: 1 is even; the number of workers means that one
    /// did all the work.
    pub max_over_mean: f64,
    /// Workers that answered no request.
    pub idle_workers: usize,
    /// The least ratio that any policy could reach: [`best_attainable`].
    pub best_attainable: f64,
}

/// The busiest worker over the average one if kept connections are spread as evenly as possible: 49 on 8 workers
/// give 7 over 6.125. `None` means a connection for each request, which gives 1.
pub fn best_attainable(kept: Option<u64>, workers: usize) -> f64 {
    let workers = workers as u64;
    match kept {
        Some(kept) if kept > 0 && workers > 0 => {
            kept.div_ceil(workers) as f64 / (kept as f64 / workers as f64)
        }
        _ => 1.0,
    }
}

/// How many of these processes only accept for others.
pub fn acceptors(workers: &[Worker]) -> usize {
    workers.iter().filter(|worker| worker.role == Role::Acceptor).count()
}

impl Spread {
    /// The spread of workers that answered these requests each. `kept` is the number of kept connections, or `None`
    /// with one for each request. Returns `None` if there were no requests, or they are not known.
    pub fn of(requests: impl Iterator<Item = Option<u64>>, kept: Option<u64>) -> Option<Self> {
        let requests: Vec<u64> = requests.collect::<Option<_>>()?;
        Some(Self {
            max_over_mean: max_over_mean(&requests)?,
            idle_workers: requests.iter().filter(|&&requests| requests == 0).count(),
            best_attainable: best_attainable(kept, requests.len()),
        })
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::time::Duration;

    use crate::kernel::procfs::{ContextSwitches, CpuSeconds};

    /// A worker that answered this many requests.
    pub fn worker(index: usize, requests: u64) -> Worker {
        Worker {
            index,
            pid: 1000 + index as u32,
            socket_inode: Some(4242),
            connections: Some(25),
            requests: Some(requests),
            cpu_seconds: CpuSeconds { user: 0.5, system: 1.0 },
            run_queue_wait_seconds: Some(0.25),
            context_switches: ContextSwitches { voluntary: 3, involuntary: 4 },
            wakeups_without_connection: Some(7),
            steered: Some(0),
            migrated: Some(0),
            gated: Some(0),
            ..Worker::default()
        }
    }

    /// A record with workers that answered these requests.
    pub fn record(requests: &[u64]) -> Bench {
        let workers: Vec<Worker> =
            requests.iter().enumerate().map(|(index, &count)| worker(index, count)).collect();
        let total = requests.iter().sum();
        let environment = crate::environment::Environment {
            kernel: "Linux 6.18".into(),
            cpu: Some("A CPU".into()),
            cores: 2,
            memory_bytes: Some(8 << 30),
            wrk: Some("wrk 4.1.0".into()),
            rustc: "rustc 1.95.0".into(),
            programs: None,
            commit: None,
            started_at: "2026-01-01T00:00:00Z".into(),
        };
        let body = BenchBody {
            server: "shared".into(),
            load: LoadRecord {
                wrk: Load::new(12, 100, Duration::ZERO, true),
                seconds: 10.0,
                url: "http://127.0.0.1:8080/".into(),
            },
            result: Totals {
                requests: total,
                requests_per_second: total as f64 / 10.0,
                latency_us: Latency {
                    mean: 1020.5,
                    stdev: 99.0,
                    p50: 870,
                    p75: 1100,
                    p90: 1500,
                    p99: 4000,
                    p99_9: 12_000,
                    p99_99: 900_000,
                    max: 1_230_000,
                    curve: vec![],
                },
                errors: Errors::default(),
            },
            spread: Spread::of(workers.iter().map(|worker| worker.requests), Some(96)),
            workers,
        };
        let mut record = Record::new(vec!["bench".into(), "shared".into()], environment, body);
        record.warnings = vec!["a warning".into()];
        record
    }

    #[test]
    fn the_fields_are_those_that_were_promised() {
        let value = serde_json::to_value(record(&[10, 30])).unwrap();
        for (pointer, promised) in [
            ("", "arguments environment load result schema server spread warnings workers"),
            ("/environment", "commit cores cpu kernel memory_bytes rustc started_at wrk"),
            ("/load", "connections_asked connections_opened keep_alive seconds threads url"),
            ("/result", "errors latency_us requests requests_per_second"),
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
        let spread = |requests: &[u64], connections| {
            Spread::of(requests.iter().copied().map(Some), connections)
        };
        let expected = |max_over_mean, idle_workers, best_attainable| {
            Some(Spread { max_over_mean, idle_workers, best_attainable })
        };
        assert_eq!(spread(&[5; 4], Some(100)), expected(1.0, 0, 1.0));
        assert_eq!(spread(&[0, 0, 5, 0], None), expected(4.0, 3, 1.0));
        assert_eq!(spread(&[], None), None);
    }

    #[test]
    fn kept_connections_that_do_not_divide_evenly_cannot_be_spread_evenly() {
        assert_eq!(best_attainable(Some(49), 8), 7.0 / 6.125);
        assert_eq!(best_attainable(Some(2), 4), 2.0);
        assert_eq!(best_attainable(Some(96), 4), 1.0);
        assert_eq!(best_attainable(None, 8), 1.0);
    }
}
