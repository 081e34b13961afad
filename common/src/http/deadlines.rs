//! Clients that stall: how long each phase of a connection may take, and how that is checked.
//!
//! A timer per connection, set and cleared with every request, costs hyper and tokio about 1 600
//! instructions per request, and these limits need not be exact. So a worker has one coarse clock
//! that ticks four times a second. A connection notes the tick at which its present phase began,
//! which is one store. At every tick the worker looks through its connections for those that have
//! exceeded a limit. A limit is never cut short. It is exceeded by up to two ticks, and by a hundredth of itself, as
//! the clock of a worker with work to do is a little slow.
//!
//! hyper has one timer for a request's head and for the idle time before it. Here these are two
//! phases; the first byte that arrives ends the idle one.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use slab::Slab;
use tokio::task::AbortHandle;

use crate::cli::options::Options;
use crate::http::phase::{ConnectionPhase, PHASES, Progress};
use crate::http::rebalance::{Rebalance, draw_age};
use crate::scoreboard::{OwnSlot, Slots};

/// Between two ticks.
pub const TICK: Duration = Duration::from_millis(250);
const TICKS_PER_SECOND: u32 = 1_000 / TICK.as_millis() as u32;

/// No tick: a worker comes to it after 34 years.
const NEVER: u32 = u32::MAX;

/// How long a draining worker leaves an idle connection open. If it closed the connection at once, a
/// request that is on its way would be lost. A client that has been silent for this long is not likely to
/// send one at this very moment.
const IDLE_WHILE_DRAINING: Duration = Duration::from_millis(500);

/// A client that has sent nothing for this long since it connected will not send soon: browsers connect in
/// advance.
const SILENT: Duration = Duration::from_millis(500);

/// Connections that have been idle for at least this long may be closed to make room for others, and at most
/// this many at a time: to find one takes a look at all.
const IDLE_AT_LIMIT: Duration = Duration::from_secs(1);
const AT_ONCE: usize = 32;

/// How long a refused client may take to notice, see [`ConnectionPhase::Linger`].
const LINGER: Duration = Duration::from_secs(2);

/// The clock of one worker, and the connections that it checks.
pub struct Deadlines {
    /// How many ticks each phase may take, by the phase's number.
    limits: [u32; PHASES.len()],
    now: AtomicU32,
    /// The tick at which draining began, or [`NEVER`].
    draining_since: AtomicU32,
    /// The tick at which no connection was found that could be closed to make room. Before the next tick
    /// there is none either.
    looked_in_vain: AtomicU32,
    /// How old connections may become, about; 0: no limit.
    age: Duration,
    rebalance: Option<Rebalance>,
    /// The worker's slot of the scoreboard.
    pub(super) own: OwnSlot,
    /// Two threads lock it with `--accept blocking`: the accept thread closes idle connections to make room. With
    /// the other policies one thread does, and the lock is there because tokio's tasks must be `Send`.
    connections: Mutex<Slab<Watched>>,
}

struct Watched {
    progress: Arc<Progress>,
    /// `None` between entering the list and being started.
    task: Option<AbortHandle>,
    /// Wakes the task. `None` until the task has waited for its client.
    waker: Option<Waker>,
}

impl Watched {
    /// Ends the connection, unless a request has arrived. The task asks the kernel first, as the event loop may
    /// not know of the request yet. Aborting the task would reset the connection and lose the request.
    fn end_if_nothing_has_come(&self) {
        self.progress.is_to_end.store(true, Relaxed);
        self.waker.as_ref().inspect(|waker| waker.wake_by_ref());
    }
}

impl Deadlines {
    /// The clock of the worker with the slot `own`, with the limits of these options.
    pub fn new(options: &Options, own: OwnSlot, slots: Slots) -> Self {
        let mut limits = [u32::MAX; PHASES.len()];
        limits[ConnectionPhase::Head as usize] = ticks(options.header_timeout);
        limits[ConnectionPhase::Silent as usize] = ticks(options.header_timeout);
        limits[ConnectionPhase::Body as usize] = ticks(options.body_timeout);
        limits[ConnectionPhase::Write as usize] = ticks(options.write_timeout);
        limits[ConnectionPhase::Idle as usize] = ticks(options.idle_timeout);
        limits[ConnectionPhase::Linger as usize] = ticks(LINGER);
        Self {
            limits,
            now: AtomicU32::new(0),
            draining_since: AtomicU32::new(NEVER),
            looked_in_vain: AtomicU32::new(NEVER),
            age: options.max_connection_age,
            rebalance: options.rebalance.then(|| Rebalance::new(own, slots)),
            own,
            connections: Mutex::new(Slab::new()),
        }
    }

    /// Ends the connections that have exceeded a limit, and asks clients to reconnect whose connections another
    /// worker should have. To be called once per [`TICK`].
    pub fn tick(&self) {
        let now = self.now.fetch_add(1, Relaxed) + 1;
        let draining_for = now.wrapping_sub(self.draining_since.load(Relaxed));
        let drains_long = self.is_draining() && draining_for >= ticks(IDLE_WHILE_DRAINING);
        let connections = self.connections();
        for (_, watched) in connections.iter() {
            let progress = &watched.progress;
            let (phase, since) = progress.get();
            let phase_for = now.wrapping_sub(since);
            let overstays = phase_for >= self.limits[phase as usize];
            if phase.is_before_a_request() {
                if overstays || drains_long && phase_for >= ticks(IDLE_WHILE_DRAINING) {
                    watched.end_if_nothing_has_come();
                }
            } else if overstays && let Some(task) = &watched.task {
                tracing::debug!(?phase, "a connection exceeded its time limit");
                task.abort();
            }
            if phase == ConnectionPhase::Silent && phase_for >= ticks(SILENT) {
                self.keeps(progress);
            }
            if progress.is_too_old(now) {
                progress.is_asked_to_leave.store(true, Relaxed);
            }
        }
        if let Some(rebalance) = &self.rebalance
            && now.is_multiple_of(TICKS_PER_SECOND)
        {
            rebalance.look();
        }
    }

    /// Whether a client whose request is answered now is to reconnect, since this worker has too many connections.
    pub(super) fn asks_one_to_leave(&self) -> bool {
        self.rebalance.as_ref().is_some_and(Rebalance::asks_one)
    }

    /// Counts a connection as kept from now on: it has had an answer, or its client has been [`SILENT`]. As far
    /// as the worker knows no request is on its way, so the connection says little about the worker's load.
    pub(super) fn keeps(&self, progress: &Progress) {
        if !progress.is_kept.load(Relaxed) {
            progress.is_kept.store(true, Relaxed);
            self.own.add(|slot| &slot.connections_kept, 1);
        }
    }

    /// Closes connections that have been idle for over a second, to make room for so many others: at most an eighth of
    /// them, the longest idle first. Returns false if there are none.
    pub fn close_idlest(&self, wanted: usize) -> bool {
        let now = self.now();
        if self.looked_in_vain.load(Relaxed) == now {
            return false;
        }
        let connections = self.connections();
        let mut idle: Vec<(u32, usize)> = Vec::new();
        for (key, Watched { progress, .. }) in connections.iter() {
            let (phase, since) = progress.get();
            let idle_for = now.wrapping_sub(since);
            if phase == ConnectionPhase::Idle && idle_for >= ticks(IDLE_AT_LIMIT) {
                if progress.is_to_end.load(Relaxed) {
                    return true; // it is about to end
                }
                idle.push((idle_for, key));
            }
        }
        if idle.is_empty() {
            self.looked_in_vain.store(now, Relaxed);
            return false;
        }
        let count = wanted.min(idle.len() / 8).clamp(1, AT_ONCE);
        idle.select_nth_unstable_by_key(count - 1, |&(idle_for, _)| Reverse(idle_for));
        for &(_, key) in &idle[..count] {
            connections[key].end_if_nothing_has_come();
        }
        true
    }

    /// From now on idle connections are closed soon.
    pub fn drain(&self) {
        self.draining_since.store(self.now(), Relaxed);
    }

    /// Whether the worker drains.
    pub fn is_draining(&self) -> bool {
        self.draining_since.load(Relaxed) != NEVER
    }

    /// Adds a new connection to the list, and returns its place there.
    pub(super) fn enter(&self) -> (usize, Arc<Progress>) {
        let age = if self.age.is_zero() { u32::MAX } else { ticks(draw_age(self.age)) };
        let progress = Arc::new(Progress::new(ConnectionPhase::Silent, self.now(), age));
        let watched = Watched { progress: progress.clone(), task: None, waker: None };
        (self.connections().insert(watched), progress)
    }

    /// Notes which task to abort when the connection exceeds a limit.
    pub(super) fn is_served_by(&self, key: usize, task: AbortHandle) {
        self.connections()[key].task = Some(task);
    }

    /// Notes how to wake the connection's task.
    pub(super) fn wakes(&self, key: usize, waker: Waker) {
        self.connections()[key].waker = Some(waker);
    }

    /// Removes a connection that has ended from the list.
    pub(super) fn leave(&self, key: usize) {
        self.connections().remove(key);
    }

    /// The present tick.
    pub(super) fn now(&self) -> u32 {
        self.now.load(Relaxed)
    }

    fn connections(&self) -> MutexGuard<'_, Slab<Watched>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of ticks after which this time has certainly passed: a phase begins somewhere between two ticks.
fn ticks(limit: Duration) -> u32 {
    let whole = limit.as_nanos().div_ceil(TICK.as_nanos());
    u32::try_from(whole).unwrap_or(u32::MAX - 1) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_never_cut_short() {
        // Begun just before a tick, a phase sees its first tick at once.
        assert_eq!(ticks(Duration::ZERO), 1);
        assert_eq!(ticks(TICK), 2);
        assert_eq!(ticks(TICK + Duration::from_nanos(1)), 3);
        assert_eq!(ticks(Duration::MAX), u32::MAX);
    }
}
