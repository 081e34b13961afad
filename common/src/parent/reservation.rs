//! A port that is kept for the workers of one server, who bind it each for itself.

use std::net::{SocketAddr, TcpListener};

use anyhow::Result;
use socket2::{Domain, Socket, Type};

use crate::kernel::port_owner::explain;

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
/// When the address is in use, is not this machine's, or may not be used.
pub fn reserve(address: SocketAddr, join: bool) -> Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(!join)?;
    socket.set_reuse_port(join)?;
    let hint = if join {
        ", without SO_REUSEPORT or as another user, so --join is not possible"
    } else {
        " (--join would share the port, if that is a reuseport-server)"
    };
    socket.bind(&address.into()).map_err(|error| explain(error, address, hint))?;
    socket.set_reuse_address(false)?;
    socket.set_reuse_port(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lesson::socket::{Sharing, listen};

    fn any_port() -> SocketAddr {
        ([127, 0, 0, 1], 0).into()
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
}
