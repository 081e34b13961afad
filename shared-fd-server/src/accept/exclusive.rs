//! `--accept exclusive`: the event loop itself waits with EPOLLEXCLUSIVE, as nginx's does.
//!
//! With that flag (Linux 4.5, commit df0108c5da56) epoll_ctl(2) enters the socket's waiters with
//! add_wait_queue_exclusive(), at the end. A connection that is established runs ep_poll_callback()
//! for one waiter after the other, until one of them says that it has woken somebody: until the
//! first whose thread sits in epoll_wait(2). Those passed over find a note in their ready list, and
//! look at the queue when they next come to wait. So there is no herd, and nobody is forgotten.
//!
//! Unlike a waiter in accept(2), an entry keeps its place. So it is always the same order, and the
//! first registered worker that is idle gets the next connection; Cloudflare calls that LIFO.
//!
//! It is level-triggered, and a worker takes **one** connection, then serves what it has, then comes back
//! ([`common::accept::parking`]). So the accept queue is one queue for all workers, and a worker that
//! blocks in a handler is simply not waiting. A thread that accepts while the event loop is blocked would
//! take connections out of that queue and have them wait behind the handler: with handlers of 10 ms, p99
//! was 40 ms instead of 11.
//!
//! When it goes wrong: an idle worker far in front gets everything. A burst of connections that are
//! kept lands on the first few workers, for as long as they are kept. With many more workers than cores
//! each connection wakes one that sleeps, although another that is awake would have come for it. And a
//! wake-up belongs to the one that was woken: if it is stopped or killed in that moment, the connection
//! lies there until the next one arrives; so all look at the queue now and then.

use std::io;

use common::accept::parking::{Enter, Park, Place, Woken};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// What the epoll instance says is ready: a connection, or the event loop.
const SOCKET: u64 = 0;
const LOOP: u64 = 1;

/// Waits with EPOLLEXCLUSIVE.
pub struct Exclusive(Line);

impl Exclusive {
    /// Has the event loop wait like this.
    pub fn enter() -> Enter {
        Box::new(|place| {
            let mut line = Line::watching_the_loop(place)?;
            line.join(place)?;
            Ok(Box::new(Self(line)))
        })
    }
}

impl Park for Exclusive {
    fn wait(&mut self, place: &Place) -> io::Result<Woken> {
        let ready = self.0.wait(place)?;
        if (ready.connection || ready.nothing)
            && let Some(stream) = place.accept()?
        {
            return Ok(Woken::Connection(stream));
        }
        if ready.connection {
            place.was_woken_in_vain(); // somebody who did not have to be woken was faster
        }
        Ok(if ready.events || ready.nothing { Woken::Loop } else { Woken::Nothing })
    }

    fn may_accept(&mut self) -> bool {
        true
    }
}

/// An epoll instance that watches the event loop and, as long as the worker is in line, the socket.
pub struct Line {
    epoll: Epoll,
    is_joined: bool,
    /// Whether the last wait gave a connection.
    gave_connection: bool,
}

/// What a wait ended with.
pub struct Ready {
    /// A connection may be there.
    pub connection: bool,
    /// The event loop has something to do.
    pub events: bool,
    /// Neither: the time is up.
    pub nothing: bool,
}

impl Line {
    /// One that watches the event loop alone.
    pub fn watching_the_loop(place: &Place) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&place.events, EpollEvent::new(EpollFlags::EPOLLIN, LOOP))?;
        Ok(Self { epoll, is_joined: false, gave_connection: false })
    }

    /// Enters the socket's waiters, at the end, unless it is among them.
    pub fn join(&mut self, place: &Place) -> io::Result<()> {
        if !self.is_joined {
            let exclusively = EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE;
            self.epoll.add(&place.listener, EpollEvent::new(exclusively, SOCKET))?;
            self.is_joined = true;
        }
        Ok(())
    }

    /// Leaves the socket's waiters: for each connection the kernel goes through all of them, up to the
    /// one it wakes.
    pub fn leave(&mut self, place: &Place) -> io::Result<()> {
        if std::mem::take(&mut self.is_joined) {
            self.epoll.delete(&place.listener)?;
        }
        Ok(())
    }

    /// Waits until something is ready, or the time is up. Where both are ready, connections and the event
    /// loop's own events take turns: else whoever is connected would wait as long as others come.
    pub fn wait(&mut self, place: &Place) -> io::Result<Ready> {
        let mut events = [EpollEvent::empty(); 2];
        let time = EpollTimeout::try_from(place.time()).unwrap_or(EpollTimeout::ZERO);
        let count = self.epoll.wait(&mut events, time)?;
        let is_ready = |what| events[..count].iter().any(|event| event.data() == what);
        let events = is_ready(LOOP);
        let connection = is_ready(SOCKET) && !(events && self.gave_connection);
        self.gave_connection = connection;
        Ok(Ready { connection, events, nothing: count == 0 })
    }
}
