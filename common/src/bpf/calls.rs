//! The commands of bpf(2) that are needed here: make a map, write to it, load a program, attach it.
//!
//! The crates for this (aya, libbpf-rs) load an ELF file that a compiler has made. The programs here are a
//! screen long and are assembled in this project, so a few calls are enough.

use std::ffi::{CStr, c_int, c_long};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;

use super::assembler::Instruction;

/// Constants of linux/bpf.h.
const BPF_MAP_CREATE: c_int = 0;
const BPF_MAP_LOOKUP_ELEM: c_int = 1;
const BPF_MAP_UPDATE_ELEM: c_int = 2;
const BPF_MAP_DELETE_ELEM: c_int = 3;
const BPF_MAP_GET_NEXT_KEY: c_int = 4;
const BPF_PROG_LOAD: c_int = 5;
const BPF_RAW_TRACEPOINT_OPEN: c_int = 17;
const BPF_PROG_TYPE_RAW_TRACEPOINT: u32 = 17;
const BPF_PROG_TYPE_SK_REUSEPORT: u32 = 21;
const BPF_SK_REUSEPORT_SELECT_OR_MIGRATE: u32 = 40;
const BPF_F_MMAPABLE: u32 = 1 << 10;

/// The kinds of maps.
#[derive(Clone, Copy)]
pub enum Kind {
    /// An array, which processes may map into their memory.
    SharedArray,
    /// An array with a copy for every CPU.
    PerCpuArray,
    /// Listening sockets.
    Sockets,
    /// A hash map from 64-bit numbers to 64-bit numbers, empty at first.
    Counts,
}

/// The kinds of programs.
#[derive(Clone, Copy)]
pub enum Program {
    /// It selects a socket for a new connection, and for a connection whose socket closes.
    Selects,
    /// It runs at a tracepoint, with the tracepoint's arguments.
    Tracepoint,
}

/// Makes a map from numbers below `entries` to values of `size` bytes, all zero.
pub fn make_map(kind: Kind, size: usize, entries: usize, name: &CStr) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        kind: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        flags: u32,
        inner_map: u32,
        numa_node: u32,
        name: [u8; 16],
    }
    let (number, key_size, flags) = match kind {
        Kind::SharedArray => (2, size_of::<u32>(), BPF_F_MMAPABLE), // BPF_MAP_TYPE_ARRAY
        Kind::PerCpuArray => (6, size_of::<u32>(), 0),              // BPF_MAP_TYPE_PERCPU_ARRAY
        Kind::Sockets => (20, size_of::<u32>(), 0), // BPF_MAP_TYPE_REUSEPORT_SOCKARRAY
        Kind::Counts => (9, size_of::<u64>(), 0),   // BPF_MAP_TYPE_LRU_HASH
    };
    let made = bpf(
        BPF_MAP_CREATE,
        &Attributes {
            kind: number,
            key_size: key_size as u32,
            value_size: size as u32,
            max_entries: entries as u32,
            flags,
            inner_map: 0,
            numa_node: 0,
            name: named(name),
        },
    )?;
    Ok(owned(made))
}

#[repr(C)]
struct Element {
    map: u32,
    unused: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Puts a socket into a map of sockets, and replaces the one that is there.
pub fn put_socket(map: BorrowedFd, key: u32, socket: BorrowedFd) -> io::Result<()> {
    let value = socket.as_raw_fd();
    let element = Element {
        map: map.as_raw_fd() as u32,
        unused: 0,
        key: &raw const key as u64,
        value: &raw const value as u64,
        flags: 0,
    };
    bpf(BPF_MAP_UPDATE_ELEM, &element).map(drop)
}

/// Removes an entry from a map.
pub fn remove(map: BorrowedFd, key: u32) -> io::Result<()> {
    let (map, key) = (map.as_raw_fd() as u32, &raw const key as u64);
    bpf(BPF_MAP_DELETE_ELEM, &Element { map, unused: 0, key, value: 0, flags: 0 }).map(drop)
}

/// The entries of a map of counts, at most this many.
pub fn pairs(map: BorrowedFd, most: usize) -> Vec<(u64, u64)> {
    let map = map.as_raw_fd() as u32;
    let read = |command, key: u64, value: &mut u64| {
        let (key, value) = (&raw const key as u64, &raw mut *value as u64);
        bpf(command, &Element { map, unused: 0, key, value, flags: 0 }).is_ok()
    };
    let mut found = Vec::new();
    let mut key = 0;
    // The successor of a key that is not in the map is the first key.
    let (mut next, mut value) = (0, 0);
    while found.len() < most && read(BPF_MAP_GET_NEXT_KEY, key, &mut next) {
        key = next;
        if read(BPF_MAP_LOOKUP_ELEM, key, &mut value) {
            found.push((key, value));
        }
    }
    found
}

/// Attaches a program to a tracepoint, until the descriptor is closed.
pub fn attach_to_tracepoint(program: BorrowedFd, tracepoint: &CStr) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        name: u64,
        program: u32,
        unused: u32,
    }
    let (name, program) = (tracepoint.as_ptr() as u64, program.as_raw_fd() as u32);
    let attached = bpf(BPF_RAW_TRACEPOINT_OPEN, &Attributes { name, program, unused: 0 })?;
    Ok(owned(attached))
}

/// Loads a program.
///
/// # Errors
/// With the end of the verifier's log, if the verifier refused the program.
pub fn load(kind: Program, program: &[Instruction], name: &CStr) -> anyhow::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        kind: u32,
        length: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
        name: [u8; 16],
        interface: u32,
        attach_type: u32,
    }
    let (number, attach_type, license) = match kind {
        Program::Selects => {
            (BPF_PROG_TYPE_SK_REUSEPORT, BPF_SK_REUSEPORT_SELECT_OR_MIGRATE, c"MIT")
        }
        // The kernel allows helpers that read its memory only to programs under the GPL.
        Program::Tracepoint => (BPF_PROG_TYPE_RAW_TRACEPOINT, 0, c"Dual MIT/GPL"),
    };
    let attributes = |log: &mut [u8]| Attributes {
        kind: number,
        length: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: (!log.is_empty()).into(),
        log_size: log.len() as u32,
        log: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
        kernel_version: 0,
        flags: 0,
        name: named(name),
        interface: 0,
        attach_type,
    };
    // First without a log: writing it takes longer than the rest.
    let error = match bpf(BPF_PROG_LOAD, &attributes(&mut [])) {
        Ok(program) => return Ok(owned(program)),
        Err(error) => error,
    };
    let mut log = vec![0; 4 << 20];
    let _ = bpf(BPF_PROG_LOAD, &attributes(&mut log));
    let log = CStr::from_bytes_until_nul(&log).unwrap_or_default().to_string_lossy();
    let said: Vec<&str> = log.lines().filter(|line| !line.starts_with("processed ")).collect();
    match said.last() {
        None => Err(error.into()),
        Some(said) => Err(anyhow::Error::new(error).context(format!("the verifier says: {said}"))),
    }
}

/// Attaches a program to the group of this listening socket.
#[allow(unsafe_code)]
pub fn attach(program: BorrowedFd, socket: BorrowedFd) -> io::Result<()> {
    let program = program.as_raw_fd();
    // SAFETY: the value is an int that outlives the call, and its size is given.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_EBPF,
            (&raw const program).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    Ok(Errno::result(done).map(drop)?)
}

/// The name of a map or a program, as `bpftool` shows it.
fn named(name: &CStr) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..name.count_bytes()].copy_from_slice(name.to_bytes());
    bytes
}

/// The system call. Its attributes are a C structure that depends on the command; the kernel takes what a shorter
/// structure leaves out for zero.
#[allow(unsafe_code)]
fn bpf<T>(command: c_int, attributes: &T) -> io::Result<c_long> {
    // SAFETY: the kernel reads the attributes, whose size is given, and the memory that their addresses point to:
    // values of this module's callers that outlive the call and are as large as the map or the other attributes
    // say. It writes only to the log, or to a key or value, which are exclusively borrowed.
    let done =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attributes, size_of::<T>()) };
    Ok(Errno::result(done)?)
}

#[allow(unsafe_code)]
fn owned(descriptor: c_long) -> OwnedFd {
    // SAFETY: the kernel has just made it (with close-on-exec set), and no other code knows its number.
    unsafe { OwnedFd::from_raw_fd(descriptor as c_int) }
}
