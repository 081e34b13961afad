//! A worker, as those see it who accept connections for it.

use std::net::TcpStream;

use tokio::sync::Notify;

use crate::scoreboard::OwnSlot;

/// Who gets the connections that are accepted. This room knows no more of a worker than this, so that it
/// can be used without ours.
pub trait Recipient: Sync {
    /// Serves a connection, which counts as open for as long as `open` lives. To be called in the worker's
    /// event loop.
    fn serve(&'static self, stream: TcpStream, open: ConnectionGuard);

    /// Counts a connection: it has just been accepted.
    fn opened(&self);

    /// Counts its end.
    fn closed(&self);

    /// Whether it has as many connections as it may.
    fn is_full(&self) -> bool;

    /// Whether it drains, and so accepts what waits already and nothing more.
    fn is_draining(&self) -> bool;

    /// Closes connections that have been idle for a while, to make room for others. False if there are none.
    fn close_idlest(&self) -> bool;

    /// Told when a connection has ended that somebody may be waiting for.
    fn ended(&self) -> &Notify;

    /// Where it counts, and shows that it lives.
    fn slot(&self) -> OwnSlot;
}

/// Counts a connection as open for as long as it lives, however it ends. It lives from accept on,
/// and not only from when its task first runs: a worker that ends in between would reset it.
pub struct ConnectionGuard(&'static dyn Recipient);

impl ConnectionGuard {
    /// One more.
    pub fn new(worker: &'static dyn Recipient) -> Self {
        worker.opened();
        Self(worker)
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.closed();
    }
}
