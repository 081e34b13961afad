//! What a worker knows of the others, and to whom it leaves a connection.

use super::*;
use crate::scoreboard::{CAPACITY, SLICE, ScoreboardOwner};

const LEAVE: Duration = Duration::from_millis(2);

/// A server of this many workers as the first one sees it: all serve and sleep in reserve.
fn server(workers: usize) -> (Peers, Slots) {
    let mut board = ScoreboardOwner::anonymous(([127, 0, 0, 1], 1).into()).unwrap();
    (0..workers).for_each(|place| assert_eq!(board.claim().unwrap(), place));
    let slots = board.into_slots();
    for slot in (0..workers).map(|place| slots.own(place)) {
        slot.set_state(State::Serving);
        slot.beat();
        show(slot, Turn::Reserve, 0);
    }
    let mut peers = Peers::of(slots.own(0), slots);
    peers.wakes();
    peers.comes_by();
    (peers, slots)
}

/// Sets what a worker's event loop does, since so many microseconds.
fn show(slot: OwnSlot, turn: Turn, microseconds: u64) {
    let since = monotonic_nanoseconds() - 1000 * microseconds;
    slot.set(|slot| &slot.turn, since * TURNS.len() as u64 + turn as u64);
}

fn open(slot: OwnSlot, connections: u64) {
    (0..connections).for_each(|_| slot.opened());
}

fn place(peer: Option<Peer>, slots: Slots) -> Option<usize> {
    let peer = peer?;
    (0..CAPACITY).find(|&place| std::ptr::eq(peer.slot, slots.at(place)))
}

#[test]
fn a_line_is_full_of_others_who_serve_and_whose_hearts_beat() {
    let (mut peers, slots) = server(8);
    assert!(!peers.are_in_line(4));
    (1..=4).for_each(|place| show(slots.own(place), Turn::InLine, 0));
    assert!(peers.are_in_line(4));
    assert!(!peers.are_in_line(5));
    assert!(!peers.are_in_line(8), "all of them may be in line");
    slots.own(1).set_state(State::Draining);
    assert!(!peers.are_in_line(4));
    slots.own(1).set_state(State::Serving);
    slots.own(2).set(|slot| &slot.heartbeat, 1);
    assert!(!peers.are_in_line(4));
    slots.own(2).beat();
    peers.comes_by();
    assert!(peers.are_in_line(4));
}

#[test]
fn one_is_called_if_nobody_is_in_line_and_too_few_turn_quickly() {
    let (mut peers, slots) = server(6);
    let called = |peers: &Peers| place(peers.whom_to_call(2), slots);
    assert_eq!(called(&peers), Some(1), "the first of the reserve");
    show(slots.own(5), Turn::InLine, 0);
    assert_eq!(called(&peers), None);
    show(slots.own(5), Turn::Awake, 0);
    assert_eq!(called(&peers), Some(1), "one that may block does not help");
    peers.wakes();
    show(slots.own(5), Turn::Quick, 0);
    assert_eq!(called(&peers), Some(1));
    show(slots.own(4), Turn::Quick, 0);
    assert_eq!(called(&peers), None, "as many as there are cores");
    show(slots.own(4), Turn::Quick, 1_000_000);
    assert_eq!(called(&peers), Some(1), "it was quick, and has not been back for a second");
    (1..=3).for_each(|place| show(slots.own(place), Turn::Awake, 0));
    assert_eq!(called(&peers), None, "there is nobody to call");
}

#[test]
fn of_others_that_sleep_the_one_with_the_fewest_connections_is_found() {
    let (peers, slots) = server(4);
    let asleep = || place(peers.asleep(), slots);
    for (place, connections) in [(1, 2), (2, 1), (3, 0)] {
        open(slots.own(place), connections);
    }
    assert_eq!(asleep(), Some(3));
    show(slots.own(3), Turn::Quick, 0);
    show(slots.own(1), Turn::InLine, 0);
    assert_eq!(asleep(), Some(2));
    show(slots.own(2), Turn::Awake, 0);
    assert_eq!(asleep(), Some(1));
    show(slots.own(1), Turn::Awake, 0);
    assert_eq!(asleep(), None);
}

#[test]
fn of_workers_with_equally_many_kept_connections_each_gets_one_in_turn() {
    let (mut peers, slots) = server(3);
    let left_to = |peers: &Peers| place(peers.with_fewer(LEAVE), slots);
    (0..3).for_each(|place| open(slots.own(place), 2));
    let own = slots.own(0);
    peers.pace = Pace::of(Duration::from_millis(10));
    own.add(|slot| &slot.connections_accepted, 1);
    peers.comes_by();
    show(slots.own(1), Turn::Reserve, 2_000_000);
    show(slots.own(2), Turn::InLine, 3_000_000);
    assert_eq!(left_to(&peers), Some(2), "its last one was first");
    show(slots.own(2), Turn::Awake, 0);
    assert_eq!(left_to(&peers), Some(1), "one that is awake may have a request already");
    peers.wakes();
    peers.comes_by();
    peers.took -= 5_000_000_000; // as if a request came to a worker that took its last connection long ago
    assert_eq!(left_to(&peers), None, "it is this worker's turn");
    peers.took += 5_000_000_000;
    peers.pace = Pace::default();
    assert_eq!(left_to(&peers), None, "it matters only if requests are known to take long");
    open(own, 1);
    assert_eq!(left_to(&peers), Some(1), "the others have fewer, and one of them sleeps");
}

#[test]
fn a_connection_is_left_to_another_that_has_fewer_and_is_not_blocked() {
    let (mut peers, slots) = server(4);
    let left_to = |peers: &Peers| place(peers.with_fewer(LEAVE), slots);
    assert_eq!(left_to(&peers), None, "nobody has fewer than none");
    for (place, connections) in [(0, 2), (1, 2), (2, 1), (3, 0)] {
        open(slots.own(place), connections);
    }
    assert_eq!(left_to(&peers), Some(3));
    peers.wakes();
    show(slots.own(3), Turn::Awake, 1_000_000);
    assert_eq!(left_to(&peers), Some(2), "the other has not been back for a second");
    show(slots.own(3), Turn::Awake, 0);
    assert_eq!(left_to(&peers), Some(3));
    // Compared with a loop that woke long ago and never came to rest, every turn has only just begun.
    peers.since -= 10_000_000_000;
    show(slots.own(3), Turn::Awake, 1_000_000);
    peers.looks_up();
    assert_eq!(left_to(&peers), Some(2));
    show(slots.own(3), Turn::Awake, 0);
    // From now on connections end after one request, and eight are served within a slice.
    peers.pace = Pace::of(SLICE / 8);
    let own = slots.own(0);
    own.add(|slot| &slot.connections_accepted, 10);
    own.add(|slot| &slot.requests, 9);
    peers.lifetimes.look(&own);
    assert_eq!(left_to(&peers), None);
    open(own, 6);
    assert_eq!(left_to(&peers), None, "eight more are a passing difference");
    open(own, 1);
    assert_eq!(left_to(&peers), Some(3));
    own.closed();
    for (place, kept) in [(0, 2), (3, 1)] {
        slots.own(place).add(|slot| &slot.connections_kept, kept);
    }
    assert_eq!(left_to(&peers), None);
    own.add(|slot| &slot.connections_kept, 2);
    assert_eq!(left_to(&peers), Some(3), "of those that are kept it has three more");
    own.take(|slot| &slot.connections_kept, 4);
    slots.own(3).take(|slot| &slot.connections_kept, 1);
    assert_eq!(left_to(&peers), None);
    peers.pace = Pace::of(Duration::from_secs(1));
    assert_eq!(left_to(&peers), Some(3), "requests take long: what waits here would wait long");
}

#[test]
fn a_worker_that_starts_later_is_known_before_the_next_tick() {
    let mut board = ScoreboardOwner::anonymous(([127, 0, 0, 1], 1).into()).unwrap();
    board.claim().unwrap();
    let slots = Slots::map(board.file().try_clone().unwrap()).unwrap();
    slots.own(0).beat();
    let mut peers = Peers::of(slots.own(0), slots);
    peers.comes_by();
    open(slots.own(0), 1);
    let fewer = |peers: &Peers| place(peers.with_fewer(LEAVE), slots);
    assert_eq!(fewer(&peers), None);

    board.claim().unwrap();
    slots.own(1).set_state(State::Serving);
    slots.own(1).beat();
    show(slots.own(1), Turn::Reserve, 0);
    peers.comes_by();
    assert_eq!(fewer(&peers), Some(1));
}
