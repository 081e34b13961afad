//! Clients that stall: what a connection may take for each of its steps, and who looks at the clock.
//!
//! A timer per connection, set and cleared with every request, costs hyper and tokio about 1 600
//! instructions per request. Nobody needs it to be exact. So a worker keeps one coarse clock that
//! ticks four times a second; a connection notes at which tick its present step began, which is one
//! store, and at every tick the worker looks through its connections for those that overstay. A
//! limit is never cut short, and overrun by one tick at the most.
//!
//! hyper has one timer for a request's head and for the idle time before it. These are two steps
//! here, told apart by the first byte that arrives.

use std::cmp::Reverse;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use slab::Slab;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use crate::accept::at_limit::is_readable;
use crate::cli::options::Options;
use crate::http::guard::Lengths;

/// Between two ticks.
pub const TICK: Duration = Duration::from_millis(250);

/// How long a draining worker leaves an idle connection open. Closed at once, it would race the
/// client's next request, which then is lost; a client that has been silent for this long is not
/// likely to speak up in the very moment.
const IDLE_WHILE_DRAINING: Duration = Duration::from_millis(500);

/// How long a connection has been idle, at least, that is closed to make room for another; and how many
/// are closed at a time, at most. One is found by a look at all.
const IDLE_AT_LIMIT: Duration = Duration::from_secs(1);
const AT_ONCE: usize = 32;

/// How long a client that was refused may take to notice, see [`ConnectionPhase::Linger`].
const LINGER: Duration = Duration::from_secs(2);

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ConnectionPhase {
    /// Waiting for the rest of a request's head; from accept, or from its first byte.
    Head,
    /// Accepted, and no byte has come. The head's limit applies; but who has not begun to ask is idle for a
    /// worker that drains.
    Silent,
    /// Waiting for the rest of a request's body.
    Body,
    /// The worker's own turn. No limit: nobody but we ourselves take this time.
    Answer,
    /// Waiting for the client to read; from the last byte it took.
    Write,
    /// Waiting for the next request.
    Idle,
    /// The last answer is given, and the client does not know it; reading on until it has noticed.
    /// Closing a socket with unread data resets the connection, and the reset may overtake the
    /// answer.
    Linger,
}

/// All steps, in the order of their numbers.
const PHASES: [ConnectionPhase; 7] = [
    ConnectionPhase::Head,
    ConnectionPhase::Silent,
    ConnectionPhase::Body,
    ConnectionPhase::Answer,
    ConnectionPhase::Write,
    ConnectionPhase::Idle,
    ConnectionPhase::Linger,
];

/// The clock of one worker and the connections it looks after.
pub struct Deadlines {
    /// Ticks that each step may take, by its number.
    limits: [u32; PHASES.len()],
    now: AtomicU32,
    draining: AtomicBool,
    /// The tick at which nobody was found who could be closed to make room; before the next it is in vain
    /// to look again.
    looked_in_vain: AtomicU32,
    /// Locked for moments, by one thread: it is there because a task may be sent between threads
    /// for all that tokio knows.
    connections: Mutex<Slab<Watched>>,
}

struct Watched {
    progress: Arc<Progress>,
    /// `None` for the moment between entering the list and being started.
    task: Option<AbortHandle>,
    /// Has the task look at its connection; there once it has waited for the client.
    waker: Option<Waker>,
}

/// How far a connection is.
pub struct Progress {
    /// Its step and the tick at which that began, in one word.
    step: AtomicU64,
    /// Whether what came last leaves a head unfinished: the beginning of the next request, behind
    /// one without a body. (Behind a body it goes unnoticed, and the idle limit applies.)
    in_head: AtomicBool,
    /// Whether the head had a Content-Length, see [`Lengths`].
    has_length: AtomicBool,
    /// Whether it is to be closed, if it is idle still, to make room for another.
    is_in_the_way: AtomicBool,
}

impl Progress {
    fn new(step: ConnectionPhase, now: u32) -> Self {
        let no = AtomicBool::new;
        let progress = Self {
            step: AtomicU64::new(0),
            in_head: no(false),
            has_length: no(false),
            is_in_the_way: no(false),
        };
        progress.set(step, now);
        progress
    }

    fn set(&self, step: ConnectionPhase, now: u32) {
        self.step.store(u64::from(step as u32) << 32 | u64::from(now), Relaxed);
    }

    fn get(&self) -> (ConnectionPhase, u32) {
        let word = self.step.load(Relaxed);
        (PHASES[(word >> 32) as usize], word as u32)
    }
}

impl Deadlines {
    /// A clock for connections with these limits.
    pub fn new(options: &Options) -> Self {
        let mut limits = [u32::MAX; PHASES.len()];
        limits[ConnectionPhase::Head as usize] = ticks(options.header_timeout);
        limits[ConnectionPhase::Silent as usize] = ticks(options.header_timeout);
        limits[ConnectionPhase::Body as usize] = ticks(options.body_timeout);
        limits[ConnectionPhase::Write as usize] = ticks(options.write_timeout);
        limits[ConnectionPhase::Idle as usize] = ticks(options.idle_timeout);
        limits[ConnectionPhase::Linger as usize] = ticks(LINGER);
        Self {
            limits,
            now: AtomicU32::new(0),
            draining: AtomicBool::new(false),
            looked_in_vain: AtomicU32::new(u32::MAX),
            connections: Mutex::new(Slab::new()),
        }
    }

    /// Serves a connection in a task that is ended when it overstays.
    pub fn spawn<F>(&'static self, stream: TcpStream, serve: impl FnOnce(Timed) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let progress = Arc::new(Progress::new(ConnectionPhase::Silent, self.now()));
        let watched = Watched { progress: progress.clone(), task: None, waker: None };
        let key = self.connections().insert(watched);
        let task = tokio::spawn(serve(Timed {
            stream,
            progress,
            key,
            clock: self,
            tail: 0,
            lengths: Lengths::default(),
            may_have_more: false,
            half_closed: false,
            has_waited: false,
        }));
        // It cannot have run, let alone ended, yet: this runtime has one thread, which is here.
        self.connections()[key].task = Some(task.abort_handle());
    }

    /// Ends the connections that overstay. To be called once per [`TICK`].
    pub fn tick(&self) {
        let now = self.now.fetch_add(1, Relaxed) + 1;
        let draining = self.is_draining();
        for (_, Watched { progress, task, .. }) in self.connections().iter() {
            let (step, since) = progress.get();
            let limit = match step {
                ConnectionPhase::Idle | ConnectionPhase::Silent if draining => {
                    ticks(IDLE_WHILE_DRAINING)
                }
                _ => self.limits[step as usize],
            };
            if now.wrapping_sub(since) >= limit
                && let Some(task) = task
            {
                tracing::debug!(?step, "a connection overstayed");
                task.abort();
            }
        }
    }

    /// Closes connections that have been idle for over a second, to make room for others: an eighth of them,
    /// those that have been idle for longest. False if there are none.
    pub fn close_idlest(&self) -> bool {
        let now = self.now();
        if self.looked_in_vain.load(Relaxed) == now {
            return false;
        }
        let connections = self.connections();
        let mut idle: Vec<(u32, usize)> = Vec::new();
        for (key, Watched { progress, .. }) in connections.iter() {
            let (step, since) = progress.get();
            let idle_for = now.wrapping_sub(since);
            if step == ConnectionPhase::Idle && idle_for >= ticks(IDLE_AT_LIMIT) {
                if progress.is_in_the_way.load(Relaxed) {
                    return true; // it is about to end
                }
                idle.push((idle_for, key));
            }
        }
        if idle.is_empty() {
            self.looked_in_vain.store(now, Relaxed);
            return false;
        }
        let count = (idle.len() / 8).clamp(1, AT_ONCE);
        idle.select_nth_unstable_by_key(count - 1, |&(idle_for, _)| Reverse(idle_for));
        for &(_, key) in &idle[..count] {
            let Watched { progress, waker, .. } = &connections[key];
            progress.is_in_the_way.store(true, Relaxed);
            waker.as_ref().inspect(|waker| waker.wake_by_ref());
        }
        true
    }

    /// From now on idle connections are closed soon.
    pub fn drain(&self) {
        self.draining.store(true, Relaxed);
    }

    /// Whether the worker drains.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    fn now(&self) -> u32 {
        self.now.load(Relaxed)
    }

    fn connections(&self) -> MutexGuard<'_, Slab<Watched>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ticks after which a time has surely passed: a step begins somewhere between two ticks.
fn ticks(limit: Duration) -> u32 {
    let whole = limit.as_nanos().div_ceil(TICK.as_nanos());
    u32::try_from(whole).unwrap_or(u32::MAX - 1) + 1
}

/// A connection's stream, which notes what its connection waits for.
pub struct Timed {
    stream: TcpStream,
    progress: Arc<Progress>,
    key: usize,
    clock: &'static Deadlines,
    /// The last bytes that came, the last of them lowest.
    tail: u32,
    lengths: Lengths,
    /// Whether the last read stopped for want of space, so that more may be there.
    may_have_more: bool,
    half_closed: bool,
    /// Whether its task's waker is on the list.
    has_waited: bool,
}

impl Timed {
    /// Where the connection's task notes what cannot be seen from its stream.
    pub fn notes(&self) -> Notes {
        Notes { progress: self.progress.clone(), clock: self.clock }
    }

    fn now_at(&self, step: ConnectionPhase) {
        self.progress.set(step, self.clock.now());
    }

    /// Nothing has come yet. If the connection is to make room for another, that is its end; but first
    /// the kernel is asked, as the event loop may not have heard yet of a request that is there.
    fn poll_nothing(&mut self, context: &Context) -> Poll<io::Result<()>> {
        if !self.has_waited {
            self.has_waited = true;
            self.clock.connections()[self.key].waker = Some(context.waker().clone());
        }
        if self.progress.is_in_the_way.load(Relaxed) {
            let is_idle = self.progress.get().0 == ConnectionPhase::Idle;
            if is_idle && !is_readable(&self.stream) {
                tracing::debug!("an idle connection makes room for another");
                return Poll::Ready(Ok(())); // to hyper, as if the client had closed it
            }
            self.progress.is_in_the_way.store(false, Relaxed);
        }
        Poll::Pending
    }

    /// Notes whether these bytes end a head, that is with an empty line.
    fn note_end(&mut self, bytes: &[u8]) {
        for &byte in &bytes[bytes.len().saturating_sub(3)..] {
            self.tail = self.tail << 8 | u32::from(byte);
        }
        let ends = self.tail & 0xffff == 0x0a0a || self.tail & 0xff_ffff == 0x0a_0d0a;
        self.progress.in_head.store(!ends, Relaxed);
    }
}

/// A handle to a connection's progress.
#[derive(Clone)]
pub struct Notes {
    progress: Arc<Progress>,
    clock: &'static Deadlines,
}

impl Notes {
    /// A new step begins.
    pub fn now_at(&self, step: ConnectionPhase) {
        if step == ConnectionPhase::Body {
            self.progress.in_head.store(false, Relaxed);
        }
        self.progress.set(step, self.clock.now());
    }

    /// Whether the head had a Content-Length, which hyper drops where there is a Transfer-Encoding.
    pub fn has_length(&self) -> bool {
        self.progress.has_length.load(Relaxed)
    }

    /// The present step.
    pub fn step(&self) -> ConnectionPhase {
        self.progress.get().0
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        self.clock.connections().remove(self.key);
    }
}

impl AsyncRead for Timed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context,
        buffer: &mut ReadBuf,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if polled.is_pending() {
            return self.poll_nothing(context);
        }
        if buffer.filled().len() > before {
            self.may_have_more = buffer.remaining() == 0;
            let (step, since) = self.progress.get();
            if step != ConnectionPhase::Body {
                self.note_end(&buffer.filled()[before..]);
            }
            if matches!(step, ConnectionPhase::Silent | ConnectionPhase::Idle) {
                self.lengths = Lengths::default();
            }
            if step != ConnectionPhase::Body {
                self.lengths.look(&buffer.filled()[before..]);
                self.progress.has_length.store(self.lengths.found, Relaxed);
            }
            // Only the first byte starts the clock; or a byte a minute would keep it going.
            if step == ConnectionPhase::Idle {
                self.progress.is_in_the_way.store(false, Relaxed);
                self.now_at(ConnectionPhase::Head);
            }
            // There it has run since the accept.
            if step == ConnectionPhase::Silent {
                self.progress.set(ConnectionPhase::Head, since);
            }
        }
        polled
    }
}

impl AsyncWrite for Timed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        let (step, _) = self.progress.get();
        match (step, &polled) {
            // An answer to a request that never came to the service: hyper refuses it.
            (ConnectionPhase::Head | ConnectionPhase::Silent | ConnectionPhase::Idle, _) => {
                self.now_at(ConnectionPhase::Linger)
            }
            (ConnectionPhase::Answer, Poll::Pending) => self.now_at(ConnectionPhase::Write),
            (ConnectionPhase::Answer | ConnectionPhase::Write, Poll::Ready(Ok(written))) => {
                self.now_at(if *written < bytes.len() {
                    ConnectionPhase::Write
                } else if self.progress.in_head.load(Relaxed) {
                    ConnectionPhase::Head
                } else {
                    ConnectionPhase::Idle
                });
            }
            _ => {}
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// hyper's last call. Most connections need nothing here: close(2) follows at once and ends
    /// both directions. A client that was refused may still be sending, and so may one that has
    /// sent more than was read; it gets the end of the answer first, and is read until it has
    /// noticed.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        if self.progress.get().0 != ConnectionPhase::Linger {
            if !self.may_have_more {
                return Poll::Ready(Ok(()));
            }
            self.now_at(ConnectionPhase::Linger);
        }
        if !self.half_closed {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
            self.half_closed = true;
        }
        let mut scratch = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_never_cut_short() {
        // Begun just before a tick, a step sees its first tick at once.
        assert_eq!(ticks(Duration::ZERO), 1);
        assert_eq!(ticks(TICK), 2);
        assert_eq!(ticks(TICK + Duration::from_nanos(1)), 3);
        assert_eq!(ticks(Duration::MAX), u32::MAX);
    }

    #[test]
    fn a_step_and_its_tick_come_back_as_they_were_noted() {
        let progress = Progress::new(ConnectionPhase::Head, 0);
        for step in PHASES {
            progress.set(step, u32::MAX);
            assert_eq!(progress.get(), (step, u32::MAX));
        }
    }
}
