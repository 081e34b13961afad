//! With many more workers than cores: a few do all there is to do, and the others are not woken for it.
//!
//! A connection wakes the first worker in line, if there is any, even if one that is awake anyway takes
//! the connection a moment later. With a worker per core that is how it should be. With sixty, somebody
//! always sleeps, and each connection is a context switch for nothing; and for each connection the kernel
//! goes through all who have registered, up to the one it wakes.
//!
//! So the first workers of the scoreboard, one for each core and a [spare](SPARE) one, are the *crew*. As
//! long as all of them accept connections, whoever comes after them keeps out of the line. Nobody can
//! tell those outside when the crew cannot go on, since it is blocked, stopped, or killed. So they
//! look, the first after [`LOOK`], the others later and later: if a connection lies in the queue then,
//! they take it, and join the line unless the crew is at work.
//!
//! Where connections are kept, the crew has more of them than the others after a while, stands back,
//! and is no crew any more: see the slack in [`least_conn`](crate::least_conn).
//!
//! When it goes wrong: if the whole crew stops at the same time, new connections wait for up to
//! [`LOOK`], and few workers serve them for the first tenths of a second.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use common::scoreboard::{State, monotonic_milliseconds};

use crate::peers::Peers;

/// Workers of the crew beyond one for each core: while one waits for its turn, or blocks, another is there.
const SPARE: usize = 1;

/// Many are so many workers for each core, or more.
const MANY_PER_CORE: usize = 4;

/// Who has accepted something in the last so many milliseconds is at work; who blocks, is not.
const RECENT: u64 = 8;

/// The same for who has found nothing to do outside the line: no connection lay there, so a pause of the
/// crew's does not matter. But after this, in milliseconds, it joins the line, where it need not look.
const IDLE: u64 = 1000;

/// How long the first worker outside the line waits before it looks.
const LOOK: Duration = Duration::from_millis(5);

/// What a worker knows of the crew.
pub struct Crew {
    /// How many they are.
    size: usize,
    /// There is none with fewer workers than this.
    many: usize,
    /// Whether our last look from outside the line found a connection, or there was none yet.
    lets_lie: bool,
}

impl Crew {
    /// A crew for this machine.
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { size: cores + SPARE, many: cores * MANY_PER_CORE, lets_lie: true }
    }

    /// Whether it does without this worker, which is in line or not, and so need not be.
    pub fn suffices(&self, peers: &Peers, is_in_line: bool, slack: u64) -> bool {
        if peers.all.len() < self.many || peers.before_us < self.size {
            return false;
        }
        let pause = if is_in_line || self.lets_lie { RECENT } else { IDLE };
        let since = monotonic_milliseconds().saturating_sub(pause);
        let most = peers.own.connections_open.load(Relaxed) + slack;
        let is_at_work = |&&index: &&usize| {
            let slot = peers.at(index);
            slot.last_accept.load(Relaxed) >= since
                && slot.connections_open.load(Relaxed) <= most
                && slot.state() == State::Serving
        };
        let before = &peers.all[..peers.before_us];
        before.iter().filter(is_at_work).take(self.size).count() == self.size
    }

    /// How long a worker outside the line waits before it looks.
    pub fn until_look(&self, peers: &Peers) -> Duration {
        let place = (1 + peers.before_us - self.size) as u32;
        LOOK * place.saturating_mul(place)
    }

    /// Notes whether a connection lay in the queue.
    pub fn looked(&mut self, found: bool) {
        self.lets_lie = found;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::scoreboard::{ScoreboardOwner, Slots};

    /// A crew of two, of so many workers, who all have just accepted something.
    fn server(workers: usize) -> (Crew, Slots) {
        let mut board = ScoreboardOwner::anonymous(([127, 0, 0, 1], 1).into()).unwrap();
        (0..workers).for_each(|place| assert_eq!(board.claim().unwrap(), place));
        let slots = board.into_slots();
        for slot in (0..workers).map(|place| slots.own(place)) {
            slot.set_state(State::Serving);
            slot.accepts();
        }
        (Crew { size: 2, many: 8, lets_lie: true }, slots)
    }

    /// Whether it does without the worker in this place, who is in line.
    fn suffices(crew: &Crew, slots: Slots, place: usize) -> bool {
        let mut peers = Peers::new(slots.own(place), slots);
        peers.look();
        crew.suffices(&peers, true, 1)
    }

    #[test]
    fn the_first_workers_are_the_crew_and_the_others_are_not_needed_while_it_works() {
        let (mut crew, slots) = server(8);
        let needed = |crew: &Crew| -> Vec<usize> {
            (0..8).filter(|&place| !suffices(crew, slots, place)).collect()
        };
        assert_eq!(needed(&crew), [0, 1]);

        slots.own(0).set(|slot| &slot.last_accept, 0);
        assert_eq!(needed(&crew), [0, 1, 2], "the next one takes the place of one that blocks");
        slots.own(0).accepts();
        slots.own(1).set_state(State::Draining);
        assert_eq!(needed(&crew), [0, 1, 2], "or drains");
        slots.own(1).set_state(State::Serving);
        (0..8).for_each(|place| slots.own(place).set(|slot| &slot.last_accept, 0));
        assert_eq!(needed(&crew), [0, 1, 2, 3, 4, 5, 6, 7], "all wait while nothing is to be done");

        crew.looked(true);
        assert_eq!(needed(&crew).len(), 8);
    }

    #[test]
    fn who_has_fewer_connections_than_the_crew_is_needed() {
        let (crew, slots) = server(8);
        slots.own(0).set(|slot| &slot.connections_open, 1);
        assert!(suffices(&crew, slots, 5), "that is within the slack");
        slots.own(0).set(|slot| &slot.connections_open, 2);
        slots.own(1).set(|slot| &slot.connections_open, 2);
        assert!(suffices(&crew, slots, 5), "there are others before it");
        (0..4).for_each(|place| slots.own(place).set(|slot| &slot.connections_open, 2));
        assert!(!suffices(&crew, slots, 5));
    }

    #[test]
    fn with_few_workers_there_is_no_crew() {
        let (crew, slots) = server(7);
        assert!((0..7).all(|place| !suffices(&crew, slots, place)));
    }

    #[test]
    fn who_finds_nothing_in_the_queue_stays_outside_for_longer_pauses_of_the_crew() {
        let (mut crew, slots) = server(8);
        let mut peers = Peers::new(slots.own(5), slots);
        peers.look();
        let long_ago = monotonic_milliseconds() - 10 * RECENT;
        (0..8).for_each(|place| slots.own(place).set(|slot| &slot.last_accept, long_ago));
        assert!(!crew.suffices(&peers, false, 1), "it has not looked yet");
        crew.looked(false);
        assert!(crew.suffices(&peers, false, 1));
        crew.looked(true);
        assert!(!crew.suffices(&peers, false, 1), "a connection lay there");
    }

    #[test]
    fn the_later_in_the_scoreboard_the_later_it_looks() {
        let (crew, slots) = server(8);
        let until_look = |place: usize| {
            let mut peers = Peers::new(slots.own(place), slots);
            peers.look();
            crew.until_look(&peers)
        };
        assert_eq!([2, 3, 4].map(until_look), [LOOK, 4 * LOOK, 9 * LOOK]);
    }
}
