//! Which was the bottleneck, wrk or the server?
//!
//! A program that uses all the CPU time that it can get is the bottleneck: all of its cores, or one for each
//! of its threads if those are fewer. If server and wrk share all cores, and these are never idle, neither
//! alone is the bottleneck: CPU time that one of them saves goes to the other. How much more each could have
//! used shows its time on the run queue, ready to run without a core (`/proc/PID/task/*/schedstat`).

use crate::kernel::affinity::Cores;
use crate::measure::comparison::{Limit, Slice, Who};

/// The part of the available CPU time that counts as all of it: a little is always lost to waiting.
pub const ALL: f64 = 0.9;

/// If this many threads wait for a core, on average, while server and wrk leave cores unused, another process uses
/// these. Otherwise the waits between wake-up and running sum up to less.
const IN_VAIN: f64 = 0.75;

impl Limit {
    /// Judges by the slices. `workers` and `threads` are the numbers of workers and of wrk's threads, `cores` is that of
    /// the machine. A worker may have several threads. `None` without slices, and if the server's CPU time is not known.
    pub fn of(
        slices: &[Slice],
        workers: usize,
        threads: u64,
        cores: usize,
        pinned: Option<&Cores>,
    ) -> Option<Self> {
        let seconds: f64 = slices.iter().map(|slice| slice.seconds).sum();
        let mean = |of: fn(&Slice) -> f64| slices.iter().map(of).sum::<f64>() / seconds;
        let known = |of: fn(&Slice) -> Option<f64>| {
            Some(slices.iter().map(of).sum::<Option<f64>>()? / seconds)
        };
        let (for_server, for_wrk) =
            pinned.map_or((cores, cores), |cores| (cores.server.len(), cores.wrk.len()));
        let mut limit = Self {
            who: Who::Nobody,
            server_cores: known(|slice| slice.server_cpu_seconds)?,
            server_waiting: known(|slice| slice.server_wait_seconds)?,
            wrk_cores: mean(|slice| slice.wrk_cpu_seconds),
            wrk_waiting: mean(|slice| slice.wrk_wait_seconds),
            own_cores: mean(|slice| slice.own_cpu_seconds),
            cores_for_server: for_server,
            cores_for_wrk: for_wrk,
        };
        let of_server = slices.iter().filter_map(|slice| slice.server_threads).max();
        let of_server = of_server.unwrap_or(workers as u64);
        limit.who = limit.judge(of_server, threads, pinned.is_some());
        (seconds > 0.0).then_some(limit)
    }

    fn judge(&self, of_server: u64, threads: u64, pinned: bool) -> Who {
        let most = |cores: usize, threads: f64| ALL * (cores as f64).min(threads);
        // Each side can use no more cores than it has threads.
        let wrk_is_full = self.wrk_cores >= most(self.cores_for_wrk, threads as f64);
        let server_is_full = self.server_cores >= most(self.cores_for_server, of_server as f64);
        let together = self.server_cores + self.wrk_cores;
        if !pinned && together >= ALL * self.cores_for_server as f64 {
            Who::Cores
        } else if wrk_is_full {
            Who::Wrk
        } else if server_is_full {
            Who::Server
        } else if self.server_waiting + self.wrk_waiting >= IN_VAIN {
            // They were ready to run, although server and wrk left cores unused.
            Who::Others
        } else {
            Who::Nobody
        }
    }

    /// The same in a sentence.
    pub fn sentence(&self) -> String {
        let Self { server_cores: server, wrk_cores: wrk, server_waiting, wrk_waiting, .. } = self;
        let used = format!(
            "the server used {server:.2} cores and {server_waiting:.2} workers waited for one, wrk \
             used {wrk:.2} and {wrk_waiting:.2} of its threads waited"
        );
        match self.who {
            Who::Wrk => format!("wrk was the bottleneck ({used}) and would hide a faster server"),
            Who::Server => format!("the server was the bottleneck ({used})"),
            Who::Cores => format!(
                "the {} shared cores were the bottleneck ({used}): CPU time that the server saves \
                 goes to wrk",
                self.cores_for_server
            ),
            Who::Others => format!(
                "another program on this machine was the bottleneck ({used}); end it and repeat \
                 the run"
            ),
            Who::Nobody => format!(
                "neither was short of CPU time ({used}): they waited for each other; more \
                 --connections would load both"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_no_time_left_is_the_limit_and_cores_that_both_share_are_that_of_both() {
        // Cores used and threads that waited for one, of the server and of wrk; cores that each could
        // have; workers and threads of wrk.
        for (server, wrk, cores, threads, pinned, who) in [
            // One thread of wrk on a machine with many cores.
            ([1.5, 0.0], [0.97, 0.0], 16, (4, 1), false, Who::Wrk),
            // One worker.
            ([0.95, 0.0], [0.6, 0.0], 16, (1, 4), false, Who::Server),
            // Pinned to a core each.
            ([0.99, 1.0], [0.5, 0.0], 1, (4, 4), true, Who::Server),
            ([0.5, 0.0], [0.99, 1.0], 1, (4, 4), true, Who::Wrk),
            ([1.2, 0.8], [0.75, 3.0], 2, (4, 12), false, Who::Cores),
            ([0.2, 0.1], [0.2, 0.1], 2, (4, 12), false, Who::Nobody),
            ([0.5, 1.8], [0.3, 1.0], 2, (4, 12), false, Who::Others),
            // With cores left over, one side can be the limit by its number of threads.
            ([3.7, 0.0], [2.0, 0.0], 16, (4, 12), false, Who::Server),
            ([2.0, 0.0], [1.9, 0.0], 16, (4, 2), false, Who::Wrk),
        ] {
            let limit = Limit {
                who: Who::Nobody,
                server_cores: server[0],
                server_waiting: server[1],
                wrk_cores: wrk[0],
                wrk_waiting: wrk[1],
                own_cores: 0.0,
                cores_for_server: cores,
                cores_for_wrk: cores,
            };
            assert_eq!(limit.judge(threads.0, threads.1, pinned), who, "{limit:?} {threads:?}");
        }
    }
}
