//! The workers of a program without a scoreboard: they show each other their state in an anonymous mapping, which
//! a process shares with its forked children.

use std::io::{self, ErrorKind};
use std::num::NonZeroUsize;
use std::slice;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};

use super::workers::{Shown, Workers};
use crate::platform::clock::monotonic_milliseconds;

/// Milliseconds: heartbeats are rounded to this, since some work is done whenever the heartbeat changes.
const BEAT: u64 = 128;

/// What a worker shows. It fills cache lines of its own, or workers that write would slow each other down.
#[derive(Default)]
#[repr(C, align(128))]
pub struct Entry {
    pid: AtomicU32,
    heartbeat: AtomicU64,
    accepted: AtomicU64,
    open: AtomicU64,
    kept: AtomicU64,
    requests: AtomicU64,
    turn: AtomicU64,
}

impl Entry {
    /// Takes the entry for this process; another process may have had it before.
    pub fn occupy(&self) {
        for number in [&self.accepted, &self.open, &self.kept, &self.requests, &self.turn] {
            number.store(0, Relaxed);
        }
        self.beat();
        self.pid.store(std::process::id(), Relaxed);
    }

    /// Notes that the event loop turns.
    pub fn beat(&self) {
        self.heartbeat.store(monotonic_milliseconds() / BEAT * BEAT, Relaxed);
    }

    /// Counts a connection.
    pub fn opened(&self) {
        self.accepted.fetch_add(1, Relaxed);
        self.open.fetch_add(1, Relaxed);
    }

    /// Counts the end of a connection, which has had an answer or not.
    pub fn closed(&self, is_kept: bool) {
        self.open.fetch_sub(1, Relaxed);
        self.kept.fetch_sub(is_kept.into(), Relaxed);
    }

    /// Counts a request of a connection that has had an answer before or not.
    pub fn answered(&self, is_kept: bool) {
        self.requests.fetch_add(1, Relaxed);
        self.kept.fetch_add((!is_kept).into(), Relaxed);
    }
}

impl Shown for Entry {
    fn pid(&self) -> Option<u32> {
        Some(self.pid.load(Relaxed)).filter(|&pid| pid != 0)
    }

    fn is_serving(&self) -> bool {
        self.pid().is_some()
    }

    fn heartbeat(&self) -> u64 {
        self.heartbeat.load(Relaxed)
    }

    fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    fn open(&self) -> u64 {
        self.open.load(Relaxed)
    }

    fn kept(&self) -> u64 {
        self.kept.load(Relaxed)
    }

    fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    fn turn(&self) -> u64 {
        self.turn.load(Relaxed)
    }
}

/// Maps entries for this many workers. They stay mapped until the process ends.
///
/// # Errors
/// When the kernel has no memory to give, or for no worker at all.
#[allow(unsafe_code)]
pub fn map(workers: usize) -> io::Result<&'static [Entry]> {
    let size = workers.checked_mul(size_of::<Entry>()).and_then(NonZeroUsize::new);
    let size =
        size.ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "needs 1 worker or more"))?;
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new mapping, at an address of the kernel's choice, replaces nothing.
    let start = unsafe { mmap_anonymous(None, size, access, MapFlags::MAP_SHARED)? };
    // SAFETY: this many entries fit, and they are never unmapped. A mapping begins at a page, so they are aligned. It
    // consists of zeros, which are valid entries: they contain only atomics, which other processes may write.
    Ok(unsafe { slice::from_raw_parts(start.cast().as_ptr(), workers) })
}

/// The entries of all workers, and the worker's own.
pub struct OnMapping {
    /// The worker's own.
    pub own: &'static Entry,
    /// All of them.
    pub all: &'static [Entry],
}

impl Workers for OnMapping {
    type Shown = Entry;

    fn own(&self) -> &'static Entry {
        self.own
    }

    fn all(&self) -> Vec<&'static Entry> {
        self.all.iter().filter(|entry| entry.is_serving()).collect()
    }

    fn show(&self, turn: u64) {
        self.own.turn.store(turn, Relaxed);
    }
}
