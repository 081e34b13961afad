//! The parts of `matrix`: every policy in every workload.
//!
//! - [`workloads`]: the policies and the workloads; [`plan`]: which of them run, and how long it takes;
//! - [`cell`]: one workload as a comparison; [`stopped`]: the one in which a worker is stopped;
//! - [`record`]: the result; [`verdict`]: whether a policy is good in a workload;
//! - [`expectations`]: expectations of the whole matrix, and whether they are met.

pub mod cell;
pub mod expectations;
pub mod plan;
pub mod record;
pub mod stopped;
pub mod verdict;
pub mod workloads;
