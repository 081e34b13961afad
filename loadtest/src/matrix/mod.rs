//! What `matrix` is made of: every policy in every workload, and who is good in which.
//!
//! - [`workloads`]: the policies and the workloads; [`plan`]: which of them run, and how long it takes;
//! - [`cell`]: one workload as a comparison; [`stopped`]: the one in which a worker is stopped;
//! - [`record`]: the result; [`verdict`]: who is good in a workload;
//! - [`expectations`]: what must come out, and whether it did.

pub mod cell;
pub mod expectations;
pub mod plan;
pub mod record;
pub mod stopped;
pub mod verdict;
pub mod workloads;
