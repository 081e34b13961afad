//! The workers of this server, as one of them sees them in the scoreboard, and what it shows them.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use common::accept::interrupt::INTERRUPT;
use common::http::deadlines::TICK;
use common::scoreboard::{CAPACITY, Lifetimes, OwnSlot, Pace, Slot, Slots, State};
use nix::sys::signal::kill;
use nix::unistd::Pid;

/// Milliseconds between two heartbeats of which one is missing.
const SILENT: u64 = 2 * TICK.as_millis() as u64;

/// What a worker's event loop is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Awake. Its last answers took their time, and it may be blocked.
    Awake,
    /// Awake, and it turns [quickly](Pace).
    Quick,
    /// Asleep, and the kernel may wake it for a connection.
    InLine,
    /// Asleep, and wakes for its own connections, when it is called, and at a tick.
    Reserve,
}

const TURNS: [Turn; 4] = [Turn::Awake, Turn::Quick, Turn::InLine, Turn::Reserve];

/// Another worker.
pub struct Peer {
    slot: &'static Slot,
    /// What its event loop is at.
    pub turn: Turn,
    /// Since when, in nanoseconds.
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

    /// Interrupts its sleep. If it does not sleep it notices nothing.
    pub fn wake(&self) {
        if let Some(pid) = self.slot.pid() {
            // An error says that it has ended, and its parent knows.
            let _ = kill(Pid::from_raw(pid as i32), INTERRUPT);
        }
    }
}

/// The others, and this one.
pub struct Peers {
    /// This one's slot.
    pub own: OwnSlot,
    /// Whether its connections end after one request.
    pub lifetimes: Lifetimes,
    slots: Slots,
    /// Indices of all their slots, this one's included.
    all: Vec<usize>,
    /// When it last woke, in nanoseconds.
    since: u64,
    pace: Pace,
    /// The heartbeat when it last looked who there is.
    last_look: u64,
}

impl Peers {
    /// Seen by the worker with this slot.
    pub fn new(own: OwnSlot, slots: Slots) -> Self {
        let (all, lifetimes) = (Vec::new(), Lifetimes::default());
        Self { own, lifetimes, slots, all, since: 0, pace: Pace::default(), last_look: 0 }
    }

    /// How many they are, this one included.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// The others that serve and whose hearts beat.
    pub fn others(&self) -> impl Iterator<Item = Peer> {
        let heartbeat = |slot: &Slot| slot.heartbeat.load(Relaxed);
        let own = heartbeat(&self.own);
        let slots = self.all.iter().map(|&index| self.slots.at(index));
        let others = slots.filter(move |slot| {
            !std::ptr::eq(*slot, &raw const *self.own)
                && slot.is_of_one_server_with(&self.own)
                && slot.state() == State::Serving
                // By our own heart, since to ask the clock for every worker would take longer.
                && own.saturating_sub(heartbeat(slot)) <= SILENT
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

    /// Whether another that is awake has begun its present turn so little ago.
    pub fn has_just_begun(&self, peer: &Peer, ago: Duration) -> bool {
        peer.since + ago.as_nanos() as u64 >= self.since
    }

    /// Shows the others that the event loop sleeps.
    pub fn sleeps(&self, turn: Turn) {
        self.own.set(|slot| &slot.turn, turn as u64);
    }

    /// Shows them that it is awake.
    pub fn wakes(&mut self) {
        let (now, is_quick) = self.pace.wakes();
        self.since = now;
        let turn = if is_quick { Turn::Quick } else { Turn::Awake };
        self.own.set(|slot| &slot.turn, now * TURNS.len() as u64 + turn as u64);
    }

    /// Notes that it has done what there was to do.
    pub fn comes_by(&mut self) {
        self.pace.sleeps(&self.own);
        self.look();
    }

    /// Looks who there is, once per heartbeat: a look through all slots that there may be costs more than
    /// an accept.
    fn look(&mut self) {
        let own = self.own;
        let heartbeat = own.heartbeat.load(Relaxed);
        if heartbeat != self.last_look {
            self.last_look = heartbeat;
            self.lifetimes.look(&own);
            let is_peer = |&index: &usize| self.slots.at(index).is_of_one_server_with(&own);
            self.all = (0..CAPACITY).filter(is_peer).collect();
        }
    }
}
