//! A thread that waits for connections in a way that tokio cannot, and hands them over to tokio.
//!
//! tokio registers a listening socket with its own epoll instance. Waiting in accept(2) itself takes a thread
//! that does nothing else.
//!
//! ```text
//!   accept thread:  is there room? -> accept(2), counts -> hands over
//!   event loop:                                              takes it, serves it
//! ```
//!
//! - The hand-over holds **one** connection, and the thread waits for the next only after the event loop
//!   has fetched the last. So a busy worker leaves new connections in the accept queue for idle ones, and
//!   at most one connection waits behind a blocked event loop.
//! - The thread counts a connection as soon as it has accepted it. So `--max-connections` holds, and other
//!   workers see how many this one has.
//! - **The end.** The thread may be blocked in the kernel, in a call that only a connection or a
//!   signal ends, and closing its socket does not wake it (shutdown(2) would, for all workers). So
//!   the event loop sends it a signal whose handler does nothing: the call fails with EINTR. A signal
//!   just before the call has no effect, so it is sent again and again until the thread has ended.
//!   Before it ends, the thread takes what still waits in the queue, and hands it over.

use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::os::unix::thread::JoinHandleExt;
use std::slice;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use common::accept::accept_error;
use common::accept::acceptor::{Acceptor, Doing, Way};
use common::accept::at_limit::{room, room_while_draining};
use common::accept::drain_accept_queue::Allowance;
use common::accept::interrupt::{INTERRUPT, make_interruptible};
use common::accept::recipient::{ConnectionGuard, Recipient};
use common::kernel::sockets::{accept, is_readable};
use nix::sys::pthread::pthread_kill;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How many connections may be on their way from the thread to the event loop.
const HAND_OVER: usize = 1;

/// The time between two interruptions of a thread that must end.
const AGAIN: Duration = Duration::from_millis(1);

type Accepted = (TcpStream, ConnectionGuard);

/// The event loop's side.
struct ThreadAcceptor {
    worker: &'static dyn Recipient,
    /// `None` once it was joined.
    thread: Option<JoinHandle<io::Result<()>>>,
    accepted: mpsc::Receiver<Accepted>,
}

/// The way in which a thread waits for connections.
pub fn wait() -> Way {
    Way { on_park: None, start: Box::new(|listener, _, worker| start(listener, worker)) }
}

fn start(listener: TcpListener, worker: &'static dyn Recipient) -> Result<Box<dyn Acceptor>> {
    let (hand_over, accepted) = mpsc::channel(HAND_OVER);
    let thread = AcceptThread { listener, worker, hand_over, runtime: Handle::current() };
    make_interruptible()?;
    let thread = thread::Builder::new()
        .name("accept".into())
        .spawn(move || thread.run())
        .context("cannot start a thread that waits for connections")?;
    Ok(Box::new(ThreadAcceptor { worker, thread: Some(thread), accepted }))
}

impl ThreadAcceptor {
    async fn serve(&mut self) -> io::Error {
        while let Some((stream, open)) = self.accepted.recv().await {
            self.worker.serve(stream, open);
        }
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => error,
            _ => io::Error::other("the thread that waits for connections has ended"),
        }
    }

    /// Ends the thread, and serves what it hands over until then.
    async fn end(mut self) {
        loop {
            self.interrupt();
            match timeout(AGAIN, self.accepted.recv()).await {
                Ok(Some((stream, open))) => self.worker.serve(stream, open),
                Ok(None) => return, // the thread has ended, and no connection is on its way
                Err(_) => {}
            }
        }
    }

    /// Interrupts the thread's wait, if it has begun.
    fn interrupt(&self) {
        self.worker.ended().notify_one();
        if let Some(thread) = &self.thread {
            // Not joined yet, so the handle is valid, even if the thread has ended.
            let _ = pthread_kill(thread.as_pthread_t(), INTERRUPT);
        }
    }
}

impl Acceptor for ThreadAcceptor {
    fn run(&mut self) -> Doing<'_, io::Error> {
        Box::pin(self.serve())
    }

    fn drain(self: Box<Self>) -> Doing<'static, Option<TcpListener>> {
        Box::pin(async {
            self.end().await;
            None
        })
    }
}

/// The thread's side.
struct AcceptThread {
    listener: TcpListener,
    worker: &'static dyn Recipient,
    hand_over: mpsc::Sender<Accepted>,
    runtime: Handle,
}

impl AcceptThread {
    fn run(&self) -> io::Result<()> {
        while !self.worker.is_draining() {
            self.accept_one(room(self.worker, slice::from_ref(&self.listener)))?;
        }
        // Several workers may see the same last connection. Those that are late get EAGAIN or, on a blocking
        // socket, wait until they are interrupted.
        let mut may = Allowance::of(&self.listener);
        while is_readable(&self.listener) && may.has_one_more() {
            if self.accept_one(room_while_draining(self.worker))? {
                may.has_accepted();
            }
        }
        Ok(())
    }

    /// Waits until a connection can be served, then for a connection. Returns whether there was one.
    fn accept_one(&self, room: impl Future<Output = ()>) -> io::Result<bool> {
        let room = async {
            room.await;
            self.hand_over.reserve().await
        };
        // Before accept(2), not after it: an accepted connection must be served by this worker.
        let place = self.runtime.block_on(room).map_err(io::Error::other)?;
        match accept(&self.listener) {
            Ok(stream) => {
                place.send((stream, ConnectionGuard::new(self.worker)));
                return Ok(true);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock && self.worker.is_draining() => {}
            Err(error) => self.runtime.block_on(accept_error::get_over(error))?,
        }
        Ok(false)
    }
}
