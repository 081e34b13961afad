//! The workers of this server, as one of them sees them in the scoreboard.

use std::sync::atomic::Ordering::Relaxed;

use common::scoreboard::{CAPACITY, OwnSlot, Slot, Slots};

/// The others, and this one.
pub struct Peers {
    /// This one's slot.
    pub own: OwnSlot,
    /// Indices of all their slots, this one's included.
    pub all: Vec<usize>,
    /// How many of these come before this one.
    pub before_us: usize,
    slots: Slots,
    /// Our heartbeat when we looked.
    as_of: Option<u64>,
}

impl Peers {
    /// Seen by the worker with this slot.
    pub fn new(own: OwnSlot, slots: Slots) -> Self {
        Self { own, all: Vec::new(), before_us: 0, slots, as_of: None }
    }

    /// The slot with this index.
    pub fn at(&self, index: usize) -> &'static Slot {
        self.slots.at(index)
    }

    /// Looks who there is, once per heartbeat: a look through all slots that there may be costs more than
    /// an accept.
    pub fn look(&mut self) {
        let now = self.own.heartbeat.load(Relaxed);
        if self.as_of.replace(now) != Some(now) {
            let is_peer = |&index: &usize| self.at(index).is_of_one_server_with(&self.own);
            self.all = (0..CAPACITY).filter(is_peer).collect();
            let is_own = |&index: &usize| std::ptr::eq(self.at(index), &raw const *self.own);
            self.before_us = self.all.iter().position(is_own).unwrap_or(0);
        }
    }
}
