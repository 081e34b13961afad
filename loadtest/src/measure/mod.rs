//! Measuring: subjects take turns, every turn is a sample, and summaries are computed from the samples.
//!
//! - [`runner`]: the only loop that measures; [`store`]: every sample, a line each;
//! - [`mod@slice`]: one run of wrk or of the prober; [`compare`], [`comparing`]: an experiment of many;
//! - [`comparison`], [`mod@bench`], [`self_check`]: the records;
//! - [`summary`], [`at_rate`]: summaries, computed from the slices whenever they are shown;
//! - [`doubts`]: the warnings that follow;
//! - [`cross_check`]: figures that must agree;
//! - [`bottleneck`]: which of the two was the limit, wrk or the server.

mod at_rate;
pub mod bench;
pub mod bottleneck;
pub mod compare;
mod comparing;
pub mod comparison;
pub mod cross_check;
pub mod doubts;
#[cfg(test)]
pub mod fixture;
pub mod runner;
pub mod self_check;
pub mod slice;
pub mod store;
pub mod summary;
