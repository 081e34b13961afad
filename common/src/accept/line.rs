//! The line for a listening socket that several workers wait for: EPOLLEXCLUSIVE, without tokio.
//!
//! With that flag (Linux 4.5, commit df0108c5da56) epoll_ctl(2) adds the epoll instance to the end of the
//! socket's waiters with add_wait_queue_exclusive(). When a connection is established, the kernel calls
//! ep_poll_callback() for one waiter after the other, until one of them has woken a thread: the first
//! whose thread sleeps in epoll_wait(2). The waiters before it get an entry in their ready list, and
//! look at the queue when they next wait. So there is no herd, and no waiter misses the connection.
//!
//! Unlike a waiter in accept(2), an entry keeps its place. So the order is always the same, and the
//! first registered worker that is idle gets the next connection. Cloudflare calls that LIFO.

use std::cell::Cell;
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::accept::place::Place;

/// What the epoll instance reports: a connection, or events of the event loop.
const SOCKET: u64 = 0;
const LOOP: u64 = 1;

/// After this time a worker looks at the queue, whatever is ready. If a wake-up went to a worker that was stopped in
/// that moment, its connection is in no ready list, and would wait until the next connection arrives.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// An epoll instance that watches the event loop and, as long as the worker is in line, the socket.
pub struct Line {
    epoll: Epoll,
    is_joined: bool,
    /// When the queue was last looked at.
    looked: Cell<Instant>,
}

/// What ended a wait.
pub struct Ready {
    /// A connection may be there.
    pub connection: bool,
    /// The event loop has something to do.
    pub events: bool,
    /// Look at the queue in any case: the time is up, or the last look was too long ago.
    pub look: bool,
}

impl Line {
    /// An instance that watches the event loop only.
    ///
    /// # Errors
    /// Those of epoll_create1(2) and epoll_ctl(2).
    pub fn watching_the_loop(place: &Place) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&place.events, EpollEvent::new(EpollFlags::EPOLLIN, LOOP))?;
        Ok(Self { epoll, is_joined: false, looked: Cell::new(Instant::now()) })
    }

    /// Joins the end of the socket's waiters, unless it is among them.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn join(&mut self, place: &Place) -> io::Result<()> {
        if !self.is_joined {
            let exclusively = EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE;
            self.epoll.add(&place.listener, EpollEvent::new(exclusively, SOCKET))?;
            self.is_joined = true;
        }
        Ok(())
    }

    /// Leaves the socket's waiters: for each connection the kernel walks through them, up to the one that it
    /// wakes.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn leave(&mut self, place: &Place) -> io::Result<()> {
        if std::mem::take(&mut self.is_joined) {
            self.epoll.delete(&place.listener)?;
        }
        Ok(())
    }

    /// Waits until something is ready, or the time is up.
    ///
    /// If both are ready, the caller must take the connection: no other worker was woken for it. Open connections
    /// do not wait for long, since the event loop takes one new connection and then handles its own events.
    ///
    /// # Errors
    /// Those of epoll_pwait(2); EINTR when it was interrupted.
    #[allow(unsafe_code)]
    pub fn wait(&self, place: &Place, at_most: Duration) -> io::Result<Ready> {
        let mut events = [EpollEvent::empty(); 2];
        let time = i32::from(EpollTimeout::try_from(at_most).unwrap_or(EpollTimeout::ZERO));
        let (epoll, room) = (self.epoll.0.as_raw_fd(), events.as_mut_ptr().cast());
        // SAFETY: there is room for two events, an EpollEvent is an epoll_event, and the mask is only read.
        let count = unsafe { libc::epoll_pwait(epoll, room, 2, time, place.mask.as_ref()) };
        let count = Errno::result(count)? as usize;
        let is_ready = |what| events[..count].iter().any(|event| event.data() == what);
        let (connection, events) = (is_ready(SOCKET), is_ready(LOOP));
        let now = Instant::now();
        let look = count == 0 || now - self.looked.get() >= LOOK_AGAIN;
        if look || connection {
            self.looked.set(now);
        }
        Ok(Ready { connection, events, look })
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};

    use nix::sys::pthread::{pthread_kill, pthread_self};
    use nix::unistd::{pipe, write};

    use super::*;
    use crate::accept::interrupt::{INTERRUPT, interrupt_only_waits};

    const LONG: Duration = Duration::from_secs(60);

    /// A place with a pipe instead of an event loop's epoll instance, and the pipe's other end.
    fn place() -> (Place, std::os::fd::OwnedFd) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (events, writer) = pipe().unwrap();
        (Place { listener, events, mask: interrupt_only_waits().unwrap() }, writer)
    }

    #[test]
    fn a_connection_is_told_of_also_while_the_loop_always_has_something_to_do() {
        let (place, writer) = place();
        let mut line = Line::watching_the_loop(&place).unwrap();
        line.join(&place).unwrap();
        write(&writer, b"x").unwrap();
        let _client = TcpStream::connect(place.listener.local_addr().unwrap()).unwrap();
        for _ in 0..3 {
            let ready = line.wait(&place, LONG).unwrap();
            assert!(ready.connection && ready.events && !ready.look);
        }
        line.leave(&place).unwrap();
        assert!(!line.wait(&place, LONG).unwrap().connection, "it is in line no more");
    }

    #[test]
    fn the_queue_is_looked_at_again_also_while_the_loop_always_has_something_to_do() {
        let (place, writer) = place();
        let line = Line::watching_the_loop(&place).unwrap();
        write(&writer, b"x").unwrap();
        let looks = || line.wait(&place, LONG).unwrap().look;
        assert!(!looks());
        line.looked.set(Instant::now() - LOOK_AGAIN);
        assert_eq!([looks(), looks()], [true, false]);
    }

    #[test]
    fn an_interrupt_that_comes_just_before_a_wait_ends_it() {
        let (place, _writer) = place();
        let line = Line::watching_the_loop(&place).unwrap();
        let waits: [&dyn Fn(Duration) -> io::Result<bool>; 2] =
            [&|at_most| line.wait(&place, at_most).map(|ready| !ready.look), &|at_most| {
                place.wait_for_events(at_most)
            }];
        for wait in waits {
            pthread_kill(pthread_self(), INTERRUPT).unwrap();
            assert_eq!(wait(LONG).unwrap_err().kind(), ErrorKind::Interrupted);
            assert!(!wait(Duration::ZERO).unwrap(), "and no other wait");
        }
    }
}
