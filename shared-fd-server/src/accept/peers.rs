//! The workers of this server, as one of them sees them in the scoreboard, and what it shows them.

use std::sync::atomic::Ordering::Relaxed;

use common::http::deadlines::TICK;
use common::platform::clock::monotonic_microseconds;
use common::scoreboard::{CAPACITY, OwnSlot, Slot, Slots, State};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A turn of an event loop is quick if it takes no longer than this, in microseconds: about what it takes
/// to wake somebody else, who has to get a core first.
pub const QUICK: u64 = 100;

/// Milliseconds between two heartbeats of which one is missing.
const SILENT: u64 = 2 * TICK.as_millis() as u64;

/// What a worker's event loop is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Awake. Its last turn took its time, and it may be blocked.
    Awake,
    /// Awake. Its last turn was quick.
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
    /// Since when, in microseconds.
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
            let _ = kill(Pid::from_raw(pid as i32), Signal::SIGURG);
        }
    }
}

/// The others, and this one.
pub struct Peers {
    /// This one's slot.
    pub own: OwnSlot,
    /// Unless those of its connections that ended between two looks had one request each.
    pub connections_are_kept: bool,
    slots: Slots,
    /// Indices of all their slots, this one's included.
    all: Vec<usize>,
    /// When it last woke, in microseconds.
    since: u64,
    was_quick: bool,
    /// The heartbeat when it last looked who there is.
    last_look: u64,
    /// Connections and requests that were over then.
    over: [u64; 2],
}

impl Peers {
    /// Seen by the worker with this slot.
    pub fn new(own: OwnSlot, slots: Slots) -> Self {
        let all = Vec::new();
        Self {
            own,
            connections_are_kept: true,
            slots,
            all,
            since: 0,
            was_quick: false,
            last_look: 0,
            over: [0; 2],
        }
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

    /// Whether another that is awake has begun its present turn in the last so many microseconds.
    pub fn has_just_begun(&self, peer: &Peer, microseconds: u64) -> bool {
        peer.since + microseconds >= self.since
    }

    /// Shows the others that the event loop sleeps.
    pub fn sleeps(&self, turn: Turn) {
        self.own.set(|slot| &slot.turn, turn as u64);
    }

    /// Shows them that it is awake.
    pub fn wakes(&mut self) {
        self.since = monotonic_microseconds();
        let turn = if self.was_quick { Turn::Quick } else { Turn::Awake };
        self.own.set(|slot| &slot.turn, self.since * TURNS.len() as u64 + turn as u64);
    }

    /// Notes that it has done what there was to do.
    pub fn comes_by(&mut self) {
        self.was_quick = monotonic_microseconds() - self.since <= QUICK;
        self.look();
    }

    /// Looks who there is, once per heartbeat: a look through all slots that there may be costs more than
    /// an accept.
    fn look(&mut self) {
        let own = self.own;
        let heartbeat = own.heartbeat.load(Relaxed);
        if heartbeat != self.last_look {
            self.last_look = heartbeat;
            let open = own.connections_open.load(Relaxed);
            let now = [own.connections_accepted.load(Relaxed) - open, own.requests.load(Relaxed)];
            let [ended, requests] = [0, 1].map(|which| now[which] - self.over[which]);
            self.over = now;
            self.connections_are_kept = !(ended..2 * ended).contains(&requests);
            let is_peer = |&index: &usize| self.slots.at(index).is_of_one_server_with(&own);
            self.all = (0..CAPACITY).filter(is_peer).collect();
        }
    }
}
