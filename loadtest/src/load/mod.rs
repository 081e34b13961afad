//! The load that wrk makes.

pub mod mix;
pub mod perf;
pub mod wrk;

use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

/// Files that wrk, or a server's worker, has open besides its connections: standard streams, epoll
/// instances (wrk has one per thread, added to this), listening socket, and some room.
const OTHER_FILES: u64 = 16;

/// The remedy if connect(2) fails with EADDRNOTAVAIL, besides a smaller load.
pub const NO_PORT_LEFT: &str = "this machine has no port left for another connection: each that was \
    closed keeps its own for a minute (TIME_WAIT); wait so long, or \
    `sysctl -w net.ipv4.ip_local_port_range='1024 65535'` or net.ipv4.tcp_tw_reuse=1";

/// A path, and its part of the requests.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Share {
    /// Its weight among those of all paths: 1 beside a 3 is a quarter of the requests.
    pub weight: f64,
    /// The path.
    pub path: String,
}

impl Share {
    /// A path for all requests.
    pub fn only(path: &str) -> Self {
        Self { weight: 1.0, path: path.into() }
    }
}

/// One load for one server. Its duration is not saved: how long it lasted is a result.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Load {
    /// Threads of wrk.
    pub threads: u64,
    /// Connections asked for.
    #[serde(rename = "connections_asked")]
    pub connections: u64,
    /// Connections that wrk opens: it gives each thread connections / threads of them, an integer division
    /// (wrk, src/wrk.c), and does not open the remainder.
    pub connections_opened: u64,
    /// Whether a connection serves many requests, or one.
    pub keep_alive: bool,
    /// The duration, in whole seconds.
    #[serde(skip)]
    pub duration: Duration,
}

impl Load {
    /// A load, with the connections that wrk will open.
    pub fn new(threads: u64, connections: u64, duration: Duration, keep_alive: bool) -> Self {
        let connections_opened = connections / threads * threads;
        Self { threads, connections, connections_opened, keep_alive, duration }
    }

    /// Checks what no single option shows.
    /// Fails with fewer connections than threads, which wrk refuses: every thread needs one.
    pub fn check(&self) -> Result<()> {
        ensure!(
            self.connections >= self.threads,
            "--connections {} is less than --threads {}, and each of wrk's threads needs a \
             connection; give as many connections as threads, or fewer threads",
            self.connections,
            self.threads,
        );
        Ok(())
    }

    /// The time after which wrk gives up on an answer, in seconds.
    ///
    /// wrk omits an answer that took longer from its latencies, so that a stall of 3 s would be missing with
    /// its default of 2 s. No answer can take longer than the run, hence a second more than the duration.
    /// wrk has a counter for every microsecond up to it, 8 MB of address space a second, hence a minute at
    /// most.
    pub fn timeout_seconds(&self) -> u64 {
        (self.duration.as_secs() + 1).min(60)
    }

    /// The open files that wrk needs for this.
    pub fn files_of_wrk(&self) -> u64 {
        self.connections_opened + self.threads + OTHER_FILES
    }

    /// The open files that a worker needs if it gets every connection.
    pub fn files_of_a_worker(&self) -> u64 {
        self.connections_opened + OTHER_FILES
    }
}

/// Raises this program's limit of open files to the hard limit, which wrk inherits, and returns the limit. The
/// servers do the same for themselves.
pub fn raise_open_files() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return u64::MAX };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A load of kept connections.
    pub fn load(threads: u64, connections: u64, seconds: u64) -> Load {
        Load::new(threads, connections, Duration::from_secs(seconds), true)
    }

    #[test]
    fn twelve_threads_open_96_of_100_connections() {
        assert_eq!(load(12, 100, 10).connections_opened, 96);
        assert_eq!(load(4, 100, 10).connections_opened, 100);
    }

    #[test]
    fn fewer_connections_than_threads_are_refused_with_the_remedy() {
        assert!(load(12, 12, 10).check().is_ok());
        let refusal = load(12, 11, 10).check().unwrap_err().to_string();
        assert!(refusal.contains("--connections 11") && refusal.contains("--threads 12"));
    }

    #[test]
    fn no_answer_within_a_run_can_outlast_the_timeout() {
        assert_eq!(load(1, 1, 10).timeout_seconds(), 11);
        assert_eq!(load(1, 1, 3600).timeout_seconds(), 60);
    }
}
