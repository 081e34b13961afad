//! An event loop that waits for connections in its own way, in tokio's place.
//!
//! tokio's event loop sleeps in epoll_wait(2), on an epoll instance that is its own, where nobody can
//! enter a socket with EPOLLEXCLUSIVE (tokio#6084). But before it goes to sleep it calls whoever asked for
//! that (`on_thread_park`), and the call may take its time. So this one sleeps in tokio's stead, on
//! another instance, which watches the listening socket as the policy wants it *and* tokio's instance:
//!
//! ```text
//!   nothing to do -> rest(): epoll_wait( listening socket, tokio's epoll instance )
//!                      a connection:    accept it, spawn its task, go on
//!                      tokio's events:  go on; tokio finds them at once
//! ```
//!
//! The other way round would not do: through tokio's instance watching ours, the kernel passes a
//! wake-up on to everybody. A thread that waits, as [`waiter`](crate::accept::waiter) has it, would do, at two more
//! context switches for each connection: one to wake it, one to wake the event loop.
//!
//! - **Timers.** Those of tokio do not end the sleep here. The one that must, the worker's tick, is
//!   waited for no longer than it takes; to the other, below, it does not matter.
//! - **Always busy.** A loop that never comes to rest, since there is always another request, must accept
//!   all the same. So a timer looks, which goes off late in a loop at rest, and finds nothing to do there.

use std::cell::RefCell;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::slice;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, ppoll};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::accept::accept_error;
use crate::accept::at_limit::make_room;
use crate::accept::interrupt::make_interruptible;
use crate::http::deadlines::TICK;
use crate::kernel::sockets::accept;
use crate::lesson::counters::{ConnectionGuard, Worker};

/// How long a busy loop may go without a look at the accept queue.
const LOOK: Duration = Duration::from_millis(5);

/// Connections that it accepts then, at most, before it looks after those it has.
const AT_ONCE: usize = 64;

/// tokio's timers may be late by so much.
const LATE: Duration = Duration::from_millis(2);

/// A way to wait.
pub trait Park {
    /// Waits for a connection, the event loop's own events or its time, whatever is first.
    ///
    /// # Errors
    /// What accept(2) or the waiting failed with.
    fn wait(&mut self, place: &Place) -> io::Result<Woken>;

    /// Whether a worker that is busy may accept a connection now.
    fn may_accept(&mut self) -> bool;
}

/// Makes a [`Park`], once there is an event loop.
pub type Enter = Box<dyn FnOnce(&Place) -> io::Result<Box<dyn Park>>>;

/// What ended a wait.
pub enum Woken {
    /// A connection.
    Connection(TcpStream),
    /// The event loop has something to do, or its time is up.
    Loop,
    /// Nothing of this: wait on.
    Nothing,
}

/// What to wait for.
pub struct Place {
    /// Connections.
    pub listener: TcpListener,
    /// The event loop's own events: its epoll instance is readable.
    pub events: OwnedFd,
    /// Whose they are.
    pub worker: &'static Worker,
}

impl Place {
    /// How long the loop may sleep, until its next tick is due.
    pub fn time(&self) -> Duration {
        TICK.saturating_sub(self.worker.slot.silence().unwrap_or_default()) + LATE
    }

    fn is_late(&self) -> bool {
        self.worker.slot.silence().is_some_and(|silence| silence >= TICK + LATE)
    }

    /// Accepts a connection, if there is one.
    ///
    /// # Errors
    /// accept(2)'s, but for that there is none.
    pub fn accept(&self) -> io::Result<Option<TcpStream>> {
        match accept(&self.listener) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            accepted => accepted.map(Some),
        }
    }

    /// Counts a wake-up for a connection that another worker has taken.
    pub fn was_woken_in_vain(&self) {
        self.worker.slot.add(|slot| &slot.wakeups_without_connection, 1);
    }

    /// Waits for any of these for so long at most, and says which of them are there.
    ///
    /// # Errors
    /// Those of ppoll(2).
    pub fn poll<const N: usize>(
        &self,
        these: [BorrowedFd; N],
        at_most: Duration,
    ) -> io::Result<[bool; N]> {
        let mut these = these.map(|it| PollFd::new(it, PollFlags::POLLIN));
        ppoll(&mut these, Some(at_most.into()), None)?;
        Ok(these.map(|it| it.any().unwrap_or(false)))
    }
}

struct Parking {
    place: Place,
    park: Box<dyn Park>,
    /// Where errors go, and whether one is being got over.
    errors: mpsc::Sender<io::Error>,
    is_in_trouble: bool,
    /// Whether the loop has come to rest since the last look.
    has_rested: bool,
}

thread_local! {
    /// The event loop's thread has one; a call from within tokio can be given nothing.
    static PARKING: RefCell<Option<Parking>> = const { RefCell::new(None) };
}

/// Called by tokio when the event loop has nothing to do.
pub fn rest() {
    with_parking(Parking::rest);
}

/// Has the event loop wait like this from now on. The result says what goes wrong.
///
/// # Errors
/// When that cannot be.
pub fn start(
    listener: TcpListener,
    events: Option<i32>,
    worker: &'static Worker,
    enter: Enter,
) -> Result<mpsc::Receiver<io::Error>> {
    let events = events.context("cannot find the event loop's epoll instance in /proc/self/fd")?;
    let events = duplicate(events)?;
    let place = Place { listener, events, worker };
    let park = enter(&place).context("cannot watch a listening socket")?;
    make_interruptible()?;
    let (errors, receiver) = mpsc::channel(1);
    let parking = Parking { place, park, errors, is_in_trouble: false, has_rested: false };
    PARKING.set(Some(parking));
    Ok(receiver)
}

/// Looks after the waiting: at errors, and at what a busy loop leaves in the queue. Comes back only with
/// an error that would come again.
pub async fn serve(errors: &mut mpsc::Receiver<io::Error>) -> io::Error {
    loop {
        tokio::select! {
            Some(error) = errors.recv() => {
                if let Err(error) = accept_error::get_over(error).await {
                    return error;
                }
                with_parking(|parking| parking.is_in_trouble = false);
            }
            () = sleep(LOOK) => with_parking(Parking::look),
        }
    }
}

/// The event loop waits as tokio does again. What it had been waiting for.
pub fn end() -> Option<TcpListener> {
    PARKING.take().map(|parking| parking.place.listener)
}

fn with_parking(what: impl FnOnce(&mut Parking)) {
    PARKING.with_borrow_mut(|parking| parking.as_mut().map(what));
}

impl Parking {
    fn rest(&mut self) {
        self.has_rested = true;
        let worker = self.place.worker;
        // While it is being got over an error, tokio's timers count.
        while !self.is_in_trouble && !worker.deadlines.is_draining() {
            let woken = match worker.is_full() {
                // Then the loop has something to do: to end connections.
                true if self.make_room() => return,
                true => self.wait_for_loop(),
                false => self.park.wait(&self.place),
            };
            match woken {
                Ok(Woken::Connection(stream)) => return self.serve(stream),
                Ok(Woken::Loop) => return,
                Ok(Woken::Nothing) if self.place.is_late() => return,
                Ok(Woken::Nothing) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.report(error),
            }
        }
    }

    fn make_room(&self) -> bool {
        make_room(self.place.worker, slice::from_ref(&self.place.listener))
    }

    fn wait_for_loop(&self) -> io::Result<Woken> {
        self.place.poll([self.place.events.as_fd()], self.place.time()).map(|_| Woken::Loop)
    }

    /// In a busy loop: takes what it may.
    fn look(&mut self) {
        if std::mem::take(&mut self.has_rested) {
            return;
        }
        if self.place.worker.is_full() {
            self.make_room();
        }
        for _ in 0..AT_ONCE {
            let may_not = self.is_in_trouble || self.place.worker.is_full();
            if may_not || !self.park.may_accept() {
                return;
            }
            match self.place.accept() {
                Ok(Some(stream)) => self.serve(stream),
                Ok(None) => return,
                Err(error) => self.report(error),
            }
        }
    }

    fn serve(&self, stream: TcpStream) {
        self.place.worker.serve(stream, ConnectionGuard::new(self.place.worker));
    }

    fn report(&mut self, error: io::Error) {
        self.is_in_trouble = self.errors.try_send(error).is_ok();
    }
}

/// The descriptors of this process that are epoll instances. tokio does not tell of its own; /proc does.
pub fn epoll_instances() -> Vec<i32> {
    let is_epoll = |target: PathBuf| target.as_os_str() == "anon_inode:[eventpoll]";
    let entries = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let epolls = entries.filter(|entry| fs::read_link(entry.path()).is_ok_and(is_epoll));
    epolls.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[allow(unsafe_code)]
fn duplicate(descriptor: i32) -> Result<OwnedFd> {
    // SAFETY: it was open a moment ago, this process has one thread yet, and it is not kept.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    Ok(borrowed.try_clone_to_owned()?)
}
