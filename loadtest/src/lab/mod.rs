//! The lab: what is claimed about shared sockets and SO_REUSEPORT, measured again here.
//!
//! - [`book`]: the experiments in their order, one file each in `chapters/`;
//! - [`page`]: an experiment's page of the book, and what it says of the figures found;
//! - [`context`]: what an experiment works with: policies, wrk, the store of samples;
//! - [`interleaved`]: wrk asks several servers in turn; [`probing`]: the prober asks one;
//! - [`client`]: a single connection, opened by hand;
//! - [`idle`]: waits until workers are idle;
//! - [`queues`]: who waits in which accept queue;
//! - [`replacing`]: servers that are reloaded, or replaced on their port;
//! - [`samples`]: figures and tables that follow from samples;
//! - [`figure`]: those that a page names; [`criterion`]: where they must lie for a claim to hold;
//! - [`chapter`]: what came of an experiment; [`record`]: all of that as it is saved.

pub mod book;
pub mod chapter;
pub mod chapters;
pub mod client;
pub mod context;
pub mod criterion;
pub mod figure;
pub mod idle;
pub mod interleaved;
pub mod page;
pub mod probing;
pub mod queues;
pub mod record;
pub mod replacing;
pub mod samples;
