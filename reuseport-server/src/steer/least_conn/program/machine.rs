//! The program, run by a machine for BPF as the kernel would: lanes, loads and packets as a test wants them.

use super::*;
use crate::steer::assembler::ADD_ATOMICALLY;
use crate::steer::least_conn::lane::{CLOSED, Kind, turn};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What stands for the maps' descriptors.
pub(super) const MAPS: Maps = Maps { loads: 1, sockets: 2, scratch: 3 };

/// The machine has no atomic addition. This function plus the offset does it instead; registers
/// are used as they are.
const ADD: usize = 0x1000;

pub(super) const NOW: u64 = 100 * SILENCE as u64;
/// So many workers may be active.
pub(super) const MOST_ACTIVE: u64 = 2;

/// What the program finds in the kernel.
pub(super) struct World {
    pub(super) lines: Vec<Line>,
    pub(super) scratch: [AtomicU64; SCRATCH_SIZE / 8],
    pub(super) sockets: RefCell<BTreeSet<u32>>,
    selected: Cell<Option<u32>>,
}

thread_local! {
    pub(super) static WORLD: World = World {
        lines: (0..=LANES).map(|_| Line::default()).collect(),
        scratch: Default::default(),
        sockets: RefCell::default(),
        selected: Cell::default(),
    };
}

/// Open lanes with these loads, from 1; `None` for a lane that is closed.
pub(super) fn loads(loads: &[Option<u64>]) {
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

pub(super) fn line<T>(lane: u32, look: impl FnOnce(&Line) -> T) -> T {
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
pub(super) fn choose_for(migrating: bool) -> Option<u32> {
    choose_by(migrating, SYN)
}

/// Lets the program choose for a packet with these flags; `None` if it leaves that to the hash.
pub(super) fn choose_by(migrating: bool, flags: i32) -> Option<u32> {
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

pub(super) fn choose() -> Option<u32> {
    choose_for(false)
}

/// Awake for so many microseconds, and what it is like otherwise.
pub(super) fn awake(lane: u32, microseconds: u64, kind: Kind) {
    line(lane, |l| l.turn.store(turn(NOW - 1000 * microseconds, kind), Relaxed));
}

pub(super) const SLOW: Kind = Kind { is_asleep: false, is_slow: true };
pub(super) const FAST: Kind = Kind { is_asleep: false, is_slow: false };

/// Of this lane's connections so many are idle.
pub(super) fn idle(lane: u32, idle: u32) {
    line(lane, |line| line.idle.store(idle, Relaxed));
}

pub(super) fn room(lane: u32, room: u64) {
    line(lane, |line| line.room.store(room, Relaxed));
}
