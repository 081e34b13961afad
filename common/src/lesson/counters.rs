//! What all connections of a worker share, and how they are counted.

use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::Notify;

use crate::http::deadlines::Deadlines;
use crate::lesson::app::App;
use crate::scoreboard::OwnSlot;
use crate::steering::lane::Lane;

/// What all connections of a worker share. There is one per process, for the whole life of it.
pub struct Worker {
    /// The web app.
    pub app: App,
    /// Where to count.
    pub slot: OwnSlot,
    /// Where to say how loaded we are, if anybody steers by that.
    pub lane: Option<&'static Lane>,
    /// Who looks after stalled clients.
    pub deadlines: Deadlines,
    pub(crate) max_connections: u64,
    /// Told when a connection has ended that somebody may be waiting for.
    pub(crate) ended: Notify,
}

impl Worker {
    /// Whether it has as many connections as it may.
    pub fn is_full(&self) -> bool {
        self.slot.connections_open.load(Relaxed) >= self.max_connections
    }

    /// Tells who waits for a connection to end: at the limit, or while draining.
    pub fn tell_if_awaited(&self) {
        let open = self.slot.connections_open.load(Relaxed);
        if open + 1 >= self.max_connections || self.deadlines.is_draining() {
            self.ended.notify_one();
        }
    }
}

/// Counts a connection as open for as long as it lives, however it ends. It lives from accept on,
/// and not only from when its task first runs: a worker that ends in between would reset it.
pub struct ConnectionGuard(&'static Worker);

impl ConnectionGuard {
    /// One more.
    pub fn new(worker: &'static Worker) -> Self {
        worker.slot.add(|slot| &slot.connections_accepted, 1);
        worker.slot.opened();
        if let Some(lane) = worker.lane {
            lane.opened(worker.slot);
        }
        Self(worker)
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.slot.closed();
        if let Some(lane) = self.0.lane {
            lane.closed(self.0.slot);
        }
        self.0.tell_if_awaited();
    }
}
