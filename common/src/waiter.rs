//! A thread that waits for connections where tokio cannot, and hands them over to tokio.
//!
//! tokio registers a listening socket with its own epoll instance, in its own way. A policy that
//! wants to wait in another way (in accept(2) itself, or with EPOLLEXCLUSIVE) needs a thread that
//! does so. To register such an epoll instance with tokio's would not do: the kernel passes a wake-up
//! through a nested one to everybody.
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
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::thread::JoinHandleExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::pthread::pthread_kill;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::socket::SockFlag;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::accept_error;
use crate::connection::Open;
use crate::worker::Worker;

/// Connections that may be on their way from the thread to the event loop.
const HAND_OVER: usize = 1;

/// Interrupts the thread. Without a handler it is ignored, so it does no harm to whoever gets it by
/// mistake; nobody else uses it here.
const INTERRUPT: Signal = Signal::SIGURG;

/// Between two interruptions of a thread that is to end.
const AGAIN: Duration = Duration::from_millis(1);

/// How a thread waits.
pub trait Policy: Send {
    /// Waits for a connection and accepts it. `None` when there was none after all, or something
    /// else to look at; then it is called again, after a look at whether the worker drains.
    ///
    /// # Errors
    /// What accept(2) or the waiting failed with; EINTR when it was interrupted.
    fn next(&mut self, post: &Post) -> io::Result<Option<std::net::TcpStream>>;
}

/// A worker's listening sockets, and how it waits for them.
pub struct Sockets {
    /// The sockets.
    pub listeners: Vec<TcpListener>,
    /// `None`: as tokio does.
    pub policy: Option<Box<dyn Policy>>,
}

impl From<Vec<TcpListener>> for Sockets {
    fn from(listeners: Vec<TcpListener>) -> Self {
        Self { listeners, policy: None }
    }
}

impl Sockets {
    /// Divides them: those for tokio, and a thread that waits for the others, if there is a policy.
    /// To be called in the worker's event loop.
    ///
    /// # Errors
    /// When there can be no further thread.
    pub fn divide(mut self, worker: &'static Worker) -> Result<(Vec<TcpListener>, Option<Waiter>)> {
        // A policy comes with the one socket that all share.
        let waiter = match (self.policy, self.listeners.pop()) {
            (Some(policy), Some(listener)) => Some(Waiter::start(policy, listener, worker)?),
            (_, listener) => {
                self.listeners.extend(listener);
                None
            }
        };
        Ok((self.listeners, waiter))
    }
}

type Accepted = (std::net::TcpStream, Open);

/// The event loop's side.
pub struct Waiter {
    worker: &'static Worker,
    thread: JoinHandle<io::Result<()>>,
    accepted: mpsc::Receiver<Accepted>,
}

impl Waiter {
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
        worker.gate.is_for(thread.thread());
        Ok(Self { worker, thread, accepted })
    }

    fn serve(&self, (stream, open): Accepted) {
        if let Ok(stream) = TcpStream::from_std(stream) {
            self.worker.serve(stream, open);
        }
    }

    /// Ends whatever the thread may be waiting for, if it has begun to.
    fn interrupt(&self) {
        self.worker.ended.notify_one();
        self.thread.thread().unpark();
        // Not joined yet, so the handle is good, even if the thread has ended.
        let _ = pthread_kill(self.thread.as_pthread_t(), INTERRUPT);
    }
}

/// Serves what the thread hands over, if there is one. Comes back only with the error that ended it.
pub async fn serve(waiter: &mut Option<Waiter>) -> io::Error {
    let Some(waiting) = waiter else { return pending().await };
    while let Some(accepted) = waiting.accepted.recv().await {
        waiting.serve(accepted);
    }
    let ended = waiter.take().map(|waiter| waiter.thread.join());
    match ended {
        Some(Ok(Err(error))) => error,
        _ => io::Error::other("the thread that waits for connections has ended"),
    }
}

/// Has the thread end, if there is one, and serves what it hands over until then.
pub async fn drain(waiter: Option<Waiter>) {
    let Some(mut waiter) = waiter else { return };
    loop {
        waiter.interrupt();
        match timeout(AGAIN, waiter.accepted.recv()).await {
            Ok(Some(accepted)) => waiter.serve(accepted),
            Ok(None) => return, // it has dropped its end, and nothing is on its way any more
            Err(_) => {}
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
            self.turn(|| policy.next(self))?;
        }
        // Several workers may see the same last connection. Those who come too late are refused,
        // or blocked until they are interrupted, depending on the socket.
        while self.has_connection() {
            self.turn(|| match self.accept() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
                accepted => accepted.map(Some),
            })?;
        }
        Ok(())
    }

    /// Waits until a connection can be served, then for a connection.
    fn turn(
        &self,
        next: impl FnOnce() -> io::Result<Option<std::net::TcpStream>>,
    ) -> io::Result<()> {
        let room = async {
            self.worker.room().await;
            self.hand_over.reserve().await
        };
        // Before the wait, not after it: from a wake-up on, the connection is this worker's.
        let place = self.runtime.block_on(room).map_err(io::Error::other)?;
        match next() {
            Ok(Some(stream)) => place.send((stream, Open::new(self.worker))),
            Ok(None) => {}
            Err(error) => self.runtime.block_on(accept_error::get_over(error))?,
        }
        Ok(())
    }

    /// Whether the thread is to end.
    pub fn is_relieved(&self) -> bool {
        self.worker.deadlines.is_draining()
    }

    /// accept(2): waits if the socket is a blocking one. Unlike the standard library's it comes back
    /// when it is interrupted.
    pub fn accept(&self) -> io::Result<std::net::TcpStream> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK; // of the new socket
        let (stream, _peer) = SockRef::from(&self.listener).accept4(flags.bits())?;
        Ok(stream.into())
    }

    /// Whether a connection waits in the accept queue now.
    pub fn has_connection(&self) -> bool {
        loop {
            match self.poll(PollTimeout::ZERO) {
                Err(Errno::EINTR) => {}
                ready => return ready.is_ok_and(|ready| ready > 0),
            }
        }
    }

    /// Waits until a connection comes, whoever takes it: the kernel wakes everybody who waits like
    /// this, beside the one that it wakes to accept.
    ///
    /// # Errors
    /// EINTR when it was interrupted.
    pub fn until_one_comes(&self) -> io::Result<()> {
        self.poll(PollTimeout::NONE)?;
        Ok(())
    }

    fn poll(&self, timeout: PollTimeout) -> nix::Result<i32> {
        poll(&mut [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)], timeout)
    }
}

/// Where a waiting thread pauses, and is told when one of its worker's connections has ended.
#[derive(Debug, Default)]
pub struct Gate {
    somebody_pauses: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Gate {
    fn is_for(&self, thread: &Thread) {
        let _ = self.thread.set(thread.clone());
    }

    /// Pauses the calling thread, which is the waiting one, until a connection of this worker has
    /// ended, and not longer than this.
    pub fn pause(&self, at_most: Duration) {
        self.somebody_pauses.store(true, SeqCst);
        thread::park_timeout(at_most);
        self.somebody_pauses.store(false, SeqCst);
    }

    /// Tells that a connection has ended. Next to nothing if nobody pauses.
    pub fn tell(&self) {
        if self.somebody_pauses.load(SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }
}

/// Gives [`INTERRUPT`] a handler, without SA_RESTART, so that it ends a call with EINTR.
#[allow(unsafe_code)]
fn make_interruptible() -> Result<()> {
    extern "C" fn nothing(_: i32) {}
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing, which may be done at any time.
    unsafe { sigaction(INTERRUPT, &action) }.context("cannot handle a signal")?;
    Ok(())
}
