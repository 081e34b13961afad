//! How many connections a worker may have before another that sleeps is woken.
//!
//! With more workers than cores, to spread short connections as thin as can be gets nothing more done
//! at a time: a core runs one worker, and each other that is woken is a context switch. A worker
//! that is awake anyway may as well be filled, up to what it will be done with in a moment. That is
//! its *room*, and each worker says it of itself, in [its lane](crate::lane):
//!
//! - as many connections as it ended in the last [`FILL`]: none has to wait for much longer than that.
//!   Connections that are kept do not end, so whoever has these has no room, and they are
//!   spread evenly;
//! - but none if it stood still now and then, busy, with nothing accepted and nothing ended. A handler
//!   that blocks does that, and whatever the worker has then waits for it. A handler that awaits
//!   something slow looks the same, and loses little by it: what costs there is not the wake-up;
//! - and none if there is a core for each worker: then a worker that sleeps is a core that does.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A worker may have as many connections as it ended in so long. With a full room, more of them end in
/// the next window, and the room grows: a few workers soon have everything.
pub const FILL: Duration = Duration::from_millis(16);

/// What ends is counted for so long, at least.
const WINDOW: Duration = Duration::from_millis(10);

/// For each worker on its core, a worker that has something to do may pause for so long and still be
/// taken for one that waits for its turn: about what the scheduler lets each run.
const TURN: Duration = Duration::from_millis(2);

/// A worker blocks if it stood still for this part of the time: one slow request in ten thousand is no
/// reason to do without room.
const PART: u32 = 10;

/// What a worker knows of itself. It alone writes.
#[derive(Debug, Default)]
pub struct Room {
    /// When the window began, nanoseconds of CLOCK_MONOTONIC, and how many had ended ever by then.
    began: AtomicU64,
    ended: AtomicU64,
    /// How many had ended at the last judgement, and for how many nanoseconds it has stood still since.
    ended_before: AtomicU64,
    still: AtomicU64,
    blocks: AtomicBool,
}

impl Room {
    /// Notes that a worker with something to do did nothing for so many nanoseconds. There are so many
    /// workers for each core.
    pub fn paused(&self, nanoseconds: u64, per_core: u64) {
        if nanoseconds > per_core * TURN.as_nanos() as u64 {
            self.still.fetch_add(nanoseconds, Relaxed);
        }
    }

    /// The room, by how many connections have ended ever, at this time in nanoseconds; `None` while the
    /// window is too short to tell.
    pub fn after(&self, ended: u64, now: u64) -> Option<u64> {
        let window = now.saturating_sub(self.began.load(Relaxed));
        if window < WINDOW.as_nanos() as u64 {
            return None;
        }
        self.began.store(now, Relaxed);
        let recent = ended.saturating_sub(self.ended.swap(ended, Relaxed));
        let room = u128::from(recent) * FILL.as_nanos() / u128::from(window);
        Some(if self.blocks.load(Relaxed) { 0 } else { room as u64 })
    }

    /// Judges, after this time, whether the worker blocks, by how many connections have ended ever.
    /// A time in which nothing happened tells nothing: whoever blocked before will do so again.
    pub fn judge(&self, time: Duration, ended: u64) {
        let still = self.still.swap(0, Relaxed);
        if ended != self.ended_before.swap(ended, Relaxed) || still > 0 {
            self.blocks.store(Duration::from_nanos(still) > time / PART, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const TICK: Duration = Duration::from_millis(250);

    #[test]
    fn there_is_room_for_what_ends_in_sixteen_milliseconds() {
        let room = Room::default();
        assert_eq!(room.after(1000, 1000 * MS), Some(16), "1000 in a second");
        assert_eq!(room.after(1100, 1009 * MS), None, "too short to tell");
        assert_eq!(room.after(1200, 1010 * MS), Some(320), "200 in 10 ms");
        assert_eq!(room.after(1200, 1260 * MS), Some(0), "none ended: they are kept");
    }

    #[test]
    fn a_worker_that_blocks_has_no_room_until_it_was_seen_not_to() {
        let room = Room::default();
        room.paused(20 * MS, 2);
        room.paused(20 * MS, 2);
        room.judge(TICK, 1000);
        assert_eq!(room.after(1000, 1000 * MS), Some(0));
        room.judge(TICK, 1000);
        assert_eq!(room.after(2000, 2000 * MS), Some(0), "nothing has happened since");
        room.judge(TICK, 2000);
        assert_eq!(room.after(3000, 3000 * MS), Some(16));
    }

    #[test]
    fn short_pauses_and_few_are_no_blocking() {
        let blocks = |pause: u64, times: u64, per_core| {
            let room = Room::default();
            (0..times).for_each(|_| room.paused(pause * MS, per_core));
            room.judge(TICK, 1);
            room.blocks.load(Relaxed)
        };
        assert!(!blocks(4, 60, 2));
        assert!(!blocks(20, 1, 2));
        assert!(blocks(20, 2, 2));
        assert!(!blocks(20, 2, 10), "others may have run meanwhile");
        assert!(blocks(21, 2, 10));
    }
}
