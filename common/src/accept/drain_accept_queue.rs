//! The connections in the accept queues of sockets that are about to be closed.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use tokio::task::yield_now;

use crate::accept::accept_error;
use crate::accept::at_limit::room_while_draining;
use crate::accept::recipient::{ConnectionGuard, Recipient};
use crate::kernel::sockets::{accept, queued};

/// How long new connections are accepted from a queue that does not become empty.
const LATER: Duration = Duration::from_millis(100);

/// What a draining worker may accept: all connections that were queued when the drain began, and those that
/// arrive within 100 ms, until the queue is empty.
///
/// The socket still listens, and a client that gets its answer may connect again at once. So under load a queue
/// may never become empty. A worker that waited for that would be killed with connections open.
pub struct Allowance {
    queued: u32,
    until: Instant,
}

impl Allowance {
    /// For a drain of this socket that begins now.
    pub fn of(listener: &TcpListener) -> Self {
        // If the kernel does not tell, the time must do.
        Self { queued: queued(listener).unwrap_or(0), until: Instant::now() + LATER }
    }

    /// Whether one more connection may be accepted.
    pub fn has_one_more(&self) -> bool {
        self.queued > 0 || Instant::now() < self.until
    }

    /// To be called for each connection that was accepted. An attempt that failed, for want of a descriptor, does not count.
    pub fn has_accepted(&mut self) {
        self.queued = self.queued.saturating_sub(1);
    }
}

/// Accepts what is queued, as far as an [`Allowance`] goes, then closes the sockets. At the worker's limit of
/// connections the rest waits until some have ended.
///
/// It calls accept(2) itself: tokio asks the queue only after epoll has reported something. After each connection it
/// yields, so that its request is served before another is taken, which other workers may share.
pub async fn drain_accept_queues(listeners: Vec<TcpListener>, worker: &'static dyn Recipient) {
    let mut left: VecDeque<_> = listeners.into_iter().map(|it| (Allowance::of(&it), it)).collect();
    // In turns, or the time of one queue would be over when that of another has been drained.
    while let Some((mut may, listener)) = left.pop_front() {
        if drain_one(&listener, &mut may, worker).await {
            left.push_back((may, listener));
        }
    }
}

/// Accepts one connection. Returns whether there may be another.
async fn drain_one(
    listener: &TcpListener,
    may: &mut Allowance,
    worker: &'static dyn Recipient,
) -> bool {
    room_while_draining(worker).await;
    if !may.has_one_more() {
        return false;
    }
    match accept(listener) {
        Ok(stream) => {
            may.has_accepted();
            worker.serve(stream, ConnectionGuard::new(worker));
            yield_now().await;
            true
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => accept_error::get_over(error).await.is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::thread::sleep;

    use super::*;

    #[test]
    fn what_was_queued_at_first_may_be_accepted_however_late_and_no_more_then() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connect = || TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let _first = [0; 3].map(|_| connect());
        let mut allowance = Allowance::of(&listener);
        let _later = [0; 3].map(|_| connect());
        sleep(LATER);
        for _ in 0..3 {
            assert!(allowance.has_one_more() && allowance.has_one_more(), "not accepted yet");
            allowance.has_accepted();
        }
        assert!(!allowance.has_one_more());
    }

    #[test]
    fn what_comes_soon_may_be_accepted_too() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let allowance = Allowance::of(&listener);
        assert!(allowance.has_one_more());
        sleep(LATER);
        assert!(!allowance.has_one_more());
    }
}
