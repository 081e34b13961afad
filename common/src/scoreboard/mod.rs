//! The scoreboard: one shared-memory slot per worker, written by the worker, readable from outside.
//!
//! The name is Apache's. How many connections each worker accepted is the heart of this project's
//! question, and must be visible without asking the workers: a question over HTTP would itself be a
//! connection that a worker accepts. So every worker counts in a slot of its own, in memory that
//! other processes map as well:
//!
//! ```text
//! offset 0          128            256            384
//! | header         | slot 0       | slot 1       | ... CAPACITY slots
//! ```
//!
//! The memory is a memfd that the parent keeps open ([`owner`]). It has no name to clean up, a process that
//! may read `/proc/PID/fd` finds it there ([`Scoreboard::of_process`]), and it is sealed: no process can
//! shrink it, and so kill those that have mapped it. A file with a name (`--scoreboard`) is a [`copy`] that
//! the parent writes four times a second; servers started independently (`--join`) share it.
//!
//! Every field has **one writer**, so counting is a plain load and store; only two writers need a
//! locked add, and `connections_open` has two if an accept thread counts. Order does not
//! matter between counters, so all accesses are relaxed. A slot fills cache lines of its own, because
//! two workers writing into one line would slow each other down (false sharing) and so change what
//! is measured.

pub mod copy;
#[cfg(test)]
mod copy_tests;
pub mod owner;
mod slot;
mod turns;

use std::collections::BTreeSet;
use std::fs::File;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use anyhow::{Context, Result, bail, ensure};
use memmap2::{MmapOptions, MmapRaw};

pub use owner::{ScoreboardOwner, Slots};
pub use slot::{Counter, OwnSlot, Slot, State};
pub use turns::{Lifetimes, Pace, QUICK, SLICE};

/// The number of slots: twice the most workers a server may have, so that all can be replaced while
/// their predecessors still drain.
pub const CAPACITY: usize = 2048;

/// The first bytes of a scoreboard file.
const MAGIC: u64 = u64::from_be_bytes(*b"scorebrd");

/// Changes with every change of the layout; a reader refuses any other.
const VERSION: u32 = 7;

/// Bytes of the whole file.
const SIZE: usize = size_of::<Header>() + CAPACITY * size_of::<Slot>();

/// The layout, for readers, and the figures of the server as a whole.
#[repr(C, align(128))]
struct Header {
    /// [`MAGIC`], stored last when a scoreboard is made. Writer: whoever makes the file.
    magic: AtomicU64,
    /// [`VERSION`]. Writer: whoever makes the file.
    version: AtomicU32,
    /// Bytes of a slot. Writer: whoever makes the file.
    slot_size: AtomicU32,
    /// [`CAPACITY`]. Writer: whoever makes the file.
    slot_count: AtomicU32,
    /// The port that the workers serve. Writer: whoever makes the file.
    port: AtomicU32,
    /// The IP address that they serve, IPv4 mapped into IPv6, upper and lower half. Writer: as above.
    address: [AtomicU64; 2],
    /// Sums over slots that were released. Writer: whoever releases a slot; in a file with a name, under
    /// its lock.
    retired_connections: Counter,
    /// As above.
    retired_requests: Counter,
    /// How many slots have been claimed, so that workers know when to list the others anew. Writer: the parent.
    claims: Counter,
}

/// A mapped scoreboard, for reading only: the file may have been opened read-only.
#[derive(Debug)]
pub struct Scoreboard {
    map: MmapRaw,
}

impl Scoreboard {
    /// Maps a scoreboard that another process writes.
    ///
    /// # Errors
    /// When the file is not a scoreboard of this program's version.
    pub fn from_file(file: File) -> Result<Self> {
        ensure!(file.metadata()?.len() == SIZE as u64, "it does not have the size of a scoreboard");
        let map = MmapOptions::new().len(SIZE).map_raw_read_only(&file);
        Self::of_this_version(map.context("cannot map the scoreboard")?)
    }

    /// Finds the scoreboard of a running server among its parent's open files.
    ///
    /// # Errors
    /// When the process is gone, may not be looked at, or has no scoreboard (yet).
    pub fn of_process(pid: u32) -> Result<Self> {
        let folder = format!("/proc/{pid}/fd");
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))?;
        for entry in entries.flatten() {
            // Only files: sockets cannot be opened this way, and pipes could block.
            let is_file = std::fs::metadata(entry.path()).is_ok_and(|found| found.is_file());
            let file = is_file.then(|| File::open(entry.path()));
            if let Some(Ok(file)) = file
                && let Ok(board) = Self::from_file(file)
            {
                return Ok(board);
            }
        }
        bail!("process {pid} has no scoreboard open")
    }

    fn of_this_version(map: MmapRaw) -> Result<Self> {
        let board = Self { map };
        let header = board.header();
        ensure!(header.magic.load(Relaxed) == MAGIC, "it is not a scoreboard");
        ensure!(
            header.version.load(Relaxed) == VERSION
                && header.slot_size.load(Relaxed) as usize == size_of::<Slot>()
                && header.slot_count.load(Relaxed) as usize == CAPACITY,
            "it is a scoreboard of another version"
        );
        Ok(board)
    }

    /// The address that the workers serve.
    pub fn address(&self) -> SocketAddr {
        let header = self.header();
        let [upper, lower] = [0, 1].map(|half| u128::from(header.address[half].load(Relaxed)));
        let ip = Ipv6Addr::from_bits(upper << 64 | lower);
        let ip = ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4);
        SocketAddr::new(ip, header.port.load(Relaxed) as u16)
    }

    /// Whether there are workers and all of them serve. A server claims the slots of all its
    /// workers before it starts the first, so this is not true halfway.
    pub fn is_serving(&self) -> bool {
        let mut workers = self.workers().peekable();
        workers.peek().is_some() && workers.all(|(_, slot)| slot.state() == State::Serving)
    }

    fn header(&self) -> &Header {
        header_of(&self.map)
    }

    /// The slot with this index.
    ///
    /// # Panics
    /// If there is none: the index must be below [`CAPACITY`].
    pub fn slot(&self, index: usize) -> &Slot {
        slot_of(&self.map, index)
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        (0..CAPACITY).map(|index| self.slot(index))
    }

    /// The slots in use, each with its index.
    pub fn workers(&self) -> impl Iterator<Item = (usize, &Slot)> {
        self.slots().enumerate().filter(|(_, slot)| slot.owner() != 0)
    }

    /// The sockets that workers show, by inode, and how many they have in all. Draining workers do not count: they
    /// have given their sockets away.
    pub fn sockets(&self) -> (BTreeSet<u64>, u64) {
        let shown = self.workers().map(|(_, slot)| slot.socket_inode.load(Relaxed)).collect();
        let stays = self.workers().filter(|(_, slot)| slot.state() != State::Draining);
        let each = stays.map(|(_, slot)| slot.sockets.load(Relaxed));
        (shown, each.fold(0, u64::wrapping_add)) // a worker may have written anything
    }

    /// Connections accepted by all workers, including those that have ended.
    pub fn total_connections(&self) -> u64 {
        let now = self.workers().map(|(_, s)| s.connections_accepted.load(Relaxed));
        now.fold(0, u64::wrapping_add).wrapping_add(self.header().retired_connections.load(Relaxed))
    }

    /// Requests answered by all workers, including those that have ended.
    pub fn total_requests(&self) -> u64 {
        let now = self.workers().map(|(_, s)| s.requests.load(Relaxed));
        now.fold(0, u64::wrapping_add).wrapping_add(self.header().retired_requests.load(Relaxed))
    }
}

#[allow(unsafe_code)]
fn header_of(map: &MmapRaw) -> &Header {
    // SAFETY: the map is SIZE bytes long, page-aligned and lives as long as the reference. A Header contains only
    // atomics, for which every bit pattern is valid and which other processes may write.
    unsafe { &*map.as_ptr().cast() }
}

#[allow(unsafe_code)]
fn slot_of(map: &MmapRaw, index: usize) -> &Slot {
    assert!(index < CAPACITY, "the scoreboard has no slot {index}");
    // SAFETY: the index is in range, so the slot lies within the map's SIZE bytes, aligned as the header and
    // all slots before it are. A Slot contains only atomics, as the header does.
    unsafe {
        let slots = map.as_ptr().add(size_of::<Header>()).cast::<Slot>();
        &*slots.add(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_fill_cache_lines_of_their_own() {
        assert_eq!(size_of::<Slot>() % 128, 0);
        assert_eq!(size_of::<Header>() % 128, 0);
    }
}
