//! One clock for all processes and the kernel's programs, which nobody sets: CLOCK_MONOTONIC.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

fn monotonic() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

/// Its time in milliseconds.
pub fn monotonic_milliseconds() -> u64 {
    monotonic().as_millis() as u64
}

/// Its time in nanoseconds.
pub fn monotonic_nanoseconds() -> u64 {
    monotonic().as_nanos() as u64
}
