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
    let socket = stream_socket(address)?;
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

/// Reserves an address for the workers of one server, who will each bind it with SO_REUSEPORT.
///
/// SO_REUSEPORT makes a second server on the same port *succeed*: the kernel then splits the
/// connections between old and new, silently. So the parent first binds the address in a way that
/// fails if anybody listens there, and never listens itself: a socket that does not listen gets no
/// connections. Bound with SO_REUSEADDR alone it tolerates connections in TIME_WAIT; turned into a
/// SO_REUSEPORT socket afterwards, it lets the workers of the same user in and keeps everyone
/// without that flag, and every later reservation, out. It also settles the port for `--port 0`.
///
/// A gap remains: two servers that bind their reservations within the same few microseconds, both
/// before either has changed its flags, both succeed. And a program of the same user that binds
/// with SO_REUSEPORT and does not ask first still gets in, at any time.
///
/// To `join` those who listen there already is to reserve with SO_REUSEPORT from the start, which
/// fails only if they did not set it or are another user's.
///
/// # Errors
/// As for [`listen`].
pub fn reserve(address: SocketAddr, join: bool) -> Result<TcpListener> {
    let socket = stream_socket(address)?;
    socket.set_reuse_address(!join)?;
    socket.set_reuse_port(join)?;
    let hint = if join {
        ", without SO_REUSEPORT or as another user, so that nobody can --join"
    } else {
        " (--join would share the port, if that is a reuseport-server)"
    };
    socket.bind(&address.into()).map_err(|error| explain(error, address, hint))?;
    socket.set_reuse_address(false)?;
    socket.set_reuse_port(true)?;
    Ok(socket.into())
}

fn stream_socket(address: SocketAddr) -> Result<Socket> {
    Socket::new(Domain::for_address(address), Type::STREAM, None).context("cannot make a socket")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::sockets::inode;

    fn any_port() -> SocketAddr {
        ([127, 0, 0, 1], 0).into()
    }

    #[test]
    fn one_socket_keeps_others_out() {
        let first = listen(any_port(), 8, Sharing::OneSocket).unwrap();
        let address = first.local_addr().unwrap();
        for sharing in [Sharing::OneSocket, Sharing::ReusePort] {
            let refusal = listen(address, 8, sharing).unwrap_err();
            assert!(refusal.to_string().contains("listens there"), "{refusal:#}");
        }
    }

    #[test]
    fn sockets_with_reuse_port_share_an_address() {
        let first = listen(any_port(), 8, Sharing::ReusePort).unwrap();
        let second = listen(first.local_addr().unwrap(), 8, Sharing::ReusePort).unwrap();
        assert_ne!(inode(&first), inode(&second));
    }

    #[test]
    fn a_reservation_lets_own_workers_in_and_keeps_everyone_else_out() {
        let reservation = reserve(any_port(), false).unwrap();
        let address = reservation.local_addr().unwrap();
        assert!(reserve(address, false).is_err(), "a second start at the same moment");
        assert!(listen(address, 8, Sharing::OneSocket).is_err());
        let _worker = listen(address, 8, Sharing::ReusePort).unwrap();
        assert!(reserve(address, false).is_err(), "a second start later");
    }

    #[test]
    fn a_reservation_is_refused_where_somebody_listens_with_reuse_port() {
        let other = listen(any_port(), 8, Sharing::ReusePort).unwrap();
        assert!(reserve(other.local_addr().unwrap(), false).is_err());
    }

    #[test]
    fn an_address_of_another_machine_is_refused_by_name() {
        let refusal = listen("192.0.2.1:80".parse().unwrap(), 8, Sharing::OneSocket).unwrap_err();
        assert!(refusal.to_string().contains("no address 192.0.2.1"), "{refusal:#}");
    }
}
