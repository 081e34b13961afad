//! Single connections to our servers, and sockets, opened by hand.

use std::io;
use std::net::SocketAddr;

use anyhow::{Result, ensure};
use socket2::{Domain, Socket, Type};

use crate::probe::connection::Connection;
use crate::probe::load::FRONT_PAGE;

/// Connects, sends a request, and waits for its answer. A different answer than that of our servers is an error.
pub fn served(address: SocketAddr) -> Result<Connection> {
    let mut connection = Connection::open(address)?;
    connection.ask("/")?;
    answered(&mut connection)?;
    Ok(connection)
}

/// Waits for the answer of one of our servers.
pub fn answered(connection: &mut Connection) -> Result<()> {
    let body = connection.body()?;
    ensure!(body == FRONT_PAGE, "the answer is {body:?}, not {FRONT_PAGE:?}");
    Ok(())
}

/// Opens this many connections, each with one request, and closes each before the next.
pub fn ask(address: SocketAddr, connections: usize) -> Result<()> {
    (0..connections).try_for_each(|_| served(address).map(drop))
}

/// A bound socket, with SO_REUSEPORT or without, that does not listen yet. Port 0 means any port.
pub fn bound(address: SocketAddr, flag: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_port(flag)?;
    socket.bind(&address.into())?;
    Ok(socket)
}
