//! What the kernel sees of listening sockets, and a network of its own for what must not touch the
//! machine's.
//!
//! - [`listeners`]: who listens on a port, and how many connections wait for each to accept;
//! - [`counters`]: connections the kernel dropped or migrated, counted per network namespace;
//! - [`namespace`]: runs something in a network namespace of its own;
//! - [`netlink`]: one question to the kernel, and its answers.

pub mod counters;
pub mod listeners;
pub mod namespace;
mod netlink;
