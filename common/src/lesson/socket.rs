//! How a listening socket is made. [`Sharing`] is the project's one variable.

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};

use crate::kernel::port_owner::explain;

/// Who accepts from a listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// One socket, bound once and inherited by every worker: one accept queue for all.
    OneSocket,
    /// Every worker binds a socket of its own with SO_REUSEPORT (socket(7), Linux 3.9, commit
    /// c617f398edd4): one accept queue each, and the kernel picks by a hash of the connection's
    /// addresses and ports. All sockets must be bound by the same effective user.
    ReusePort,
}

/// Makes a listening socket: socket, bind, listen. It is non-blocking, as tokio wants it.
///
/// # Errors
/// When the address is in use, is not this machine's, or may not be used.
pub fn listen(address: SocketAddr, backlog: i32, sharing: Sharing) -> Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, None).context("cannot make a socket")?;
    // Without it a restart would fail for a minute, while connections of the last run rest in
    // TIME_WAIT. On Linux it does not allow two listeners on one port (on Windows it would).
    socket.set_reuse_address(true)?;
    // Inherited by every accepted connection (Linux clones the listener), which saves a call each.
    // Without it the second of two small writes would wait for the client's delayed ACK (Nagle).
    socket.set_tcp_nodelay(true)?;
    if sharing == Sharing::ReusePort {
        socket.set_reuse_port(true)?;
    }
    let not_to_be_had = |error| explain(error, address, "");
    socket.bind(&address.into()).map_err(not_to_be_had)?;
    socket.listen(backlog).map_err(not_to_be_had)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests;
