//! What `matrix` is made of, less the running of it.
//!
//! - [`cells`]: the policies and the workloads, and what must come out;
//! - [`record`]: the result;
//! - [`demands`]: whether it did.

pub mod cells;
pub mod demands;
pub mod record;
