//! The lesson: one worker and its connections, and where its listening socket comes from.

pub mod app;
pub mod connection;
pub mod socket;
pub mod worker;
