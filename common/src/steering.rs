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

use std::os::fd::BorrowedFd;

use anyhow::Result;

use crate::lane::Lanes;

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
