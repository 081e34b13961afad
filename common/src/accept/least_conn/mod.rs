//! Load-aware accept on a socket that forked workers share, to take along: few wait for all, and whoever has
//! fewer connections gets the next one that is kept.
//!
//! [`LeastConn`] is for any server on axum 0.8. `shared-fd-server --accept least-conn` does the same with the
//! same [`rules`].
//!
//! | file | what it is |
//! |---|---|
//! | [`rules`] | who waits in line, who is called, and who leaves a connection to another |
//! | [`peers`] | what these decisions are made from |
//! | [`workers`] | what workers must know of each other: `on_scoreboard` for this project's server, `mapping` for any other |
//! | [`listener`] | the listener for axum, and its event loop |
//! | [`line`](super::line), [`place`](super::place) | EPOLLEXCLUSIVE, in the event loop's stead |
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
