//! The scoreboard: one shared-memory slot per worker, written by the worker, readable from outside.
//!
//! The name is Apache's. Which worker accepted how many connections is the heart of this project's
//! question, and it must be visible without asking the workers: a question over HTTP would itself
//! be a connection that somebody accepts. So every worker counts into a slot of its own in a file
//! that others map as well:
//!
//! ```text
//! offset 0          128            256            384
//! | header         | slot 0       | slot 1       | ... CAPACITY slots
//! ```
//!
//! - Without a path the file is a memfd that the parent keeps open: it has no name to clean up, and
//!   anyone who may look into `/proc/PID/fd` finds it there ([`Scoreboard::of_process`]).
//! - With a path, servers started independently (`--join`) share it: each claims free slots.
//!
//! Every field has **one writer**, so counting is a plain load and store; a locked add is only
//! needed for two, and `connections_open` has two where a thread of its own accepts. Order does not
//! matter between counters, so all accesses are relaxed. A slot fills cache lines of its own, because
//! two workers writing into one line would slow each other down (false sharing) and so change what
//! is measured.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use memmap2::{MmapOptions, MmapRaw};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::kill;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, geteuid};

/// Slots in every scoreboard: twice the most workers a server may have, so that each of them can
/// be replaced while its predecessor still drains. The file is sparse; unused slots cost nothing.
pub const CAPACITY: usize = 2048;

/// What a scoreboard file begins with.
const MAGIC: u64 = u64::from_be_bytes(*b"scorebrd");

/// Changes with every change of the layout; a reader refuses any other.
const VERSION: u32 = 4;

/// Bytes of the whole file.
const SIZE: usize = size_of::<Header>() + CAPACITY * size_of::<Slot>();

/// What tells a reader whether it understands the rest, and what is known of the server as a whole.
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
    /// The IP address they serve, IPv4 mapped into IPv6, upper and lower half. Writer: as above.
    address: [AtomicU64; 2],
    /// Sums over slots that were released. Writer: whoever releases a slot, under the file's lock.
    retired_connections: AtomicU64,
    /// As above.
    retired_requests: AtomicU64,
}

/// A worker's state as the scoreboard shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// Claimed for a worker that does not accept yet.
    Starting = 0,
    /// In the accept loop.
    Serving = 1,
    /// Answers what it has and accepts nothing new.
    Draining = 2,
}

/// One worker's counters.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct Slot {
    /// Pid of the server (the parent) this slot belongs to; 0 = free. Writer: that parent, under
    /// the file's lock.
    owner: AtomicU32,
    /// Pid of the worker; 0 = none yet. Writer: the worker.
    pid: AtomicU32,
    /// A [`State`]. Writer: the worker.
    state: AtomicU32,
    /// Listening sockets the worker accepts from: one, and those it adopted. Writer: the worker.
    pub sockets: AtomicU32,
    /// Inode of the worker's first listening socket, as in `/proc/PID/fd`. Writer: the worker.
    pub socket_inode: AtomicU64,
    /// Connections accepted since the worker started. Writer: the worker.
    pub connections_accepted: AtomicU64,
    /// Connections open now. Writers: the worker's event loop, and the thread that accepts for it.
    pub connections_open: AtomicU64,
    /// Requests answered since the worker started. Writer: the worker.
    pub requests: AtomicU64,
    /// Times the accept loop was woken and found no connection, because another worker had taken
    /// it: the thundering herd, made visible. Writer: the worker.
    pub wakeups_without_connection: AtomicU64,
    /// When the worker's event loop last turned, milliseconds of CLOCK_MONOTONIC, written once per
    /// tick; 0 = not yet. Writer: the worker.
    pub heartbeat: AtomicU64,
    /// The worker's load as a load-aware steering policy sees it: connections open or on their way;
    /// 0 without such a policy. Writer: the worker.
    pub load: AtomicU64,
    /// Connections that such a policy gave to this worker. Writer: the worker.
    pub steered: AtomicU64,
    /// Connections that waited for a worker that died and were given to this one. Writer: the worker.
    pub migrated: AtomicU64,
    /// `--accept least-conn`: times the worker paused because another had fewer connections open.
    /// Writer: the worker.
    pub gated: AtomicU64,
    /// The same: when the worker last accepted a connection, milliseconds of CLOCK_MONOTONIC. Writer:
    /// the worker.
    pub last_accept: AtomicU64,
}

impl Slot {
    /// Adds to a counter that has this process as its only writer.
    pub fn add(counter: &AtomicU64, amount: u64) {
        counter.store(counter.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    /// Counts a connection that is open from now on.
    pub fn opened(&self) {
        self.connections_open.fetch_add(1, Relaxed);
    }

    /// Counts one that was open.
    pub fn closed(&self) {
        self.connections_open.fetch_sub(1, Relaxed);
    }

    /// Whether both belong to the same server.
    pub fn is_of_one_server_with(&self, other: &Self) -> bool {
        self.owner.load(Relaxed) == other.owner.load(Relaxed)
    }

    /// Pid of the server (the parent) this slot belongs to; 0 = free.
    pub fn owner(&self) -> u32 {
        self.owner.load(Relaxed)
    }

    /// The worker's pid; `None` before it has written it.
    pub fn pid(&self) -> Option<u32> {
        Some(self.pid.load(Relaxed)).filter(|&pid| pid != 0)
    }

    /// Writes the calling process into the slot as its worker.
    pub fn occupy(&self) {
        self.pid.store(std::process::id(), Relaxed);
    }

    /// The worker's state.
    pub fn state(&self) -> State {
        match self.state.load(Relaxed) {
            0 => State::Starting,
            1 => State::Serving,
            _ => State::Draining,
        }
    }

    /// Shows a new state.
    pub fn set_state(&self, state: State) {
        self.state.store(state as u32, Relaxed);
    }

    /// Notes that the event loop turns.
    pub fn beat(&self) {
        self.heartbeat.store(monotonic_milliseconds(), Relaxed);
    }

    /// Notes that a connection was accepted just now.
    pub fn accepts(&self) {
        self.last_accept.store(monotonic_milliseconds(), Relaxed);
    }

    /// For how long the event loop has not turned; `None` before its first turn.
    pub fn silence(&self) -> Option<Duration> {
        let beat = Some(self.heartbeat.load(Relaxed)).filter(|&beat| beat != 0)?;
        Some(Duration::from_millis(monotonic_milliseconds().saturating_sub(beat)))
    }

    /// Whether nobody holds the slot, or only somebody who is dead.
    fn is_free(&self) -> bool {
        match self.owner.load(Relaxed) {
            0 => true,
            owner => !is_alive(owner),
        }
    }

    fn clear(&self) {
        for word in [&self.owner, &self.pid, &self.state, &self.sockets] {
            word.store(0, Relaxed);
        }
        for counter in [
            &self.socket_inode,
            &self.connections_accepted,
            &self.connections_open,
            &self.requests,
            &self.wakeups_without_connection,
            &self.heartbeat,
            &self.load,
            &self.steered,
            &self.migrated,
            &self.gated,
            &self.last_accept,
        ] {
            counter.store(0, Relaxed);
        }
    }
}

/// A mapped scoreboard.
#[derive(Debug)]
pub struct Scoreboard {
    map: MmapRaw,
    /// Kept open for its lock, for `/proc/PID/fd`, and to be handed to workers started by exec.
    file: File,
    /// Where the file lies, if it has a name.
    path: Option<PathBuf>,
}

impl Scoreboard {
    /// Makes a scoreboard without a name, for workers that serve `address`.
    pub fn anonymous(address: SocketAddr) -> Result<Self> {
        let file = memfd_create("scoreboard", MFdFlags::MFD_CLOEXEC)
            .context("cannot make the scoreboard (memfd_create)")?;
        Self::initialize(file.into(), address, None)
    }

    /// Makes a scoreboard at `path` for workers that serve `address`, or with `join` takes part in the
    /// one that is there.
    ///
    /// The file is created with mode 0600 and never through a symbolic link: shared memory that
    /// somebody else may write to is memory that somebody else controls.
    ///
    /// # Errors
    /// When the path cannot be created or opened, or what is there is not this user's, is not a
    /// scoreboard, is in use by another server (without `join`), or counts for another port.
    pub fn at(path: &Path, address: SocketAddr, join: bool) -> Result<Self> {
        let show = path.display();
        loop {
            let file = match open(path, true) {
                Err(e) if e.kind() == ErrorKind::AlreadyExists => match open(path, false) {
                    Err(e) if e.kind() == ErrorKind::NotFound => continue, // removed just now
                    Err(e) if e.raw_os_error() == Some(Errno::ELOOP as i32) => bail!(
                        "--scoreboard {show} is a symbolic link and is not followed; name the file itself"
                    ),
                    other => other,
                },
                other => other,
            }
            .with_context(|| {
                format!("cannot write --scoreboard {show}; name a file in a folder you may write to")
            })?;

            let found = file.metadata()?;
            ensure!(
                found.is_file() && found.uid() == geteuid().as_raw(),
                "--scoreboard {show} is not a file of yours; name another path"
            );
            file.lock().context("cannot lock the scoreboard")?;
            // Somebody may have removed the file between our open and our lock; then we hold a
            // file that nobody else will ever find.
            if std::fs::metadata(path).map(|now| now.ino()).ok() != Some(found.ino()) {
                continue;
            }
            if found.len() == 0 {
                return Self::initialize(file, address, Some(path.into())).inspect(|s| s.unlock());
            }
            let board = Self::map(file, Some(path.into())).with_context(|| {
                format!("--scoreboard {show} is somebody else's file; name another path")
            })?;
            let user = board.slots().find(|slot| !slot.is_free());
            match user {
                None => board.format(address),
                Some(slot) if !join => bail!(
                    "--scoreboard {show} is in use by the server with pid {}; name another path",
                    slot.owner.load(Relaxed)
                ),
                Some(_) if board.address() != address => bail!(
                    "--scoreboard {show} belongs to servers on {}, not {address}; name another path",
                    board.address()
                ),
                Some(_) => {}
            }
            board.unlock();
            return Ok(board);
        }
    }

    /// Maps a scoreboard that somebody else made, for reading and for counting into a slot.
    ///
    /// # Errors
    /// When the file is not a scoreboard of this program's version.
    pub fn from_file(file: File) -> Result<Self> {
        Self::map(file, None)
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
            // Sockets and pipes cannot be opened this way, or could block: files alone.
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

    fn initialize(file: File, address: SocketAddr, path: Option<PathBuf>) -> Result<Self> {
        file.set_len(SIZE as u64).context("cannot size the scoreboard")?;
        let map =
            MmapOptions::new().len(SIZE).map_raw(&file).context("cannot map the scoreboard")?;
        let board = Self { map, file, path };
        board.format(address);
        Ok(board)
    }

    fn map(file: File, path: Option<PathBuf>) -> Result<Self> {
        ensure!(file.metadata()?.len() == SIZE as u64, "it has not the size of a scoreboard");
        let options = MmapOptions::new().len(SIZE).to_owned();
        let map = options
            .map_raw(&file)
            .or_else(|_| options.map_raw_read_only(&file)) // opened for reading alone
            .context("cannot map the scoreboard")?;
        let board = Self { map, file, path };
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

    fn format(&self, address: SocketAddr) {
        let header = self.header();
        self.slots().for_each(Slot::clear);
        header.retired_connections.store(0, Relaxed);
        header.retired_requests.store(0, Relaxed);
        header.version.store(VERSION, Relaxed);
        header.slot_size.store(size_of::<Slot>() as u32, Relaxed);
        header.slot_count.store(CAPACITY as u32, Relaxed);
        header.port.store(address.port().into(), Relaxed);
        let bits = match address.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        header.address[0].store((bits >> 64) as u64, Relaxed);
        header.address[1].store(bits as u64, Relaxed);
        header.magic.store(MAGIC, Relaxed);
    }

    /// The file, for a worker started by exec to map in turn.
    pub fn file(&self) -> &File {
        &self.file
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

    #[allow(unsafe_code)]
    fn header(&self) -> &Header {
        // SAFETY: the map is SIZE bytes long, page-aligned and lives as long as self; a Header is
        // made of atomics alone, for which every bit pattern is valid and which others may write.
        unsafe { &*self.map.as_ptr().cast() }
    }

    /// The slot with this index.
    ///
    /// # Panics
    /// If there is none: the index must be below [`CAPACITY`].
    pub fn slot(&self, index: usize) -> &Slot {
        slot_of(&self.map, index)
    }

    /// In a worker: keeps the slots for the rest of the process, and closes the file.
    pub fn into_slots(self) -> Slots {
        Slots(Box::leak(Box::new(self.map)))
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        (0..CAPACITY).map(|index| self.slot(index))
    }

    /// The slots in use, each with its index.
    pub fn workers(&self) -> impl Iterator<Item = (usize, &Slot)> {
        self.slots().enumerate().filter(|(_, slot)| slot.owner.load(Relaxed) != 0)
    }

    /// Connections accepted by all workers, those that are gone included.
    pub fn total_connections(&self) -> u64 {
        let now: u64 = self.workers().map(|(_, s)| s.connections_accepted.load(Relaxed)).sum();
        now + self.header().retired_connections.load(Relaxed)
    }

    /// Requests answered by all workers, those that are gone included.
    pub fn total_requests(&self) -> u64 {
        let now: u64 = self.workers().map(|(_, s)| s.requests.load(Relaxed)).sum();
        now + self.header().retired_requests.load(Relaxed)
    }

    /// Claims the first free slot for a worker of this process. A slot whose owner is dead is free.
    ///
    /// # Errors
    /// When all slots are taken.
    pub fn claim(&self) -> Result<usize> {
        self.file.lock().context("cannot lock the scoreboard")?;
        let free = self.slots().position(Slot::is_free);
        if let Some(index) = free {
            self.retire(self.slot(index));
            self.slot(index).owner.store(std::process::id(), Relaxed);
        }
        self.unlock();
        free.with_context(|| format!("all {CAPACITY} slots of the scoreboard are taken"))
    }

    /// Gives a slot back; its worker is gone. What it counted stays in the totals.
    pub fn release(&self, index: usize) {
        let _ = self.file.lock();
        self.retire(self.slot(index));
        self.unlock();
    }

    /// Gives back all slots of this process; the last to leave a scoreboard with a name removes it.
    pub fn leave(&self) {
        let _ = self.file.lock();
        let own = std::process::id();
        for (_, slot) in self.workers().filter(|(_, slot)| slot.owner.load(Relaxed) == own) {
            self.retire(slot);
        }
        if let Some(path) = &self.path
            && self.slots().all(Slot::is_free)
        {
            let _ = std::fs::remove_file(path);
        }
        self.unlock();
    }

    fn retire(&self, slot: &Slot) {
        let header = self.header();
        Slot::add(&header.retired_connections, slot.connections_accepted.load(Relaxed));
        Slot::add(&header.retired_requests, slot.requests.load(Relaxed));
        slot.clear();
    }

    fn unlock(&self) {
        let _ = self.file.unlock();
    }
}

/// All slots, as a worker keeps them: its own to count in, the others' to look at.
#[derive(Clone, Copy, Debug)]
pub struct Slots(&'static MmapRaw);

impl Slots {
    /// The slot with this index.
    ///
    /// # Panics
    /// If there is none: the index must be below [`CAPACITY`].
    pub fn at(self, index: usize) -> &'static Slot {
        slot_of(self.0, index)
    }
}

#[allow(unsafe_code)]
fn slot_of(map: &MmapRaw, index: usize) -> &Slot {
    assert!(index < CAPACITY, "the scoreboard has no slot {index}");
    // SAFETY: the index is in range, so the slot lies within the map's SIZE bytes, aligned as the
    // header and all slots before it are; a Slot is made of atomics alone, as the header is.
    unsafe {
        let slots = map.as_ptr().add(size_of::<Header>()).cast::<Slot>();
        &*slots.add(index)
    }
}

/// One clock for all processes, which nobody sets: CLOCK_MONOTONIC, in milliseconds.
pub fn monotonic_milliseconds() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    now.as_millis() as u64
}

/// Opens a scoreboard file, either a new one or one that exists.
fn open(path: &Path, new: bool) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(new)
        .mode(0o600)
        // O_NONBLOCK: a FIFO that somebody put there must not block us before we can refuse it.
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path)
}

/// Whether a process with this pid exists. A pid can be used again; then a slot stays taken longer
/// than it must, which does no harm.
fn is_alive(pid: u32) -> bool {
    kill(Pid::from_raw(pid as i32), None) != Err(Errno::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    #[test]
    fn slots_fill_cache_lines_of_their_own() {
        assert_eq!(size_of::<Slot>() % 128, 0);
        assert_eq!(size_of::<Header>() % 128, 0);
    }

    #[test]
    fn a_released_slot_stays_in_the_totals_and_can_be_claimed_again() {
        let board = Scoreboard::anonymous(port(8080)).unwrap();
        let index = board.claim().unwrap();
        Slot::add(&board.slot(index).requests, 7);
        board.release(index);
        assert_eq!(board.total_requests(), 7);
        assert_eq!(board.workers().count(), 0);
        assert_eq!(board.claim().unwrap(), index);
        assert_eq!(board.slot(index).requests.load(Relaxed), 0);
    }

    #[test]
    fn the_address_comes_back_as_it_was_written() {
        for text in ["127.0.0.1:80", "0.0.0.0:8080", "[::]:8080", "[::1]:65535"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Scoreboard::anonymous(address).unwrap().address(), address);
        }
    }

    #[test]
    fn two_who_join_get_different_slots_and_the_last_one_removes_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("board");
        let one = Scoreboard::at(&path, port(80), true).unwrap();
        let first = one.claim().unwrap();
        let two = Scoreboard::at(&path, port(80), true).unwrap();
        assert_ne!(first, two.claim().unwrap());
        two.leave(); // the same process owns both slots here, so this leaves for both
        assert!(!path.exists());
    }

    #[test]
    fn the_slot_of_a_dead_owner_is_taken_over() {
        let board = Scoreboard::anonymous(port(80)).unwrap();
        let index = board.claim().unwrap();
        let mut dead = std::process::Command::new("true").spawn().unwrap();
        dead.wait().unwrap();
        board.slot(index).owner.store(dead.id(), Relaxed);
        assert_eq!(board.claim().unwrap(), index);
    }

    #[test]
    fn a_scoreboard_in_use_is_refused_without_join_and_on_another_port() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("board");
        let one = Scoreboard::at(&path, port(80), false).unwrap();
        one.claim().unwrap();
        let refusal = Scoreboard::at(&path, port(80), false).unwrap_err().to_string();
        assert!(refusal.contains("in use by the server with pid"), "{refusal}");
        let refusal = Scoreboard::at(&path, port(81), true).unwrap_err().to_string();
        assert!(refusal.contains("on 127.0.0.1:80, not 127.0.0.1:81"), "{refusal}");
    }

    #[test]
    fn somebody_elses_file_and_a_link_are_refused_and_left_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("letter");
        std::fs::write(&file, "dear").unwrap();
        assert!(
            format!("{:#}", Scoreboard::at(&file, port(80), false).unwrap_err())
                .contains("somebody else's")
        );
        assert_eq!(std::fs::read(&file).unwrap(), b"dear");

        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path().join("target"), &link).unwrap();
        assert!(
            Scoreboard::at(&link, port(80), false)
                .unwrap_err()
                .to_string()
                .contains("symbolic link")
        );
        assert!(!folder.path().join("target").exists());
    }

    #[test]
    fn the_file_is_readable_by_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("board");
        let _board = Scoreboard::at(&path, port(80), false).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn another_version_is_refused() {
        let board = Scoreboard::anonymous(port(80)).unwrap();
        board.header().version.store(VERSION + 1, Relaxed);
        let refusal = Scoreboard::from_file(board.file.try_clone().unwrap()).unwrap_err();
        assert!(refusal.to_string().contains("another version"));
    }
}
