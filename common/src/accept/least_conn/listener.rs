//! The [rules](super::rules) as a listener for `axum::serve`, in any program that forks its workers.
//!
//! ```text
//!   parent:   LeastConn::shared(listener, workers) -> fork, once per worker
//!   worker:   shared.run(number, |listener| axum::serve(listener, app))
//! ```
//!
//! The runtime is part of it: the event loop itself must wait with EPOLLEXCLUSIVE, and the hook for that
//! (`on_thread_park`) is set when the runtime is built. With nothing to do, the event loop waits on an epoll
//! instance that watches the listening socket *and* tokio's own instance. It leaves a connection to
//! [`accept`](LeastConn::accept), wakes that, and goes on.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use axum::serve::Listener;
use nix::errno::Errno;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::sleep;

use super::rules::Rules;
use crate::accept::place::{Place, WaitPolicy, Woken};
use crate::accept::{accept_error, epoll_instance};
use crate::http::deadlines::TICK;
use crate::http::stream::Stream;
use crate::kernel::sockets::inode;
use crate::scoreboard::{CAPACITY, OwnSlot, ScoreboardOwner, State};

/// tokio's timers may be late by this much while there is a task: the wait does not know of them.
const LATE: Duration = Duration::from_millis(10);

/// How long a loop that never rests may go without a look at the accept queue, and how many connections it
/// then takes at most.
const LOOK: Duration = Duration::from_millis(5);
const AT_ONCE: u32 = 64;

/// How often a worker's heart beats at most, since some work is done whenever it does.
const BEAT: Duration = Duration::from_millis(128);

/// The pause after an error that will occur again.
const AGAIN: Duration = Duration::from_secs(1);

/// A listener of a forked worker that shares its socket with others: a free worker takes the next connection,
/// and kept connections go to the worker with the fewest.
///
/// `common/examples/least_conn.rs` is a program that uses it.
///
/// # Limits
/// - Linux, axum 0.8, and tokio 1.54 or later, with the runtime of one thread that [`Shared::run`] builds. On
///   another runtime it would look at the socket only every 5 ms.
/// - Workers are forked, by a process that has one thread and has not used tokio; a worker started by exec does
///   not have the scoreboard. A worker that replaces another takes its number. There are at most 2048 numbers.
///   What the other worker had counted is then no longer in the totals that `loadtest watch` shows.
/// - A timer goes off up to 10 ms late in a worker that has nothing else to do, 18 ms if the worker leaves a
///   connection to others meanwhile; up to 250 ms if it has no connection and no task. So a worker that has one
///   wakes 100 times a second.
/// - The backlog is the listener's own. That of [`std::net::TcpListener`] is 128: of a longer burst, while all
///   workers block, some clients try again after a second. socket2 makes listeners with a longer backlog.
/// - SIGURG wakes workers; the program must not use it for anything else.
/// - It counts connections, not their work, and a connection never moves. It counts a request when bytes are
///   written after bytes were read: if an answer is sent in parts while its request still arrives, it takes the
///   connection for a kept one.
/// - It has no limit of connections and no drain: to end a worker, end `axum::serve` by
///   `with_graceful_shutdown`. A connection that is accepted at that very moment is closed.
pub struct LeastConn {
    event_loop: Arc<Mutex<EventLoop>>,
    address: SocketAddr,
}

/// The socket and the scoreboard that workers share, see [`LeastConn::shared`].
pub struct Shared {
    listener: TcpListener,
    board: ScoreboardOwner,
    workers: usize,
}

impl LeastConn {
    /// Makes the scoreboard that this many workers share. To be called before the first fork.
    ///
    /// # Errors
    /// For 0 workers or too many, and when the kernel has no memory to give.
    pub fn shared(listener: TcpListener, workers: usize) -> Result<Shared> {
        ensure!((1..=CAPACITY).contains(&workers), "it needs 1 worker or more, {CAPACITY} at most");
        listener.set_nonblocking(true)?;
        let mut board = ScoreboardOwner::anonymous(listener.local_addr()?)?;
        (0..workers).try_for_each(|_| board.claim().map(drop))?;
        Ok(Shared { listener, board, workers })
    }
}

impl Shared {
    /// In a forked worker, which has one thread: builds its event loop, and runs `serve` there, which gets the
    /// worker's listener. The workers' numbers begin at 0, and no two workers have the same.
    ///
    /// # Errors
    /// When there is no such number, or the kernel has no descriptor to give.
    pub fn run<F: Future>(
        self,
        number: usize,
        serve: impl FnOnce(LeastConn) -> F,
    ) -> Result<F::Output> {
        let (runtime, listener) = self.worker(number)?;
        Ok(runtime.block_on(serve(listener)))
    }

    fn worker(self, number: usize) -> Result<(Runtime, LeastConn)> {
        let Self { listener, board, workers } = self;
        ensure!(number < workers, "no worker {number}: they are 0 to {}", workers - 1);
        let slots = board.into_slots();
        let own = slots.own(number);
        let waits: Arc<OnceLock<Arc<Mutex<EventLoop>>>> = Arc::default();
        let hook = waits.clone();
        let mut builder = Builder::new_current_thread();
        builder.enable_all().on_thread_park(move || {
            hook.get().inspect(|event_loop| lock(event_loop).rest());
        });
        let (runtime, events) = epoll_instance::build(&mut builder)?;
        let address = listener.local_addr()?;
        let place = Place::of(listener, events)?;
        let cores = available_parallelism().map_or(1, usize::from);
        own.occupy();
        own.set(|slot| &slot.socket_inode, inode(&place.listener));
        own.set(|slot| &slot.sockets, 1);
        own.beat();
        own.set_state(State::Serving);
        let rules = Rules::new(&place, own, slots, cores)?;
        let event_loop = EventLoop {
            place,
            rules,
            own,
            waker: None,
            accepted: None,
            has_rested: false,
            may_take: 0,
        };
        let event_loop = waits.get_or_init(|| Arc::new(Mutex::new(event_loop))).clone();
        Ok((runtime, LeastConn { event_loop, address }))
    }
}

impl Listener for LeastConn {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let accepted = {
                let _waiting = Waiting(&self.event_loop);
                let accepted = poll_fn(|context| lock(&self.event_loop).poll_accept(context));
                tokio::select! {
                    accepted = accepted => accepted,
                    () = sleep(LOOK) => {
                        lock(&self.event_loop).look();
                        continue;
                    }
                }
            };
            match accepted {
                Ok(accepted) => return accepted,
                Err(error) => {
                    if let Err(error) = accept_error::get_over(error).await {
                        tracing::error!("cannot accept: {error}");
                        sleep(AGAIN).await;
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

fn lock(event_loop: &Mutex<EventLoop>) -> MutexGuard<'_, EventLoop> {
    event_loop.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As long as it lives, `accept` waits for a connection.
struct Waiting<'a>(&'a Mutex<EventLoop>);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(self.0).waker = None;
    }
}

/// What the event loop does when it has nothing to do. It is locked meanwhile, and there is only one thread.
struct EventLoop {
    place: Place,
    rules: Rules,
    own: OwnSlot,
    /// The task that waits for a connection. Without one, no connection is accepted.
    waker: Option<Waker>,
    accepted: Option<io::Result<(Connection, SocketAddr)>>,
    /// Whether the loop has come to rest since the last look, and how many connections it may take if not.
    has_rested: bool,
    may_take: u32,
}

impl EventLoop {
    /// Called by tokio when nothing is left to do: waits for a connection in tokio's place.
    fn rest(&mut self) {
        self.has_rested = true;
        // A wait that ends wakes the task that accepts, so that tokio looks at its timers and does not sleep.
        let is_alone = Handle::current().metrics().num_alive_tasks() == 0;
        let until = Instant::now() + if is_alone { TICK } else { LATE };
        while let (Some(waker), None) = (&self.waker, &self.accepted) {
            let left = until.saturating_duration_since(Instant::now());
            self.beat();
            match self.rules.wait(&self.place, left) {
                Ok(Woken::Connection(stream)) => self.accepted = Some(self.open(stream)),
                Ok(Woken::Nothing) if !left.is_zero() => continue,
                Ok(Woken::Nothing | Woken::Loop) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => self.accepted = Some(Err(error)),
            }
            self.beat();
            return waker.wake_by_ref();
        }
    }

    fn poll_accept(&mut self, context: &Context) -> Poll<io::Result<(Connection, SocketAddr)>> {
        let accepted = self.accepted.take().or_else(|| self.take());
        if accepted.is_none() {
            self.waker = Some(context.waker().clone());
        }
        accepted.map_or(Poll::Pending, Poll::Ready)
    }

    /// In a busy loop: takes a connection, if it may take another.
    fn take(&mut self) -> Option<io::Result<(Connection, SocketAddr)>> {
        self.may_take = self.may_take.checked_sub(1)?;
        let may_accept = self.rules.may_accept(&self.place);
        let accepted = if may_accept { self.place.accept() } else { Ok(None) };
        let accepted = accepted.transpose().map(|it| it.and_then(|stream| self.open(stream)));
        if accepted.is_none() {
            self.may_take = 0;
        }
        accepted
    }

    /// Shows that the event loop turns.
    fn beat(&self) {
        if self.own.silence().is_none_or(|silence| silence >= BEAT) {
            self.own.beat();
        }
    }

    /// A loop that never rests must accept all the same.
    fn look(&mut self) {
        self.beat();
        if !std::mem::take(&mut self.has_rested) {
            self.may_take = AT_ONCE;
        }
    }

    fn open(&self, stream: TcpStream) -> io::Result<(Connection, SocketAddr)> {
        // A client that has closed its connection already has no address any more. `accept` goes on.
        let peer = stream.peer_addr().map_err(|_| Errno::ECONNABORTED)?;
        Ok((Connection::new(stream, self.own), peer))
    }
}

/// A connection, which counts as open until it is dropped, perhaps in another thread.
pub struct Connection {
    stream: Stream,
    own: OwnSlot,
    /// Whether bytes were read since the last write.
    has_read: bool,
    /// Whether it has had an answer.
    is_kept: bool,
}

impl Connection {
    fn new(stream: TcpStream, own: OwnSlot) -> Self {
        own.add(|slot| &slot.connections_accepted, 1);
        own.opened();
        Self { stream: Stream::new(stream), own, has_read: false, is_kept: false }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.own.closed();
        if self.is_kept {
            self.own.add_shared(|slot| &slot.connections_kept, 1_u64.wrapping_neg());
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context,
        buffer: &mut ReadBuf,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.has_read |= buffer.filled().len() > before;
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if written.is_ready() && std::mem::take(&mut self.has_read) {
            self.own.add_shared(|slot| &slot.requests, 1);
            if !std::mem::replace(&mut self.is_kept, true) {
                self.own.add_shared(|slot| &slot.connections_kept, 1);
            }
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
