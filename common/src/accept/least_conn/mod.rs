//! Load-aware accept on a socket that forked workers share, for any server: few idle workers wait for all, and
//! of connections that are kept the worker with fewer gets the next one.
//!
//! [`LeastConn`] is for servers on axum 0.8. `shared-fd-server --accept least-conn` follows the same [`rules`].
//!
//! | file | what it is |
//! |---|---|
//! | [`rules`] | which workers wait in line, which are called, and when a worker leaves a connection to another |
//! | [`peers`] | the other workers' state, from which a worker decides |
//! | [`workers`] | what workers show each other: `on_scoreboard` for this project's server, `mapping` for any other |
//! | [`listener`] | the listener for axum, and its event loop |
//! | [`line`](super::line), [`place`](super::place) | EPOLLEXCLUSIVE, in place of the event loop's own wait |
//!
//! They need [`Stream`](crate::http::stream::Stream), [`Pace` and `Lifetimes`](crate::scoreboard::Pace),
//! [`accept_error`](super::accept_error), [`interrupt`](super::interrupt), and
//! [`epoll_instance`](super::epoll_instance), and nothing else of this library but the clock and `accept`.

pub mod listener;
mod mapping;
pub mod on_scoreboard;
pub mod peers;
pub mod rules;
pub mod workers;

pub use listener::{LeastConn, Shared};
