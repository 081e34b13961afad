//! The lab: what is claimed about shared sockets and SO_REUSEPORT, measured again here.
//!
//! - [`book`]: the experiments in their order, one file each, which begins with its page of the book;
//! - [`page`]: that page, read from the file's own heading;
//! - [`notebook`]: every observation, written down as soon as it is made, so that a run can go on;
//! - [`race`]: wrk visits several servers in turn; [`inquiry`]: the prober asks one;
//! - [`client`]: a single connection, opened by hand;
//! - [`room`]: a network namespace, where a sysctl is turned; [`queues`]: who waits in which accept queue;
//! - [`sure`]: a figure with its interval;
//! - [`chapter`]: what came of an experiment: claims with verdicts, tables, a picture;
//! - [`record`]: all of that together, as it is saved;
//! - [`roll`]: who can take part on this machine.

pub mod book;
pub mod chapter;
pub mod client;
mod experiments;
pub mod inquiry;
pub mod notebook;
pub mod page;
pub mod queues;
pub mod race;
pub mod record;
pub mod roll;
pub mod room;
pub mod sure;
