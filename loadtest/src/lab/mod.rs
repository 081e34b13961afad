//! The lab: what is claimed about shared sockets and SO_REUSEPORT, measured again here.
//!
//! - [`book`]: the experiments in their order, one file each, which begins with its page of the book;
//! - [`page`]: that page, read from the file's own heading;
//! - [`store`]: every sample, written down as soon as it is made, so that a run can go on;
//! - [`interleaved`]: wrk visits several servers in turn; [`inquiry`]: the prober asks one;
//! - [`client`]: a single connection, opened by hand;
//! - [`network_namespace`]: a network namespace, where a sysctl is turned; [`queues`]: who waits in which accept queue;
//! - [`estimate`]: a figure with its interval;
//! - [`chapter`]: what came of an experiment: claims with verdicts, tables, a picture;
//! - [`record`]: all of that together, as it is saved;
//! - [`availability`]: who can take part on this machine.

pub mod availability;
pub mod book;
pub mod chapter;
mod chapters;
pub mod client;
pub mod estimate;
pub mod inquiry;
pub mod interleaved;
pub mod network_namespace;
pub mod page;
pub mod queues;
pub mod record;
pub mod store;
