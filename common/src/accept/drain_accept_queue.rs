//! The connections in the accept queues of sockets that are about to be closed.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use tokio::task::yield_now;

use crate::accept::accept_error;
use crate::accept::at_limit::room_while_draining;
use crate::accept::recipient::{ConnectionGuard, Recipient};
use crate::kernel::sockets::{accept, queued};

/// How many connections are accepted before those that are open have their turn.
const AT_ONCE: usize = 16;

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

    /// Whether one more connection may be accepted. To be called once for each.
    pub fn has_one_more(&mut self) -> bool {
        match self.queued.checked_sub(1) {
            Some(left) => self.queued = left,
            None => return Instant::now() < self.until,
        }
        true
    }
}

/// Accepts what is queued, as far as an [`Allowance`] goes, then closes the sockets. At the worker's limit of
/// connections the rest waits until some have ended.
///
/// It calls accept(2) itself: tokio asks the queue only after epoll has reported something. tokio's budget does
/// not count these calls, so the loop yields by itself.
pub async fn drain_accept_queues(listeners: Vec<TcpListener>, worker: &'static dyn Recipient) {
    let begun: Vec<_> = listeners.into_iter().map(|it| (Allowance::of(&it), it)).collect();
    for (allowance, listener) in begun {
        drain(listener, allowance, worker).await;
    }
}

async fn drain(listener: TcpListener, mut may: Allowance, worker: &'static dyn Recipient) {
    for accepted in 1.. {
        room_while_draining(worker).await;
        if !may.has_one_more() {
            return;
        }
        match accept(&listener) {
            Ok(stream) => worker.serve(stream, ConnectionGuard::new(worker)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => {
                if accept_error::get_over(error).await.is_err() {
                    return;
                }
            }
        }
        if accepted % AT_ONCE == 0 {
            yield_now().await;
        }
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
        let allowed = (0..6).filter(|_| allowance.has_one_more()).count();
        assert_eq!(allowed, 3);
    }

    #[test]
    fn what_comes_soon_may_be_accepted_too() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut allowance = Allowance::of(&listener);
        assert!(allowance.has_one_more());
        sleep(LATER);
        assert!(!allowance.has_one_more());
    }
}
