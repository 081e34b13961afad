//! The policies and the workloads.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::matrix::record::Kind;

/// Every policy: its name here, and the server with its options.
pub const POLICIES: [(&str, &str); 9] = [
    ("shared/epoll", "shared --accept epoll"),
    ("shared/blocking", "shared --accept blocking"),
    ("shared/exclusive", "shared --accept exclusive"),
    ("shared/least-conn", "shared --accept least-conn"),
    ("reuseport/hash", "reuseport --steer hash"),
    ("reuseport/first", "reuseport --steer first"),
    ("reuseport/random", "reuseport --steer random"),
    ("reuseport/cpu", "reuseport --steer cpu"),
    ("reuseport/least-conn", "reuseport --steer least-conn"),
];

/// The two load-aware policies.
pub const LOAD_AWARE: [&str; 2] = ["shared/least-conn", "reuseport/least-conn"];

/// The policies of the short form: both load-aware ones, and one other for each server.
pub const QUICK_POLICIES: [&str; 4] =
    ["shared/epoll", "shared/least-conn", "reuseport/hash", "reuseport/least-conn"];

/// Policies whose latencies are not measured: their purpose shows in requests/s.
pub const THROUGHPUT_ONLY: [&str; 2] = ["reuseport/first", "reuseport/random"];

/// One workload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Workload {
    pub name: &'static str,
    /// Workers of each server.
    pub workers: u32,
    /// Threads of wrk.
    pub threads: u64,
    /// Connections of wrk.
    pub connections: u64,
    /// Whether connections are kept, or a new one is opened for each request.
    pub keep_alive: bool,
    pub kind: Kind,
    /// The rates at which latencies are measured, as parts of what the best policy serves to the prober or, with blocking
    /// handlers, of what all workers together can serve. On the server's cores the client is often late at half of that:
    /// in a closed loop no process sleeps, but in an open one a request must wake a worker, and its answer the client.
    /// So a quarter is measured, too.
    pub rates: &'static [f64],
    /// Whether the requests are those of [`MIX`].
    pub mixed: bool,
    /// The CPU time of the server's handler, as in `--handler-cost`; empty: none.
    pub handler_cost: &'static str,
    /// Whether server and client have separate cores.
    pub pinned: bool,
    /// Whether the short form has it.
    pub quick: bool,
}

/// The settings of a run.
pub struct Run<'a> {
    /// Names, and servers with their options.
    pub policies: Vec<(&'a str, &'a str)>,
    /// Slices of each policy.
    pub rounds: u32,
    /// How often a worker of each policy is stopped and killed.
    pub stops: u32,
    pub seed: u64,
    /// The file for the result; the samples of each workload are beside it.
    pub json: &'a Path,
    pub resume: bool,
}

/// One request in 200 blocks its worker for 20 ms.
pub const MIX: [(f64, &str); 2] = [(199.0, "/"), (1.0, "/block/20000")];

/// The path of blocking handlers, and how long each blocks.
pub const BLOCKING_PATH: &str = "/block/10000";
const BLOCKED: Duration = Duration::from_millis(10);

/// With more workers than this, each server runs only during its own slices: nine servers of 256 workers would be
/// 2304 processes, each of which ticks four times a second.
const FEW_WORKERS: u32 = 32;

/// The name of the workload in which a worker is stopped and then killed.
pub const STOPPED: &str = "one of 4 stopped";

const KEPT: Workload = Workload {
    name: "",
    workers: 4,
    threads: 2,
    connections: 40,
    keep_alive: true,
    kind: Kind::Throughput,
    rates: &[0.25, 0.5, 0.8],
    mixed: false,
    handler_cost: "",
    pinned: false,
    quick: false,
};

const NEW: Workload = Workload { keep_alive: false, ..KEPT };

/// Handlers that block their worker for 10 ms.
const BLOCKING: Workload =
    Workload { workers: 32, kind: Kind::Blocking, rates: &[0.5, 0.75], ..KEPT };

/// The workloads.
pub const WORKLOADS: [Workload; 15] = [
    Workload { name: "post", threads: 12, connections: 100, rates: &[0.25, 0.5], ..KEPT },
    Workload { name: "keep", quick: true, ..KEPT },
    Workload { name: "close", quick: true, ..NEW },
    Workload { name: "mixed keep", mixed: true, rates: &[0.25, 0.5], ..KEPT },
    Workload { name: "mixed close", mixed: true, rates: &[0.25, 0.5], ..NEW },
    Workload { name: "close, 64 workers", workers: 64, connections: 100, ..NEW },
    Workload {
        name: "close, 256 workers",
        workers: 256,
        connections: 100,
        rates: &[0.25, 0.5],
        ..NEW
    },
    Workload {
        name: STOPPED,
        kind: Kind::Stopped,
        rates: &[],
        connections: 32,
        quick: true,
        ..NEW
    },
    Workload {
        name: "blocking, new connections",
        rates: &[0.5, 0.75, 0.9],
        keep_alive: false,
        quick: true,
        ..BLOCKING
    },
    Workload { name: "blocking, kept", ..BLOCKING },
    Workload { name: "2 connections", threads: 1, connections: 2, rates: &[], ..KEPT },
    Workload { name: "3 connections", threads: 1, connections: 3, rates: &[], ..KEPT },
    Workload { name: "heavy", handler_cost: "1ms", rates: &[0.5, 0.8], ..KEPT },
    Workload { name: "keep, client elsewhere", pinned: true, ..KEPT },
    Workload { name: "close, client elsewhere", pinned: true, ..NEW },
];

impl Workload {
    /// Whether servers run one at a time.
    pub fn one_at_a_time(&self) -> bool {
        self.workers > FEW_WORKERS
    }

    /// The options for all servers.
    pub fn options(&self) -> Vec<String> {
        let mut options = vec!["--lab".into(), "--workers".into(), self.workers.to_string()];
        if !self.handler_cost.is_empty() {
            options.extend(["--handler-cost".into(), self.handler_cost.into()]);
        }
        options
    }

    /// With blocking handlers: requests/s as a part of what all workers together can serve.
    pub fn blocking_rate(&self, part: f64) -> u64 {
        (f64::from(self.workers) / BLOCKED.as_secs_f64() * part).round() as u64
    }

    /// Its description.
    pub fn words(&self) -> String {
        let mut words = format!("{} workers, ", self.workers);
        words += &match self.kind {
            Kind::Blocking => "requests that block their worker for 10 ms, ".to_owned(),
            // wrk -t12 -c100 opens 96.
            _ => format!("{} connections, ", self.connections / self.threads * self.threads),
        };
        words += if self.keep_alive { "kept alive" } else { "a new one for each request" };
        words += match self.kind {
            Kind::Stopped => {
                "; what is served while a worker is stopped, and lost when it is killed"
            }
            Kind::Blocking => "; Poisson arrivals",
            Kind::Throughput if self.mixed => {
                ", 0.5 % of the requests block their worker for 20 ms"
            }
            Kind::Throughput => "",
        };
        if !self.handler_cost.is_empty() {
            words += &format!(", {} of CPU time for each request", self.handler_cost);
        }
        if self.pinned {
            words += "; server and client on cores of their own";
        }
        if self.one_at_a_time() {
            words += "; each server is started for its slices alone";
        }
        words
    }

    /// Its file beside the result at `json`: `matrix.json` has `matrix-keep.json`.
    pub fn file(&self, json: &Path) -> PathBuf {
        let stem = json.file_stem().unwrap_or_default().to_string_lossy();
        let name = self.name.replace(", ", "-").replace(' ', "-");
        json.with_file_name(format!("{stem}-{name}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_have_names_and_files_of_their_own_and_the_short_form_has_four() {
        let file = |workload: &Workload| workload.file(Path::new("a/x.json"));
        assert_eq!(file(&WORKLOADS[1]), Path::new("a/x-keep.json"));
        let mut files: Vec<PathBuf> = WORKLOADS.iter().map(file).collect();
        files.sort();
        files.dedup();
        assert_eq!(files.len(), WORKLOADS.len());
        assert_eq!(WORKLOADS.iter().filter(|workload| workload.quick).count(), 4);
    }

    #[test]
    fn blocking_rates_are_parts_of_what_the_workers_can_serve() {
        let blocking = WORKLOADS.iter().find(|w| w.name == "blocking, kept").unwrap();
        assert_eq!([0.5, 0.75, 1.0].map(|part| blocking.blocking_rate(part)), [1600, 2400, 3200]);
    }
}
