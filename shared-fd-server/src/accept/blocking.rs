//! `--accept blocking`: a thread per worker sits in accept(2).
//!
//! Servers waited like this before there was epoll. In the kernel all of them sleep in one queue:
//! inet_csk_accept() finds nothing, and inet_csk_wait_for_connect() puts the caller at the end of
//! the socket's waiters, with prepare_to_wait_exclusive(). A connection that is established wakes
//! the first exclusive waiter and no other. So there is no herd, and while all are idle they take
//! turns, first come, first served.
//!
//! A waiter that is woken takes the connection before it leaves the kernel, even if a signal arrives
//! at the same time: it looks at the queue before the signal. So no wake-up is ever lost, not even that
//! of a worker that is stopped or killed in that moment.
//!
//! When it goes wrong: the worker whose turn it is gets the next connection, whatever its load. Kept
//! connections are spread once, by number and not by load. And taking turns keeps the memory of all
//! workers in use where a few workers would do.
//!
//! Whether accept(2) waits is a status flag, O_NONBLOCK, of the open file, which parent and workers share
//! with the socket. So all workers wait like this, or none; and a worker cannot make the socket
//! non-blocking for its last look at the queue ([`thread`] says what it does instead). Not used:
//! SO_RCVTIMEO, which accept(2) obeys. It is shared as well, and a worker that returns from a timeout goes
//! to the end of the queue.

use std::net::TcpListener;

use anyhow::Result;
use common::accept::acceptor::Sockets;

use super::thread;

/// Starts a thread that waits in accept(2) on this socket, which is a blocking one from now on, in all processes.
///
/// # Errors
/// When the kernel refuses to make it a blocking socket.
pub fn wait_on(listener: TcpListener) -> Result<Sockets> {
    listener.set_nonblocking(false)?;
    Ok(Sockets::waited_for(listener, thread::wait()))
}
