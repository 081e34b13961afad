//! What an event loop that waits in its own way waits for, and what ends the wait.

use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::SigSet;

use crate::accept::epoll_instance;
use crate::accept::interrupt::interrupt_only_waits;
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
    /// The signals that are blocked in a wait, see [`interrupt_only_waits`].
    pub mask: SigSet,
}

impl Place {
    /// For this socket and the event loop with this epoll instance, in that event loop's thread.
    ///
    /// # Errors
    /// When the epoll instance was not found, or the kernel refuses.
    pub fn of(listener: TcpListener, events: Option<i32>) -> Result<Self> {
        let events =
            events.context("cannot find the event loop's epoll instance in /proc/self/fd")?;
        let (events, mask) = (epoll_instance::duplicate(events)?, interrupt_only_waits()?);
        Ok(Self { listener, events, mask })
    }

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
