//! `--accept blocking`: a thread per worker sits in accept(2).
//!
//! How servers waited before there was epoll. In the kernel all of them sleep in one queue:
//! inet_csk_accept() finds nothing, and inet_csk_wait_for_connect() puts the caller at the end of
//! the socket's waiters, with prepare_to_wait_exclusive(). A connection that is established wakes
//! the first exclusive waiter and no other. So there is no herd, and while all are idle they take
//! turns, first come, first served.
//!
//! A waiter that is woken takes the connection before it leaves the kernel, even when a signal has
//! come at the same time: the queue is looked at before the signal is. So no wake-up is ever lost, not
//! even that of a worker which is stopped or killed in that moment.
//!
//! When it goes wrong: whoever's turn it is gets the next connection, however many it has and
//! however much they ask of it. Connections that are kept are spread by number, not by load, and
//! never again. And taking turns keeps all workers' memory in use where a few would do.
//!
//! Whether accept(2) waits is a status flag, O_NONBLOCK, of the open file, and that one is shared by
//! parent and workers, as the socket is. So all workers wait like this, or none; a worker cannot
//! make it non-blocking for its last look at the queue either (see [`thread`] for what it
//! does instead). Not used: SO_RCVTIMEO, which accept(2) heeds. It is shared as well, and whoever
//! comes back from a timeout goes to the end of the queue.

use std::net::TcpListener;

use anyhow::Result;
use common::accept::acceptor::Sockets;

use super::thread;

/// Has a thread sit in accept(2) on this socket, which from now on waits for every process that holds it.
///
/// # Errors
/// When the kernel does not want the socket to wait.
pub fn wait_on(listener: TcpListener) -> Result<Sockets> {
    listener.set_nonblocking(false)?;
    Ok(Sockets::waited_for(listener, thread::wait()))
}
