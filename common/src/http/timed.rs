//! A stream that notes the phase of its connection.

use std::io;
use std::net::TcpStream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::deadlines::Deadlines;
use crate::http::guard::Lengths;
use crate::http::phase::{ConnectionPhase, Progress};
use crate::http::stream::Stream;

impl Deadlines {
    /// Serves a connection in a task that is aborted when it exceeds a limit.
    pub fn spawn<F>(&'static self, stream: TcpStream, serve: impl FnOnce(Timed) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (key, progress) = self.enter();
        let timed = Timed {
            stream: Stream::new(stream),
            progress,
            key,
            clock: self,
            tail: 0,
            lengths: Lengths::default(),
            may_have_more: false,
            half_closed: false,
            has_waited: false,
        };
        // Boxed: tokio moves a task a dozen times before it first runs, and this one is large.
        let task = tokio::spawn(Box::pin(serve(timed)));
        // The task cannot have run yet, let alone ended: this runtime's only thread is here.
        self.is_served_by(key, task.abort_handle());
    }
}

/// A connection's stream, which notes the connection's phase.
pub struct Timed {
    stream: Stream,
    progress: Arc<Progress>,
    key: usize,
    clock: &'static Deadlines,
    /// The last bytes that arrived, the very last in the lowest byte.
    tail: u32,
    lengths: Lengths,
    /// Whether the last read filled its buffer, so that there may be more.
    may_have_more: bool,
    half_closed: bool,
    /// Whether its task's waker is in the list of [`Deadlines`].
    has_waited: bool,
}

impl Timed {
    /// For what the connection's task knows and its stream does not see.
    pub fn notes(&self) -> Notes {
        Notes { progress: self.progress.clone(), clock: self.clock }
    }

    fn now_at(&self, phase: ConnectionPhase) {
        self.progress.set(phase, self.clock.now());
    }

    /// Nothing has arrived. If the connection is to end in that case, it does; but first it asks the kernel, as
    /// the event loop may not know of a request yet.
    fn poll_nothing(&mut self, context: &Context) -> Poll<io::Result<()>> {
        if !self.has_waited {
            self.has_waited = true;
            self.clock.wakes(self.key, context.waker().clone());
        }
        if self.progress.is_to_end.load(Relaxed) {
            let phase = self.progress.get().0;
            if phase.is_before_a_request() && !self.stream.is_readable() {
                tracing::debug!(?phase, "a connection is closed before a request");
                return Poll::Ready(Ok(())); // to hyper, as if the client had closed it
            }
            self.progress.is_to_end.store(false, Relaxed);
        }
        Poll::Pending
    }

    /// Notes whether these bytes end a head, that is, end with an empty line.
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
    /// A new phase begins.
    pub fn now_at(&self, phase: ConnectionPhase) {
        if phase == ConnectionPhase::Body {
            self.progress.in_head.store(false, Relaxed);
        }
        self.progress.set(phase, self.clock.now());
    }

    /// Whether the head that is checked now had a Content-Length, which hyper drops if there is a
    /// Transfer-Encoding. To be called once for each head: the next one may have arrived together with this one,
    /// and what was found in this one says nothing about the next.
    pub fn take_length(&self) -> bool {
        self.progress.has_length.swap(false, Relaxed)
    }

    /// Whether this answer is the connection's last: the worker drains, or asks the client to reconnect. To be called
    /// once for each answer.
    pub fn asks_to_leave(&self) -> bool {
        let is_asked = &self.progress.is_asked_to_leave;
        // Not with its first answer: it may end with that in any case.
        let is_kept = self.progress.is_kept.load(Relaxed);
        if is_kept && !is_asked.load(Relaxed) && self.clock.asks_one_to_leave() {
            is_asked.store(true, Relaxed);
        }
        self.clock.is_draining() || is_asked.load(Relaxed)
    }

    /// Whether hyper has sent what it had and shut the stream down, or tried to.
    pub fn is_shut_down(&self) -> bool {
        self.progress.is_shut_down.load(Relaxed)
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        self.clock.leave(self.key);
        if self.progress.is_kept.load(Relaxed) {
            self.clock.own.take(|slot| &slot.connections_kept, 1);
        }
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
            let (phase, since) = self.progress.get();
            if phase.is_before_a_request() {
                self.lengths = Lengths::default();
                self.progress.is_to_end.store(false, Relaxed);
            }
            if phase != ConnectionPhase::Body {
                self.note_end(&buffer.filled()[before..]);
                self.lengths.look(&buffer.filled()[before..]);
                if std::mem::take(&mut self.lengths.found) {
                    self.progress.has_length.store(true, Relaxed);
                }
            }
            // Only the first byte starts the clock; or a byte a minute would keep it going.
            if phase == ConnectionPhase::Idle {
                self.now_at(ConnectionPhase::Head);
            }
            // Here the clock has run since the accept.
            if phase == ConnectionPhase::Silent {
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
        let (phase, _) = self.progress.get();
        match (phase, &polled) {
            // An answer to a request that never reached the service: hyper refuses it.
            (ConnectionPhase::Head | ConnectionPhase::Silent | ConnectionPhase::Idle, _) => {
                self.now_at(ConnectionPhase::Linger)
            }
            (ConnectionPhase::Answer, Poll::Pending) => self.now_at(ConnectionPhase::Write),
            (ConnectionPhase::Answer | ConnectionPhase::Write, Poll::Ready(Ok(written))) => {
                let is_whole = *written == bytes.len();
                // An order to end that came meanwhile was for a connection that was idle.
                self.progress.is_to_end.store(false, Relaxed);
                self.now_at(if !is_whole {
                    ConnectionPhase::Write
                } else if self.progress.in_head.load(Relaxed) {
                    ConnectionPhase::Head
                } else {
                    ConnectionPhase::Idle
                });
                if is_whole {
                    self.clock.keeps(&self.progress);
                }
            }
            _ => {}
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// hyper's last call. Most connections need nothing here: close(2) follows at once and ends
    /// both directions. A refused client may still be sending, and so may a client that has sent more
    /// than was read. It gets the end of the answer first, and the worker reads until it has noticed.
    /// A client that was asked to reconnect may have sent its next requests before it knew.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        self.progress.is_shut_down.store(true, Relaxed);
        if self.progress.get().0 != ConnectionPhase::Linger {
            let is_to_leave =
                self.clock.is_draining() || self.progress.is_asked_to_leave.load(Relaxed);
            let has_unread = is_to_leave && self.stream.is_readable();
            if !self.may_have_more && !has_unread {
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
