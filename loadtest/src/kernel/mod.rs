//! What the kernel sees of listening sockets, and a network of its own for what must not touch the
//! machine's.
//!
//! - [`sock_diag`]: who listens on a port, and how many connections wait for each to accept;
//! - [`netstat`]: connections the kernel dropped or migrated, counted per network namespace;
//! - [`netns`]: runs something in a network namespace of its own;
//! - [`netlink`]: one question to the kernel, and its answers.

pub mod affinity;
mod netlink;
pub mod netns;
pub mod netstat;
pub mod procfs;
pub mod sock_diag;
