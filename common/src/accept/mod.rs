//! How a worker comes by connections, and what keeps it from accepting.
//!
//! - [`recipient`]: what this room knows of a worker;
//! - [`acceptor`]: who waits: tokio does, with several sockets [`in_turn`], or somebody else;
//! - [`place`], [`mod@line`], [`epoll_instance`]: for an event loop that waits in its own way;
//! - [`accept_error`]: what to do without descriptors; [`at_limit`]: with all connections that a worker may
//!   have; [`drain_accept_queue`]: before the end;
//! - [`least_conn`]: the load-aware way, for this project's server and for any other;
//! - [`interrupt`]: a signal that ends a wait.

pub mod accept_error;
pub mod acceptor;
pub mod at_limit;
pub mod drain_accept_queue;
pub mod epoll_instance;
pub mod in_turn;
pub mod interrupt;
pub mod least_conn;
pub mod line;
pub mod place;
pub mod recipient;
