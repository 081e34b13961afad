//! Burns CPU time, in place of the work of a real handler.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Keeps the calling thread on the CPU until it has used `cost` of CPU time.
///
/// It reads the thread's CPU clock, not the wall clock: with more workers than cores a worker waits
/// for a core, and by the wall clock that would count as work, so that ten workers on one core would
/// seem ten times as fast as they are. Reading this clock is a system call of some
/// 200 ns, so a cost below that comes out as about one call.
pub fn burn(cost: Duration) {
    if cost.is_zero() {
        return;
    }
    let end = cpu_time().saturating_add(cost);
    while cpu_time() < end {
        std::hint::spin_loop();
    }
}

/// The CPU time that the calling thread has used so far.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::MAX, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_uses_the_cpu_time_asked_for() {
        let before = cpu_time();
        burn(Duration::from_millis(5));
        assert!(cpu_time() - before >= Duration::from_millis(5));
    }
}
