//! Who gets the next connection, where every worker has a socket of its own: the parent's part.
//!
//! By default nobody does anything, and the kernel picks by its hash. A policy that picks otherwise
//! is a program in the kernel, attached to the group of sockets that listen on the port; whichever
//! of them it is attached through, it is the whole group's. So each worker sends the parent its
//! socket before it serves, and the parent does the rest: it has one thread and knows everybody, so
//! nothing is done twice or in the wrong order, and no worker needs any right for it.
//!
//! The parent closes the socket again at once. If it held it, the queue of a worker that crashed
//! would live on with nobody to answer it.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};

use crate::lane::Lanes;
use crate::parent::channel::{Channel, Message};

/// In a worker: sends the parent its socket, and waits until the parent has done its part. So whoever
/// sees a worker serve sees one that is steered to.
///
/// The parent need not answer: the wait ends when it closes what came along.
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

/// A policy.
pub trait Steering {
    /// Has new connections steered, now that a worker listens on this socket. `sockets` listen in all,
    /// those of workers that are about to included.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn enter(&self, lane: usize, socket: BorrowedFd, sockets: usize) -> Result<()>;

    /// Has nothing more steered to the socket of this lane: another worker has adopted it.
    fn leave(&self, lane: usize);

    /// What the policy knows of the workers' load, if that matters to it.
    fn lanes(&self) -> Option<&Lanes>;
}
