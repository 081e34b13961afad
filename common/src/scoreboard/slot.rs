//! One worker's counters, which its parent, the other workers and readers see.

use std::ops::Deref;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, Ordering::Relaxed};
use std::time::Duration;

use crate::platform::clock::monotonic_milliseconds;

/// A worker's state as the scoreboard shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// Claimed for a worker that does not accept yet.
    Starting = 0,
    /// In the accept loop.
    Serving = 1,
    /// Answers open requests and accepts nothing new.
    Draining = 2,
}

/// A number that any process may read. Only an [`OwnSlot`] can write it: a reader may have mapped it
/// read-only, where a write would kill the process.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The present value.
    pub fn load(&self, ordering: Ordering) -> u64 {
        self.0.load(ordering)
    }

    pub(super) fn store(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// Adds to a counter that has this process as its only writer.
    pub(super) fn add(&self, amount: u64) {
        self.store(self.load(Relaxed).wrapping_add(amount));
    }
}

/// One worker's counters, for reading.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct Slot {
    /// Pid of the server (the parent) this slot belongs to; 0 = free. Writer: that parent.
    pub(super) owner: AtomicU32,
    /// Pid of the worker; 0 = none yet. Writer: the worker.
    pub(super) pid: AtomicU32,
    /// A [`State`]. Writer: the worker.
    pub(super) state: AtomicU32,
    /// The number under which its server holds a lock, if the scoreboard has a name. Writer: as `owner`.
    pub(super) server: AtomicU32,
    /// How many listening sockets the worker accepts from: one, and those it adopted. Writer: the worker.
    pub sockets: Counter,
    /// Inode of the worker's first listening socket, as in `/proc/PID/fd`. Writer: the worker.
    pub socket_inode: Counter,
    /// Connections accepted since the worker started. Writer: the worker.
    pub connections_accepted: Counter,
    /// Connections open now. Writers: the worker's event loop, and its accept thread, if it has one.
    pub connections_open: Counter,
    /// How many of the open connections are kept: they have had an answer and stayed, or the client has sent nothing
    /// for half a second since it connected. Writer: the worker.
    pub connections_kept: Counter,
    /// Requests answered since the worker started. Writer: the worker.
    pub requests: Counter,
    /// Times the accept loop was woken and found no connection, because another worker had taken
    /// it: the thundering herd, made visible. Writer: the worker.
    pub wakeups_without_connection: Counter,
    /// When the worker's event loop last turned, milliseconds of CLOCK_MONOTONIC, written once per
    /// tick; 0 = not yet. Writer: the worker.
    pub heartbeat: Counter,
    /// The worker's load as a load-aware steering policy sees it: connections open or on their way;
    /// 0 without such a policy. Writer: the worker.
    pub load: Counter,
    /// Connections that such a policy gave to this worker. Writer: the worker.
    pub steered: Counter,
    /// Connections that waited for a worker that died and were given to this one. Writer: the worker.
    pub migrated: Counter,
    /// `--accept least-conn`: connections the worker left to another that had fewer open.
    /// Writer: the worker.
    pub gated: Counter,
    /// `--accept least-conn`: what the worker's event loop does, in the policy's encoding. Writer: the worker.
    pub turn: Counter,
}

impl Slot {
    /// Pid of the server (the parent) this slot belongs to; 0 = free.
    pub fn owner(&self) -> u32 {
        self.owner.load(Relaxed)
    }

    /// The worker's pid; `None` before it has written it.
    pub fn pid(&self) -> Option<u32> {
        Some(self.pid.load(Relaxed)).filter(|&pid| pid != 0)
    }

    /// The worker's state.
    pub fn state(&self) -> State {
        match self.state.load(Relaxed) {
            0 => State::Starting,
            1 => State::Serving,
            _ => State::Draining,
        }
    }

    /// How long the event loop has not turned; `None` before its first turn.
    pub fn silence(&self) -> Option<Duration> {
        let beat = Some(self.heartbeat.load(Relaxed)).filter(|&beat| beat != 0)?;
        Some(Duration::from_millis(monotonic_milliseconds().saturating_sub(beat)))
    }

    pub(super) fn clear(&self) {
        for word in [&self.owner, &self.pid, &self.state, &self.server] {
            word.store(0, Relaxed);
        }
        self.clear_counters();
    }

    fn clear_counters(&self) {
        for counter in [
            &self.sockets,
            &self.socket_inode,
            &self.connections_accepted,
            &self.connections_open,
            &self.connections_kept,
            &self.requests,
            &self.wakeups_without_connection,
            &self.heartbeat,
            &self.load,
            &self.steered,
            &self.migrated,
            &self.gated,
            &self.turn,
        ] {
            counter.store(0);
        }
    }
}

/// A worker's own slot, which this process may write to. It comes from [`Slots`](super::Slots), which are
/// mapped for writing.
#[derive(Clone, Copy, Debug)]
pub struct OwnSlot(pub(super) &'static Slot);

impl Deref for OwnSlot {
    type Target = Slot;

    fn deref(&self) -> &Slot {
        self.0
    }
}

impl OwnSlot {
    /// The slot, for reading.
    pub fn get(self) -> &'static Slot {
        self.0
    }

    /// Adds to a counter that has this process as its only writer.
    pub fn add(self, counter: impl FnOnce(&'static Slot) -> &'static Counter, amount: u64) {
        counter(self.0).add(amount);
    }

    /// Subtracts from such a counter.
    pub fn take(self, counter: impl FnOnce(&'static Slot) -> &'static Counter, amount: u64) {
        counter(self.0).add(amount.wrapping_neg());
    }

    /// Sets a counter.
    pub fn set(self, counter: impl FnOnce(&'static Slot) -> &'static Counter, value: u64) {
        counter(self.0).store(value);
    }

    /// Adds to a counter that several threads of this process write.
    pub fn add_shared(self, counter: impl FnOnce(&'static Slot) -> &'static Counter, amount: u64) {
        counter(self.0).0.fetch_add(amount, Relaxed);
    }

    /// Counts a new open connection.
    pub fn opened(self) {
        self.add_shared(|slot| &slot.connections_open, 1);
    }

    /// Counts the end of an open connection.
    pub fn closed(self) {
        self.add_shared(|slot| &slot.connections_open, 1_u64.wrapping_neg());
    }

    /// Writes the calling process into the slot as its worker. Another process may have had it before.
    pub fn occupy(self) {
        self.0.clear_counters();
        self.0.pid.store(std::process::id(), Relaxed);
    }

    /// Shows a new state.
    pub fn set_state(self, state: State) {
        self.0.state.store(state as u32, Relaxed);
    }

    /// Notes that the event loop turns.
    pub fn beat(self) {
        self.0.heartbeat.store(monotonic_milliseconds());
    }
}
