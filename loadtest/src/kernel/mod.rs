//! Sockets and processes as the kernel shows them, and network namespaces for experiments.
//!
//! - [`open_sockets`]: which sockets a process has open, and which it waits for;
//! - [`borrow`]: facts about another process's descriptors that /proc does not show;
//! - [`workers`]: which processes serve a port, and how each takes part;
//! - [`procfs`]: a process and its descendants, their CPU time and context switches;
//! - [`affinity`]: which cores they may use;
//! - [`netstat`]: connections the kernel dropped or migrated, counted per network namespace;
//! - [`netns`]: runs code in a new network namespace, or in another process's;
//! - [`migrate_req`]: the same with tcp_migrate_req off and on.
//!
//! The listening sockets of a port are in [`common::kernel::sock_diag`], which the servers use, too.

pub mod affinity;
pub mod borrow;
pub mod migrate_req;
pub mod netns;
pub mod netstat;
pub mod open_sockets;
pub mod procfs;
pub mod workers;
