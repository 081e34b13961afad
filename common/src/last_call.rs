//! What waits in the accept queue of a socket that is about to be closed.

use std::io::ErrorKind;
use std::net::TcpListener;

use tokio::net::TcpStream;

use crate::accept_error;

/// Accepts all that is queued, then closes the socket.
///
/// By plain accept(2): tokio asks the queue only after epoll has told it of something.
pub async fn accept_all(listener: TcpListener, mut serve: impl FnMut(TcpStream)) {
    loop {
        match listener.accept() {
            Ok((stream, _peer)) => {
                let watched = stream.set_nonblocking(true).map(|()| stream);
                if let Ok(stream) = watched.and_then(TcpStream::from_std) {
                    serve(stream);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => {
                if accept_error::get_over(error).await.is_err() {
                    return;
                }
            }
        }
    }
}
