//! The program of `least-conn`, assembled instruction by instruction.
//!
//! In words (`reference.rs` is the same in Rust, and the tests compare the two):
//!
//! ```text
//! for each lane, from 1 to the highest in use:
//!     load = steered + migrated - ended, but at least 0
//!     its worker woke at some time, and is awake, or asleep again; what its last answers and
//!     connections were like tells whether it is slow, and for how many it has room
//!     young = woke less than 4 ms ago; busy = is awake since earlier: it blocks
//!     if young, and load < room:
//!         active, if it is awake or has a connection; warm, if it has just done the last
//!         as many active ones as there are cores, and two at least: choose of these the least loaded, and look
//!         no further
//!     in hand = requests that it may have to serve before the next:
//!         load - idle, but at least 0, or 1 if it is awake and slow; and one more if it is busy and not slow
//! choose the first that is warm
//! if none is: the one that has a worker, has ticked in the last two seconds, has the least in hand if anybody is
//! slow, has the least load (one more if it is busy), and is the next in turn after the lane chosen last on this CPU;
//! in this order
//! if none has a worker, or it cannot be selected: leave it to the kernel's hash
//! count the connection as steered there, or as migrated, if this packet begins it
//! ```
//!
//! **In hand** comes before load if requests take long and connections are not kept (*slow*): a worker that blocks
//! in a handler gets no connection while another sleeps, however few it has. Connections that it was given and has
//! not accepted yet are in hand, too: of four clients that ask at once each of two workers gets two, even if one of
//! them takes longer to wake. A connection that has been answered may have its next request under way: so a slow
//! worker that is awake has at least one in hand. A worker that is busy although it is not slow has met a long
//! request, and counts one more.
//!
//! If no worker is slow, the load decides, and a busy worker counts one more. Which worker has answered first then
//! says little about which will be free, and much about which has a core now: of a burst of kept connections that
//! worker would get the most.
//!
//! **No more active workers than cores.** With many more workers than cores, a worker that is woken must wait for a
//! core. So workers that have a core get more, up to their `room` ([`lane`](super::lane)), the least loaded first:
//! one that stops in the middle of a turn gets no more than the others have, and after 4 ms nothing. While a core
//! is free, another worker is woken: one that went to sleep last, and whose data are in the cache. It must have no
//! connection: if a worker that has been given one does not wake, the reason is unknown.
//!
//! The kernel also looks for a listening socket for packets that begin no connection: the last one of a
//! handshake with a SYN cookie, whose connection was counted at its SYN, and packets of connections that
//! do not exist any more, such as the FIN of a client whose server was replaced by another on the same
//! port. The program chooses a socket for these as well, and counts nothing.
//!
//! Of equal lanes it takes the next in turn, so that idle workers take turns. If it always took the
//! first, that worker would get everything as long as it is fast enough. Of busy workers the next in turn
//! usually got its request before the others. Comparing since when each is busy was tried: p99 was the
//! same.
//!
//! The verifier follows every path through the loop before it accepts the program, and gives up when
//! there are too many. So the best lane so far is in memory, whose contents the verifier does not follow,
//! and not in a register, where it would distinguish all lanes chosen so far. And only the branch that
//! leaves the loop depends on a load; arithmetic replaces the others: a negative number shifted right by
//! 63 is 1, or with its sign -1, and any other number 0. Nor is a value that is known to be 0 or -1
//! combined with a constant by `And`: Linux 6.18 then follows both cases, and there are too many paths
//! again.
//!
//! Because of the loop CAP_BPF alone is not enough, and CAP_PERFMON is needed. Without it the verifier
//! also follows what a CPU may do in speculation, where it may miss the end of a loop again and again:
//! the verifier gives up after 8192 jumps.

mod scratch;

use std::mem::offset_of;
use std::os::fd::{AsRawFd, OwnedFd};

use common::scoreboard::SLICE;

pub use scratch::SCRATCH_SIZE;
use scratch::{CLOSED_BIT, HAND_BIT, LANE_BITS, LOAD_BIT, MOST, SILENT_BIT, Scratch, TURNS};

use super::lane::{Header, LANES, Line, TURN_BITS};
use crate::steer::assembler::Calculate::{
    Add, And, ExclusiveOr, Or, Set, ShiftLeft, ShiftRight, ShiftRightSigned, Subtract,
};
use crate::steer::assembler::If::{AtLeast, AtMost, Equal, Greater, NotEqual};
use crate::steer::assembler::{
    Assembler, Instruction, R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10, Register,
};

/// Functions of the kernel, by their numbers in linux/bpf.h.
const MAP_LOOKUP_ELEM: i32 = 1;
const SK_SELECT_REUSEPORT: i32 = 82;
/// CLOCK_MONOTONIC, in nanoseconds.
const KTIME_GET_NS: i32 = 5;

/// The program's result: accept the connection. The other one is SK_DROP.
const SK_PASS: i32 = 1;

/// `data` in `struct sk_reuseport_md`: where the packet's TCP header begins.
const DATA: usize = 0;
/// `data_end` there: the end of the readable part of the packet.
const DATA_END: usize = 8;
/// `migrating_sk` there: the connection that lost its socket, or null.
const MIGRATING_SK: usize = 48;

/// The offset of the flags in a TCP header (RFC 9293, section 3.1), and the flags that matter.
const FLAGS: usize = 13;
const SYN: i32 = 0x02;
const ACK: i32 = 0x10;

/// Nanoseconds: a worker that has not turned for this long gets nothing if another one turns. Its heartbeat comes
/// every 250 ms, and a request that blocks it for a second must not exclude it.
const SILENCE: i32 = 2_000_000_000;

/// Nanoseconds: a worker that woke less than this ago may only be waiting for a core.
const YOUNG_FOR: i32 = SLICE.as_nanos() as i32;

/// The maps that the program uses, by their descriptors.
#[derive(Clone, Copy)]
pub struct Maps {
    loads: i32,
    sockets: i32,
    scratch: i32,
}

impl Maps {
    /// The descriptors of these maps.
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
    const YOUNG: usize = offset_of!(Scratch, young);
    const MOST_ACTIVE: usize = offset_of!(Scratch, most_active);
    const ACTIVE: usize = offset_of!(Scratch, active);
    const LEAST_ACTIVE: usize = offset_of!(Scratch, least_active);
    const FIRST_WARM: usize = offset_of!(Scratch, first_warm);
    const IS_WARM: usize = offset_of!(Scratch, is_warm);
    const IS_BUSY: usize = offset_of!(Scratch, is_busy);
    const LEAST_IN_HAND: usize = offset_of!(Scratch, least_in_hand);
    const ANY_SLOW: usize = offset_of!(Scratch, any_slow);
    const _: () = assert!(LANE == 0, "the scratch memory's address is the lane's");

    let mut a = Assembler::default();
    a.calculate(R6, Set, R1);                              // r6 = what the kernel tells us
    a.call(KTIME_GET_NS);                                  // r0 = now
    a.calculate(R7, Set, R0);                              // r7 = now

    a.store32(R10, -4, 0);                                 // key = 0, on the stack
    a.set_map(R1, maps.scratch);
    a.calculate(R2, Set, R10);
    a.calculate(R2, Add, -4);                              // r2 = &key
    a.call(MAP_LOOKUP_ELEM);                               // r0 = scratch[0], this CPU's
    a.jump_if(R0, Equal, 0, "hash");                       // never, but the verifier wants it asked
    a.calculate(R8, Set, R0);                              // r8 = scratch
    a.calculate(R7, Subtract, YOUNG_FOR);
    a.calculate(R1, Set, R7);
    a.calculate(R1, ShiftLeft, TURN_BITS);                 // as a `turn` has it
    a.store64(R8, YOUNG as i16, R1);                       // scratch.young = now - YOUNG_FOR
    a.calculate(R7, Subtract, SILENCE - YOUNG_FOR);
    a.store64(R8, OLDEST as i16, R7);                      // scratch.oldest = now - SILENCE
    a.calculate(R1, Set, -1);
    a.calculate(R1, ShiftRight, 1);
    a.store64(R8, LEAST as i16, R1);                       // scratch.least = i64::MAX
    a.store64(R8, LEAST_IN_HAND as i16, R1);               // scratch.least_in_hand = i64::MAX
    a.store64(R8, LEAST_ACTIVE as i16, R1);                // scratch.least_active = i64::MAX
    a.store64(R8, FIRST_WARM as i16, R1);                  // scratch.first_warm = i64::MAX
    a.calculate(R1, Set, 0);
    a.store64(R8, ACTIVE as i16, R1);                      // scratch.active = 0
    a.store64(R8, ANY_SLOW as i16, R1);                    // scratch.any_slow = 0

    a.set_map(R1, maps.loads);
    a.calculate(R2, Set, R10);
    a.calculate(R2, Add, -4);
    a.call(MAP_LOOKUP_ELEM);                               // r0 = loads[0], the header
    a.jump_if(R0, Equal, 0, "hash");
    a.load64(R1, R0, offset_of!(Header, most_active));
    a.store64(R8, MOST_ACTIVE as i16, R1);                       // scratch.most_active = header.most_active
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
    a.calculate(R1, Add, R2);                              // load += handicap: no room

    a.calculate(R5, Set, R1);
    a.load64(R3, R0, offset_of!(Line, room));
    a.calculate(R5, Subtract, R3);
    a.calculate(R5, ShiftRight, 63);                       // r5 = load < room ? 1 : 0
    a.load64(R3, R0, offset_of!(Line, turn));              // r3 = turn
    a.calculate(R4, Set, R3);
    a.load64(R2, R8, YOUNG);
    a.calculate(R4, Subtract, R2);
    a.calculate(R4, ShiftRight, 63);                       // r4 = not young ? 1 : 0
    a.calculate(R2, Set, R4);
    a.calculate(R2, ExclusiveOr, 1);
    a.calculate(R5, And, R2);                              // r5 = with room, and young
    a.calculate(R3, ShiftRight, 1);
    a.calculate(R3, ExclusiveOr, 1);
    a.calculate(R3, And, 1);                               // r3 = awake ? 1 : 0
    a.calculate(R2, Set, 0);
    a.calculate(R2, Subtract, R1);
    a.calculate(R2, ShiftRight, 63);                       // r2 = load > 0 ? 1 : 0
    a.calculate(R3, Or, R2);                               // r3 = awake or with a connection
    a.calculate(R2, Set, R3);
    a.calculate(R2, And, R5);                              // r2 = active ? 1 : 0
    a.calculate(R3, ExclusiveOr, 1);
    a.calculate(R3, And, R5);                              // r3 = warm ? 1 : 0
    a.store64(R8, IS_WARM as i16, R3);
    a.load64(R5, R8, ACTIVE);
    a.calculate(R5, Add, R2);
    a.store64(R8, ACTIVE as i16, R5);                      // scratch.active += active
    a.calculate(R2, Subtract, 1);
    a.calculate(R2, ShiftRight, 1);                        // r2 = active ? 0 : i64::MAX
    a.calculate(R5, Set, R1);
    a.calculate(R5, ShiftLeft, LANE_BITS);
    a.calculate(R5, Or, R7);
    a.calculate(R5, Or, R2);                               // r5 = active ? load, lane : i64::MAX
    least(&mut a, R5, LEAST_ACTIVE, R2, R3);               // scratch.least_active = the lesser
    a.load64(R5, R8, IS_WARM);
    a.calculate(R5, Subtract, 1);
    a.calculate(R5, ShiftRight, 1);
    a.calculate(R5, Or, R7);                               // r5 = warm ? lane : at least i64::MAX
    least(&mut a, R5, FIRST_WARM, R2, R3);                 // scratch.first_warm = the lesser
    a.load64(R2, R8, ACTIVE);
    a.load64(R3, R8, MOST_ACTIVE);
    a.jump_if(R2, AtLeast, R3, "active");                  // look no further
    a.load64(R2, R0, offset_of!(Line, turn));              // r2 = turn

    a.calculate(R1, Subtract, MOST);
    a.calculate(R5, Set, R1);
    a.calculate(R5, ShiftRightSigned, 63);                 // r5 = load < MOST ? -1 : 0
    a.calculate(R1, And, R5);
    a.calculate(R1, Add, MOST);                            // r1 = load, but at most MOST

    a.calculate(R3, Set, R1);
    a.calculate(R3, ShiftLeft, LOAD_BIT);                  // r3 = load, where it is compared

    a.load32(R5, R0, offset_of!(Line, idle));
    a.calculate(R1, Subtract, R5);                         // r1 = load - idle
    a.calculate(R5, Set, R1);
    a.calculate(R5, ShiftRightSigned, 63);
    a.calculate(R5, ExclusiveOr, -1);                      // r5 = load < idle ? 0 : -1
    a.calculate(R1, And, R5);                              // r1 = load < idle ? 0 : load - idle
    a.calculate(R5, Set, R2);
    a.calculate(R5, ShiftRight, 1);
    a.calculate(R5, ExclusiveOr, 1);                       // r5 = awake ? 1 : 0, and above
    a.calculate(R4, And, R5);                              // r4 = busy = awake and not young
    a.store64(R8, IS_BUSY as i16, R4);
    a.calculate(R5, And, R2);
    a.calculate(R5, And, 1);                               // r5 = awake and slow
    a.calculate(R2, ExclusiveOr, 1);
    a.calculate(R2, And, R4);                              // r2 = busy and not slow
    a.calculate(R4, Set, R1);
    a.calculate(R4, Subtract, 1);
    a.calculate(R4, ShiftRight, 63);                       // r4 = load > idle ? 0 : 1
    a.calculate(R5, And, R4);
    a.calculate(R1, Add, R5);
    a.calculate(R1, Add, R2);                              // r1 = in hand

    a.load64(R2, R0, offset_of!(Line, beat));
    a.load64(R5, R8, OLDEST);
    a.calculate(R2, Subtract, R5);                         // r2 = beat - oldest
    a.calculate(R2, ShiftRight, 63);                       // r2 = beat < oldest ? 1 : 0
    a.calculate(R2, ShiftLeft, SILENT_BIT);
    a.calculate(R3, Or, R2);                               // r3 = silent, load
    a.load64(R2, R0, offset_of!(Line, handicap));
    a.calculate(R5, Set, 0);
    a.calculate(R5, Subtract, R2);
    a.calculate(R5, ShiftRight, 63);                       // r5 = closed ? 1 : 0
    a.calculate(R5, ShiftLeft, CLOSED_BIT);
    a.calculate(R3, Or, R5);                               // r3 = closed, silent, load
    a.calculate(R2, Set, R7);
    a.load32(R5, R8, LAST);
    a.calculate(R2, Subtract, R5);
    a.calculate(R2, Subtract, 1);
    a.calculate(R2, And, TURNS);                           // r2 = turn = lanes after the last one
    a.calculate(R3, Or, R2);                               // r3 = closed, silent, load, turn
    a.calculate(R1, ShiftLeft, HAND_BIT);
    a.calculate(R1, Or, R3);                               // r1 = closed, silent, in hand, load, turn
    least(&mut a, R1, LEAST_IN_HAND, R2, R5);              // scratch.least_in_hand = the lesser
    a.load64(R1, R8, IS_BUSY);
    a.calculate(R1, ShiftLeft, LOAD_BIT);
    a.calculate(R1, Add, R3);                              // r1 = closed, silent, load + busy, turn
    least(&mut a, R1, LEAST, R2, R5);                      // scratch.least = the lesser
    a.load64(R1, R0, offset_of!(Line, turn));
    a.calculate(R1, And, 1);                               // r1 = slow ? 1 : 0
    a.load64(R2, R8, ANY_SLOW);
    a.calculate(R2, Or, R1);
    a.store64(R8, ANY_SLOW as i16, R2);                    // scratch.any_slow |= slow
    a.calculate(R7, Add, 1);                               // lane += 1
    a.jump("look");

    a.label("active");
    a.load64(R1, R8, LEAST_ACTIVE);
    a.calculate(R1, And, (1 << LANE_BITS) - 1);
    a.jump("chosen");

    a.label("choose");
    a.load64(R1, R8, FIRST_WARM);
    a.jump_if(R1, AtMost, LANES as i32, "chosen");         // is anybody warm?
    a.load64(R1, R8, LEAST);
    a.load64(R2, R8, ANY_SLOW);
    a.jump_if(R2, Equal, 0, "compared");
    a.load64(R1, R8, LEAST_IN_HAND);
    a.label("compared");
    a.set_wide(R2, 1 << CLOSED_BIT);
    a.jump_if(R1, AtLeast, R2, "hash");                    // all closed?
    a.load32(R2, R8, LAST);
    a.calculate(R1, Add, R2);
    a.calculate(R1, Add, 1);
    a.calculate(R1, And, TURNS);                           // r1 = last + 1 + turn = the best lane
    a.label("chosen");
    a.store32(R8, LANE as i16, R1);                        // scratch.lane = it
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

/// Stores the lesser of `candidate` and the value in scratch memory at this place. Changes all three registers.
fn least(a: &mut Assembler, candidate: Register, place: usize, held: Register, sign: Register) {
    a.load64(held, R8, place);
    a.calculate(candidate, Subtract, held); // candidate - held
    a.calculate(sign, Set, candidate);
    a.calculate(sign, ShiftRightSigned, 63); // candidate < held ? -1 : 0
    a.calculate(candidate, And, sign);
    a.calculate(held, Add, candidate); // candidate < held ? candidate : held
    a.store64(R8, place as i16, held);
}

#[cfg(test)]
mod machine;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
