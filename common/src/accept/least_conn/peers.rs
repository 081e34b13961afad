//! The workers of a server, as one of them sees them on the scoreboard that they share, and what it shows them.

use std::cmp::Reverse;
use std::mem::replace;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::accept::interrupt::INTERRUPT;
use crate::http::deadlines::TICK;
use crate::platform::clock::monotonic_nanoseconds;
use crate::scoreboard::{Lifetimes, OwnSlot, Pace, QUICK, Slot, Slots, State};

/// Milliseconds: a worker is silent if its heartbeat is older, that is, if one is missing.
const SILENT: u64 = 2 * TICK.as_millis() as u64;

/// If connections end after one request, a worker may have this many more than another, of the kept ones or of all,
/// before it leaves one to the other.
const UNEVEN: u64 = 2;

/// What a worker's event loop does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Awake. Its requests take long, and it may be blocked.
    Awake,
    /// Awake, and it turns [quickly](Pace).
    Quick,
    /// Asleep, and the kernel may wake it for a connection.
    InLine,
    /// Asleep. It wakes for its own connections, for a call, and at a tick.
    Reserve,
}

const TURNS: [Turn; 4] = [Turn::Awake, Turn::Quick, Turn::InLine, Turn::Reserve];

/// Another worker.
pub struct Peer {
    slot: &'static Slot,
    /// What its event loop does.
    turn: Turn,
    /// If awake, since when; if asleep, when it woke for the last connection that it took. In nanoseconds of the
    /// monotonic clock.
    since: u64,
}

impl Peer {
    /// How many connections it has open.
    pub fn open(&self) -> u64 {
        self.slot.connections_open.load(Relaxed)
    }

    /// Whether it sleeps.
    pub fn is_asleep(&self) -> bool {
        matches!(self.turn, Turn::InLine | Turn::Reserve)
    }

    /// Interrupts its sleep. A worker that is awake is not disturbed.
    pub fn wake(&self) {
        if let Some(pid) = self.slot.pid() {
            // An error means that it has ended, which its parent notices.
            let _ = kill(Pid::from_raw(pid as i32), INTERRUPT);
        }
    }
}

/// The other workers, and this one.
pub struct Peers {
    /// This worker's slot.
    own: OwnSlot,
    slots: Slots,
    /// Whether this worker's connections end after one request.
    lifetimes: Lifetimes,
    /// All workers, this one included.
    all: Vec<&'static Slot>,
    /// When this worker last woke or looked up, in nanoseconds.
    since: u64,
    /// When it woke for the last connection that it took, in nanoseconds; and how many it had accepted by then.
    took: u64,
    accepted: u64,
    pace: Pace,
    /// When it last listed the workers: its heartbeat, and how many slots had been claimed.
    last_look: (u64, u64),
}

impl Peers {
    /// The peers of the worker with the slot `own`.
    pub fn of(own: OwnSlot, slots: Slots) -> Self {
        let (all, lifetimes) = (Vec::new(), Lifetimes::default());
        let pace = Pace::default();
        Self { own, slots, lifetimes, all, since: 0, took: 0, accepted: 0, pace, last_look: (0, 0) }
    }

    /// The other workers that serve and are not silent.
    fn others(&self) -> impl Iterator<Item = Peer> {
        let own = self.own.get();
        let now = own.heartbeat.load(Relaxed);
        let others = self.all.iter().copied().filter(move |slot| {
            !std::ptr::eq(*slot, own)
                && slot.state() == State::Serving
                // Compared with this worker's heartbeat: reading the clock takes longer.
                && now.saturating_sub(slot.heartbeat.load(Relaxed)) <= SILENT
        });
        others.map(|slot| {
            let word = slot.turn.load(Relaxed);
            Peer {
                slot,
                turn: TURNS[word as usize % TURNS.len()],
                since: word / TURNS.len() as u64,
            }
        })
    }

    /// Whether this many other workers are in line. Never, if there are no more workers than that.
    pub fn are_in_line(&self, size: usize) -> bool {
        let in_line = || self.others().filter(|peer| peer.turn == Turn::InLine);
        self.all.len() > size && in_line().take(size).count() == size
    }

    /// Another worker that has fewer connections than this one or, if requests take long, equally many and has taken
    /// none for longer. For all that is known it is not blocked: it is asleep, or awake for less than this time.
    pub fn with_fewer(&self, awake: Duration) -> Option<Peer> {
        let [open, kept] =
            [&self.own.connections_open, &self.own.connections_kept].map(|it| it.load(Relaxed));
        // Leaving a connection may delay it by this time, and saves it the time of a request before it.
        let is_over_soon = self.lifetimes.are_short() && self.pace.mean() < awake;
        let (uneven, slack) =
            if is_over_soon { (UNEVEN, self.pace.in_a_slice().max(UNEVEN)) } else { (0, 0) };
        if open <= slack && kept <= uneven {
            return None; // the usual case, without a look at the others
        }
        let in_turn = slack == 0 && self.takes_long();
        let fewer = self.others().filter(|peer| {
            let its_kept = peer.slot.connections_kept.load(Relaxed);
            match is_over_soon && its_kept.abs_diff(kept) > uneven {
                true => its_kept < kept,
                false => {
                    let is_next = in_turn && peer.is_asleep() && peer.since < self.took;
                    peer.open() + slack < open + u64::from(is_next)
                }
            }
        });
        let able = fewer.filter(|peer| peer.is_asleep() || self.has_just_begun(peer, awake));
        able.min_by_key(|peer| (peer.open(), peer.since))
    }

    /// Another worker that sleeps; of several, the one with the fewest connections.
    pub fn asleep(&self) -> Option<Peer> {
        self.others().filter(Peer::is_asleep).min_by_key(Peer::open)
    }

    /// A worker of the reserve, if no worker is there to take the next connection: none is in line, and fewer than
    /// there are cores turn quickly.
    pub fn whom_to_call(&self, cores: usize) -> Option<Peer> {
        let (mut quick, mut reserve) = (0, None);
        for peer in self.others() {
            match peer.turn {
                Turn::InLine => return None,
                Turn::Reserve => reserve = reserve.or(Some(peer)),
                Turn::Quick if self.has_just_begun(&peer, QUICK) => quick += 1,
                Turn::Quick | Turn::Awake => {}
            }
            if quick == cores {
                return None;
            }
        }
        reserve
    }

    /// Whether another worker, which is awake, has begun its present turn within this time.
    fn has_just_begun(&self, peer: &Peer, ago: Duration) -> bool {
        peer.since + ago.as_nanos() as u64 >= self.since
    }

    /// Whether this worker's requests are short.
    pub fn is_quick(&self) -> bool {
        self.pace.is_quick()
    }

    /// Whether this worker's requests are known to take long.
    pub fn takes_long(&self) -> bool {
        self.pace.takes_long()
    }

    /// Counts a connection that this worker leaves to another.
    pub fn leaves_one(&self) {
        self.own.add(|slot| &slot.gated, 1);
    }

    /// Counts a wake-up for a connection that another worker has taken.
    pub fn was_woken_in_vain(&self) {
        self.own.add(|slot| &slot.wakeups_without_connection, 1);
    }

    /// Shows the others that this worker's event loop sleeps.
    pub fn sleeps(&self, turn: Turn) {
        self.own.set(|slot| &slot.turn, self.took * TURNS.len() as u64 + turn as u64);
    }

    /// Shows the others that it is awake.
    pub fn wakes(&mut self) {
        let now = self.pace.wakes();
        self.since = now;
        let turn = if self.pace.is_quick() { Turn::Quick } else { Turn::Awake };
        self.own.set(|slot| &slot.turn, now * TURNS.len() as u64 + turn as u64);
    }

    /// Notes the time, in an event loop that has been busy since it woke: the turns of others are compared with
    /// this time.
    pub fn looks_up(&mut self) {
        self.since = monotonic_nanoseconds();
    }

    /// Notes that this worker has nothing left to do.
    pub fn comes_by(&mut self) {
        self.pace.sleeps(self.own.requests.load(Relaxed));
        let accepted = self.own.connections_accepted.load(Relaxed);
        if accepted != self.accepted {
            (self.accepted, self.took) = (accepted, self.since);
        }
        self.look();
    }

    /// Lists the workers, once per heartbeat, since a look at all slots costs more than an accept; and when there
    /// are new ones, or those that start first at a reload, and do not know the others, would take all connections.
    fn look(&mut self) {
        let own = self.own;
        let now = (own.heartbeat.load(Relaxed), self.slots.claims());
        if now != self.last_look {
            let is_tick = now.0 != replace(&mut self.last_look, now).0;
            if is_tick {
                self.lifetimes.look(&own);
            }
            self.all = self.slots.of_one_server_with(own).collect();
            // Workers that are in line or awake are usually those with most requests, so searches end sooner. Each
            // number is read once: they change meanwhile, and a sort without a total order panics.
            self.all.sort_by_cached_key(|slot| Reverse(slot.requests.load(Relaxed)));
        }
    }
}

#[cfg(test)]
#[path = "peers_tests.rs"]
mod tests;
