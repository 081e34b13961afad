//! What a process is allowed, and how the system runs it: rights, limits, CPUs, systemd.

pub mod affinity;
pub mod clock;
pub mod limits;
pub mod rights;
pub mod schedule;
pub mod systemd;
