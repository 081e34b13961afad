//! Load-aware accept on a socket that forked workers share, for any server: few idle workers wait for all, and
//! of connections that are kept the worker with fewer gets the next one.
//!
//! [`LeastConn`] is for servers on axum 0.8. `shared-fd-server --accept least-conn` follows the same [`rules`].
//!
//! | file | what it is |
//! |---|---|
//! | [`rules`] | which workers wait in line, which are called, and when a worker leaves a connection to another |
//! | [`peers`] | the other workers' state on the [scoreboard](crate::scoreboard), from which a worker decides |
//! | [`listener`] | the listener for axum, and its event loop |
//! | [`line`](super::line), [`place`](super::place) | EPOLLEXCLUSIVE, in place of the event loop's own wait |
//!
//! They need the scoreboard, [`Stream`](crate::http::stream::Stream), [`accept_error`](super::accept_error),
//! [`interrupt`](super::interrupt), and [`epoll_instance`](super::epoll_instance), and nothing else of this library
//! but the clock, the tick's time and `accept`.

pub mod listener;
pub mod peers;
pub mod rules;

pub use listener::{LeastConn, Shared};
