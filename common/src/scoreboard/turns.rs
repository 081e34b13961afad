//! What a load-aware policy must know of a worker besides its number of connections: whether its event loop turns
//! quickly, and whether its connections are kept.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::slot::Slot;
use crate::platform::clock::monotonic_nanoseconds;

/// A turn of an event loop is quick if it takes no longer: such a worker is back before another has been woken and
/// has got a core.
pub const QUICK: Duration = Duration::from_micros(100);

/// How long a worker that is woken may wait for a core: a little more than the 3 ms for which the kernel lets a
/// process run at a time (base_slice_ns in kernel/sched/fair.c). So a connection may as well wait that long behind
/// others.
pub const SLICE: Duration = Duration::from_millis(4);

/// The number of past requests from which the means are computed. Older requests count less and less.
const MEMORY: u64 = 1024;

/// How long a worker's requests take: on average, and as the root of the mean square.
///
/// The average tells whether a turn is likely to be quick. The square tells how long other requests wait behind
/// one: they meet a long one more often than a short one, and then wait longer. If one request in a hundred blocks
/// for 20 ms, the mean is 0.2 ms and the root of the mean square 2 ms. For the square, a turn of the loop counts as
/// if one of its requests had taken all the time: one that blocks and twenty that do not are as bad as that.
///
/// A turn that only accepts is quick with any handler, and so does not count. A turn seems too long if the kernel
/// gives the core to another process meanwhile. That is rare enough.
pub struct Pace {
    /// When the loop last woke, in nanoseconds.
    woke: AtomicU64,
    /// How many requests were answered until then.
    requests: AtomicU64,
    /// The mean, in nanoseconds.
    mean: AtomicU64,
    /// The mean square, in square microseconds.
    square: AtomicU64,
}

impl Default for Pace {
    /// Not quick, until a dozen short requests have shown it. If an unknown worker counted as quick, the first
    /// requests to a handler that blocks could go to a worker that has one already.
    fn default() -> Self {
        Self::of(QUICK + Duration::from_micros(1))
    }
}

impl Pace {
    /// A pace as if each request so far had taken this long.
    pub fn of(request: Duration) -> Self {
        let [mean, square] = [request.as_nanos(), request.as_micros().pow(2)];
        let [woke, requests, mean, square] = [0, 0, mean as u64, square as u64].map(AtomicU64::new);
        Self { woke, requests, mean, square }
    }

    /// The loop wakes. Returns the time, in nanoseconds.
    pub fn wakes(&self) -> u64 {
        let now = monotonic_nanoseconds();
        self.woke.store(now, Relaxed);
        now
    }

    /// The loop has nothing left to do, and has answered this many requests in all. Returns when it woke, in
    /// nanoseconds.
    pub fn sleeps(&self, requests: u64) -> u64 {
        let woke = self.woke.load(Relaxed);
        let answered = requests.wrapping_sub(self.requests.swap(requests, Relaxed)).min(MEMORY);
        if answered > 0 {
            let took = monotonic_nanoseconds().saturating_sub(woke);
            let took = took.min(10_000_000_000); // so that the square fits
            forget(&self.mean, answered, took);
            forget(&self.square, answered, (took / 1000).pow(2));
        }
        woke
    }

    /// How long a request takes, on average.
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.mean.load(Relaxed))
    }

    /// Whether the loop turns quickly: a request takes no longer than [`QUICK`], on average.
    pub fn is_quick(&self) -> bool {
        self.mean() <= QUICK
    }

    /// Whether requests are known to take long: over twice as long, on average. A new worker's neither are quick nor take
    /// long, until some tens have shown it.
    pub fn takes_long(&self) -> bool {
        self.mean() > 2 * QUICK
    }

    /// How many requests the worker serves within a [`SLICE`], one after the other, by the root of the mean square; at
    /// most 64, so that a worker that blocks for the first time delays no more.
    pub fn in_a_slice(&self) -> u64 {
        let root = self.square.load(Relaxed).isqrt().max(1);
        (SLICE.as_micros() as u64 / root).min(64)
    }
}

/// Updates a mean: as many old requests are forgotten as there are new ones, whose sum is added.
fn forget(mean: &AtomicU64, answered: u64, sum: u64) {
    mean.store((mean.load(Relaxed) * (MEMORY - answered) + sum) / MEMORY, Relaxed);
}

/// Whether a worker's connections end after one request.
///
/// If they do, there is nothing to balance: each is over before it matters how many a worker has.
#[derive(Default)]
pub struct Lifetimes {
    /// Connections that had ended, and requests that had been answered, at the last look.
    ended: AtomicU64,
    requests: AtomicU64,
    are_short: AtomicBool,
}

impl Lifetimes {
    /// Looks at what has ended since the last look, by the worker's counters. To be called once per tick.
    pub fn look(&self, slot: &Slot) {
        let counters = [&slot.connections_accepted, &slot.connections_open, &slot.requests];
        let [accepted, open, requests] = counters.map(|counter| counter.load(Relaxed));
        let ended = accepted.saturating_sub(open);
        let ended = ended.saturating_sub(self.ended.swap(ended, Relaxed));
        let requests = requests.saturating_sub(self.requests.swap(requests, Relaxed));
        // About one request each: some are answered and not closed yet, and a health check may send no request.
        self.are_short.store((ended.div_ceil(2)..2 * ended).contains(&requests), Relaxed);
    }

    /// Whether the connections that ended between the last two looks had one request each.
    pub fn are_short(&self) -> bool {
        self.are_short.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A turn that answers so many requests in so many microseconds.
    fn turn(pace: &Pace, requests: u64, microseconds: u64) {
        pace.woke.store(monotonic_nanoseconds().saturating_sub(1000 * microseconds), Relaxed);
        pace.sleeps(pace.requests.load(Relaxed) + requests);
    }

    #[test]
    fn a_loop_turns_quickly_as_soon_as_some_requests_were_short_until_requests_take_long() {
        let pace = Pace::default();
        assert!(!pace.is_quick() && !pace.takes_long(), "nothing is known");
        (0..1000).for_each(|_| turn(&pace, 0, 1));
        assert!(!pace.is_quick(), "no answer: nothing new is known");
        (0..20).for_each(|_| turn(&pace, 1, 10));
        assert!(pace.is_quick());
        turn(&pace, 1, 20_000);
        assert!(!pace.is_quick() && !pace.takes_long());
        (0..10).for_each(|_| turn(&pace, 1, 20_000));
        assert!(pace.takes_long());
        (0..5000).for_each(|_| turn(&pace, 1, 10));
        assert!(pace.is_quick());
    }

    #[test]
    fn who_blocks_seldom_serves_fewer_in_a_slice_and_who_does_so_often_is_not_quick() {
        let settled = |requests_between: u64| {
            let pace = Pace::default();
            for _ in 0..10_000 / requests_between {
                turn(&pace, 1, 20_000);
                (1..requests_between).for_each(|_| turn(&pace, 1, 10));
            }
            (pace.in_a_slice(), pace.is_quick())
        };
        let (often, seldom) = (settled(100), settled(1000));
        assert!((1..=3).contains(&often.0) && !often.1, "{often:?}");
        assert!((4..=10).contains(&seldom.0) && seldom.1, "{seldom:?}");
    }

    #[test]
    fn a_turn_that_answers_many_is_as_good_as_many_that_answer_one() {
        let pace = Pace::default();
        (0..1000).for_each(|_| turn(&pace, 20, 200));
        assert_eq!(pace.in_a_slice(), 64);
        turn(&pace, u64::from(u32::MAX), u64::from(u32::MAX));
        assert!(!pace.is_quick(), "and nothing overflows");
    }

    #[test]
    fn connections_are_short_while_each_ends_after_one_request() {
        let (lifetimes, slot) = (Lifetimes::default(), Slot::default());
        // Connections that came, requests, connections that ended between two looks.
        for (came, requests, ended, are_short) in [
            (0, 0, 0, false),
            (5, 5, 4, true),
            (3, 3, 4, true),  // fewer requests than ends: some were answered before
            (3, 1, 3, false), // most never asked
            (9, 9, 9, true),
            (9, 99, 9, false),
            (9, 9, 0, false), // none has ended
            (0, 0, 9, false),
        ] {
            slot.connections_accepted.add(came);
            slot.connections_open.add(came);
            slot.connections_open.add(u64::wrapping_neg(ended));
            slot.requests.add(requests);
            lifetimes.look(&slot);
            assert_eq!(lifetimes.are_short(), are_short, "{came} {requests} {ended}");
        }
    }
}
