//! What a process may do, and how the system runs it: rights, limits, CPUs, scheduling, systemd.

pub mod affinity;
pub mod clock;
pub mod limits;
pub mod rights;
pub mod schedule;
pub mod systemd;
