//! The prober: asks a server for as long as it is told to, and tells the fate of every request.
//!
//! It speaks HTTP over sockets of its own. A client library would hide what is asked for here: it
//! retries, it calls a reset and an early close by one name, and it keeps a pool of its own mind.
//!
//! In the order in which to read it:
//!
//! - [`target`]: who is asked, for what, and what the answer should be;
//! - [`answer`]: reads an answer, byte by byte if it comes so;
//! - [`fate`]: the ways a request can end;
//! - [`client`]: one request's life;
//! - [`drive`]: many requests: the closed loop and the open one; [`ticker`] wakes the open one;
//! - [`fault`]: what is to be done to the server and when; [`inject`] does it; [`ordeal`]: both at once;
//! - [`tally`], [`timeline`]: what is counted while it runs, and what follows from that;
//! - [`aftermath`]: what came of each fault;
//! - [`record`]: the result.

pub mod aftermath;
pub mod answer;
pub mod client;
pub mod drive;
pub mod fate;
pub mod fault;
pub mod inject;
pub mod ordeal;
pub mod record;
pub mod tally;
pub mod target;
pub mod ticker;
pub mod timeline;
