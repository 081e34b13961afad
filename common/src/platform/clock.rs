//! CLOCK_MONOTONIC: the same for all processes and BPF programs, and never set.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

fn monotonic() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

/// The time in milliseconds.
pub fn monotonic_milliseconds() -> u64 {
    monotonic().as_millis() as u64
}

/// The time in nanoseconds.
pub fn monotonic_nanoseconds() -> u64 {
    monotonic().as_nanos() as u64
}
