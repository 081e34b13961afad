//! The program of `least-conn`, assembled instruction by instruction.
//!
//! In words:
//!
//! ```text
//! for each lane, from 1 to the highest in use:
//!     load = steered + migrated - ended, but at least 0
//!     load += handicap                              (CLOSED if it has no worker)
//!     if its worker is awake and load < room:
//!         if it is not pinned to another CPU:       choose it, and look no further
//!     else:                                         load += ASLEEP
//!     if its worker has been silent for two seconds: load += SILENT
//! choose the least; of several whoever is not pinned to another CPU; of several the next in turn
//! after the lane chosen last on this CPU
//! if that is closed, or cannot be selected:         leave it to the kernel's hash
//! count the connection as steered there, or as migrated, if this packet begins it
//! ```
//!
//! The kernel looks for a listening socket also for packets that begin nothing: the last one of a
//! handshake with a SYN cookie, whose connection was counted when its SYN came, and whatever belongs to
//! no connection any more, such as the FIN of a client whose server was replaced by another on the same
//! port. A socket is chosen for these as well, and nothing is counted.
//!
//! Of equals the next in turn, so that idle workers take turns. One that is still warm in some cache
//! might serve faster, but a rule of "always the first" would feed it as long as it is fast enough,
//! and others would not be asked before it falls behind.
//!
//! But first of equals a worker of this CPU, if workers are pinned ([`common::platform::affinity`]): that is where
//! the connection's packets arrive, on loopback because its client runs here, and behind a network card
//! because its queue for this connection interrupts here. So a request need not wake somebody on another
//! CPU, nor its data move between two caches. Only of equals: to give the workers of this CPU more than
//! others would be the policy `cpu`, and its trap.
//!
//! With many more workers than cores there is `room` ([`common::steering::lane::room`]), and a worker that has
//! accepted or ended a connection a moment ago is filled up to it before another is woken. It has a
//! core, or is next in line for one; another would have to be woken, and would do nothing that this
//! one could not. One that blocks does not stay awake by that measure, and is given no more. First
//! of them, in the order of lanes, come those of this CPU; then the least loaded of those awake on
//! another; then those asleep or full. So here more is given to this CPU than to others, up to `room`.
//!
//! The verifier follows every path through the loop before it lets the program in, and gives up when
//! there are too many. So the best lies in memory, whose contents it does not follow, and not in a
//! register, where it would keep apart whatever was chosen so far. And no branch in the loop depends on a
//! load but the one that leaves it; arithmetic serves instead: a negative number shifted right by 63
//! is 1, or with its sign -1, and any other 0.
//!
//! The loop is why CAP_BPF alone does not do, and CAP_PERFMON is needed with it. For a process without
//! that the verifier also follows what a CPU may do in speculation, where the end of a loop can be
//! missed, and missed again: it gives up after 8192 jumps.

use std::mem::offset_of;
use std::os::fd::{AsRawFd, OwnedFd};

use common::steering::lane::{CLOSED, Header, LANES, Line};

use crate::steer::assembler::Calculate::{
    Add, And, ExclusiveOr, Or, Set, ShiftLeft, ShiftRight, ShiftRightSigned, Subtract,
};
use crate::steer::assembler::If::{AtLeast, AtMost, Equal, Greater, NotEqual};
use crate::steer::assembler::{
    Assembler, Instruction, R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10,
};

/// Functions of the kernel, by their numbers in linux/bpf.h.
const MAP_LOOKUP_ELEM: i32 = 1;
const GET_SMP_PROCESSOR_ID: i32 = 8;
const SK_SELECT_REUSEPORT: i32 = 82;
/// CLOCK_MONOTONIC as of the last clock tick, some milliseconds ago. Cheaper than exact.
const KTIME_GET_COARSE_NS: i32 = 160;

/// What the program returns: the connection may come. The other is SK_DROP.
const SK_PASS: i32 = 1;

/// `data` in `struct sk_reuseport_md`: where the packet's TCP header begins.
const DATA: usize = 0;
/// `data_end` there: where what may be read of the packet ends.
const DATA_END: usize = 8;
/// `migrating_sk` there: the connection that lost its socket, or null.
const MIGRATING_SK: usize = 48;

/// Where a TCP header has its flags (RFC 9293, section 3.1), and those of them that matter.
const FLAGS: usize = 13;
const SYN: i32 = 0x02;
const ACK: i32 = 0x10;

/// A worker that has not turned for so long, in nanoseconds, is given nothing if another turns. Its
/// heartbeat comes every 250 ms, and a request that blocks it for a second is no reason to judge it.
const SILENCE: i32 = 2_000_000_000;

/// 1 << SILENT is added to the load of a silent worker: more than any load, and less than CLOSED.
const SILENT: i32 = 32;

/// 1 << ASLEEP is added to the load of whoever is asleep or full: more than any load, less than SILENT.
/// Where the room is 0 that is everybody, and makes no difference.
const ASLEEP: i32 = 31;

/// A worker is awake if it has accepted or ended a connection in the last milliseconds, this many and
/// what the coarse clock is late, which is up to a clock tick. In nanoseconds.
const AWAKE: i32 = 4_000_000;

/// What lanes are compared by: the load, from this bit on; in the bit below it whether its worker is
/// away, not pinned to this CPU; and in the rest the turn, of which there are more than LANES.
const LOAD_BIT: i32 = AWAY_BIT + 1;
const AWAY_BIT: i32 = 12;
const TURNS: i32 = (1 << AWAY_BIT) - 1;

/// The program's memory, for each CPU: programs on one CPU run one after the other.
#[repr(C)]
struct Scratch {
    /// The lane being looked at, and in the end the one chosen.
    lane: u32,
    /// The lane chosen last time.
    last: u32,
    /// What the best so far is compared by.
    least: u64,
    /// A heartbeat before that is too old.
    oldest: u64,
    /// Who has shown life after that is awake.
    awake: u64,
    /// The room that the header tells of.
    room: u64,
    /// The CPU that this memory is of: where the packet is processed.
    here: u64,
}

/// Bytes of the program's memory.
pub const SCRATCH_SIZE: usize = size_of::<Scratch>();

/// The maps that the program uses, by their descriptors.
#[derive(Clone, Copy)]
pub struct Maps {
    loads: i32,
    sockets: i32,
    scratch: i32,
}

impl Maps {
    /// These maps.
    pub fn of(loads: &OwnedFd, sockets: &OwnedFd, scratch: &OwnedFd) -> Self {
        let [loads, sockets, scratch] = [loads, sockets, scratch].map(AsRawFd::as_raw_fd);
        Self { loads, sockets, scratch }
    }
}

/// The program.
#[rustfmt::skip] // a line for each instruction, and beside it what it means
pub fn assemble(maps: Maps) -> Vec<Instruction> {
    const LANE: usize = offset_of!(Scratch, lane);
    const LAST: usize = offset_of!(Scratch, last);
    const LEAST: usize = offset_of!(Scratch, least);
    const OLDEST: usize = offset_of!(Scratch, oldest);
    const AWAKE_SINCE: usize = offset_of!(Scratch, awake);
    const ROOM: usize = offset_of!(Scratch, room);
    const HERE: usize = offset_of!(Scratch, here);
    const _: () = assert!(LANE == 0, "the scratch memory's address is the lane's");

    let mut a = Assembler::default();
    a.calculate(R6, Set, R1);                              // r6 = what the kernel tells us
    a.call(KTIME_GET_COARSE_NS);                           // r0 = now
    a.calculate(R7, Set, R0);                              // r7 = now

    a.store32(R10, -4, 0);                                 // key = 0, on the stack
    a.set_map(R1, maps.scratch);
    a.calculate(R2, Set, R10);
    a.calculate(R2, Add, -4);                              // r2 = &key
    a.call(MAP_LOOKUP_ELEM);                               // r0 = scratch[0], this CPU's
    a.jump_if(R0, Equal, 0, "hash");                       // never, but the verifier wants it asked
    a.calculate(R8, Set, R0);                              // r8 = scratch
    a.calculate(R7, Subtract, AWAKE);
    a.store64(R8, AWAKE_SINCE as i16, R7);                 // scratch.awake = now - AWAKE
    a.calculate(R7, Subtract, SILENCE - AWAKE);
    a.store64(R8, OLDEST as i16, R7);                      // scratch.oldest = now - SILENCE
    a.calculate(R1, Set, -1);
    a.calculate(R1, ShiftRight, 1);
    a.store64(R8, LEAST as i16, R1);                       // scratch.least = i64::MAX

    a.call(GET_SMP_PROCESSOR_ID);                          // r0 = this CPU
    a.store64(R8, HERE as i16, R0);                        // scratch.here = this CPU

    a.set_map(R1, maps.loads);
    a.calculate(R2, Set, R10);
    a.calculate(R2, Add, -4);
    a.call(MAP_LOOKUP_ELEM);                               // r0 = loads[0], the header
    a.jump_if(R0, Equal, 0, "hash");
    a.load64(R1, R0, offset_of!(Header, room));
    a.store64(R8, ROOM as i16, R1);                        // scratch.room = room
    a.load64(R9, R0, offset_of!(Header, count));           // r9 = the highest lane
    a.jump_if(R9, AtMost, LANES as i32, "begin");          // the verifier wants to see an end
    a.calculate(R9, Set, LANES as i32);
    a.label("begin");

    a.calculate(R7, Set, 1);                               // r7 = lane = 1
    a.label("look");
    a.jump_if(R7, Greater, R9, "choose");                  // was that the last?
    a.store32(R8, LANE as i16, R7);                        // scratch.lane = lane
    a.set_map(R1, maps.loads);
    a.calculate(R2, Set, R8);                              // r2 = &scratch.lane
    a.call(MAP_LOOKUP_ELEM);                               // r0 = loads[lane]
    a.jump_if(R0, Equal, 0, "choose");

    a.load64(R1, R0, offset_of!(Line, steered));           // r1 = load = steered
    a.load64(R2, R0, offset_of!(Line, migrated));
    a.calculate(R1, Add, R2);                              //      + migrated
    a.load64(R2, R0, offset_of!(Line, ended));
    a.calculate(R1, Subtract, R2);                         //      - ended
    a.calculate(R2, Set, R1);
    a.calculate(R2, ShiftRightSigned, 63);                 // r2 = load < 0 ? -1 : 0
    a.calculate(R2, ExclusiveOr, -1);                      // r2 = load < 0 ? 0 : -1
    a.calculate(R1, And, R2);                              // load = load < 0 ? 0 : load

    a.load64(R2, R0, offset_of!(Line, handicap));
    a.calculate(R1, Add, R2);                              // load += handicap

    a.load64(R3, R0, offset_of!(Line, home));
    a.load64(R4, R8, HERE);
    a.calculate(R3, ExclusiveOr, R4);                      // r3 = 0 at home, negative if ANYWHERE
    a.calculate(R5, Set, 0);
    a.calculate(R5, Subtract, R3);                         // r5 = negative if pinned elsewhere
    a.calculate(R5, ShiftRight, 63);                       // r5 = away = pinned elsewhere ? 1 : 0

    a.load64(R2, R0, offset_of!(Line, beat));              // r2 = beat
    a.calculate(R4, Set, R2);
    a.load64(R3, R8, AWAKE_SINCE);
    a.calculate(R4, Subtract, R3);                         // r4 = beat < awake ? below 0 : 0 or more
    a.load64(R3, R8, ROOM);
    a.calculate(R3, Subtract, 1);
    a.calculate(R3, Subtract, R1);                         // r3 = load < room ? 0 or more : below 0
    a.calculate(R4, Or, R3);
    a.calculate(R4, ShiftRight, 63);                       // r4 = awake, and with room ? 0 : 1
    a.calculate(R3, Set, R4);
    a.calculate(R3, Or, R5);
    a.jump_if(R3, Equal, 0, "take");                       // and not away: look no further
    a.calculate(R4, ShiftLeft, ASLEEP);
    a.calculate(R1, Add, R4);                              // load += ASLEEP if it is, or has no room

    a.load64(R3, R8, OLDEST);
    a.calculate(R2, Subtract, R3);                         // r2 = beat - oldest
    a.calculate(R2, ShiftRight, 63);                       // r2 = beat < oldest ? 1 : 0
    a.calculate(R2, ShiftLeft, SILENT);
    a.calculate(R1, Add, R2);                              // load += SILENT if it is

    a.calculate(R1, ShiftLeft, LOAD_BIT);
    a.calculate(R5, ShiftLeft, AWAY_BIT);
    a.calculate(R1, Or, R5);                               // r1 = load, away
    a.calculate(R2, Set, R7);
    a.load32(R3, R8, LAST);
    a.calculate(R2, Subtract, R3);
    a.calculate(R2, Subtract, 1);
    a.calculate(R2, And, TURNS);                           // r2 = turn = lanes after the last one
    a.calculate(R1, Or, R2);                               // r1 = load, away, turn
    a.load64(R2, R8, LEAST);
    a.calculate(R1, Subtract, R2);                         // r1 = it - least
    a.calculate(R3, Set, R1);
    a.calculate(R3, ShiftRightSigned, 63);                 // r3 = it < least ? -1 : 0
    a.calculate(R1, And, R3);
    a.calculate(R2, Add, R1);                              // r2 = it < least ? it : least
    a.store64(R8, LEAST as i16, R2);                       // scratch.least = the lesser
    a.calculate(R7, Add, 1);                               // lane += 1
    a.jump("look");

    a.label("choose");
    a.load64(R1, R8, LEAST);
    a.set_wide(R2, CLOSED << LOAD_BIT);
    a.jump_if(R1, AtLeast, R2, "hash");                    // all closed?
    a.load32(R2, R8, LAST);
    a.calculate(R1, Add, R2);
    a.calculate(R1, Add, 1);
    a.calculate(R1, And, TURNS);                           // r1 = last + 1 + turn = the best lane
    a.store32(R8, LANE as i16, R1);                        // scratch.lane = it

    a.label("take");
    a.calculate(R1, Set, R6);
    a.set_map(R2, maps.sockets);
    a.calculate(R3, Set, R8);                              // r3 = &scratch.lane
    a.calculate(R4, Set, 0);
    a.call(SK_SELECT_REUSEPORT);                           // its socket is to have the connection
    a.jump_if(R0, NotEqual, 0, "hash");                    // no such socket, any more or yet?
    a.load32(R1, R8, LANE);
    a.store32(R8, LAST as i16, R1);                        // scratch.last = lane

    a.set_map(R1, maps.loads);
    a.calculate(R2, Set, R8);
    a.call(MAP_LOOKUP_ELEM);                               // r0 = loads[lane]
    a.jump_if(R0, Equal, 0, "hash");
    a.calculate(R1, Set, R0);
    a.calculate(R2, Set, 1);
    a.load64(R3, R6, MIGRATING_SK);
    a.jump_if(R3, NotEqual, 0, "migrates");
    a.load64(R3, R6, DATA);                                // r3 = the packet's TCP header
    a.calculate(R4, Set, R3);
    a.calculate(R4, Add, FLAGS as i32 + 1);
    a.load64(R5, R6, DATA_END);
    a.jump_if(R4, Greater, R5, "hash");                    // never, but the verifier wants it asked
    a.load8(R3, R3, FLAGS);
    a.calculate(R3, And, SYN | ACK);
    a.jump_if(R3, NotEqual, SYN, "hash");                  // it begins nothing
    a.add_atomically(R1, offset_of!(Line, steered), R2);   // steered += 1
    a.jump("hash");                                        // (the kernel knows its choice already)
    a.label("migrates");
    a.add_atomically(R1, offset_of!(Line, migrated), R2);  // migrated += 1

    a.label("hash");
    a.calculate(R0, Set, SK_PASS);                         // the choice, or without one the hash
    a.exit();
    a.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steer::assembler::ADD_ATOMICALLY;
    use common::steering::lane::ANYWHERE;
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    /// What stands for the maps' descriptors.
    const MAPS: Maps = Maps { loads: 1, sockets: 2, scratch: 3 };

    /// The machine has no atomic addition. This function plus the offset does it instead; registers
    /// are used as they are.
    const ADD: usize = 0x1000;

    const NOW: u64 = 100 * SILENCE as u64;
    const HERE: u64 = 3;
    const OTHER: u64 = 0;

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
            for (lane, load) in (1..).zip(loads) {
                let line = &world.lines[lane as usize];
                line.steered.store(1000 + load.unwrap_or(0), Relaxed);
                line.ended.store(1000, Relaxed);
                line.beat.store(NOW, Relaxed);
                line.home.store(ANYWHERE, Relaxed);
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
                instruction =
                    Instruction { code: 0x85, registers: 0, offset: 0, constant: function };
            }
            bytes.extend([instruction.code, instruction.registers]);
            bytes.extend(instruction.offset.to_le_bytes());
            bytes.extend(instruction.constant.to_le_bytes());
        }
        let mut machine = rbpf::EbpfVmRaw::new(Some(&bytes)).unwrap();
        machine.register_helper(MAP_LOOKUP_ELEM as u32, lookup).unwrap();
        machine.register_helper(SK_SELECT_REUSEPORT as u32, select).unwrap();
        machine.register_helper(GET_SMP_PROCESSOR_ID as u32, |_, _, _, _, _| HERE).unwrap();
        machine.register_helper(KTIME_GET_COARSE_NS as u32, |_, _, _, _, _| NOW).unwrap();
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
    fn of_equals_the_next_in_turn_of_those_pinned_to_this_cpu_is_chosen() {
        let home = |lane, cpu| line(lane, |line| line.home.store(cpu, Relaxed));
        let mut chosen = Vec::new();
        let again = |loads_now: [u64; 4]| {
            loads(&loads_now.map(Some));
            [OTHER, HERE, OTHER, HERE].into_iter().zip(1..).for_each(|(cpu, lane)| home(lane, cpu));
        };
        for _ in 0..4 {
            again([5; 4]);
            chosen.push(choose().unwrap());
        }
        assert_eq!(chosen, [2, 4, 2, 4]);
        again([4, 5, 4, 5]);
        assert_eq!(choose(), Some(1), "less loaded is better than near");
        again([5; 4]);
        [2, 4].into_iter().for_each(|lane| line(lane, |line| line.beat.store(0, Relaxed)));
        assert_eq!(choose(), Some(3), "and so is alive");
        again([0; 4]);
        let spread: Vec<_> = (0..8).map(|_| choose().unwrap()).collect();
        assert_eq!(spread, [4, 2, 3, 1, 2, 4, 1, 3], "nobody gets two more than another");
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

    #[test]
    fn with_room_whoever_is_awake_is_filled_before_another_is_woken() {
        let asleep = |lane| line(lane, |l| l.beat.store(NOW - AWAKE as u64 - 1, Relaxed));
        let room = |room| line(0, |header| header.migrated.store(room, Relaxed)); // where it lies
        loads(&[Some(0), Some(1), Some(1), None]);
        asleep(1);
        room(3);
        assert_eq!([choose(), choose()], [Some(2); 2], "the first that is awake, not the least");
        assert_eq!([choose(), choose()], [Some(3); 2], "now that has no room left");
        assert_eq!(choose(), Some(1), "nobody awake has room: the least loaded");
        room(0);
        loads(&[Some(1), Some(0)]);
        asleep(2);
        assert_eq!(choose(), Some(2), "without room the least loaded it is, awake or not");
    }

    #[test]
    fn with_room_whoever_is_awake_on_this_cpu_comes_first_then_on_another_then_those_asleep() {
        let asleep = |lane| line(lane, |l| l.beat.store(NOW - AWAKE as u64 - 1, Relaxed));
        line(0, |header| header.migrated.store(3, Relaxed)); // where the room lies
        loads(&[Some(0), Some(0), Some(1), Some(0), Some(1)]);
        for (lane, cpu) in (1..).zip([HERE, OTHER, OTHER, OTHER, HERE]) {
            line(lane, |line| line.home.store(cpu, Relaxed));
        }
        asleep(1);
        asleep(2);
        assert_eq!([choose(), choose()], [Some(5); 2], "here, until it has no room left");
        assert_eq!([choose(), choose()], [Some(4), Some(3)], "elsewhere, the less loaded first");
        assert_eq!([choose(), choose(), choose()], [Some(4), Some(3), Some(4)]);
        assert_eq!([choose(), choose()], [Some(1), Some(2)], "nobody else has room: those asleep");
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
}
