//! The lesson: where a worker's listening socket comes from, and what the worker does with it. With the two
//! `main.rs` and the [two ways to start a worker](crate::parent::start) that is what this project is about.

pub mod app;
pub mod connection;
pub mod counters;
pub mod socket;
pub mod worker;
