//! A connection's stream that the event loop watches only when it must wait.
//!
//! tokio's epoll instance watches a stream from accept to close, which takes two calls of epoll_ctl(2),
//! and tokio reads from a stream that it did not accept itself only after epoll_wait(2) has reported bytes. But
//! usually the request is there when the connection's task first runs, and the answer fits into the send buffer.
//! If the connection ends with that answer, it never waits, and three of its eight system calls are useless.
//!
//! ```text
//!   accept4 -> recvfrom -> sendto -> close                          the request is there
//!              recvfrom -> epoll_ctl -> epoll_wait -> recvfrom ...   it is not, or another is to follow
//! ```
//!
//! Only the first read is tried like this, and the second if the first has filled its buffer: some servers read
//! at first only what tells HTTP/1 from HTTP/2 (axum's reads 24 bytes). If they waited for the rest, which is
//! there, the worker would accept another connection before it served this one's request. All other reads are
//! tokio's, whose streams have a budget: without it, a client that never stops sending would keep the event loop
//! from serving others.

use std::io::{self, ErrorKind, Write};
use std::mem;
use std::net::{Shutdown, TcpStream as StdTcpStream};
use std::pin::Pin;
use std::task::{Context, Poll};

use nix::libc::MSG_NOSIGNAL;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::kernel::sockets::is_readable;

/// A connection's stream.
pub enum Stream {
    /// The event loop watches it, for reading and writing.
    Watched(TcpStream),
    /// The event loop does not watch it. How many reads may still be tried.
    Unwatched(StdTcpStream, usize),
    /// The event loop could not watch it.
    Failed,
}

impl Stream {
    /// The stream of a new connection, a non-blocking socket.
    pub fn new(accepted: StdTcpStream) -> Self {
        Self::Unwatched(accepted, 2)
    }

    /// Whether something has arrived, which the event loop may not know yet.
    pub fn is_readable(&self) -> bool {
        match self {
            Self::Watched(stream) => is_readable(stream),
            Self::Unwatched(stream, _) => is_readable(stream),
            Self::Failed => false,
        }
    }

    /// Registers it with the event loop, which also reports what arrived before.
    fn watched(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        if let Self::Unwatched(..) = self
            && let Self::Unwatched(stream, _) = mem::replace(self, Self::Failed)
        {
            *self = Self::Watched(TcpStream::from_std(stream)?);
        }
        match self {
            Self::Watched(stream) => Ok(Pin::new(stream)),
            _ => Err(ErrorKind::NotConnected.into()),
        }
    }
}

/// The result of a call, unless the call would have to wait.
fn at_once<T>(result: io::Result<T>) -> Option<io::Result<T>> {
    match result {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            None
        }
        result => Some(result),
    }
}

/// Reads into a buffer that is not initialized. Safe code would have to fill it with zeros first, 8 KiB for each
/// connection.
#[allow(unsafe_code)]
fn receive(stream: &StdTcpStream, buffer: &mut ReadBuf) -> io::Result<()> {
    // SAFETY: only recv(2) writes there, and it writes initialized bytes.
    let count = SockRef::from(stream).recv(unsafe { buffer.unfilled_mut() })?;
    // SAFETY: recv(2) has written this many bytes.
    unsafe { buffer.assume_init(count) };
    buffer.advance(count);
    Ok(())
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context,
        buffer: &mut ReadBuf,
    ) -> Poll<io::Result<()>> {
        if let Self::Watched(stream) = &mut *self {
            return Pin::new(stream).poll_read(context, buffer);
        }
        if let Self::Unwatched(stream, left @ 1..) = &mut *self
            && let Some(read) = at_once(receive(stream, buffer))
        {
            *left = if buffer.remaining() == 0 { *left - 1 } else { 0 };
            return Poll::Ready(read);
        }
        self.watched()?.poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Self::Unwatched(stream, _) = &mut *self
            && let Some(written) = at_once(stream.write(bytes))
        {
            return Poll::Ready(written);
        }
        let mut stream = self.watched()?;
        let polled = stream.as_mut().poll_write(context, bytes);
        // If it is watched only since the last read, the event loop does not know yet that there is room.
        if polled.is_pending()
            && let Some(written) =
                at_once(SockRef::from(&*stream).send_with_flags(bytes, MSG_NOSIGNAL))
        {
            return Poll::Ready(written);
        }
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // neither this stream nor tokio's buffers anything
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        if let Self::Unwatched(stream, _) = &*self {
            return Poll::Ready(stream.shutdown(Shutdown::Write));
        }
        self.watched()?.poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::task::Waker;
    use std::thread;

    use super::*;

    /// Runs this with a connection's two ends.
    fn with_pair<F: Future<Output = ()>>(test: impl FnOnce(Stream, StdTcpStream) -> F) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = StdTcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        accepted.set_nonblocking(true).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(Stream::new(accepted), client));
    }

    async fn read(stream: &mut Stream) -> Vec<u8> {
        let mut space = [0; 16];
        let mut buffer = ReadBuf::new(&mut space);
        poll_fn(|context| Pin::new(&mut *stream).poll_read(context, &mut buffer)).await.unwrap();
        buffer.filled().to_vec()
    }

    async fn write(stream: &mut Stream, bytes: &[u8]) -> usize {
        poll_fn(|context| Pin::new(&mut *stream).poll_write(context, bytes)).await.unwrap()
    }

    #[test]
    fn who_need_not_wait_is_not_watched() {
        with_pair(|mut stream, mut client| async move {
            client.write_all(b"request").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(read(&mut stream).await, b"request");
            assert_eq!(write(&mut stream, b"answer").await, 6);
            poll_fn(|context| Pin::new(&mut stream).poll_shutdown(context)).await.unwrap();
            assert!(matches!(stream, Stream::Unwatched(..)));
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "answer");
            assert_eq!(read(&mut stream).await, b"", "the client's end, seen by the event loop");
            assert!(matches!(stream, Stream::Watched(..)));
        });
    }

    #[test]
    fn a_request_that_comes_late_or_in_two_parts_is_read() {
        with_pair(|mut stream, mut client| async move {
            let client = thread::spawn(move || {
                thread::sleep(std::time::Duration::from_millis(20));
                client.write_all(b"late").unwrap();
                client
            });
            assert_eq!(read(&mut stream).await, b"late");
            client.join().unwrap().write_all(b"more").unwrap();
            assert_eq!(read(&mut stream).await, b"more");
        });
        with_pair(|mut stream, mut client| async move {
            client.write_all(b"more than fits at once").unwrap();
            assert_eq!(read(&mut stream).await, b"more than fits a");
            assert_eq!(read(&mut stream).await, b"t once");
        });
    }

    #[test]
    fn after_a_look_at_the_first_bytes_the_rest_is_read_without_waiting_and_a_third_read_is_the_event_loop_s()
     {
        with_pair(|mut stream, mut client| async move {
            client.write_all(&[1; 40]).unwrap();
            for watched in [false, false, true] {
                read(&mut stream).await;
                assert_eq!(matches!(stream, Stream::Watched(..)), watched);
            }
        });
    }

    #[test]
    fn who_is_watched_only_now_is_answered_at_once() {
        with_pair(|mut stream, client| async move {
            let mut space = [0; 16];
            let mut context = Context::from_waker(Waker::noop());
            let polled =
                Pin::new(&mut stream).poll_read(&mut context, &mut ReadBuf::new(&mut space));
            assert!(polled.is_pending() && matches!(stream, Stream::Watched(..)));
            let polled = Pin::new(&mut stream).poll_write(&mut context, b"answer");
            assert!(matches!(polled, Poll::Ready(Ok(6))), "{polled:?}");
            drop(client);
        });
    }

    #[test]
    fn an_answer_that_does_not_fit_is_written_as_the_client_reads() {
        const SIZE: usize = 16 << 20;
        with_pair(|mut stream, mut client| async move {
            let client = thread::spawn(move || {
                thread::sleep(std::time::Duration::from_millis(20));
                let mut answer = Vec::new();
                client.read_to_end(&mut answer).unwrap();
                answer.len()
            });
            let answer = vec![0; SIZE];
            let mut written = 0;
            while written < SIZE {
                written += write(&mut stream, &answer[written..]).await;
            }
            assert!(matches!(stream, Stream::Watched(..)));
            drop(stream);
            assert_eq!(client.join().unwrap(), SIZE);
        });
    }
}
