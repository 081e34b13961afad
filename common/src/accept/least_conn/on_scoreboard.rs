//! The workers of `shared-fd-server`: they show each other their state in the scoreboard.

use std::sync::atomic::Ordering::Relaxed;

use super::peers::TICK;
use super::workers::{Shown, Workers};
use crate::http::deadlines;
use crate::scoreboard::{CAPACITY, OwnSlot, Slot, Slots, State};

const _: () =
    assert!(TICK.as_millis() == deadlines::TICK.as_millis(), "a worker's heart beats per tick");

impl Shown for Slot {
    fn pid(&self) -> Option<u32> {
        self.pid()
    }

    fn is_serving(&self) -> bool {
        self.state() == State::Serving
    }

    fn heartbeat(&self) -> u64 {
        self.heartbeat.load(Relaxed)
    }

    fn accepted(&self) -> u64 {
        self.connections_accepted.load(Relaxed)
    }

    fn open(&self) -> u64 {
        self.connections_open.load(Relaxed)
    }

    fn kept(&self) -> u64 {
        self.connections_kept.load(Relaxed)
    }

    fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    fn turn(&self) -> u64 {
        self.turn.load(Relaxed)
    }
}

/// A server's slots, and the worker's own.
pub struct OnScoreboard {
    /// The worker's own.
    pub own: OwnSlot,
    /// All of them.
    pub slots: Slots,
}

impl Workers for OnScoreboard {
    type Shown = Slot;

    fn own(&self) -> &'static Slot {
        self.own.get()
    }

    fn all(&self) -> Vec<&'static Slot> {
        let all = (0..CAPACITY).map(|index| self.slots.at(index));
        all.filter(|slot| slot.is_of_one_server_with(&self.own)).collect()
    }

    fn show(&self, turn: u64) {
        self.own.set(|slot| &slot.turn, turn);
    }

    fn leaves_one(&self) {
        self.own.add(|slot| &slot.gated, 1);
    }

    fn was_woken_in_vain(&self) {
        self.own.add(|slot| &slot.wakeups_without_connection, 1);
    }
}
