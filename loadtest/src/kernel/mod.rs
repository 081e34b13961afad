//! What the kernel tells of sockets and processes, and a network of its own for what must not touch
//! the machine's.
//!
//! - [`open_sockets`]: which sockets a process has open, and which it waits for;
//! - [`borrow`]: what /proc does not tell of another's descriptors;
//! - [`procfs`]: a process and its descendants, and what they used;
//! - [`affinity`]: which cores they may use;
//! - [`netstat`]: connections the kernel dropped or migrated, counted per network namespace;
//! - [`netns`]: runs something in a network namespace of its own, or in another process's;
//! - [`migrate_req`]: the same with tcp_migrate_req off and on.
//!
//! Who listens on a port is asked in [`common::kernel::sock_diag`], which the servers use, too.

pub mod affinity;
pub mod borrow;
pub mod migrate_req;
pub mod netns;
pub mod netstat;
pub mod open_sockets;
pub mod procfs;
