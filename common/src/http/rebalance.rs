//! Kept connections find new workers: `--max-connection-age` and `--rebalance`.
//!
//! A policy chooses a worker once, when a connection is new. After a reload 64 kept connections lay 47, 8, 5
//! and 4 on four workers, and a worker that is added gets none of them as long as no client reconnects. So
//! the server asks clients to reconnect: the next answer says `Connection: close`, as the answers of a
//! draining worker do. The client's next request comes on a new connection, for which the policy chooses
//! again. The client sees a normal answer, and nothing is lost.
//!
//! - **Age.** The client of a connection older than `--max-connection-age` is asked, whatever the load is. Each
//!   connection's limit is drawn within 10 % of that: clients that connected together, for example after a
//!   reload, do not reconnect together.
//! - **Rebalance.** Once a second a worker compares what it holds with its share, which is the average of all
//!   workers that serve. If it holds over one connection more, it asks that many clients, but at most a fifth
//!   of those it has. If no worker is below the average none is above it, so no client is asked in vain.
//!
//! The worker asks those whose requests come next, which are the clients that make most of the load. Of those that it
//! may ask in a second, it forgets the rest when the second is over: others may have left by then.
//!
//! When it goes wrong: it counts connections, not their work. And a policy that ignores the load, such as the
//! hash, gives the new connection to any worker: then the workers come no nearer to the average than chance
//! allows, and some clients are asked every second for ever.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::scoreboard::{OwnSlot, Slot, Slots, State};

/// A connection's age is drawn within this part of `--max-connection-age`.
const WITHIN: f64 = 0.1;

/// A worker asks at most one in this many of its clients in a second.
const ONE_IN: u64 = 5;

/// Milliseconds: a worker whose heartbeat is older than this worker's by more does not count.
const SILENT: u64 = 2_000;

/// The age of one connection, around this one. It decides only when a client is asked, so the generator needs no
/// seed.
pub(super) fn draw_age(around: Duration) -> Duration {
    let factor = 1.0 - WITHIN + 2.0 * WITHIN * fastrand::f64();
    Duration::try_from_secs_f64(around.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

/// Compares what a worker holds with what the others hold.
pub(super) struct Rebalance {
    own: OwnSlot,
    slots: Slots,
    /// The fraction of a connection left over from the last second's limit, in parts of [`ONE_IN`].
    rest: AtomicU64,
    /// How many clients are still to be asked in this second.
    to_ask: AtomicU64,
}

impl Rebalance {
    /// By the worker with this slot.
    pub(super) fn new(own: OwnSlot, slots: Slots) -> Self {
        Self { own, slots, rest: AtomicU64::new(0), to_ask: AtomicU64::new(0) }
    }

    /// Decides how many clients should leave. To be called once a second.
    pub(super) fn look(&self) {
        let own = self.own.connections_open.load(Relaxed);
        let above = above_share(own, self.others().map(|it| it.connections_open.load(Relaxed)));
        let (count, rest) = how_many(own, above, self.rest.load(Relaxed));
        self.rest.store(rest, Relaxed);
        self.to_ask.store(count, Relaxed);
    }

    /// Whether the client whose request is answered now should leave.
    pub(super) fn asks_one(&self) -> bool {
        let left = self.to_ask.load(Relaxed);
        self.to_ask.store(left.saturating_sub(1), Relaxed); // one thread does this
        left > 0
    }

    /// The others that serve.
    fn others(&self) -> impl Iterator<Item = &'static Slot> {
        let own = self.own;
        let heartbeat = |slot: &Slot| slot.heartbeat.load(Relaxed);
        self.slots.of_one_server_with(own).filter(move |slot| {
            !std::ptr::eq(*slot, own.get())
                && slot.state() == State::Serving
                && heartbeat(&own).saturating_sub(heartbeat(slot)) <= SILENT
        })
    }
}

/// How many connections a worker holds above its share, if that is more than one; 0 otherwise.
fn above_share(own: u64, others: impl Iterator<Item = u64>) -> u64 {
    let (workers, all) = others.fold((1, own), |(workers, all), it| (workers + 1, all + it));
    // Times the number of workers, or the share would not be a whole number.
    let above = (own * workers).saturating_sub(all);
    if above > workers { above / workers } else { 0 }
}

/// How many clients a worker asks in this second if it holds `own` connections, of which `above` are above its
/// share; and what is left of the limit for the next second.
fn how_many(own: u64, above: u64, rest: u64) -> (u64, u64) {
    let may = rest + own;
    let count = above.min(may / ONE_IN);
    (count, (may - count * ONE_IN).min(ONE_IN - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_lie_within_a_tenth_and_are_even() {
        fastrand::seed(1);
        let ages: Vec<f64> =
            (0..10_000).map(|_| draw_age(Duration::from_secs(100)).as_secs_f64()).collect();
        assert!(ages.iter().all(|age| (90.0..110.0).contains(age)));
        for (limit, wanted) in [(95.0, 2_500), (100.0, 5_000), (105.0, 7_500)] {
            let below = ages.iter().filter(|&&age| age < limit).count();
            // Five times the standard deviation of what is as likely as not.
            assert!(below.abs_diff(wanted) < 250, "{below}");
        }
        assert!(draw_age(Duration::MAX) >= Duration::MAX.mul_f64(0.89));
    }

    #[test]
    fn who_has_over_one_more_than_the_average_is_above_its_share() {
        let above = |own, others: &[u64]| above_share(own, others.iter().copied());
        assert_eq!(above(47, &[8, 5, 4]), 31);
        assert_eq!(above(8, &[47, 5, 4]), 0);
        assert_eq!(above(16, &[16, 16, 16]), 0);
        assert_eq!(above(16, &[16, 16, 16, 0]), 3, "the share is 12.8");
        assert_eq!(above(14, &[13, 13, 12, 12]), 1);
        assert_eq!(above(13, &[13, 13, 13, 12]), 0);
        assert_eq!(above(2, &[0]), 0, "one more than the average is not over one more");
        assert_eq!(above(3, &[0]), 1);
        assert_eq!(above(100, &[]), 0, "there is no other");
        assert_eq!(above(0, &[0, 0]), 0);
    }

    #[test]
    fn at_most_a_fifth_is_asked_in_a_second_also_of_a_few() {
        assert_eq!(how_many(47, 31, 0), (9, 2));
        assert_eq!(how_many(47, 31, 4), (10, 1));
        assert_eq!(how_many(47, 3, 4), (3, 4), "what is not used is not saved up");
        for own in 1..100 {
            let (mut asked, mut rest) = (0, 0);
            for _ in 0..10 {
                let (count, left) = how_many(own, own, rest);
                asked += count;
                rest = left;
            }
            assert_eq!(asked, 2 * own, "in ten seconds");
        }
    }

    #[test]
    fn those_who_ask_next_are_asked_to_leave_and_no_more_than_may_be() {
        use crate::scoreboard::ScoreboardOwner;
        let mut board = ScoreboardOwner::anonymous(([127, 0, 0, 1], 1).into()).unwrap();
        let places = [board.claim().unwrap(), board.claim().unwrap()];
        let slots = board.into_slots();
        let [own, other] = places.map(|place| slots.own(place));
        for slot in [own, other] {
            slot.set_state(State::Serving);
            slot.beat();
        }
        (0..10).for_each(|_| own.opened());
        let rebalance = Rebalance::new(own, slots);
        assert!(!rebalance.asks_one());
        rebalance.look();
        assert_eq!([(); 4].map(|()| rebalance.asks_one()), [true, true, false, false]);
        rebalance.look();
        (0..10).for_each(|_| other.opened());
        rebalance.look();
        assert!(!rebalance.asks_one(), "what was not used is forgotten");
    }

    #[test]
    fn from_any_distribution_all_come_to_the_average_in_a_few_seconds() {
        let spread_after = |seconds: usize, mut open: Vec<u64>| {
            let mut rest = vec![0; open.len()];
            for _ in 0..seconds {
                let before = open.clone();
                for own in 0..open.len() {
                    let others = (0..open.len()).filter(|&it| it != own).map(|it| before[it]);
                    let above = above_share(before[own], others);
                    let (count, left) = how_many(before[own], above, rest[own]);
                    rest[own] = left;
                    open[own] -= count;
                    // As a policy would that knows the load.
                    for _ in 0..count {
                        *open.iter_mut().min().unwrap() += 1;
                    }
                }
            }
            let all: u64 = open.iter().sum();
            *open.iter().max().unwrap() as f64 * open.len() as f64 / all as f64
        };
        assert!(spread_after(5, vec![47, 8, 5, 4]) <= 1.2);
        assert!(spread_after(2, vec![16, 16, 16, 16, 0]) <= 1.2);
        assert!(spread_after(7, vec![64, 0, 0, 0]) <= 1.2);
        assert!(spread_after(8, vec![100, 0, 0, 0]) <= 1.2);
    }
}
