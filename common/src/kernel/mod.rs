//! What the kernel is asked: of sockets, and of others.

pub mod netlink;
pub mod port_owner;
pub mod port_watch;
pub mod sock_diag;
pub mod sockets;
pub mod uninterrupted;
