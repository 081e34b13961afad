//! The prober: asks a server for as long as it is told to, and tells the outcome of every request.
//!
//! It speaks HTTP over sockets of its own. A client library would hide what is asked for here: it
//! retries, it calls a reset and an early close by one name, and it keeps a pool of its own mind.
//!
//! In the order in which to read it:
//!
//! - [`load`]: who is asked, for what, how often, and what the answer should be; [`arrivals`]: when
//!   requests are due;
//! - [`answer`]: reads an answer; [`outcome`]: the ways a request can end;
//! - [`client`]: one request's life; [`connection`]: a single connection, opened by hand;
//! - [`run`]: many requests, in a closed or an open loop, which [`ticker`] wakes and [`on_time`]
//!   lets send when it should;
//! - [`fault`]: what is to be done to the server and when; [`fault_run`] does it while requests are
//!   sent; [`fault_impact`]: what came of each;
//! - [`counters`], [`timeline`]: what is counted while it runs, and what follows from that;
//!   [`spread`]: how many connections each worker holds meanwhile;
//! - [`ideal`]: what one queue without overhead would have done with the same arrivals;
//! - [`record`]: the result.

pub mod answer;
pub mod arrivals;
pub mod client;
pub mod connection;
pub mod counters;
pub mod fault;
pub mod fault_impact;
pub mod fault_run;
pub mod ideal;
pub mod load;
pub mod on_time;
pub mod outcome;
pub mod record;
pub mod run;
pub mod spread;
pub mod ticker;
pub mod timeline;
