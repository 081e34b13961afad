//! Questions to the kernel about sockets, and about who uses a port.

pub mod netlink;
pub mod port_owner;
pub mod port_watch;
pub mod sock_diag;
pub mod sockets;
pub mod uninterrupted;
