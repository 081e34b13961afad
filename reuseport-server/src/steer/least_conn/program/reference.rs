//! The program's choice in plain Rust.

use std::sync::atomic::Ordering::Relaxed;

use crate::steer::least_conn::lane::{CLOSED, Line, TURN_BITS};

use super::{SILENCE, TURNS, YOUNG_FOR};

/// What lanes are compared by: closed, silent, in hand, load, turn.
type Key = (bool, bool, u64, u64, u32);

/// The lane that the program chooses, with so many workers active at most, at this time, in nanoseconds, after it
/// chose `last` on this CPU; `None` if it leaves that to the hash. The lines are those of the lanes, from 1 on.
pub fn choose(lines: &[Line], most_active: u64, last: u32, now: u64) -> Option<u32> {
    let young = now - YOUNG_FOR as u64;
    let (mut active, mut first_warm, mut any_slow) = (Vec::new(), None, false);
    let mut best: [Option<(Key, u32)>; 2] = [None; 2];
    for (lane, line) in (1..).zip(lines) {
        let given = line.steered.load(Relaxed) + line.migrated.load(Relaxed);
        let load = given.saturating_sub(line.ended.load(Relaxed));
        let is_closed = line.handicap.load(Relaxed) == CLOSED;
        let turn = line.turn.load(Relaxed);
        let (since, is_slow) = (turn >> TURN_BITS, turn & 1 != 0);
        any_slow |= is_slow;
        let is_young = since >= young;
        let is_awake = turn & 2 == 0;
        let is_busy = is_awake && !is_young;
        let has_room = load < line.room.load(Relaxed) && !is_closed;
        if has_room && is_young {
            match is_awake || load > 0 {
                true => active.push((load, lane)),
                false => first_warm = first_warm.or(Some(lane)),
            }
        }
        if active.len() as u64 >= most_active {
            return active.iter().min().map(|&(_, lane)| lane);
        }
        let unanswered = load.saturating_sub(line.idle.load(Relaxed).into());
        let in_hand = unanswered.max((is_awake && is_slow).into()) + u64::from(is_busy && !is_slow);
        let is_silent = line.beat.load(Relaxed) < now - SILENCE as u64;
        let in_turn = lane.wrapping_sub(last).wrapping_sub(1) & TURNS as u32;
        let by_load = (0, load + u64::from(is_busy));
        for (best, (in_hand, load)) in best.iter_mut().zip([by_load, (in_hand, load)]) {
            let key = (is_closed, is_silent, in_hand, load, in_turn);
            if best.is_none_or(|(least, _)| key < least) {
                *best = Some((key, lane));
            }
        }
    }
    let best = best[usize::from(any_slow)];
    first_warm.or(best.filter(|((is_closed, ..), _)| !is_closed).map(|(_, lane)| lane))
}
