//! The lab: measures again what others claim about shared sockets and SO_REUSEPORT.
//!
//! - [`book`]: the experiments in their order, one file each in `chapters/`;
//! - [`page`]: an experiment's page of the book, and its words about the measured figures;
//! - [`context`]: what all experiments use: policies and the store of samples;
//! - [`interleaved`]: wrk loads several servers in turn; [`probing`]: the prober loads one server;
//! - [`client`]: single connections to our servers, and sockets, opened by hand;
//! - [`idle`]: waits until workers are idle;
//! - [`queues`]: listening sockets and the connections in their accept queues;
//! - [`replacing`]: servers that are reloaded, or replaced on their port;
//! - [`samples`]: figures and tables from samples;
//! - [`figure`]: the figures that a page names; [`criterion`]: their limits, within which a claim holds;
//! - [`chapter`]: the result of an experiment; [`record`]: all results as they are saved.

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
