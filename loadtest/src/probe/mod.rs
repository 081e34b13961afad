//! The prober: asks a server for as long as it is told to, and tells the outcome of every request.
//!
//! It speaks HTTP over sockets of its own. A client library would hide what is asked for here: it
//! retries, it calls a reset and an early close by one name, and it keeps a pool of its own mind.
//!
//! In the order in which to read it:
//!
//! - [`target`]: who is asked, for what, and what the answer should be;
//! - [`answer`]: reads an answer, byte by byte if it comes so;
//! - [`outcome`]: the ways a request can end;
//! - [`arrivals`]: when requests are due;
//! - [`client`]: one request's life;
//! - [`run`]: what is asked, and what all tasks of a run share;
//! - [`drive`]: many requests: the closed loop, and the whole run; [`open_loop`]: the open one, which
//!   [`ticker`] wakes;
//! - [`fault`]: what is to be done to the server and when; [`fault_run`] does it while
//!   requests are sent;
//! - [`counters`], [`timeline`]: what is counted while it runs, and what follows from that;
//! - [`ideal`]: what one queue without overhead would have done with the same arrivals;
//! - [`fault_impact`]: what came of each fault;
//! - [`record`]: the result.

pub mod answer;
pub mod arrivals;
pub mod client;
pub mod counters;
pub mod drive;
pub mod fault;
pub mod fault_impact;
pub mod fault_run;
pub mod ideal;
pub mod open_loop;
pub mod outcome;
pub mod record;
pub mod run;
pub mod target;
pub mod ticker;
pub mod timeline;
