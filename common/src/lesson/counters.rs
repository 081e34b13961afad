//! What all connections of a worker share, and how the worker counts them.

use std::net::TcpStream;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::Notify;

use crate::accept::recipient::{ConnectionGuard, Recipient};
use crate::http::deadlines::Deadlines;
use crate::lesson::app::App;
use crate::lesson::connection;
use crate::scoreboard::OwnSlot;
use crate::steering::Lane;

/// What all connections of a worker share. There is one per process, and it lives as long as the process.
pub struct Worker {
    /// The web app.
    pub app: App,
    /// Where to count.
    pub slot: OwnSlot,
    /// Where to write the worker's load, if a policy steers by load.
    pub lane: Option<&'static dyn Lane>,
    /// The time limits of its connections.
    pub deadlines: Deadlines,
    pub(crate) max_connections: u64,
    pub(crate) ended: Notify,
}

impl Worker {
    /// Connections that have been accepted and have not ended.
    pub fn open(&self) -> u64 {
        self.slot.connections_open.load(Relaxed)
    }
}

impl Recipient for Worker {
    fn serve(&'static self, stream: TcpStream, open: ConnectionGuard) {
        self.deadlines
            .spawn(stream, |stream| connection::serve(stream, open, &self.app, self.slot));
    }

    fn opened(&self) {
        self.slot.add(|slot| &slot.connections_accepted, 1);
        self.slot.opened();
        self.lane.inspect(|lane| lane.opened(self.slot));
    }

    fn closed(&self) {
        self.slot.closed();
        self.lane.inspect(|lane| lane.closed(self.slot));
        // The accept loop waits for this at the limit, and the end of the worker while it drains.
        if self.open() + 1 >= self.max_connections || self.is_draining() {
            self.ended.notify_one();
        }
    }

    fn is_full(&self) -> bool {
        self.open() >= self.max_connections
    }

    fn is_draining(&self) -> bool {
        self.deadlines.is_draining()
    }

    fn close_idlest(&self, wanted: usize) -> bool {
        self.deadlines.close_idlest(wanted)
    }

    fn ended(&self) -> &Notify {
        &self.ended
    }

    fn slot(&self) -> OwnSlot {
        self.slot
    }
}
