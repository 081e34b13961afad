//! What `compare` is made of, less the running of it.
//!
//! - [`comparison`]: the result, as it is saved after each slice;
//! - [`summary`]: what follows from the slices; made anew from them whenever they are shown;
//! - [`schedule`]: who is visited when; [`slice`]: one visit of wrk;
//! - [`bottleneck`]: which of the two was the limit, wrk or the server.

#![allow(dead_code)] // until every command uses it

pub mod bench;
pub mod bottleneck;
pub mod comparison;
pub mod cost;
pub mod cross_check;
pub mod runner;
pub mod schedule;
pub mod self_check;
pub mod slice;
pub mod store;
pub mod summary;
