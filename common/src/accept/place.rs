//! What an event loop that waits in its own way waits for, and what ends the wait.

use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::SigSet;

use crate::kernel::sockets::accept;

/// A way to wait.
pub trait WaitPolicy: Send {
    /// Waits for a connection, the event loop's own events or this time, whatever is first.
    ///
    /// # Errors
    /// Those of accept(2) and of the wait.
    fn wait(&mut self, place: &Place, at_most: Duration) -> io::Result<Woken>;

    /// Whether a worker that is busy may accept a connection now.
    fn may_accept(&mut self, place: &Place) -> bool;
}

/// What ended a wait.
pub enum Woken {
    /// A connection.
    Connection(TcpStream),
    /// The event loop has something to do, or the time is up.
    Loop,
    /// None of these: wait on.
    Nothing,
}

/// What to wait for.
pub struct Place {
    /// Connections.
    pub listener: TcpListener,
    /// The event loop's own events: its epoll instance is readable.
    pub events: OwnedFd,
    /// The signals that are blocked in a wait, see
    /// [`interrupt_only_waits`](crate::accept::interrupt::interrupt_only_waits).
    pub mask: SigSet,
}

impl Place {
    /// Accepts a connection, if there is one.
    ///
    /// # Errors
    /// Those of accept(2), except for an empty queue.
    pub fn accept(&self) -> io::Result<Option<TcpStream>> {
        match accept(&self.listener) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            accepted => accepted.map(Some),
        }
    }

    /// Waits only for the event loop's own events. Returns whether there are any.
    ///
    /// # Errors
    /// Those of ppoll(2); EINTR when it was interrupted.
    pub fn wait_for_events(&self, at_most: Duration) -> io::Result<bool> {
        let events = PollFd::new(self.events.as_fd(), PollFlags::POLLIN);
        Ok(ppoll(&mut [events], Some(at_most.into()), Some(self.mask))? > 0)
    }
}
