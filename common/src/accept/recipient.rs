//! A worker, as seen by the code that accepts connections for it.

use std::net::TcpStream;

use tokio::sync::Notify;

use crate::scoreboard::OwnSlot;

/// A worker that gets the accepted connections. This module knows no more of a worker, so that other programs
/// can use it.
pub trait Recipient: Sync {
    /// Serves a connection, which counts as open until `open` is dropped. To be called in the worker's event
    /// loop.
    fn serve(&'static self, stream: TcpStream, open: ConnectionGuard);

    /// Counts a new connection.
    fn opened(&self);

    /// Counts the end of a connection.
    fn closed(&self);

    /// Whether the worker is at its limit of connections.
    fn is_full(&self) -> bool;

    /// Whether it drains: it accepts what is queued, and nothing more.
    fn is_draining(&self) -> bool;

    /// Closes connections that have been idle for a while, to make room for so many. Returns false if there are none.
    fn close_idlest(&self, wanted: usize) -> bool;

    /// Notified when a connection has ended, if something may be waiting for that.
    fn ended(&self) -> &Notify;

    /// The worker's slot of the scoreboard: its counters and its heartbeat.
    fn slot(&self) -> OwnSlot;
}

/// Counts a connection as open until it is dropped, however the connection ends. It is made right after accept,
/// not when the connection's task first runs: a worker that ended in between would reset the connection.
pub struct ConnectionGuard(&'static dyn Recipient);

impl ConnectionGuard {
    /// Counts a new connection of this worker.
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
