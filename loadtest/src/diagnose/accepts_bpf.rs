//! Counts every accept(2) of every process in the kernel: a small program on the raw tracepoint sys_exit, which
//! works without tracefs. It ends with its descriptor.
//!
//! Without it, connections that come and go between two looks are not seen.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use common::bpf::assembler::Calculate::{Add, Or, Set, ShiftLeft, ShiftRight};
use common::bpf::assembler::If::{Equal, Greater, NotEqual};
use common::bpf::assembler::{Assembler, Instruction, R0, R1, R2, R3, R4, R6, R7, R8, R9, R10};
use common::bpf::calls::{self, Kind, Program};
use nix::libc;

/// The most pairs of process and listening socket for which accepts are counted; of more, those that accepted last.
const MOST: usize = 10_240;

/// The offsets of a system call's number and first argument in the registers that the kernel saves (pt_regs), and
/// the width of the number.
#[cfg(target_arch = "x86_64")]
const SAVED: Option<[i32; 2]> = Some([120, 112]); // orig_ax, di
#[cfg(target_arch = "aarch64")]
const SAVED: Option<[i32; 2]> = Some([280, 272]); // syscallno, orig_x0
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const SAVED: Option<[i32; 2]> = None;

/// The inode of the process namespace in which process ids are the kernel's (PROC_PID_INIT_INO).
const INITIAL: u64 = 0xEFFF_FFFC;

/// BPF helpers, by their numbers (enum bpf_func_id).
const MAP_LOOKUP: i32 = 1;
const MAP_UPDATE: i32 = 2;
const CURRENT_PROCESS: i32 = 14;
const READ_KERNEL: i32 = 113;

/// Counts the accepts of all processes since it was made.
#[derive(Debug)]
pub struct Accepts {
    counts: OwnedFd,
    _program: OwnedFd,
    _attached: OwnedFd,
}

impl Accepts {
    /// Begins to count.
    ///
    /// # Errors
    /// When this program may not, or its process ids are not those of the initial namespace.
    pub fn start() -> Result<Self> {
        let saved =
            SAVED.context("it is not known how this kind of machine saves a system call")?;
        let own = std::fs::metadata("/proc/self/ns/pid")
            .map(|it| std::os::unix::fs::MetadataExt::ino(&it));
        ensure!(
            own.is_ok_and(|inode| inode == INITIAL),
            "process ids are others here than the kernel's"
        );
        let needs = "it takes root, or CAP_BPF and CAP_PERFMON";
        let counts =
            calls::make_map(Kind::Counts, size_of::<u64>(), MOST, c"accepts").context(needs)?;
        let program = program(counts.as_raw_fd(), saved);
        let program = calls::load(Program::Tracepoint, &program, c"accepts").context(needs)?;
        let attached = calls::attach_to_tracepoint(program.as_fd(), c"sys_exit").context(needs)?;
        Ok(Self { counts, _program: program, _attached: attached })
    }

    /// The accepts of each process on each of its descriptors.
    pub fn counts(&self) -> BTreeMap<(u32, i32), u64> {
        let pairs = calls::pairs(self.counts.as_fd(), MOST);
        pairs.into_iter().map(|(key, count)| (((key >> 32) as u32, key as i32), count)).collect()
    }
}

/// Adds 1 for the process and the descriptor when accept(2) or accept4(2) returns a connection.
fn program(counts: i32, [number, argument]: [i32; 2]) -> Vec<Instruction> {
    let mut program = Assembler::default();
    let it = &mut program;
    // R6 = the saved registers, R7 = the result of the call: a descriptor, not an error.
    it.load64(R6, R1, 0);
    it.load64(R7, R1, 8);
    it.jump_if(R7, Greater, 1 << 30, "out");
    // R8 = the number of the call.
    read_saved(it, number);
    it.calculate(R8, Set, R9);
    it.jump_if(R8, Equal, libc::SYS_accept as i32, "accepted");
    it.jump_if(R8, NotEqual, libc::SYS_accept4 as i32, "out");
    it.label("accepted");
    // The key: the process in the upper half, the descriptor in the lower.
    read_saved(it, argument);
    it.call(CURRENT_PROCESS);
    it.calculate(R0, ShiftRight, 32);
    it.calculate(R0, ShiftLeft, 32);
    it.calculate(R0, Or, R9);
    it.store64(R10, -8, R0);
    find(it, counts, MAP_LOOKUP);
    it.jump_if(R0, NotEqual, 0, "add");
    it.calculate(R1, Set, 1);
    it.store64(R10, -16, R1);
    it.calculate(R3, Set, R10);
    it.calculate(R3, Add, -16);
    it.calculate(R4, Set, 0);
    find(it, counts, MAP_UPDATE);
    it.jump("out");
    it.label("add");
    it.calculate(R1, Set, 1);
    it.add_atomically(R0, 0, R1);
    it.label("out");
    it.calculate(R0, Set, 0);
    it.exit();
    program.finish()
}

/// R9 = the 32 bits at this offset of the saved registers.
fn read_saved(it: &mut Assembler, place: i32) {
    it.calculate(R1, Set, R10);
    it.calculate(R1, Add, -16);
    it.calculate(R2, Set, 4);
    it.calculate(R3, Set, R6);
    it.calculate(R3, Add, place);
    it.call(READ_KERNEL);
    it.calculate(R9, Set, R10);
    it.calculate(R9, Add, -16);
    it.load32(R9, R9, 0);
}

/// Calls a map helper with this map and the key.
fn find(it: &mut Assembler, map: i32, helper: i32) {
    it.set_map(R1, map);
    it.calculate(R2, Set, R10);
    it.calculate(R2, Add, -8);
    it.call(helper);
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn accepts_are_counted_by_process_and_descriptor_and_nothing_else_is() {
        let accepts = match Accepts::start() {
            Ok(accepts) => accepts,
            Err(error) => return crate::skip_test(&format!("{error:#}")),
        };
        let listeners = [0; 2].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        // Other tests of this process may have had these descriptors before.
        let before = accepts.counts();
        for (count, listener) in [3, 1].into_iter().zip(&listeners) {
            for _ in 0..count {
                let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                listener.accept().unwrap();
            }
            listener.set_nonblocking(true).unwrap();
            assert!(listener.accept().is_err(), "what fails is not counted");
        }
        let counts = accepts.counts();
        let of = |listener: &TcpListener| {
            let key = (std::process::id(), listener.as_raw_fd());
            counts.get(&key).unwrap_or(&0) - before.get(&key).unwrap_or(&0)
        };
        assert_eq!(listeners.each_ref().map(of), [3, 1]);
    }
}
