//! Which processes serve that were never seen to wait for their socket: with enough to do, a worker finds the next
//! connection each time it asks, and what it answers at once is open at no look.

use std::collections::BTreeSet;
use std::path::PathBuf;

/// Seconds of CPU time: in a short look, one clock tick of a process that does nothing is a great part.
const LEAST_CPU: f64 = 0.005;

/// A part of a core: a process that only holds a socket uses less, a master that looks after its workers now and then,
/// for instance.
pub const LEAST_PART: f64 = 0.01;

/// One that serves uses at least this part of what the busiest of the same socket does.
pub const LEAST_SHARE: f64 = 0.1;

/// A process that has listening sockets.
#[derive(Clone, Debug, Default)]
pub struct Busy {
    /// Its process id.
    pub pid: u32,
    /// The listening sockets that it has open.
    pub sockets: BTreeSet<u64>,
    /// Its program, if that is known.
    pub program: Option<PathBuf>,
    /// Whether it is known to accept, or to wait.
    pub accepts: bool,
    /// Whether the kernel counts what it accepts: then CPU time proves nothing.
    pub is_counted: bool,
    /// Seconds of CPU time that it used.
    pub cpu: f64,
}

/// The processes that work as only those do that serve, by their CPU time in so many seconds. Where some are known to
/// accept from a socket, only another process of the same program may be one: systemd has sockets open of servers.
pub fn working(all: &[Busy], seconds: f64) -> Vec<u32> {
    let works = |one: &&Busy| {
        let same = || all.iter().filter(|it| !it.sockets.is_disjoint(&one.sockets));
        let most = same().map(|it| it.cpu).fold(0.0, f64::max);
        let mut known = same().filter(|it| it.accepts).peekable();
        let fits = known.peek().is_none() || known.any(|it| it.program == one.program);
        let least = LEAST_CPU.max(LEAST_PART * seconds).max(LEAST_SHARE * most);
        !one.accepts && !one.is_counted && fits && one.cpu >= least
    };
    all.iter().filter(works).map(|one| one.pid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process of this program that has socket 1, and has used so much CPU time.
    fn process(pid: u32, program: &str, cpu: f64) -> Busy {
        Busy { pid, sockets: [1].into(), program: Some(program.into()), cpu, ..Busy::default() }
    }

    #[test]
    fn who_uses_cpu_time_is_a_worker_and_a_master_that_only_looks_after_it_is_not() {
        let prefork = [process(1, "web", 0.02), process(2, "web", 0.9), process(3, "web", 0.7)];
        assert_eq!(working(&prefork, 2.0), [2, 3]);
        // Alone, it is the server.
        assert_eq!(working(&prefork[1..2], 2.0), [2]);
        assert_eq!(working(&[process(1, "web", 0.004)], 0.1), [0; 0]);
        assert_eq!(working(&[process(1, "web", 0.01)], 2.0), [0; 0]);
    }

    #[test]
    fn beside_known_workers_only_another_of_the_same_program_is_one() {
        let known = Busy { accepts: true, ..process(2, "web", 0.0) };
        let all = [process(1, "systemd", 0.5), known, process(3, "web", 0.6)];
        assert_eq!(working(&all, 1.0), [3]);
    }

    #[test]
    fn where_the_kernel_counts_cpu_time_proves_nothing() {
        assert_eq!(working(&[Busy { is_counted: true, ..process(2, "web", 0.9) }], 1.0), [0; 0]);
    }
}
