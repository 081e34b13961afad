//! An event loop that waits for connections in its own way, in tokio's place.
//!
//! tokio's event loop sleeps in epoll_wait(2), on an epoll instance of its own, to which a program cannot
//! add a socket with EPOLLEXCLUSIVE (tokio#6084). But before it sleeps it calls a hook (`on_thread_park`),
//! and the hook may take its time. So this hook sleeps in tokio's place, on another instance, which
//! watches the listening socket as the policy wants it *and* tokio's instance:
//!
//! ```text
//!   nothing to do -> on_park(): epoll_wait( listening socket, tokio's epoll instance )
//!                      a connection:    accept it, spawn its task, go on
//!                      tokio's events:  go on; tokio finds them at once
//! ```
//!
//! The other way round does not work: if tokio's instance watched this one, the kernel would pass a wake-up
//! on to all workers. A thread that waits would work, but costs two more context switches for each
//! connection: one to wake the thread, one to wake the event loop.
//!
//! - **Timers.** tokio's timers do not end this sleep. So it ends by itself when the worker's tick is due. The
//!   other timer, below, may be late.
//! - **Always busy.** A loop that never comes to rest, since there is always another request, must accept
//!   all the same. So a timer looks at the queue. In a loop at rest it goes off late, and has nothing to do.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::slice;
use std::time::Duration;

use anyhow::Context;
use common::accept::accept_error;
use common::accept::acceptor::{Acceptor, Doing, Way};
use common::accept::at_limit::make_room;
use common::accept::place::{Place, WaitPolicy, Woken};
use common::accept::recipient::{ConnectionGuard, Recipient};
use common::http::deadlines::TICK;
use tokio::sync::mpsc;
use tokio::time::sleep;

/// How long a busy loop may go without a look at the accept queue.
const LOOK: Duration = Duration::from_millis(5);

/// How many connections it then accepts at most, before it serves those it has.
const AT_ONCE: usize = 64;

/// tokio's timers may be late by this much.
const LATE: Duration = Duration::from_millis(2);

/// The way in which the event loop itself waits, by a policy that is made once there is an event loop.
pub fn by(policy: impl FnOnce(&Place) -> io::Result<Box<dyn WaitPolicy>> + 'static) -> Way {
    let start = |listener, events: Option<i32>, worker| {
        let place = Place::of(listener, events)?;
        let policy = policy(&place).context("cannot watch a listening socket")?;
        Ok(Waiting::start(place, policy, worker))
    };
    Way { on_park: Some(on_park), start: Box::new(start) }
}

/// An event loop that waits by a policy.
struct Waiting {
    place: Place,
    policy: Box<dyn WaitPolicy>,
    worker: &'static dyn Recipient,
    /// Where errors go, and whether one is being handled.
    errors: mpsc::Sender<io::Error>,
    is_in_trouble: bool,
    /// Whether the loop has come to rest since the last look.
    has_rested: bool,
}

thread_local! {
    /// The event loop's thread has one. Thread-local, since tokio's hook has no arguments.
    static WAITING: RefCell<Option<Waiting>> = const { RefCell::new(None) };
}

/// Called by tokio when the event loop has nothing to do.
fn on_park() {
    with_waiting(Waiting::wait);
}

/// Handles errors, and connections that a busy loop leaves in the queue.
struct Watch {
    errors: mpsc::Receiver<io::Error>,
}

impl Watch {
    async fn watch(&mut self) -> io::Error {
        loop {
            tokio::select! {
                Some(error) = self.errors.recv() => {
                    if let Err(error) = accept_error::get_over(error).await {
                        return error;
                    }
                    with_waiting(|waiting| waiting.is_in_trouble = false);
                }
                () = sleep(LOOK) => with_waiting(Waiting::look),
            }
        }
    }
}

impl Acceptor for Watch {
    fn run(&mut self) -> Doing<'_, io::Error> {
        Box::pin(self.watch())
    }

    /// From now on the event loop waits as tokio does.
    fn drain(self: Box<Self>) -> Doing<'static, Option<TcpListener>> {
        Box::pin(async { WAITING.take().map(|waiting| waiting.place.listener) })
    }
}

fn with_waiting(what: impl FnOnce(&mut Waiting)) {
    WAITING.with_borrow_mut(|waiting| waiting.as_mut().map(what));
}

impl Waiting {
    /// Makes this thread's event loop wait like this from now on.
    fn start(
        place: Place,
        policy: Box<dyn WaitPolicy>,
        worker: &'static dyn Recipient,
    ) -> Box<dyn Acceptor> {
        let (errors, receiver) = mpsc::channel(1);
        let (is_in_trouble, has_rested) = (false, false);
        WAITING.set(Some(Self { place, policy, worker, errors, is_in_trouble, has_rested }));
        Box::new(Watch { errors: receiver })
    }

    fn wait(&mut self) {
        self.has_rested = true;
        let worker = self.worker;
        // While an error is being handled, tokio waits, as its timers count.
        while !self.is_in_trouble && !worker.is_draining() {
            let woken = match worker.is_full() {
                // Then the loop has something to do: it ends connections.
                true if self.make_room() => return,
                true => self.wait_for_loop(),
                false => self.policy.wait(&self.place, self.time()),
            };
            match woken {
                Ok(Woken::Connection(stream)) => return self.serve(stream),
                Ok(Woken::Loop) => return,
                Ok(Woken::Nothing) if self.is_late() => return,
                Ok(Woken::Nothing) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.report(error),
            }
        }
    }

    fn make_room(&self) -> bool {
        make_room(self.worker, slice::from_ref(&self.place.listener))
    }

    fn wait_for_loop(&self) -> io::Result<Woken> {
        self.place.wait_for_events(self.time()).map(|_| Woken::Loop)
    }

    /// How long the loop may sleep until its next tick is due.
    fn time(&self) -> Duration {
        TICK.saturating_sub(self.worker.slot().silence().unwrap_or_default()) + LATE
    }

    fn is_late(&self) -> bool {
        self.worker.slot().silence().is_some_and(|silence| silence >= TICK + LATE)
    }

    /// In a busy loop: takes the connections that it may.
    fn look(&mut self) {
        if std::mem::take(&mut self.has_rested) {
            return;
        }
        if self.worker.is_full() {
            self.make_room();
        }
        for _ in 0..AT_ONCE {
            let may_not = self.is_in_trouble || self.worker.is_full();
            if may_not || !self.policy.may_accept(&self.place) {
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
        self.worker.serve(stream, ConnectionGuard::new(self.worker));
    }

    fn report(&mut self, error: io::Error) {
        self.is_in_trouble = self.errors.try_send(error).is_ok();
    }
}
