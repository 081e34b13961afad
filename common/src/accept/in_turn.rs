//! Accepting from several sockets: a worker has more than one if it took over another worker's.

use std::future::poll_fn;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::task::{Context, Poll};

use tokio::io::unix::AsyncFd;

use crate::kernel::sockets;
use crate::scoreboard::OwnSlot;

/// Waits for the next connection, and counts the times it was woken for nothing.
///
/// Every worker that waits for a shared socket is woken for each new connection, because tokio
/// registers it with epoll without EPOLLEXCLUSIVE. One of them gets it: the thundering herd. Most of
/// the others find out inside epoll_wait(2) that nothing is left, and sleep again without coming back
/// from it: they show as voluntary context switches. Those that come back and find the queue empty
/// are counted here. A socket of one's own has no herd.
///
/// # Errors
/// Those of accept(2).
pub async fn accept(
    listeners: &[AsyncFd<TcpListener>],
    turn: &mut usize,
    slot: OwnSlot,
) -> io::Result<TcpStream> {
    let mut woken = false;
    poll_fn(|context| {
        let polled = poll_accept(listeners, turn, context);
        if polled.is_pending() {
            // The first poll only looks whether the queue holds more; each later one is a wake-up.
            if woken {
                slot.add(|slot| &slot.wakeups_without_connection, 1);
            }
            woken = true;
        }
        polled
    })
    .await
}

/// Takes a connection from the next queue that has one, beginning after the queue of the last connection. If it
/// began with the first queue each time, the second would starve while the first is never empty.
///
/// It calls accept4(2) itself, since the event loop already watches the streams of tokio's listener, see
/// [`Stream`](crate::http::stream::Stream).
fn poll_accept(
    listeners: &[AsyncFd<TcpListener>],
    turn: &mut usize,
    context: &mut Context,
) -> Poll<io::Result<TcpStream>> {
    for asked in 0..listeners.len() {
        let index = (*turn + asked) % listeners.len();
        while let Poll::Ready(ready) = listeners[index].poll_read_ready(context) {
            // It returns an error if the queue was empty. Then the event loop reports the next connection.
            if let Ok(accepted) = ready?.try_io(|listener| sockets::accept(listener.get_ref())) {
                *turn = index + 1;
                return Poll::Ready(accepted);
            }
        }
    }
    Poll::Pending
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handover::orders::watch;
    use crate::lesson::socket::{Sharing, listen};

    #[test]
    fn two_sockets_are_asked_in_turns() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let any_port = ([127, 0, 0, 1], 0).into();
            let bind = |_| listen(any_port, 8, Sharing::OneSocket).unwrap();
            let listeners = watch([0; 2].map(bind).into()).unwrap();
            let mut clients = Vec::new();
            for listener in listeners.iter().chain(&listeners) {
                let address = listener.get_ref().local_addr().unwrap();
                clients.push(TcpStream::connect(address).unwrap());
            }
            let mut turn = 0;
            let mut accepted = Vec::new();
            while accepted.len() < clients.len() {
                let next = poll_fn(|context| poll_accept(&listeners, &mut turn, context));
                accepted.push(next.await.unwrap().local_addr().unwrap().port());
            }
            assert_eq!(accepted[..2], accepted[2..], "one after the other");
            assert_ne!(accepted[0], accepted[1]);
        });
    }
}
