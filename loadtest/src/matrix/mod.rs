//! What `matrix` is made of, less the running of it.
//!
//! - [`workloads`]: the policies and the workloads, and what must come out;
//! - [`record`]: the result;
//! - [`expectations`]: whether it did.

pub mod expectations;
pub mod record;
pub mod workloads;
