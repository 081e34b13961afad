//! Accepting from several sockets, as tokio does: a worker has more than one where it took over another's.

use std::io;
use std::task::{Context, Poll};

use tokio::net::{TcpListener, TcpStream};

/// Takes a connection from the next queue that has one, after the one that was asked last. If the first
/// were always asked first, nobody would come to the second while the first is never empty.
pub fn poll_accept(
    listeners: &[TcpListener],
    turn: &mut usize,
    context: &mut Context,
) -> Poll<io::Result<TcpStream>> {
    for asked in 0..listeners.len() {
        let index = (*turn + asked) % listeners.len();
        let listener = &listeners[index];
        if let Poll::Ready(accepted) = listener.poll_accept(context) {
            *turn = index + 1;
            return Poll::Ready(accepted.map(|(stream, _peer)| stream));
        }
    }
    Poll::Pending
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[test]
    fn two_sockets_are_asked_in_turns() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bind = || async { TcpListener::bind("127.0.0.1:0").await.unwrap() };
            let listeners = [bind().await, bind().await];
            let mut clients = Vec::new();
            for listener in listeners.iter().chain(&listeners) {
                let address = listener.local_addr().unwrap();
                clients.push(std::net::TcpStream::connect(address).unwrap());
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
