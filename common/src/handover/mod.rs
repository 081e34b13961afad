//! Gives a worker's own listening sockets to its successor, so that no connection in their queues is
//! lost when the worker ends.
//!
//! Closing a listening socket resets every connection that waits in its accept queue, and every
//! handshake under way to it. With a shared socket this does not happen, as other processes always
//! hold it. Only one process holds a per-worker socket; so before that process ends, it sends a
//! duplicate over a Unix socket (SCM_RIGHTS, unix(7)). From then on two processes hold the same
//! socket, with the same queue, and either may close it.
//!
//! These do not work: `shutdown(SHUT_RD)` resets the queue; after clearing SO_REUSEPORT the kernel
//! still chooses the socket; `listen(0)` makes clients wait for a timeout; a BPF program that chooses
//! other sockets still loses the handshakes under way.
//!
//! The parent only makes the line between the two. If it held the sockets itself, a queue would
//! survive the crash of its worker, and no process would answer it.

pub mod orders;

use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Error, Result, bail};
use tokio::runtime::Builder;
use tokio::time::{sleep, timeout};

use crate::parent::channel::{Channel, Message};

/// How long to wait for the giver. A worker whose event loop does not turn never gives.
const WITHIN: Duration = Duration::from_secs(5);

/// Sends sockets over the line. They stay open here, too.
pub fn give(line: OwnedFd, sockets: &[impl AsFd]) -> Result<()> {
    let line = Channel::from(line);
    for socket in sockets {
        line.send(&Message::Socket, &[socket.as_fd()])?;
    }
    line.send(&Message::Done, &[])
}

/// Receives sockets over the line, in a worker that does not serve yet, and tells the parent their number, which
/// the parent of a new server cannot know.
///
/// # Errors
/// When the giver dies, or lets 5 s pass, or the server ends meanwhile.
pub fn take(line: OwnedFd, parent: &Channel) -> Result<Vec<TcpListener>> {
    let mut runtime = Builder::new_current_thread(); // for this wait only: the worker's own comes later
    let runtime = runtime.enable_io().enable_time().build().context("cannot wait for a socket")?;
    let sockets = runtime.block_on(async {
        let told = parent.watch()?;
        tokio::select! {
            biased;
            taken = take_while_serving(line) => taken,
            // The only message to a worker that does not serve yet is that the server ends, and a stopped giver would
            // delay that. The giver keeps its sockets.
            _ = told.readable() => {
                bail!("the server ends before the other worker has handed over its socket")
            }
        }
    })?;
    parent.send(&Message::Holds(u16::try_from(sockets.len())?), &[])?;
    Ok(sockets)
}

/// The same in a worker that serves meanwhile, and gets the order to end itself.
///
/// # Errors
/// When the giver dies, or lets 5 s pass.
pub async fn take_while_serving(line: OwnedFd) -> Result<Vec<TcpListener>> {
    let mut no_room = None;
    let taken = timeout(WITHIN, take_all(Channel::from(line), &mut no_room)).await;
    match (taken, no_room) {
        (Ok(taken), _) => taken,
        (Err(_), Some(error)) => Err(error).context("no descriptor for the other worker's socket"),
        (Err(_), None) => bail!("the other worker does not hand over its socket"),
    }
}

/// How long to wait before trying again whether a descriptor is free.
pub(crate) const ROOM_WITHIN: Duration = Duration::from_millis(20);

/// Also stores the last error for want of a descriptor.
async fn take_all(line: Channel, no_room: &mut Option<Error>) -> Result<Vec<TcpListener>> {
    let watch = line.watch()?;
    let mut sockets = Vec::new();
    loop {
        let mut ready = watch.readable().await?;
        let received = match line.try_receive() {
            Ok(Some(received)) => received,
            Ok(None) => {
                ready.clear_ready();
                continue;
            }
            Err(error) if Channel::is_for_want_of_room(&error) => {
                *no_room = Some(error);
                sleep(ROOM_WITHIN).await; // connections will end, and free descriptors
                continue;
            }
            Err(error) => return Err(error),
        };
        match received.context("the other worker ended before it handed over its socket")? {
            (Message::Socket, descriptors) => {
                for listener in descriptors.into_iter().map(TcpListener::from) {
                    listener.set_nonblocking(true)?; // whatever the giver has done to it
                    sockets.push(listener);
                }
            }
            (Message::Done, _) => return Ok(sockets),
            (other, _) => bail!("expected a socket, not {other:?}"),
        }
    }
}

/// In a worker of a server that steers: sends the parent its socket, and waits until the parent has done its
/// part. So connections are steered to every worker that serves.
///
/// The parent need not answer: the wait ends when it closes the descriptor that came with the message.
///
/// # Errors
/// When the parent is gone.
pub fn report(parent: &Channel, socket: impl AsFd) -> Result<()> {
    let (ours, theirs) = Channel::pair()?;
    parent
        .send(&Message::Socket, &[socket.as_fd(), theirs.as_fd()])
        .context("cannot send the parent a socket")?;
    drop(theirs);
    ours.receive().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_sockets_arrive() {
        let (ours, theirs) = Channel::pair().unwrap();
        let sockets = [0; 2].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        give(ours.into(), &sockets).unwrap();
        let (parent, worker) = Channel::pair().unwrap();
        parent.send(&Message::Drain, &[]).unwrap(); // they are there: that has the time
        let taken = take(theirs.into(), &worker).unwrap();
        let addresses = |all: &[TcpListener]| -> Vec<_> {
            all.iter().map(|socket| socket.local_addr().unwrap()).collect()
        };
        assert_eq!(addresses(&taken), addresses(&sockets));
        assert_eq!(parent.receive().unwrap().unwrap().0, Message::Holds(2));
    }

    #[test]
    fn they_arrive_in_a_worker_that_goes_on_serving_too() {
        let (ours, theirs) = Channel::pair().unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let giver = std::thread::spawn(move || give(ours.into(), &[socket]));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let taken = runtime.block_on(take_while_serving(theirs.into())).unwrap();
        giver.join().unwrap().unwrap();
        assert_eq!(taken[0].local_addr().unwrap(), address);
    }

    #[test]
    fn a_giver_that_dies_is_noticed() {
        let (ours, theirs) = Channel::pair().unwrap();
        let (_parent, worker) = Channel::pair().unwrap();
        drop(ours);
        let error = take(theirs.into(), &worker).unwrap_err();
        assert!(error.to_string().contains("ended before"), "{error}");
    }

    #[test]
    fn a_server_that_ends_does_not_wait_for_a_giver_that_stands_still() {
        for is_gone in [false, true] {
            let (_ours, theirs) = Channel::pair().unwrap();
            let (parent, worker) = Channel::pair().unwrap();
            parent.send(&Message::Drain, &[]).unwrap();
            let _parent = (!is_gone).then_some(parent);
            let error = take(theirs.into(), &worker).unwrap_err();
            assert!(error.to_string().contains("the server ends"), "{error}");
        }
    }
}
