//! What the kernel tells of sockets and processes, and a network of its own for what must not touch
//! the machine's.
//!
//! - [`sock_diag`]: who listens on a port, how many connections wait to be accepted, and which were;
//! - [`open_sockets`]: which sockets a process has open, and which it waits for;
//! - [`procfs`]: a process and its descendants, and what they used;
//! - [`affinity`]: which cores they may use;
//! - [`netstat`]: connections the kernel dropped or migrated, counted per network namespace;
//! - [`netns`]: runs something in a network namespace of its own;
//! - [`netlink`]: one question to the kernel, and its answers.

pub mod affinity;
mod netlink;
pub mod netns;
pub mod netstat;
pub mod open_sockets;
pub mod procfs;
pub mod sock_diag;
