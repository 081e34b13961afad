//! Lanes, as the program in the kernel and the workers write them.

use super::*;
use common::scoreboard::{ScoreboardOwner, Slots};
use nix::sys::memfd::{MFdFlags, memfd_create};

const ADD_ONE: fn(&AtomicU64) = |counter| _ = counter.fetch_add(1, Relaxed);

/// How many connections the worker may have.
const AT_MOST: u32 = 12;

/// Lanes as the kernel makes them, a worker that keeps lane 1, and its slot.
fn lanes() -> (Lanes, OwnLane, OwnSlot) {
    let memory = memfd_create("lanes", MFdFlags::MFD_CLOEXEC).unwrap();
    nix::unistd::ftruncate(&memory, (Lanes::LINES * size_of::<Line>()) as i64).unwrap();
    let again = memory.try_clone().unwrap();
    let lanes = Lanes::map(memory).unwrap();
    lanes.close_all();
    lanes.give(1, std::process::id());
    let board = ScoreboardOwner::anonymous(([127, 0, 0, 1], 1).into()).unwrap();
    let slots = Slots::map(board.file().try_clone().unwrap()).unwrap();
    (lanes, Lanes::map(again).unwrap().into_lane(1, AT_MOST), slots.own(0))
}

fn load(lanes: &Lanes, lane: usize) -> i64 {
    let line = lanes.line(lane);
    line.given().wrapping_sub(line.ended.load(Relaxed)) as i64
}

fn open(lane: &OwnLane, slot: OwnSlot) {
    slot.opened();
    lane.opened(slot);
}

fn close(lane: &OwnLane, slot: OwnSlot) {
    slot.closed();
    lane.closed(slot);
}

#[test]
fn a_connection_counts_from_when_it_is_steered_until_it_ends() {
    let (lanes, lane, slot) = lanes();
    ADD_ONE(&lanes.line(1).steered);
    assert_eq!(load(&lanes, 1), 1);
    open(&lane, slot);
    assert_eq!(load(&lanes, 1), 1);
    assert_eq!(slot.load.load(Relaxed), 1);
    close(&lane, slot);
    assert_eq!(load(&lanes, 1), 0);
    assert_eq!([&slot.load, &slot.steered].map(|counter| counter.load(Relaxed)), [0, 1]);
}

#[test]
fn what_was_not_steered_here_counts_too_once_it_is_accepted() {
    let (lanes, lane, slot) = lanes();
    open(&lane, slot);
    open(&lane, slot);
    assert_eq!(load(&lanes, 1), 2);
    close(&lane, slot);
    close(&lane, slot);
    assert_eq!(load(&lanes, 1), 0);
}

#[test]
fn what_never_came_is_forgotten_at_the_second_tick_and_what_is_open_is_not() {
    let (lanes, lane, slot) = lanes();
    ADD_ONE(&lanes.line(1).steered);
    open(&lane, slot);
    lane.tick(slot);
    for _ in 0..1000 {
        ADD_ONE(&lanes.line(1).steered);
    }
    lane.tick(slot);
    assert_eq!(load(&lanes, 1), 1001, "they may still come");
    ADD_ONE(&lanes.line(1).steered);
    lane.tick(slot);
    assert_eq!(load(&lanes, 1), 2, "one is open, one has just been steered here");
    lane.tick(slot);
    assert_eq!(load(&lanes, 1), 1);
}

#[test]
fn a_lane_that_is_handed_over_begins_at_nothing_and_the_last_keeper_writes_no_more() {
    let (lanes, lane, slot) = lanes();
    for _ in 0..3 {
        ADD_ONE(&lanes.line(1).steered);
        open(&lane, slot);
    }
    lanes.give(1, 1);
    assert_eq!(load(&lanes, 1), 0);
    close(&lane, slot);
    lane.tick(slot);
    assert_eq!(load(&lanes, 1), 0);
    assert_eq!(slot.load.load(Relaxed), 2, "it shows what it has itself");
}

#[test]
fn as_many_workers_as_there_are_cores_may_be_active_and_two_at_least() {
    let (lanes, ..) = lanes();
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(lanes.header().most_active.load(Relaxed), cores.max(2) as u64);
}

#[test]
fn a_lane_shows_since_when_its_worker_is_awake_and_whether_it_may_be_filled() {
    let (lanes, lane, slot) = lanes();
    let turn = || lanes.line(1).turn.load(Relaxed);
    assert_eq!(turn(), ASLEEP, "not yet");
    lane.wakes();
    let woke = turn() >> TURN_BITS;
    assert!(woke > 0);
    assert_eq!(turn() & ASLEEP, 0);
    lane.sleeps(slot);
    assert_eq!((turn() >> TURN_BITS, turn() & ASLEEP), (woke, ASLEEP));
    let room = || lanes.line(1).room.load(Relaxed);
    // A turn with so many requests of a new connection.
    let serve = |requests| {
        lane.wakes();
        slot.add(|slot| &slot.connections_accepted, 1);
        slot.add(|slot| &slot.requests, requests);
        lane.sleeps(slot);
        lane.tick(slot);
        lane.wakes();
    };
    serve(1);
    assert_eq!((turn() & 1, room()), (0, 0), "neither known to be slow nor to be quick");
    let gets_quick = (0..5_000).any(|_| {
        serve(1); // a turn in which the kernel takes the core away seems long
        room() > 0
    });
    assert!(gets_quick);
    lane.sleeps(slot);
    assert!((4..=u64::from(AT_MOST)).contains(&room()), "{}", room());
    slot.add(|slot| &slot.connections_kept, 2);
    lane.sleeps(slot);
    assert!(room() > 0);
    slot.add(|slot| &slot.connections_kept, 1);
    lane.sleeps(slot);
    assert_eq!(room(), 0, "the next one may be kept too");
    lanes.give(2, 2);
    lanes.line(2).idle.store(6, Relaxed);
    serve(1);
    lane.sleeps(slot);
    assert!(room() > 0, "the other has more");
    lanes.close(2);
    serve(1);
    lane.sleeps(slot);
    assert_eq!(room(), 0, "the other is gone");
    slot.take(|slot| &slot.connections_kept, 3);
    serve(9);
    lane.sleeps(slot);
    assert_eq!(room(), 0, "connections are kept");
    lanes.give(1, 1);
    lane.wakes();
    assert_eq!(turn(), ASLEEP, "who does not keep the lane any more writes nothing");
}

#[test]
fn connections_that_have_had_an_answer_count_as_idle_when_the_worker_sleeps() {
    let (lanes, lane, slot) = lanes();
    let idle = || lanes.line(1).idle.load(Relaxed);
    (0..4).for_each(|_| open(&lane, slot));
    lane.sleeps(slot);
    assert_eq!(idle(), 0, "their requests may be on the way");
    slot.add(|slot| &slot.connections_kept, 3);
    lane.sleeps(slot);
    assert_eq!(idle(), 3);
    (4..AT_MOST).for_each(|_| open(&lane, slot));
    lane.sleeps(slot);
    assert_eq!(idle(), 0, "the next one has to wait");
    close(&lane, slot);
    lane.sleeps(slot);
    assert_eq!(idle(), 3);
}

#[test]
fn the_program_looks_as_far_as_the_highest_open_lane() {
    let (lanes, ..) = lanes();
    let count = || lanes.header().count.load(Relaxed);
    assert_eq!(count(), 1);
    lanes.give(7, 1);
    lanes.give(3, 1);
    assert_eq!(count(), 7);
    lanes.close(7);
    assert_eq!(count(), 3);
    lanes.close(3);
    lanes.close(1);
    assert_eq!(count(), 0);
}

#[test]
fn lines_are_cache_lines() {
    assert_eq!((size_of::<Line>(), size_of::<Header>()), (64, 64));
}
