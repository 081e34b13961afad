//! Hands a worker's own listening sockets to its successor, so that nothing in their queues is
//! lost when the worker ends.
//!
//! Closing a listening socket resets every connection that waits in its accept queue, and every
//! handshake under way to it. With a shared socket this does not happen, as somebody else always
//! holds it. A socket of one's own is held by one process alone; so before that process ends, it
//! sends a duplicate over a Unix socket (SCM_RIGHTS, unix(7)). From then on two processes hold the
//! same socket, with the same queue, and either may close it.
//!
//! What does not work instead: `shutdown(SHUT_RD)` resets the queue; clearing SO_REUSEPORT changes
//! nothing, the kernel goes on choosing the socket; `listen(0)` makes clients wait for a timeout;
//! choosing other sockets by BPF still loses the handshakes under way.
//!
//! The parent only makes the line between the two. If it held the sockets itself, the queue of a
//! worker that crashed would live on with nobody to answer it.

use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::channel::{Channel, Message};

/// How long a successor waits for each socket. A predecessor whose event loop does not turn cannot
/// give anything away.
const WITHIN: Duration = Duration::from_secs(5);

/// Sends sockets over the line; they stay open here too.
pub fn give(line: OwnedFd, sockets: &[impl AsFd]) -> Result<()> {
    let line = Channel::from(line);
    for socket in sockets {
        line.send(&Message::Socket, &[socket.as_fd()])?;
    }
    line.send(&Message::Done, &[])
}

/// Receives the sockets that come over the line.
///
/// # Errors
/// When the giver dies, or does not give within 5 s.
pub fn take(line: OwnedFd) -> Result<Vec<TcpListener>> {
    setsockopt(&line, ReceiveTimeout, &TimeVal::milliseconds(WITHIN.as_millis() as i64))?;
    let line = Channel::from(line);
    let mut sockets = Vec::new();
    loop {
        match line.receive().context("the predecessor does not hand over its socket")? {
            Some((Message::Socket, descriptors)) => {
                sockets.extend(descriptors.into_iter().map(TcpListener::from));
            }
            Some((Message::Done, _)) => return Ok(sockets),
            Some((other, _)) => bail!("expected a socket, not {other:?}"),
            None => bail!("the predecessor ended before it handed over its socket"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_sockets_arrive() {
        let (ours, theirs) = Channel::pair().unwrap();
        let sockets = [0; 2].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        give(ours.into(), &sockets).unwrap();
        let taken = take(theirs.into()).unwrap();
        let addresses = |all: &[TcpListener]| -> Vec<_> {
            all.iter().map(|socket| socket.local_addr().unwrap()).collect()
        };
        assert_eq!(addresses(&taken), addresses(&sockets));
    }

    #[test]
    fn a_giver_that_dies_is_noticed() {
        let (ours, theirs) = Channel::pair().unwrap();
        drop(ours);
        assert!(take(theirs.into()).is_err());
    }
}
