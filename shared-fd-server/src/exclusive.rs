//! `--accept exclusive`: a thread per worker waits in an epoll instance of its own, which watches the
//! socket with EPOLLEXCLUSIVE.
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
//! It is level-triggered: who is woken takes one connection, and what is left makes its next
//! epoll_wait(2) return at once, so that workers share a burst.
//!
//! When it goes wrong: an idle worker far in front gets everything. A burst of connections that are
//! kept lands on the first few workers, for as long as they are kept. And a wake-up belongs to the
//! one that was woken: if it does not accept, the connection lies there until the next one arrives.
//! So everything that may keep a worker from accepting (its limit, a busy event loop) is seen to
//! before it waits; and since no code can help a worker that is stopped or killed in between, all
//! look at the queue now and then.

use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};

use common::accept::waiter::{Policy, Post};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

/// After how long to look at the queue without having been woken, in milliseconds.
const LOOK: u16 = 1000;

/// Waits with EPOLLEXCLUSIVE.
pub struct Exclusive(Epoll);

impl Exclusive {
    /// Registers this socket: behind all workers that have done so already.
    pub fn on(listener: &TcpListener) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE;
        epoll.add(listener, EpollEvent::new(interest, 0))?;
        Ok(Self(epoll))
    }
}

impl Policy for Exclusive {
    fn next(&mut self, post: &Post) -> io::Result<Option<TcpStream>> {
        let woken = self.0.wait(&mut [EpollEvent::empty()], LOOK)? > 0;
        match post.accept() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                // Somebody who did not have to be woken was faster.
                if woken {
                    post.worker.slot.add(|slot| &slot.wakeups_without_connection, 1);
                }
                Ok(None)
            }
            accepted => accepted.map(Some),
        }
    }
}
