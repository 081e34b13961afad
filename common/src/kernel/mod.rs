//! What the kernel is asked: of sockets, and of others.

pub mod port_owner;
pub mod sockets;
