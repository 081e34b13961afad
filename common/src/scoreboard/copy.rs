//! The copy of a scoreboard in a file with a name, for readers, which servers may share.
//!
//! The parent maps it only at its start, to read what is there, and writes it with pwrite(2): if somebody
//! truncates the file, or fills the file system, the copy is lost, and the server goes on.
//!
//! Pids do not tell whose slots are whose. A server that was killed leaves its slots behind, and its pid may
//! belong to another process by now, or mean something else in another container. So each server that uses
//! the file has a number, and as long as it lives it holds a lock on the byte of that number, far behind the
//! file's end (an open file description lock, fcntl(2)). The kernel releases the lock when the server ends,
//! however it ends; and the lock is valid across containers that share the file. A server that claims or
//! releases slots holds a second lock (flock(2)) for a moment.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::ErrorKind;
use std::mem::offset_of;
use std::net::SocketAddr;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::unistd::geteuid;

use super::{CAPACITY, Header, SIZE, Scoreboard, Slot};

/// The mode of a scoreboard's file: no other user may write to it.
const MODE: u32 = 0o600;

/// How long to wait for the lock that other servers hold for a moment. Not for ever: a server may be stopped in that
/// moment, and a parent that waits handles no signal and replaces no worker.
const LOCKED_WITHIN: Duration = Duration::from_secs(1);

/// Between two tries.
const TRY_EVERY: Duration = Duration::from_millis(1);

/// The byte of server 0, which does not exist; the others follow.
const LOCKS: i64 = 1 << 40;

/// A copy in a file with a name.
#[derive(Debug)]
pub struct NamedCopy {
    file: File,
    path: PathBuf,
    server: u32,
}

impl NamedCopy {
    /// Makes a copy of `memory` at `path`, or with `join` shares the copy that is there.
    ///
    /// The file gets mode 0600, also if it exists already, and is never opened through a symbolic link.
    ///
    /// # Errors
    /// When the path cannot be created or opened, there is no space for it, or what is there is not this
    /// user's, is not a scoreboard, is in use by another server (without `join`), or counts for another
    /// port.
    pub fn at(path: &Path, address: SocketAddr, join: bool, memory: &File) -> Result<Self> {
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
                "--scoreboard {show} is not a regular file of your user; name another path"
            );
            lock(&file).with_context(|| {
                format!("cannot use --scoreboard {show}; name another path, or end that process")
            })?;
            // Another process may have removed the file between open and lock. Then no other server would find
            // this one.
            if std::fs::metadata(path).map(|now| now.ino()).ok() != Some(found.ino()) {
                continue;
            }
            let mut copy = Self { file, path: path.into(), server: 0 };
            copy.enter(address, join, memory)?;
            copy.file.unlock()?;
            return Ok(copy);
        }
    }

    /// Gives an existing file the mode of a new one.
    fn mend_mode(&self) -> Result<()> {
        let mode = self.file.metadata()?.mode() & 0o7777;
        let show = self.path.display();
        if mode & !MODE != 0 {
            self.file
                .set_permissions(Permissions::from_mode(MODE))
                .with_context(|| format!("cannot change the mode of --scoreboard {show}"))?;
            tracing::warn!("the mode of --scoreboard {show} was {mode:04o} and is now {MODE:04o}");
        }
        Ok(())
    }

    /// Checks whether other servers use the file, and begins to use it.
    fn enter(&mut self, address: SocketAddr, join: bool, memory: &File) -> Result<()> {
        let show = self.path.display();
        let is_new = self.file.metadata()?.len() == 0;
        let board = (!is_new).then(|| Scoreboard::from_file(self.file.try_clone()?));
        let board = board.transpose().with_context(|| {
            format!("--scoreboard {show} exists and is not a usable scoreboard; name another path")
        })?;
        self.mend_mode()?;
        if let Some(board) = board
            && self.is_locked(LOCKS, CAPACITY as i64 * 2)?
        {
            let mut used = self.slots()?.into_iter();
            let user = used.find(|it| it.server != 0 && self.is_alive(it.server));
            let user = user.map_or("?".into(), |it| it.owner.to_string());
            ensure!(
                join,
                "--scoreboard {show} is in use by the server with pid {user}; name another path"
            );
            let there = board.address();
            ensure!(
                there.port() == address.port()
                    && there.ip().to_canonical() == address.ip().to_canonical(),
                "--scoreboard {show} belongs to servers on {there}, not {address}; name another path"
            );
            self.server = self.take_number()?;
            return Ok(());
        }
        self.server = self.take_number()?;
        // Writes all of it now, to reserve the space.
        let mut all = vec![0; SIZE];
        memory.read_exact_at(&mut all, 0)?;
        let written = self.file.write_all_at(&all, 0).and_then(|()| self.file.sync_data());
        if written.is_err() && is_new {
            let _ = std::fs::remove_file(&self.path);
        }
        written.with_context(|| {
            format!(
                "cannot allocate {} KiB for --scoreboard {show}; is the disk full?",
                SIZE / 1024
            )
        })
    }

    /// Takes the first number that no living server has.
    fn take_number(&self) -> Result<u32> {
        for number in 1..=2 * CAPACITY as u32 {
            let lock = lock_of(LOCKS + i64::from(number), 1);
            match fcntl(&self.file, FcntlArg::F_OFD_SETLK(&lock)) {
                Ok(_) => return Ok(number),
                Err(Errno::EAGAIN | Errno::EACCES) => {}
                Err(error) => return Err(error).context("cannot lock the scoreboard"),
            }
        }
        bail!("too many servers use --scoreboard {}", self.path.display())
    }

    /// The number of this server.
    pub fn server(&self) -> u32 {
        self.server
    }

    /// Whether another server with this number lives.
    fn is_alive(&self, server: u32) -> bool {
        self.is_locked(LOCKS + i64::from(server), 1).unwrap_or(true)
    }

    fn is_locked(&self, start: i64, length: i64) -> Result<bool> {
        let mut lock = lock_of(start, length);
        fcntl(&self.file, FcntlArg::F_OFD_GETLK(&mut lock)).context("cannot ask for a lock")?;
        Ok(lock.l_type != libc::F_UNLCK as i16)
    }

    /// Claims the first slot that is free or belongs to a server that has ended; `None` if there is none.
    ///
    /// # Errors
    /// When the file is not what it was.
    pub fn claim(&mut self) -> Result<Option<usize>> {
        self.locked(|copy| {
            let slots = copy.slots()?;
            let others: BTreeSet<u32> =
                slots.iter().map(|it| it.server).filter(|&it| it != copy.server).collect();
            let alive: BTreeSet<u32> =
                others.into_iter().filter(|&it| it != 0 && copy.is_alive(it)).collect();
            let is_free = |it: &Used| {
                it.owner == 0 || it.server != copy.server && !alive.contains(&it.server)
            };
            let Some(index) = slots.iter().position(is_free) else { return Ok(None) };
            copy.retire(index, slots[index].counted)?;
            copy.write_slot(index, [0; size_of::<Slot>()])?;
            Ok(Some(index))
        })
    }

    /// Releases a slot, which has counted this many connections and requests.
    ///
    /// # Errors
    /// As for [`claim`](Self::claim).
    pub fn release(&mut self, index: usize, counted: [u64; 2]) -> Result<()> {
        self.locked(|copy| copy.retire(index, counted))
    }

    /// Writes these slots of this server as they are in the memory, except for their owner, which a worker could
    /// have changed there.
    ///
    /// # Errors
    /// As for [`claim`](Self::claim).
    pub fn write(&mut self, memory: &File, used: &[usize]) -> Result<()> {
        self.check()?;
        let mut slot = [0; size_of::<Slot>()];
        for &index in used {
            memory.read_exact_at(&mut slot, place(index))?;
            self.write_slot(index, slot)?;
        }
        Ok(())
    }

    /// Leaves the file, and removes it if no other server uses it.
    ///
    /// # Errors
    /// As for [`claim`](Self::claim).
    pub fn leave(&mut self) -> Result<()> {
        self.locked(|copy| {
            if !copy.is_locked(LOCKS, CAPACITY as i64 * 2)? {
                // Unless another server has put its own file there meanwhile.
                let there = std::fs::metadata(&copy.path).ok().map(|it| it.ino());
                if there == Some(copy.file.metadata()?.ino())
                    && let Err(error) = std::fs::remove_file(&copy.path)
                {
                    // As root it may have made the file in a folder that it cannot write without its capabilities.
                    tracing::warn!("cannot remove {}: {error}", copy.path.display());
                }
            }
            Ok(())
        })
    }

    fn locked<T>(&self, what: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        lock(&self.file)?;
        let done = self.check().and_then(|()| what(self));
        self.file.unlock()?;
        done
    }

    /// Fails if the file's size has changed, or the file was removed.
    fn check(&self) -> Result<()> {
        let found = self.file.metadata()?;
        ensure!(
            found.len() == SIZE as u64 && found.nlink() > 0,
            "another process has truncated or removed {}",
            self.path.display()
        );
        Ok(())
    }

    /// Clears a slot, and adds what it counted to the totals.
    fn retire(&self, index: usize, counted: [u64; 2]) -> Result<()> {
        let totals = offset_of!(Header, retired_connections) as u64;
        let mut both = [0; 16];
        self.file.read_exact_at(&mut both, totals)?;
        let sums = [0, 1].map(|i| number(&both, 8 * i).wrapping_add(counted[i]));
        both[..8].copy_from_slice(&sums[0].to_ne_bytes());
        both[8..].copy_from_slice(&sums[1].to_ne_bytes());
        self.file.write_all_at(&both, totals)?;
        Ok(self.file.write_all_at(&[0; size_of::<Slot>()], place(index))?)
    }

    /// Writes a slot of this server.
    fn write_slot(&self, index: usize, mut slot: [u8; size_of::<Slot>()]) -> Result<()> {
        for (offset, value) in
            [(offset_of!(Slot, owner), std::process::id()), (offset_of!(Slot, server), self.server)]
        {
            slot[offset..offset + size_of::<u32>()].copy_from_slice(&value.to_ne_bytes());
        }
        Ok(self.file.write_all_at(&slot, place(index))?)
    }

    fn slots(&self) -> Result<Vec<Used>> {
        let mut all = vec![0; SIZE];
        self.file.read_exact_at(&mut all, 0)?;
        let slots = all[size_of::<Header>()..].chunks_exact(size_of::<Slot>());
        Ok(slots
            .map(|slot| Used {
                owner: u32::from_ne_bytes(bytes_at(slot, offset_of!(Slot, owner))),
                server: u32::from_ne_bytes(bytes_at(slot, offset_of!(Slot, server))),
                counted: [offset_of!(Slot, connections_accepted), offset_of!(Slot, requests)]
                    .map(|offset| number(slot, offset)),
            })
            .collect())
    }
}

/// Takes the lock, if it becomes free soon.
fn lock(file: &File) -> Result<()> {
    let end = Instant::now() + LOCKED_WITHIN;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error).context("cannot lock it"),
            Err(TryLockError::WouldBlock) if Instant::now() < end => sleep(TRY_EVERY),
            Err(TryLockError::WouldBlock) => {
                bail!("another process has kept it locked for {LOCKED_WITHIN:?}")
            }
        }
    }
}

/// A slot in the file.
struct Used {
    owner: u32,
    server: u32,
    /// Connections and requests.
    counted: [u64; 2],
}

/// Where a slot lies in the file.
fn place(index: usize) -> u64 {
    (size_of::<Header>() + index * size_of::<Slot>()) as u64
}

fn number(bytes: &[u8], offset: usize) -> u64 {
    u64::from_ne_bytes(bytes_at(bytes, offset))
}

fn bytes_at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let mut copied = [0; N];
    copied.copy_from_slice(&bytes[offset..offset + N]);
    copied
}

fn lock_of(start: i64, length: i64) -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: start,
        l_len: length,
        l_pid: 0,
    }
}

/// Opens a scoreboard file, either a new one or one that exists.
fn open(path: &Path, new: bool) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(new)
        .mode(MODE)
        // O_NONBLOCK: a FIFO at this path must not block the server before it can refuse it.
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path)
}
