//! Who gets the next connection, where every worker has a socket of its own: the parent's part.
//!
//! By default nobody does anything, and the kernel picks by its hash. A policy that picks otherwise
//! is a program in the kernel, attached to the group of sockets that listen on the port; whichever
//! of them it is attached through, it is the whole group's. So each worker sends the parent its
//! socket before it serves, and the parent does the rest: it has one thread and knows everybody, so
//! nothing is done twice or in the wrong order, and no worker needs any right for it.
//!
//! The parent closes the socket again at once. If it held it, the queue of a worker that crashed
//! would live on with nobody to answer it.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Result, ensure};
use caps::Capability;
use socket2::{SockRef, Type};

use crate::scoreboard::OwnSlot;

/// In the parent: whether a socket that a worker has sent is what it should be, a TCP socket that
/// listens on the server's address. What is attached to any other would not be this server's business.
///
/// # Errors
/// When it is something else.
pub fn ensure_listens_on(socket: &impl AsFd, address: SocketAddr) -> Result<()> {
    let socket = SockRef::from(socket);
    let is_listening = socket.r#type()? == Type::STREAM && socket.is_listener()?;
    let where_to = socket.local_addr()?.as_socket().map(|own| (own.ip(), own.port()));
    ensure!(
        is_listening && where_to == Some((address.ip(), address.port())),
        "has sent a socket that does not listen on {address}"
    );
    Ok(())
}

/// A policy.
pub trait Steering {
    /// Has new connections steered, now that a worker listens on this socket. `sockets` listen in all,
    /// those of workers that are about to included.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn enter(&self, lane: usize, socket: BorrowedFd, sockets: usize) -> Result<()>;

    /// Has the group of this socket steered again, if another program has taken the place of this one.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn attach(&self, socket: BorrowedFd) -> Result<()>;

    /// Has nothing more steered to the socket of this lane: another worker has adopted it.
    fn leave(&self, lane: usize);

    /// The capabilities that it needs after the start, whenever a worker comes or goes.
    fn keeps(&self) -> &[Capability] {
        &[]
    }

    /// The memory in which workers show how loaded they are, if that matters to the policy; each gets it, and
    /// is known by a *lane*: a socket that can be chosen, and a place in this memory.
    fn loads(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Connections that it has steered, ever; `None` if it does not count them.
    fn steered(&self) -> Option<u64> {
        None
    }

    /// Gives a lane to the worker with this pid, who has nothing to do yet, and opens it for new connections.
    fn open_lane(&self, _lane: usize, _worker: u32) {}

    /// Closes a lane: its worker is gone.
    fn close_lane(&self, _lane: usize) {}
}

/// A worker's own lane, where it shows how loaded it is.
pub trait Lane: Sync {
    /// Notes that a connection was accepted, after it was counted as open in the slot.
    fn opened(&self, slot: OwnSlot);

    /// Notes that a connection has ended, after it was taken off what is open in the slot.
    fn closed(&self, slot: OwnSlot);

    /// Notes that the event loop has nothing to do and sleeps.
    fn sleeps(&self, slot: OwnSlot);

    /// Notes that it wakes.
    fn wakes(&self);

    /// Notes that the event loop turns; to be called four times a second.
    fn tick(&self, slot: OwnSlot);
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn only_a_socket_that_listens_on_the_servers_address_is_steered_to() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        ensure_listens_on(&listener, address).unwrap();
        let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(ensure_listens_on(&elsewhere, address).is_err());
        let _client = TcpStream::connect(address).unwrap();
        let accepted = listener.accept().unwrap().0; // the same address, but it does not listen
        assert!(ensure_listens_on(&accepted, address).is_err());
        let datagrams = UdpSocket::bind(address).unwrap();
        assert!(ensure_listens_on(&datagrams, address).is_err());
        assert!(ensure_listens_on(&UnixDatagram::unbound().unwrap(), address).is_err());
        assert!(ensure_listens_on(&std::fs::File::open("/dev/null").unwrap(), address).is_err());
    }
}
