//! The program's choice in plain Rust.

use std::sync::atomic::Ordering::Relaxed;

use common::steering::lane::{CLOSED, Line, TURN_BITS};

use super::{FINE, SILENCE, TIMES, TURNS, YOUNG_FOR};

/// The lane that the program chooses at this time, in nanoseconds, after it chose `last` on this CPU; `None`
/// if it leaves that to the hash. The lines are those of the lanes, from 1 on.
pub fn choose(lines: &[Line], room: u64, last: u32, now: u64) -> Option<u32> {
    let young = now - YOUNG_FOR as u64;
    let mut best = None;
    for (lane, line) in (1..).zip(lines) {
        let given = line.steered.load(Relaxed) + line.migrated.load(Relaxed);
        let load = given.saturating_sub(line.ended.load(Relaxed));
        let is_closed = line.handicap.load(Relaxed) == CLOSED;
        let turn = line.turn.load(Relaxed);
        let (since, is_short, is_quick) = (turn >> TURN_BITS, turn & 2 != 0, turn & 1 != 0);
        let is_young = since >= young;
        let is_busy = turn & 4 == 0 && !is_young;
        if is_quick && is_short && is_young && !is_closed && load < room {
            return Some(lane);
        }
        let in_hand = match (is_short, is_busy) {
            (true, false) if is_quick => 0,
            (true, _) => load,
            (false, is_busy) => is_busy.into(),
        };
        let is_silent = line.beat.load(Relaxed) < now - SILENCE as u64;
        let busy_since = if is_busy { since >> FINE & TIMES as u64 } else { TIMES as u64 };
        let in_turn = lane.wrapping_sub(last).wrapping_sub(1) & TURNS as u32;
        let key = (is_closed, is_silent, in_hand, load, busy_since, in_turn);
        if best.is_none_or(|(least, _)| key < least) {
            best = Some((key, lane));
        }
    }
    best.filter(|((is_closed, ..), _)| !is_closed).map(|(_, lane)| lane)
}
