//! What `compare` is made of, less the running of it.
//!
//! - [`record`]: the result, as it is saved after each slice;
//! - [`summary`]: what follows from the slices; made anew from them whenever they are shown;
//! - [`schedule`]: who is visited when; [`visited`]: a visit of wrk;
//! - [`latencies`]: distributions that are merged, since percentiles cannot be averaged;
//! - [`limit`]: which of the two was the limit, wrk or the server.

pub mod latencies;
pub mod limit;
pub mod record;
pub mod schedule;
pub mod summary;
pub mod visited;
