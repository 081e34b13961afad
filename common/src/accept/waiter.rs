//! A thread that waits for connections where tokio cannot, and hands them over to tokio.
//!
//! tokio registers a listening socket with its own epoll instance, in its own way. A policy that
//! wants to wait in another way (in accept(2) itself, or with EPOLLEXCLUSIVE) can have a thread that
//! does so. To register such an epoll instance with tokio's would not do: the kernel passes a wake-up
//! through a nested one to everybody. ([`parking`] turns this round, and does without the thread.)
//!
//! ```text
//!   waiting thread:  is there room? -> policy waits, accept(2), counts -> hands over
//!   event loop:                                                  takes it, serves it
//! ```
//!
//! - The hand-over holds **one** connection, and the thread waits for the next only once the event
//!   loop has come to fetch the last. So a worker that is busy leaves new connections in the accept
//!   queue, where an idle one finds them, and no more than one waits behind a loop that stands still.
//! - A connection is counted as soon as it is accepted, in the thread, so that `--max-connections`
//!   holds, and other workers see what this one has taken.
//! - **The end.** The thread may be blocked in the kernel, in a call that only a connection or a
//!   signal ends, and closing its socket does not wake it (shutdown(2) would, for all workers). So
//!   it is sent a signal whose handler does nothing: the call fails with EINTR. A signal that comes
//!   just before the call is in vain, which is why it is sent again and again until the thread has
//!   ended. Before that, the thread takes what waits in the queue still, and hands it over.

use std::future::pending;
use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::os::unix::thread::JoinHandleExt;
use std::slice;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::pthread::pthread_kill;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::accept::accept_error;
use crate::accept::drain_accept_queue;
use crate::accept::interrupt::{INTERRUPT, make_interruptible};
use crate::accept::parking;
use crate::kernel::sockets::{accept, is_readable};
use crate::lesson::counters::{ConnectionGuard, Worker};
use crate::scoreboard::OwnSlot;
use crate::steering::lane::Lane;

/// Connections that may be on their way from the thread to the event loop.
const HAND_OVER: usize = 1;

/// Between two interruptions of a thread that is to end.
const AGAIN: Duration = Duration::from_millis(1);

/// How a thread waits.
pub trait Policy: Send {
    /// Waits for a connection and accepts it. `None` when there was none after all, or something
    /// else to look at; then it is called again, after a look at whether the worker drains.
    ///
    /// # Errors
    /// What accept(2) or the waiting failed with; EINTR when it was interrupted.
    fn next(&mut self, post: &Post) -> io::Result<Option<TcpStream>>;
}

/// A worker's listening sockets, and how it waits for them.
pub struct Sockets {
    /// The sockets.
    pub listeners: Vec<TcpListener>,
    /// How.
    pub way: Way,
    /// The epoll instance of the event loop, once there is one.
    pub events: Option<i32>,
}

/// How a worker waits.
pub enum Way {
    /// As tokio does.
    Tokio,
    /// A thread waits.
    Thread(Box<dyn Policy>),
    /// The event loop waits, but not as tokio does.
    Loop(parking::Enter),
}

impl From<Vec<TcpListener>> for Sockets {
    fn from(listeners: Vec<TcpListener>) -> Self {
        Self { listeners, way: Way::Tokio, events: None }
    }
}

impl Sockets {
    /// An event loop that can wait like this, and shows in its lane, if any, when it sleeps.
    ///
    /// # Errors
    /// When the kernel gives it no descriptor.
    pub fn event_loop(&mut self, slot: OwnSlot, lane: Option<&'static Lane>) -> Result<Runtime> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        if let Way::Loop(_) = self.way {
            runtime.on_thread_park(parking::rest);
        } else if let Some(lane) = lane {
            runtime.on_thread_park(move || lane.sleeps(slot)).on_thread_unpark(|| lane.wakes());
        }
        // Whoever started us may have left an instance open: tokio's is one that was not there before.
        let before = parking::epoll_instances();
        let built = runtime.enable_io().enable_time().build();
        let runtime = built.context("cannot build a tokio runtime")?;
        self.events = parking::epoll_instances().into_iter().find(|it| !before.contains(it));
        Ok(runtime)
    }

    /// Divides them: those for tokio, and who waits for the others, if anybody does. To be called in
    /// the worker's event loop.
    ///
    /// # Errors
    /// When there can be no further thread, or no other way to wait.
    pub fn divide(mut self, worker: &'static Worker) -> Result<(Vec<TcpListener>, Option<Waiter>)> {
        if let Way::Tokio = self.way {
            return Ok((self.listeners, None));
        }
        // Other ways are for the one socket that all share.
        let listener = self.listeners.pop().context("a worker without a listening socket")?;
        let waiter = match self.way {
            Way::Thread(policy) => Waiter::Thread(Waiting::start(policy, listener, worker)?),
            Way::Loop(enter) => Waiter::Loop(parking::start(listener, self.events, worker, enter)?),
            Way::Tokio => return Ok((self.listeners, None)),
        };
        Ok((self.listeners, Some(waiter)))
    }
}

/// Who waits for connections in tokio's place.
pub enum Waiter {
    /// A thread.
    Thread(Waiting),
    /// The event loop itself, which tells of errors.
    Loop(mpsc::Receiver<io::Error>),
}

type Accepted = (TcpStream, ConnectionGuard);

/// The event loop's side of a thread that waits.
pub struct Waiting {
    worker: &'static Worker,
    thread: JoinHandle<io::Result<()>>,
    accepted: mpsc::Receiver<Accepted>,
}

impl Waiting {
    fn start(
        mut policy: Box<dyn Policy>,
        listener: TcpListener,
        worker: &'static Worker,
    ) -> Result<Self> {
        let (hand_over, accepted) = mpsc::channel(HAND_OVER);
        let post = Post { listener, worker, hand_over, runtime: Handle::current() };
        make_interruptible()?;
        let thread = thread::Builder::new()
            .name("waiter".into())
            .spawn(move || post.stand(&mut *policy))
            .context("cannot start a thread that waits for connections")?;
        Ok(Self { worker, thread, accepted })
    }

    fn serve(&self, (stream, open): Accepted) {
        self.worker.serve(stream, open);
    }

    /// Has the thread end, and serves what it hands over until then.
    async fn drain(mut self) {
        loop {
            self.interrupt();
            match timeout(AGAIN, self.accepted.recv()).await {
                Ok(Some(accepted)) => self.serve(accepted),
                Ok(None) => return, // it has dropped its end, and nothing is on its way any more
                Err(_) => {}
            }
        }
    }

    /// The error with which the thread has ended.
    fn end(self) -> io::Error {
        match self.thread.join() {
            Ok(Err(error)) => error,
            _ => io::Error::other("the thread that waits for connections has ended"),
        }
    }

    /// Ends whatever the thread may be waiting for, if it has begun to.
    fn interrupt(&self) {
        self.worker.ended.notify_one();
        // Not joined yet, so the handle is good, even if the thread has ended.
        let _ = pthread_kill(self.thread.as_pthread_t(), INTERRUPT);
    }
}

/// Serves what a thread hands over, if somebody waits in tokio's place. Comes back only with the error
/// that ended it.
pub async fn serve(waiter: &mut Option<Waiter>) -> io::Error {
    let waiting = match waiter {
        None => return pending().await,
        Some(Waiter::Loop(errors)) => return parking::serve(errors).await,
        Some(Waiter::Thread(waiting)) => waiting,
    };
    while let Some(accepted) = waiting.accepted.recv().await {
        waiting.serve(accepted);
    }
    match waiter.take() {
        Some(Waiter::Thread(waiting)) => waiting.end(),
        _ => unreachable!("it was a thread"),
    }
}

/// Ends the waiting, and serves what is handed over until then. What an event loop waited for is left:
/// somebody may be in its queue.
pub async fn drain(waiter: Option<Waiter>) -> Option<TcpListener> {
    match waiter? {
        Waiter::Loop(_) => parking::end(),
        Waiter::Thread(waiting) => {
            waiting.drain().await;
            None
        }
    }
}

/// The thread's side.
pub struct Post {
    /// What it waits for.
    pub listener: TcpListener,
    /// Whom it waits for.
    pub worker: &'static Worker,
    hand_over: mpsc::Sender<Accepted>,
    runtime: Handle,
}

impl Post {
    fn stand(&self, policy: &mut dyn Policy) -> io::Result<()> {
        while !self.is_relieved() {
            let room = self.worker.room(slice::from_ref(&self.listener));
            self.turn(room, || policy.next(self))?;
        }
        // Several workers may see the same last connection. Those who come too late are refused,
        // or blocked until they are interrupted, depending on the socket.
        while is_readable(&self.listener) {
            self.turn(drain_accept_queue::room(self.worker), || match self.accept() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
                accepted => accepted.map(Some),
            })?;
        }
        Ok(())
    }

    /// Waits until a connection can be served, then for a connection.
    fn turn(
        &self,
        room: impl Future<Output = ()>,
        next: impl FnOnce() -> io::Result<Option<TcpStream>>,
    ) -> io::Result<()> {
        let room = async {
            room.await;
            self.hand_over.reserve().await
        };
        // Before the wait, not after it: from a wake-up on, the connection is this worker's.
        let place = self.runtime.block_on(room).map_err(io::Error::other)?;
        match next() {
            Ok(Some(stream)) => place.send((stream, ConnectionGuard::new(self.worker))),
            Ok(None) => {}
            Err(error) => self.runtime.block_on(accept_error::get_over(error))?,
        }
        Ok(())
    }

    /// Whether the thread is to end.
    pub fn is_relieved(&self) -> bool {
        self.worker.deadlines.is_draining()
    }

    /// [`accept`] from the socket.
    pub fn accept(&self) -> io::Result<TcpStream> {
        accept(&self.listener)
    }
}
