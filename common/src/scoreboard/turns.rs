//! What a policy that looks at the load asks of a worker beside how many connections it has: whether its event
//! loop turns quickly, and whether its connections are kept.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::Slot;
use crate::platform::clock::monotonic_nanoseconds;

/// A turn of an event loop that takes no longer is quick: whoever turns like that is back before another
/// has been woken and has got a core.
pub const QUICK: Duration = Duration::from_micros(100);

/// Whether a worker's event loop turns quickly: whether its last turn in which it answered a request was quick.
/// A turn that only accepts is quick with any handler, and tells nothing.
#[derive(Default)]
pub struct Pace {
    /// When the loop last woke, in nanoseconds.
    woke: AtomicU64,
    /// Requests answered until then.
    requests: AtomicU64,
    is_quick: AtomicBool,
}

impl Pace {
    /// The loop wakes. The time, in nanoseconds, and whether it turns quickly.
    pub fn wakes(&self) -> (u64, bool) {
        let now = monotonic_nanoseconds();
        self.woke.store(now, Relaxed);
        (now, self.is_quick.load(Relaxed))
    }

    /// The loop has done what there was to do. When it woke, in nanoseconds, and whether it turns quickly.
    pub fn sleeps(&self, slot: &Slot) -> (u64, bool) {
        let woke = self.woke.load(Relaxed);
        let requests = slot.requests.load(Relaxed);
        if self.requests.swap(requests, Relaxed) != requests {
            let took = monotonic_nanoseconds().saturating_sub(woke);
            self.is_quick.store(took <= QUICK.as_nanos() as u64, Relaxed);
        }
        (woke, self.is_quick.load(Relaxed))
    }
}

/// Whether a worker's connections end after one request.
///
/// Where they do, there is nothing to balance: each is over before it matters how many a worker has.
#[derive(Default)]
pub struct Lifetimes {
    /// Connections and requests that were over at the last look.
    ended: AtomicU64,
    requests: AtomicU64,
    are_short: AtomicBool,
}

impl Lifetimes {
    /// Looks at what has ended since the last look. To be called once per tick.
    pub fn look(&self, slot: &Slot) {
        let open = slot.connections_open.load(Relaxed);
        let ended = slot.connections_accepted.load(Relaxed).saturating_sub(open);
        let requests = slot.requests.load(Relaxed);
        let ended = ended.saturating_sub(self.ended.swap(ended, Relaxed));
        let requests = requests.saturating_sub(self.requests.swap(requests, Relaxed));
        // One request each: of those without a request nothing is known, and they count as kept.
        self.are_short.store((ended..2 * ended).contains(&requests), Relaxed);
    }

    /// Whether those that ended between the last two looks had one request each.
    pub fn are_short(&self) -> bool {
        self.are_short.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scoreboard::{OwnSlot, ScoreboardOwner};

    fn slot() -> OwnSlot {
        let mut board = ScoreboardOwner::anonymous(([127, 0, 0, 1], 1).into()).unwrap();
        board.claim().unwrap();
        board.into_slots().own(0)
    }

    #[test]
    fn a_loop_turns_quickly_if_its_last_turn_with_an_answer_was_quick() {
        let (slot, pace) = (slot(), Pace::default());
        let turn = |requests, time| {
            pace.wakes();
            slot.add(|slot| &slot.requests, requests);
            std::thread::sleep(time);
            pace.sleeps(&slot);
            pace.wakes().1
        };
        assert!(!turn(0, Duration::ZERO), "nothing is known");
        assert!((0..100).any(|_| turn(1, Duration::ZERO)), "or this thread never had a core");
        assert!(turn(0, 2 * QUICK), "no answer: nothing new is known");
        assert!(!turn(1, 2 * QUICK));
        assert!(!turn(0, Duration::ZERO));
    }

    #[test]
    fn connections_are_short_while_each_ends_after_one_request() {
        let (slot, lifetimes) = (slot(), Lifetimes::default());
        // Connections that came, requests, connections that ended between two looks.
        for (came, requests, ended, are_short) in [
            (0, 0, 0, false),
            (5, 5, 4, true),
            (3, 3, 4, false), // fewer requests than ends: some never asked
            (9, 9, 9, true),
            (9, 99, 9, false),
            (9, 9, 0, false), // none has ended
            (0, 0, 9, false),
        ] {
            slot.add(|slot| &slot.connections_accepted, came);
            slot.add(|slot| &slot.requests, requests);
            (0..came).for_each(|_| slot.opened());
            (0..ended).for_each(|_| slot.closed());
            lifetimes.look(&slot);
            assert_eq!(lifetimes.are_short(), are_short, "{came} {requests} {ended}");
        }
    }
}
