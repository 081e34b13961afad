//! The record of one `bench`: what `--json` writes and what the terminal shows.
//!
//! Everything the terminal says is in it, so that a saved result can be shown again, and everything
//! needed to judge it. A change of a field's name or meaning changes [`SCHEMA`].

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::environment::Environment;
pub use crate::server::telemetry::WorkerUsage as Worker;

/// Which fields there are and what they mean.
pub const SCHEMA: &str = "loadtest-bench/1";

/// One run of wrk against one server.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: String,
    /// `shared`, `reuseport`, or the URL of a server that was not started here.
    pub server: String,
    /// The arguments of loadtest with which the run can be repeated.
    pub arguments: Vec<String>,
    /// Where and with what it ran.
    pub environment: Environment,
    /// What wrk did.
    pub load: LoadRecord,
    /// What came of it.
    pub result: Totals,
    /// Who did the work; empty for a server that was not started here.
    pub workers: Vec<Worker>,
    /// How evenly; `null` without workers.
    pub spread: Option<Spread>,
    /// What to know before believing it, as text.
    pub warnings: Vec<String>,
}

/// What wrk did.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct LoadRecord {
    /// Threads of wrk.
    pub threads: u64,
    /// Connections it was asked for.
    pub connections_asked: u64,
    /// Connections it kept open at a time.
    pub connections_opened: u64,
    /// How long the load lasted, as wrk measured it.
    pub seconds: f64,
    /// Whether a connection served many requests, or one each.
    pub keep_alive: bool,
    /// What it asked for.
    pub url: String,
}

/// What came of it, by wrk's own count.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Totals {
    /// Answers received, whatever their status.
    pub requests: u64,
    /// The same per second.
    pub requests_per_second: f64,
    /// Latencies, corrected by wrk for coordinated omission.
    pub latency_us: Latency,
    /// What went wrong.
    pub errors: Errors,
}

/// Latencies in microseconds.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[allow(missing_docs)] // the names say it: mean, standard deviation, percentiles, maximum
pub struct Latency {
    pub mean: f64,
    pub stdev: f64,
    pub p50: u64,
    pub p75: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
    pub max: u64,
}

/// Errors by kind, as wrk counts them.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Errors {
    /// Connections that could not be opened.
    pub connect: u64,
    /// Connections that ended in the middle of an answer, or before it.
    pub read: u64,
    /// Requests that could not be sent.
    pub write: u64,
    /// Answers with a status of 400 or above. They count as requests too.
    pub status: u64,
    /// Answers that took longer than wrk's timeout. They are missing in the latencies.
    pub timeout: u64,
}

impl std::ops::AddAssign for Errors {
    fn add_assign(&mut self, other: Self) {
        self.connect += other.connect;
        self.read += other.read;
        self.write += other.write;
        self.status += other.status;
        self.timeout += other.timeout;
    }
}

impl Errors {
    /// Each kind with its name.
    pub fn kinds(&self) -> [(&'static str, u64); 5] {
        [
            ("connect", self.connect),
            ("read", self.read),
            ("write", self.write),
            ("status", self.status),
            ("timeout", self.timeout),
        ]
    }

    /// All kinds together.
    pub fn total(&self) -> u64 {
        self.kinds().iter().map(|(_, count)| count).sum()
    }
}

/// How evenly the workers shared the requests.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Spread {
    /// Requests of the busiest worker over those of the average one: 1 is even, and the number of
    /// workers is one doing all the work.
    pub max_over_mean: f64,
    /// Workers that answered no request.
    pub idle_workers: usize,
}

impl Spread {
    /// Of these workers; `None` where nobody did anything.
    pub fn of(workers: &[Worker]) -> Option<Self> {
        let requests = || workers.iter().filter_map(|worker| worker.requests);
        let total: u64 = requests().sum();
        let most = requests().max().filter(|&most| most > 0)?;
        Some(Self {
            max_over_mean: most as f64 * workers.len() as f64 / total as f64,
            idle_workers: requests().filter(|&requests| requests == 0).count(),
        })
    }
}

impl Record {
    /// Reads a saved record.
    ///
    /// # Errors
    /// When the file cannot be read, is something else, or has another schema.
    pub fn read(path: &Path) -> Result<Self> {
        let show = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {show}"))?;
        let hint = "save one with `loadtest bench --json`";
        let value: serde_json::Value = serde_json::from_str(&text)
            .with_context(|| format!("{show} is not a result of bench ({hint})"))?;
        let schema = value.get("schema").and_then(|schema| schema.as_str()).unwrap_or("none");
        ensure!(schema == SCHEMA, "{show} has schema {schema}, not {SCHEMA}; {hint}");
        serde_json::from_value(value).with_context(|| format!("{show} is damaged; {hint}"))
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
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
            context_switches: ContextSwitches { voluntary: 3, involuntary: 4 },
            wakeups_without_connection: Some(7),
            steered: Some(0),
            migrated: Some(0),
            gated: Some(0),
            ..Worker::default()
        }
    }

    /// A record with workers that answered these requests.
    pub fn record(requests: &[u64]) -> Record {
        let workers: Vec<Worker> =
            requests.iter().enumerate().map(|(index, &count)| worker(index, count)).collect();
        let total = requests.iter().sum();
        Record {
            schema: SCHEMA.into(),
            server: "shared".into(),
            arguments: vec!["bench".into(), "shared".into()],
            environment: Environment {
                kernel: "Linux 6.18".into(),
                cpu: Some("A CPU".into()),
                cores: 2,
                memory_bytes: Some(8 << 30),
                wrk: Some("wrk 4.1.0".into()),
                rustc: "rustc 1.95.0".into(),
                commit: None,
                started_at: "2026-01-01T00:00:00Z".into(),
            },
            load: LoadRecord {
                threads: 12,
                connections_asked: 100,
                connections_opened: 96,
                seconds: 10.0,
                keep_alive: true,
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
                    max: 1_230_000,
                },
                errors: Errors::default(),
            },
            spread: Spread::of(&workers),
            workers,
            warnings: vec!["a warning".into()],
        }
    }

    #[test]
    fn a_saved_record_reads_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.json");
        let record = record(&[10, 30]);
        std::fs::write(&path, serde_json::to_string(&record).unwrap()).unwrap();
        assert_eq!(Record::read(&path).unwrap(), record);
    }

    #[test]
    fn another_schema_and_another_file_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.json");
        for (text, reason) in [
            (r#"{"schema":"loadtest-bench/0"}"#, "schema loadtest-bench/0"),
            ("{}", "schema none"),
            ("hello", "not a result"),
            (r#"{"schema":"loadtest-bench/1"}"#, "damaged"),
        ] {
            std::fs::write(&path, text).unwrap();
            let refusal = Record::read(&path).unwrap_err().to_string();
            assert!(refusal.contains("record.json") && refusal.contains(reason), "{refusal}");
        }
    }

    #[test]
    fn the_fields_are_those_that_were_promised() {
        let value = serde_json::to_value(record(&[10, 30])).unwrap();
        let fields = |value: &serde_json::Value| -> Vec<String> {
            let mut names: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
            names.sort();
            names
        };
        assert_eq!(
            fields(&value),
            [
                "arguments",
                "environment",
                "load",
                "result",
                "schema",
                "server",
                "spread",
                "warnings",
                "workers"
            ]
        );
        assert_eq!(
            fields(&value["environment"]),
            ["commit", "cores", "cpu", "kernel", "memory_bytes", "rustc", "started_at", "wrk"]
        );
        assert_eq!(
            fields(&value["workers"][0]),
            [
                "connections",
                "context_switches",
                "cpu_seconds",
                "gated",
                "index",
                "migrated",
                "pid",
                "requests",
                "role",
                "socket_inode",
                "steered",
                "wakeups_without_connection"
            ]
        );
    }

    #[test]
    fn the_spread_is_one_when_even_and_the_number_of_workers_when_one_does_it_all() {
        let even: Vec<Worker> = (0..4).map(|index| worker(index, 5)).collect();
        assert_eq!(Spread::of(&even), Some(Spread { max_over_mean: 1.0, idle_workers: 0 }));
        let lone: Vec<Worker> =
            (0..4).map(|index| worker(index, if index == 2 { 5 } else { 0 })).collect();
        assert_eq!(Spread::of(&lone), Some(Spread { max_over_mean: 4.0, idle_workers: 3 }));
        assert_eq!(Spread::of(&[]), None);
    }
}
