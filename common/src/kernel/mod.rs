//! What the kernel tells of others.

pub mod port_owner;
