//! The program, run by a machine for BPF as the kernel would.

use super::*;
use crate::steer::assembler::ADD_ATOMICALLY;
use crate::steer::least_conn::lane::{CLOSED, Kind, turn};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What stands for the maps' descriptors.
const MAPS: Maps = Maps { loads: 1, sockets: 2, scratch: 3 };

/// The machine has no atomic addition. This function plus the offset does it instead; registers
/// are used as they are.
const ADD: usize = 0x1000;

const NOW: u64 = 100 * SILENCE as u64;
/// So many workers may be active.
const MOST_ACTIVE: u64 = 2;

/// What the program finds in the kernel.
struct World {
    lines: Vec<Line>,
    scratch: [AtomicU64; SCRATCH_SIZE / 8],
    sockets: RefCell<BTreeSet<u32>>,
    selected: Cell<Option<u32>>,
}

thread_local! {
    static WORLD: World = World {
        lines: (0..=LANES).map(|_| Line::default()).collect(),
        scratch: Default::default(),
        sockets: RefCell::default(),
        selected: Cell::default(),
    };
}

/// Open lanes with these loads, from 1; `None` for a lane that is closed.
fn loads(loads: &[Option<u64>]) {
    WORLD.with(|world| {
        // Line 0 is the header, whose number lies where a line has `steered`.
        world.lines[0].steered.store(loads.len() as u64, Relaxed);
        // And `most_active` where it has `migrated`.
        const _: () = assert!(offset_of!(Header, most_active) == offset_of!(Line, migrated));
        world.lines[0].migrated.store(MOST_ACTIVE, Relaxed);
        for (lane, load) in (1..).zip(loads) {
            let line = &world.lines[lane as usize];
            line.steered.store(1000 + load.unwrap_or(0), Relaxed);
            line.ended.store(1000, Relaxed);
            line.beat.store(NOW, Relaxed);
            line.turn.store(turn(0, Kind { is_asleep: true, is_slow: false }), Relaxed);
            line.idle.store(load.unwrap_or(0) as u32, Relaxed); // all are kept
            line.room.store(0, Relaxed);
            line.handicap.store(if load.is_some() { 0 } else { CLOSED }, Relaxed);
            world.sockets.borrow_mut().insert(lane);
        }
    });
}

fn line<T>(lane: u32, look: impl FnOnce(&Line) -> T) -> T {
    WORLD.with(|world| look(&world.lines[lane as usize]))
}

#[allow(unsafe_code)]
fn read_key(address: u64) -> u32 {
    // SAFETY: the program passes addresses in its stack or its scratch memory, which both live.
    unsafe { *(address as *const u32) }
}

fn lookup(map: u64, key: u64, _: u64, _: u64, _: u64) -> u64 {
    let key = read_key(key) as usize;
    WORLD.with(|world| match (map as i32, key) {
        (1, key) => world.lines.get(key).map_or(0, |line| &raw const *line as u64),
        (3, 0) => world.scratch.as_ptr() as u64,
        _ => 0,
    })
}

fn select(_: u64, map: u64, key: u64, flags: u64, _: u64) -> u64 {
    let key = read_key(key);
    assert_eq!((map as i32, flags), (MAPS.sockets, 0));
    WORLD.with(|world| {
        let exists = world.sockets.borrow().contains(&key);
        world.selected.set(exists.then_some(key));
        if exists { 0 } else { -2_i64 as u64 } // ENOENT
    })
}

fn add<const OFFSET: usize>(address: u64, amount: u64, _: u64, _: u64, _: u64) -> u64 {
    WORLD.with(|world| {
        let line = (address as usize - world.lines.as_ptr() as usize) / size_of::<Line>();
        let line = &world.lines[line];
        let counter =
            if OFFSET == offset_of!(Line, steered) { &line.steered } else { &line.migrated };
        counter.fetch_add(amount, Relaxed);
    });
    0
}

/// Lets the program choose for a new connection, or for one that migrates.
fn choose_for(migrating: bool) -> Option<u32> {
    choose_by(migrating, SYN)
}

/// Lets the program choose for a packet with these flags; `None` if it leaves that to the hash.
fn choose_by(migrating: bool, flags: i32) -> Option<u32> {
    let mut bytes = Vec::new();
    for mut instruction in assemble(MAPS) {
        if instruction.code == ADD_ATOMICALLY {
            let function = (ADD + instruction.offset as usize) as i32;
            instruction = Instruction { code: 0x85, registers: 0, offset: 0, constant: function };
        }
        bytes.extend([instruction.code, instruction.registers]);
        bytes.extend(instruction.offset.to_le_bytes());
        bytes.extend(instruction.constant.to_le_bytes());
    }
    let mut machine = rbpf::EbpfVmRaw::new(Some(&bytes)).unwrap();
    machine.register_helper(MAP_LOOKUP_ELEM as u32, lookup).unwrap();
    machine.register_helper(SK_SELECT_REUSEPORT as u32, select).unwrap();
    machine.register_helper(KTIME_GET_NS as u32, |_, _, _, _, _| NOW).unwrap();
    const STEERED: usize = offset_of!(Line, steered);
    const MIGRATED: usize = offset_of!(Line, migrated);
    machine.register_helper((ADD + STEERED) as u32, add::<STEERED>).unwrap();
    machine.register_helper((ADD + MIGRATED) as u32, add::<MIGRATED>).unwrap();
    WORLD.with(|world| {
        world.selected.set(None);
        let range = |start: u64, length: usize| start..start + length as u64;
        let lines = world.lines.as_ptr() as u64;
        machine.register_allowed_memory(range(lines, size_of_val(&world.lines[..])));
        machine.register_allowed_memory(range(world.scratch.as_ptr() as u64, SCRATCH_SIZE));
    });
    let mut packet = [0; 20];
    packet[FLAGS] = flags as u8;
    let packet = packet.as_ptr_range();
    machine.register_allowed_memory(packet.start as u64..packet.end as u64);
    let mut context = [0; 56]; // struct sk_reuseport_md
    context[DATA..][..8].copy_from_slice(&(packet.start as u64).to_ne_bytes());
    context[DATA_END..][..8].copy_from_slice(&(packet.end as u64).to_ne_bytes());
    context[MIGRATING_SK] = migrating.into();
    let returned = machine.execute_program(&mut context).unwrap();
    assert_eq!(returned, SK_PASS as u64, "no connection is ever refused");
    WORLD.with(|world| world.selected.get())
}

fn choose() -> Option<u32> {
    choose_for(false)
}

#[test]
fn the_least_loaded_is_chosen_and_the_connection_counted_there() {
    loads(&[Some(3), Some(1), Some(2)]);
    assert_eq!(choose(), Some(2));
    assert_eq!(line(2, |line| line.steered.load(Relaxed)), 1002);
    assert_eq!(line(2, |line| line.migrated.load(Relaxed)), 0);
}

#[test]
fn a_burst_is_spread_evenly_before_anybody_accepts() {
    loads(&[Some(0); 7]);
    (0..700).for_each(|_| assert!(choose().is_some()));
    for lane in 1..=7 {
        assert_eq!(line(lane, |line| line.steered.load(Relaxed)), 1100);
    }
}

#[test]
fn of_equals_the_next_in_turn_is_chosen() {
    let mut chosen = Vec::new();
    for _ in 0..8 {
        loads(&[Some(5), Some(5), Some(9), Some(5)]);
        chosen.push(choose().unwrap());
    }
    assert_eq!(chosen, [1, 2, 4, 1, 2, 4, 1, 2]);
}

#[test]
fn a_migrated_connection_is_counted_as_such() {
    loads(&[Some(4), Some(3)]);
    assert_eq!(choose_for(true), Some(2));
    assert_eq!(line(2, |line| line.migrated.load(Relaxed)), 1);
    assert_eq!(line(2, |line| line.steered.load(Relaxed)), 1003);
    assert_eq!(choose(), Some(1), "and as load: now both have 4, and it is 1's turn");
}

#[test]
fn a_packet_that_begins_nothing_is_counted_nowhere() {
    const FIN: i32 = 0x01;
    for flags in [ACK, FIN | ACK, SYN | ACK, FIN, 0] {
        loads(&[Some(3), Some(1)]);
        assert_eq!(choose_by(false, flags), Some(2));
        assert_eq!(line(2, |line| line.steered.load(Relaxed)), 1001);
    }
    const RESERVED: i32 = 0xc0; // ECN's, which a SYN may carry (RFC 3168, section 6.1.1)
    assert_eq!(choose_by(false, SYN | RESERVED), Some(2));
    assert_eq!(line(2, |line| line.steered.load(Relaxed)), 1002);
}

#[test]
fn a_closed_lane_is_not_chosen_and_without_an_open_one_it_is_left_to_the_hash() {
    loads(&[None, Some(7), None]);
    assert_eq!(choose(), Some(2));
    loads(&[None, None]);
    assert_eq!(choose(), None);
    loads(&[]);
    assert_eq!(choose(), None);
}

#[test]
fn a_choice_that_fails_is_left_to_the_hash_and_counted_nowhere() {
    loads(&[Some(3), Some(1)]);
    WORLD.with(|world| world.sockets.borrow_mut().remove(&2));
    assert_eq!(choose(), None);
    assert_eq!(line(2, |line| line.steered.load(Relaxed)), 1001);
}

#[test]
fn a_silent_worker_is_chosen_only_if_all_are_silent() {
    let silent = |lane| line(lane, |l| l.beat.store(NOW - SILENCE as u64 - 1, Relaxed));
    loads(&[Some(1), Some(1000)]);
    silent(1);
    assert_eq!(choose(), Some(2));
    silent(2);
    assert_eq!(choose(), Some(1));
    line(2, |line| line.beat.store(NOW - SILENCE as u64, Relaxed));
    assert_eq!(choose(), Some(2), "two seconds are not yet too long");
}

/// Awake for so many microseconds, and what it is like otherwise.
fn awake(lane: u32, microseconds: u64, kind: Kind) {
    line(lane, |l| l.turn.store(turn(NOW - 1000 * microseconds, kind), Relaxed));
}

const SLOW: Kind = Kind { is_asleep: false, is_slow: true };
const FAST: Kind = Kind { is_asleep: false, is_slow: false };

/// Of this lane's connections so many are idle.
fn idle(lane: u32, idle: u32) {
    line(lane, |line| line.idle.store(idle, Relaxed));
}

fn room(lane: u32, room: u64) {
    line(lane, |line| line.room.store(room, Relaxed));
}

#[test]
fn whoever_is_free_now_is_chosen_before_who_has_fewer_connections() {
    loads(&[Some(1), Some(9), Some(3)]);
    awake(1, 10_000, SLOW);
    awake(3, 3_900, SLOW);
    assert_eq!(choose(), Some(2), "it is asleep");
    loads(&[Some(1), Some(1), Some(9)]);
    awake(1, 10_000, FAST);
    assert_eq!([choose(), choose()], [Some(2), Some(1)], "a busy one counts one more");
}

#[test]
fn a_worker_whose_requests_take_long_has_one_in_hand_as_soon_as_it_is_awake() {
    loads(&[Some(1), Some(1)]);
    (1..=2).for_each(|lane| idle(lane, 0));
    awake(1, 4_500, SLOW);
    awake(2, 3_000, SLOW);
    let mut chosen = [choose(), choose()];
    chosen.sort();
    assert_eq!(chosen, [Some(1), Some(2)], "one more for each");
    awake(2, 3_000, FAST);
    idle(2, 2);
    assert_eq!([choose(), choose()], [Some(2); 2], "a quick one is about to be free");
}

#[test]
fn what_a_worker_was_given_and_has_not_woken_for_is_in_hand() {
    loads(&[Some(0), Some(0)]);
    let mut chosen = vec![choose(), choose()];
    awake(1, 20, SLOW); // it wakes first
    chosen.extend([choose(), choose()]);
    chosen.sort();
    assert_eq!(chosen, [Some(1), Some(1), Some(2), Some(2)], "two for each");
    let dozing = |is_slow| {
        loads(&[Some(7), Some(2)]);
        idle(2, 1);
        line(1, |line| line.turn.store(turn(0, Kind { is_asleep: true, is_slow }), Relaxed));
    };
    dozing(true);
    assert_eq!(choose(), Some(1), "it has many, and none of them has a request");
    dozing(false);
    assert_eq!(choose(), Some(2), "where nobody is slow the load decides");
}

#[test]
fn workers_with_equally_many_requests_in_hand_take_turns_until_all_have_one_more() {
    loads(&[Some(2), Some(1), Some(1), Some(1), Some(1)]);
    for (lane, microseconds) in [(1, 90_000), (2, 6_000), (3, 9_000), (4, 5_000), (5, 20)] {
        idle(lane, 0);
        awake(lane, microseconds, SLOW);
    }
    let mut chosen: Vec<_> = (0..4).map(|_| choose().unwrap()).collect();
    chosen.sort();
    assert_eq!(chosen, [2, 3, 4, 5]);
}

#[test]
fn a_worker_that_blocks_has_no_more_in_hand_than_one_that_is_about_to_wake_for_its_only_request() {
    loads(&[Some(1), Some(1)]);
    (1..=2).for_each(|lane| idle(lane, 0));
    awake(2, 6_000, SLOW);
    let mut chosen = [choose(), choose()];
    chosen.sort();
    assert_eq!(chosen, [Some(1), Some(2)]);
    loads(&[Some(8), Some(9)]);
    awake(1, 20, SLOW);
    assert_eq!(choose(), Some(2), "over one of the eight a request came");
}

#[test]
fn one_that_was_quick_and_blocks_has_one_more_in_hand_than_one_that_turns() {
    loads(&[Some(2), Some(2)]);
    (1..=2).for_each(|lane| idle(lane, 0));
    awake(1, 20_000, FAST); // it was quick, and blocks now
    awake(2, 50, FAST);
    assert_eq!(choose(), Some(2));
}

#[test]
fn while_as_many_are_active_as_there_are_cores_the_least_loaded_of_them_gets_more_and_no_other_is_woken()
 {
    const DOZING: Kind = Kind { is_asleep: true, ..FAST };
    let lanes = |second: Kind| {
        loads(&[Some(0), Some(2), Some(1), Some(0), None]);
        (2..=5).for_each(|lane| room(lane, 3));
        awake(2, 20, FAST);
        awake(3, 20, second);
        awake(4, 20, DOZING);
        awake(5, 20, FAST);
    };
    lanes(FAST);
    assert_eq!([choose(), choose()], [Some(3), Some(2)]);
    assert_eq!(choose(), Some(4), "2 has no room: another is woken, whose data are cached");
    lanes(DOZING);
    assert_eq!(choose(), Some(3), "it has a connection, and so is about to wake");
    lanes(FAST);
    line(3, |line| line.ended.fetch_add(1, Relaxed));
    assert_eq!(choose(), Some(3), "it is awake");
    lanes(DOZING);
    line(3, |line| line.ended.fetch_add(1, Relaxed));
    assert_eq!([choose(), choose()], [Some(3); 2], "a core was free: it is woken, then active");
    awake(2, 4_001, FAST);
    assert_eq!(
        choose(),
        Some(4),
        "one is active: the other has been awake for long, and may be blocked"
    );
}

#[test]
fn one_that_stopped_when_it_had_just_woken_is_given_no_more_than_the_others_have() {
    loads(&[Some(0), Some(0), Some(0)]);
    (1..=3).for_each(|lane| room(lane, 40));
    for _ in 0..10 {
        (1..=2).for_each(|lane| awake(lane, 20, FAST));
        choose();
        line(2, |line| {
            let given = line.steered.load(Relaxed);
            line.ended.store(given, Relaxed); // it answers all, and the first none
        });
    }
    assert_eq!(line(1, |line| line.steered.load(Relaxed) - line.ended.load(Relaxed)), 1);
}

#[test]
fn the_program_chooses_what_the_reference_chooses() {
    let mut random = fastrand::Rng::with_seed(1);
    let kind =
        |random: &mut fastrand::Rng| Kind { is_asleep: random.bool(), is_slow: random.bool() };
    for _ in 0..3000 {
        let lanes = random.u32(1..40);
        let of = random.u64(1..5);
        let mut load = |_| (random.f32() < 0.9).then(|| random.u64(..of));
        let now: Vec<_> = (0..lanes).map(&mut load).collect();
        loads(&now);
        for lane in 1..=lanes {
            room(lane, if random.bool() { 0 } else { random.u64(..5) });
            idle(lane, random.u32(..5));
            match random.u8(..4) {
                0 => awake(lane, random.u64(..3_900), kind(&mut random)),
                1 => awake(lane, random.u64(4_100..1_000_000), kind(&mut random)),
                2 => line(lane, |l| l.beat.store(random.u64(..2 * NOW), Relaxed)),
                _ => {}
            }
        }
        let last = WORLD.with(|world| world.scratch[0].load(Relaxed) >> 32) as u32;
        let expected = WORLD.with(|world| {
            reference::choose(&world.lines[1..=lanes as usize], MOST_ACTIVE, last, NOW)
        });
        assert_eq!(choose(), expected);
    }
}

#[test]
fn a_load_below_zero_counts_as_zero() {
    loads(&[Some(0), Some(0)]);
    line(2, |line| line.ended.store(1005, Relaxed));
    assert_eq!(choose(), Some(1));
    assert_eq!(choose(), Some(2), "else it would be given five");
}

#[test]
fn all_lanes_are_looked_at_as_far_as_the_header_says() {
    let mut all = vec![Some(5); LANES];
    all[1023] = Some(4);
    all[LANES - 1] = Some(3);
    loads(&all);
    assert_eq!(choose(), Some(LANES as u32));
    loads(&all[..1024]);
    assert_eq!(choose(), Some(1024));
    loads(&all[..1023]);
    assert_eq!(choose(), Some(1), "the next in turn after 1024");
}
