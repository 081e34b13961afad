//! The writers' side of the scoreboard: the parent's and its workers'.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use anyhow::{Context, Result, ensure};
use memmap2::{MmapOptions, MmapRaw};
use nix::fcntl::{FcntlArg, SealFlag, fcntl, posix_fallocate};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::copy::NamedCopy;
use super::{CAPACITY, MAGIC, OwnSlot, SIZE, Scoreboard, Slot, VERSION, header_of, slot_of};

/// The scoreboard of this server, whose slots it gives to its workers.
#[derive(Debug)]
pub struct ScoreboardOwner {
    board: Scoreboard,
    /// Kept open for readers of `/proc/PID/fd`, and for workers started by exec.
    file: File,
    /// The claimed slots. The parent does not read that from the memory, to which all workers can write.
    claimed: BTreeSet<usize>,
    /// The copy in a file with a name, until it is lost.
    copy: Option<NamedCopy>,
}

impl ScoreboardOwner {
    /// Makes a scoreboard without a name, for workers that serve `address`.
    ///
    /// # Errors
    /// When there is no memory for it. All of it is reserved now: if memory were missing later, a process that
    /// writes there would be killed.
    pub fn anonymous(address: SocketAddr) -> Result<Self> {
        let file = memfd_create("scoreboard", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)
            .context("cannot make the scoreboard (memfd_create)")?;
        let file = File::from(file);
        posix_fallocate(file.as_fd(), 0, SIZE as i64)
            .context("cannot allocate memory for the scoreboard")?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).context("cannot seal the scoreboard")?;
        let map = MmapOptions::new().len(SIZE).map_raw(&file);
        let map = map.context("cannot map the scoreboard")?;
        let owner = Self { board: Scoreboard { map }, file, claimed: BTreeSet::new(), copy: None };
        owner.format(address);
        Ok(owner)
    }

    /// The same with a copy at `path`, which other servers may share if all have `join`.
    ///
    /// # Errors
    /// Those of [`anonymous`](Self::anonymous) and of [`NamedCopy::at`].
    pub fn at(path: &Path, address: SocketAddr, join: bool) -> Result<Self> {
        let mut owner = Self::anonymous(address)?;
        owner.copy = Some(NamedCopy::at(path, address, join, &owner.file)?);
        Ok(owner)
    }

    fn format(&self, address: SocketAddr) {
        let header = self.board.header();
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

    /// The scoreboard, for reading.
    pub fn board(&self) -> &Scoreboard {
        &self.board
    }

    /// The memory, for a worker started by exec to map in turn.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Claims the first free slot for a worker.
    ///
    /// # Errors
    /// When all slots are taken.
    pub fn claim(&mut self) -> Result<usize> {
        let free = self.with_copy(NamedCopy::claim).flatten();
        let is_free = |index: &usize| !self.claimed.contains(index);
        let free = free.filter(is_free).or_else(|| (0..CAPACITY).find(is_free));
        let index =
            free.with_context(|| format!("all {CAPACITY} slots of the scoreboard are taken"))?;
        let server = self.copy.as_ref().map_or(0, NamedCopy::server);
        self.claimed.insert(index);
        self.board.slot(index).clear(); // other workers could have written there
        self.board.slot(index).server.store(server, Relaxed);
        self.board.slot(index).owner.store(std::process::id(), Relaxed);
        self.board.header().claims.add(1);
        Ok(index)
    }

    /// Releases the slot of a worker that has ended. What it counted stays in the totals.
    pub fn release(&mut self, index: usize) {
        let (header, slot) = (self.board.header(), self.board.slot(index));
        let counted = [&slot.connections_accepted, &slot.requests].map(|it| it.load(Relaxed));
        header.retired_connections.add(counted[0]);
        header.retired_requests.add(counted[1]);
        slot.clear();
        self.claimed.remove(&index);
        self.with_copy(|copy| copy.release(index, counted));
    }

    /// Brings the copy up to date, if there is one.
    pub fn publish(&mut self) {
        if self.copy.is_some()
            && let Ok(file) = self.file.try_clone()
        {
            let used: Vec<usize> = self.claimed.iter().copied().collect();
            self.with_copy(|copy| copy.write(&file, &used));
        }
    }

    /// Whether there is a copy to bring up to date.
    pub fn has_copy(&self) -> bool {
        self.copy.is_some()
    }

    /// Releases all slots. The last server to leave a scoreboard with a name removes it.
    pub fn leave(&mut self) {
        let used: Vec<usize> = self.claimed.iter().copied().collect();
        used.into_iter().for_each(|index| self.release(index));
        self.copy.take().map(|mut copy| copy.leave());
    }

    /// In a forked worker: keeps the slots for the rest of the process, and closes all files.
    pub fn into_slots(self) -> Slots {
        Slots(Box::leak(Box::new(self.board.map)))
    }

    /// Does something with the copy. If that fails, the copy is given up, and the server goes on.
    fn with_copy<T>(&mut self, what: impl FnOnce(&mut NamedCopy) -> Result<T>) -> Option<T> {
        match what(self.copy.as_mut()?) {
            Ok(done) => Some(done),
            Err(error) => {
                tracing::warn!("--scoreboard is no longer written: {error:#}");
                self.copy = None;
                None
            }
        }
    }
}

/// All slots, as a worker has them: its own to count in, the others' to read.
#[derive(Clone, Copy, Debug)]
pub struct Slots(&'static MmapRaw);

impl Slots {
    /// Maps the parent's memory, in a worker started by exec. It checks the size only: parent and worker are the same
    /// program, and other workers could have written the header.
    ///
    /// # Errors
    /// When it is not a scoreboard of this program's version.
    pub fn map(file: File) -> Result<Self> {
        ensure!(file.metadata()?.len() == SIZE as u64, "it does not have the size of a scoreboard");
        let map = MmapOptions::new().len(SIZE).map_raw(&file);
        Ok(Self(Box::leak(Box::new(map.context("cannot map the scoreboard")?))))
    }

    /// The slot with this index, for reading.
    ///
    /// # Panics
    /// If there is none: the index must be below [`CAPACITY`].
    pub fn at(self, index: usize) -> &'static Slot {
        slot_of(self.0, index)
    }

    /// How many slots were claimed so far. A worker that starts claims one before it serves.
    pub fn claims(self) -> u64 {
        header_of(self.0).claims.load(Relaxed)
    }

    /// All slots of the server to which this one belongs.
    pub fn of_one_server_with(self, own: OwnSlot) -> impl Iterator<Item = &'static Slot> {
        let all = (0..CAPACITY).map(move |index| self.at(index));
        all.filter(move |slot| slot.owner() == own.owner())
    }

    /// The slot with this index, which is this worker's own.
    ///
    /// # Panics
    /// As for [`at`](Self::at).
    pub fn own(self, index: usize) -> OwnSlot {
        OwnSlot(self.at(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> ScoreboardOwner {
        ScoreboardOwner::anonymous(([127, 0, 0, 1], 8080).into()).unwrap()
    }

    #[test]
    fn a_released_slot_stays_in_the_totals_and_can_be_claimed_again() {
        let mut owner = board();
        let index = owner.claim().unwrap();
        Slots::map(owner.file.try_clone().unwrap()).unwrap().own(index).add(|it| &it.requests, 7);
        owner.release(index);
        assert_eq!(owner.board().total_requests(), 7);
        assert_eq!(owner.board().workers().count(), 0);
        assert_eq!(owner.claim().unwrap(), index);
        assert_eq!(owner.board().slot(index).requests.load(Relaxed), 0);
    }

    #[test]
    fn whatever_a_worker_writes_the_parent_knows_whose_the_slots_are() {
        let mut owner = board();
        assert_eq!(owner.claim().unwrap(), 0);
        // A worker maps all of it, and could write anything anywhere.
        for index in 0..CAPACITY {
            owner.board.slot(index).owner.store(if index == 0 { 0 } else { 7 }, Relaxed);
            owner.board.slot(index).requests.store(u64::MAX);
        }
        owner.board.header().magic.store(0, Relaxed);
        assert_eq!(owner.claim().unwrap(), 1, "0 is in use, 1 is not");
        assert_eq!(owner.board.slot(1).requests.load(Relaxed), 0);
        assert!(Slots::map(owner.file.try_clone().unwrap()).is_ok(), "the next worker can start");
        owner.release(0);
        owner.release(1);
        assert_eq!(owner.claim().unwrap(), 0);
        let _ = owner.board.total_requests(); // no overflow in there
    }

    #[test]
    fn the_address_comes_back_as_it_was_written() {
        for text in ["127.0.0.1:80", "0.0.0.0:8080", "[::]:8080", "[::1]:65535"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(ScoreboardOwner::anonymous(address).unwrap().board().address(), address);
        }
    }

    #[test]
    fn nobody_can_shrink_it() {
        let owner = board();
        assert!(owner.file().set_len(0).is_err() && owner.file().set_len(1 << 30).is_err());
    }

    #[test]
    fn another_version_is_refused() {
        let owner = board();
        owner.board.header().version.store(VERSION + 1, Relaxed);
        let refusal = Scoreboard::from_file(owner.file.try_clone().unwrap()).unwrap_err();
        assert!(refusal.to_string().contains("another version"));
    }
}
