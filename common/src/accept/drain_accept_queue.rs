//! What waits in the accept queue of a socket that is about to be closed.

use std::io::ErrorKind;
use std::net::TcpListener;

use tokio::task::yield_now;

use crate::accept::accept_error;
use crate::kernel::sockets::accept;
use crate::lesson::counters::{ConnectionGuard, Worker};

/// Connections that are accepted at a time, before those that are there have their turn.
const AT_ONCE: usize = 16;

/// Accepts all that is queued, then closes the socket. Beyond the worker's limit of connections the others
/// wait until some have ended.
///
/// By plain accept(2): tokio asks the queue only after epoll has told it of something. And so tokio cannot
/// tell either that this goes on for long, and that others should have their turn.
pub async fn drain_accept_queue(listener: TcpListener, worker: &'static Worker) {
    for accepted in 1.. {
        room(worker).await;
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

/// Waits until a draining worker may have one more connection: the limit holds as it did before.
pub async fn room(worker: &Worker) {
    while worker.is_full() {
        worker.ended.notified().await;
    }
}
