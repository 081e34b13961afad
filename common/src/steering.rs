//! Which per-worker socket gets the next connection: the interface of a steering policy, for the parent.
//!
//! By default there is no policy, and the kernel picks by its hash. A policy that picks otherwise is a
//! program in the kernel, attached to the group of sockets that listen on the port; whichever socket it
//! is attached through, it belongs to the whole group. So each worker sends the parent its socket before
//! it serves, and the parent does the rest: it has one thread and knows all workers, so nothing is done
//! twice or in the wrong order, and no worker needs a capability for it.
//!
//! The parent closes the socket again at once. If it kept it, the socket's queue would survive a crash
//! of the worker, and no process would answer it.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Result, ensure};
use caps::Capability;
use socket2::{SockRef, Type};

use crate::scoreboard::OwnSlot;

/// In the parent: checks that a socket that a worker has sent is a TCP socket that listens on the server's address.
/// The parent must not attach a program to any other.
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

/// A steering policy.
pub trait Steering {
    /// Steers new connections, now that a worker listens on this socket. `sockets` is the number of sockets that
    /// listen or will soon.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn enter(&self, lane: usize, socket: BorrowedFd, sockets: usize) -> Result<()>;

    /// Attaches the program to the group of this socket again, after another program has replaced it.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn attach(&self, socket: BorrowedFd) -> Result<()>;

    /// Steers nothing more to the socket of this lane: another worker has adopted it.
    fn leave(&self, lane: usize);

    /// The capabilities that the policy needs after the start, whenever a worker comes or goes.
    fn keeps(&self) -> &[Capability] {
        &[]
    }

    /// The memory in which workers show their load, if the policy uses it. Each worker has a *lane*: a socket that can
    /// be chosen, and a place in this memory.
    fn loads(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// How many connections the policy has steered so far; `None` if it does not count them.
    fn steered(&self) -> Option<u64> {
        None
    }

    /// Gives a lane to the worker with this pid, which has no connections yet, and opens the lane for new ones.
    fn open_lane(&self, _lane: usize, _worker: u32) {}

    /// Closes a lane, whose worker is gone.
    fn close_lane(&self, _lane: usize) {}
}

/// A worker's own lane, where it shows its load.
pub trait Lane: Sync {
    /// Notes a new connection, after the slot has counted it as open.
    fn opened(&self, slot: OwnSlot);

    /// Notes the end of a connection, after the slot no longer counts it as open.
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
