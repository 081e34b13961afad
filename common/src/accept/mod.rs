//! How a worker comes by connections, and what keeps it from accepting.

pub mod accept_error;
pub mod at_limit;
pub mod drain_accept_queue;
pub mod in_turn;
pub mod interrupt;
pub mod parking;
pub mod waiter;
