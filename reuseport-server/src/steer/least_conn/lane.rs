//! The load of each worker, in memory that the program in the kernel, the parent and the workers share.
//!
//! The program chooses the worker for each new connection. So it must know each worker's load, and the
//! workers must know which connections it gave them. For the program a worker is a *lane*: a socket that
//! it can choose, and a line of this memory. A worker that replaces another and gets its socket takes
//! over its lane.
//!
//! ```text
//! offset 0          64           128
//! | header         | lane 1     | lane 2     | ... LANES lanes, a cache line each
//! ```
//!
//! The load of a lane is `steered + migrated - ended`. Only the program adds to the first two, and only
//! the worker writes the last, so no lock is needed. Accepting a connection changes nothing: it was
//! counted when its SYN arrived. So 100 connections that arrive at once are spread before the first of
//! them is accepted. The end of a connection adds one to `ended`.
//!
//! A connection that was steered here and never accepted (half-open: a SYN flood, a client that gave up)
//! would count for ever. So four times a second a worker corrects its load, see [`OwnLane`].

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result};
use common::platform::clock::monotonic_nanoseconds;
use common::scoreboard::{CAPACITY, Lifetimes, OwnSlot, Pace, QUICK};
use common::steering::Lane;
use memmap2::{MmapOptions, MmapRaw};

/// The number of lanes: as many as there can be workers, including draining ones. They are numbered from 1.
pub const LANES: usize = CAPACITY;

/// The handicap of a lane without a worker: more than any load, so that it is never the least.
pub const CLOSED: u64 = 1 << 26;

/// A worker whose kept connections exceed the others' average by more than this has no room for short ones. The next
/// connection goes to the worker with the fewest: it may be kept, too.
const UNEVEN: u64 = 2;

/// A worker is slow if its requests take longer than this. One that is not known to be quick need not be slow: it may
/// have served nothing yet.
const SLOW: Duration = Duration::from_micros(2 * QUICK.as_micros() as u64);

/// Line 0.
#[repr(C, align(64))]
pub struct Header {
    /// The highest lane in use: the end of the program's loop. Writer: the parent.
    pub count: AtomicU64,
    /// With this many active workers no further one is woken: the number of cores. A core runs one worker at a time,
    /// and waking another costs a context switch. But two on one core: if the only active worker stopped, it would
    /// get all connections. Writer: the parent.
    pub most_active: AtomicU64,
}

/// A lane's line.
#[derive(Default)]
#[repr(C, align(64))]
pub struct Line {
    /// New connections that the program gave to this lane. Writer: the program, on any CPU.
    pub steered: AtomicU64,
    /// Connections that waited for a worker that died and were given to this lane instead. Writer:
    /// the program.
    pub migrated: AtomicU64,
    /// How many of both have ended, or never arrived. Writer: the worker that keeps the lane; the parent when it gives
    /// the lane to another.
    pub ended: AtomicU64,
    /// When the worker last ticked, nanoseconds of CLOCK_MONOTONIC. Writer: as `ended`.
    pub beat: AtomicU64,
    /// Added to the load: 0 while a worker serves, otherwise [`CLOSED`]. Writer: the parent.
    pub handicap: AtomicU64,
    /// The pid of the worker that keeps the lane. Writer: the parent.
    keeper: AtomicU32,
    /// How many of its connections may be waiting for the client, see [`OwnLane::idle`]. Writer: as `turn`.
    pub idle: AtomicU32,
    /// What the worker's event loop does, see [`turn`]. Writer: the worker that keeps the lane.
    pub turn: AtomicU64,
    /// How many connections it may have before another worker is woken, see [`OwnLane::room`]. Writer: as `turn`.
    pub room: AtomicU64,
}

/// What a worker's event loop does, and the kind of its last requests and connections.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// It has nothing to do.
    pub is_asleep: bool,
    /// Its requests take over [`SLOW`] on average, and its connections end after one request. Kept connections are
    /// spread by their number, so they do not make a worker slow.
    pub is_slow: bool,
}

/// The lowest bits of a `turn`, which are a [`Kind`].
pub const TURN_BITS: i32 = 2;

/// What `turn` holds: when the event loop woke last, in nanoseconds of CLOCK_MONOTONIC, and its kind.
pub const fn turn(nanoseconds: u64, kind: Kind) -> u64 {
    nanoseconds << TURN_BITS | (kind.is_asleep as u64) << 1 | kind.is_slow as u64
}

/// The `turn` of a worker that has not woken yet.
const ASLEEP: u64 = turn(0, Kind { is_asleep: true, is_slow: false });

impl Line {
    /// How many connections the program has given to this lane so far.
    fn given(&self) -> u64 {
        self.steered.load(Relaxed).wrapping_add(self.migrated.load(Relaxed))
    }
}

/// All lanes, mapped: the parent's view.
pub struct Lanes {
    map: MmapRaw,
    file: OwnedFd,
}

impl Lanes {
    /// The number of lines, including the header.
    pub const LINES: usize = 1 + LANES;

    /// Maps the memory behind this descriptor, [`Lanes::LINES`] lines long and zeroed when new.
    ///
    /// # Errors
    /// When it cannot be mapped.
    pub fn map(file: OwnedFd) -> Result<Self> {
        let size = Self::LINES * size_of::<Line>();
        let map = MmapOptions::new().len(size).map_raw(&file).context("cannot map the load map")?;
        Ok(Self { map, file })
    }

    /// Closes all lanes of new memory.
    pub fn close_all(&self) {
        (1..=LANES).for_each(|lane| self.line(lane).handicap.store(CLOSED, Relaxed));
    }

    /// Gives a lane to this worker, which has no connections yet, and opens the lane for new ones.
    pub fn give(&self, lane: usize, worker: u32) {
        let line = self.line(lane);
        // From now on the previous keeper does not write. A store of it that is under way is corrected at the new
        // keeper's next tick.
        line.keeper.store(worker, Relaxed);
        line.ended.store(line.given(), Relaxed);
        line.beat.store(monotonic_nanoseconds(), Relaxed);
        line.turn.store(ASLEEP, Relaxed);
        line.room.store(0, Relaxed);
        line.idle.store(0, Relaxed);
        line.handicap.store(0, Relaxed);
        self.show_how_many();
    }

    /// Closes a lane, whose worker has ended.
    pub fn close(&self, lane: usize) {
        self.line(lane).handicap.store(CLOSED, Relaxed);
        self.line(lane).keeper.store(0, Relaxed);
        self.line(lane).turn.store(ASLEEP, Relaxed); // a closed lane is not slow
        self.show_how_many();
    }

    /// How many connections the program has given to all lanes so far.
    pub fn given(&self) -> u64 {
        (1..=LANES).map(|lane| self.line(lane).given()).fold(0, u64::wrapping_add)
    }

    fn show_how_many(&self) {
        let is_open = |&lane: &usize| self.line(lane).handicap.load(Relaxed) == 0;
        let highest = (1..=LANES).rev().find(is_open).unwrap_or(0);
        self.header().count.store(highest as u64, Relaxed);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        self.header().most_active.store(cores.max(2) as u64, Relaxed);
    }

    /// In a worker with this limit of connections: keeps one lane for the rest of the process.
    pub fn into_lane(self, lane: usize, at_most: u32) -> OwnLane {
        OwnLane::of(Box::leak(Box::new(self)), lane, at_most)
    }

    /// How many kept connections the other open lanes have on average, rounded down.
    fn kept_by_others(&self, own: &Line) -> u64 {
        let count = self.header().count.load(Relaxed).min(LANES as u64) as usize;
        let lines = (1..=count).map(|lane| self.line(lane)).filter(|line| !ptr::eq(*line, own));
        let open = lines.filter(|line| line.handicap.load(Relaxed) == 0);
        let kept = open.map(|line| u64::from(line.idle.load(Relaxed)));
        let (others, sum) = kept.fold((0, 0), |(others, sum), kept| (others + 1, sum + kept));
        sum.checked_div(others).unwrap_or(0)
    }

    /// The line of this lane.
    ///
    /// # Panics
    /// If there is none.
    #[allow(unsafe_code)]
    pub fn line(&self, lane: usize) -> &Line {
        assert!((1..=LANES).contains(&lane), "there is no lane {lane}");
        // SAFETY: the map is LINES lines long, page-aligned and lives as long as self. A Line contains only
        // atomics, for which every bit pattern is valid and which other processes may write.
        unsafe { &*self.map.as_ptr().cast::<Line>().add(lane) }
    }

    /// The line of the header.
    #[allow(unsafe_code)]
    pub fn header(&self) -> &Header {
        // SAFETY: as for a Line; a Header is at the start.
        unsafe { &*self.map.as_ptr().cast() }
    }
}

impl AsFd for Lanes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// In a worker with this limit of connections: keeps this lane of this memory for the rest of the process.
///
/// # Errors
/// When the memory cannot be mapped.
pub fn keep(lane: usize, loads: OwnedFd, at_most: u32) -> Result<&'static dyn Lane> {
    Ok(Box::leak(Box::new(Lanes::map(loads)?.into_lane(lane, at_most))))
}

/// A worker's own lane.
pub struct OwnLane {
    lanes: &'static Lanes,
    line: &'static Line,
    pid: u32,
    /// The worker's limit of connections. Beyond it they wait in its accept queue, even if other workers are free.
    at_most: u64,
    /// How many connections the lane had been given before this worker took it.
    steered_before: u64,
    migrated_before: u64,
    /// How many it had been given at the last tick.
    given_at_last_tick: AtomicU64,
    /// How many connections the other workers kept then, on average, if that mattered.
    kept_by_others: AtomicU64,
    pace: Pace,
    lifetimes: Lifetimes,
}

impl OwnLane {
    fn of(lanes: &'static Lanes, lane: usize, at_most: u32) -> Self {
        let line = lanes.line(lane);
        Self {
            lanes,
            line,
            pid: std::process::id(),
            at_most: at_most.into(),
            steered_before: line.steered.load(Relaxed),
            migrated_before: line.migrated.load(Relaxed),
            given_at_last_tick: AtomicU64::new(line.given()),
            kept_by_others: AtomicU64::new(0),
            pace: Pace::default(),
            lifetimes: Lifetimes::default(),
        }
    }

    fn show(&self, woke: u64, is_asleep: bool) {
        let is_slow = self.pace.mean() > SLOW && self.lifetimes.are_short();
        self.line.turn.store(turn(woke, Kind { is_asleep, is_slow }), Relaxed);
    }

    /// How many short connections the worker serves within a [slice](Pace::in_a_slice): a connection behind them waits
    /// no longer than another worker might have to wait for a core. Kept connections are spread over all workers.
    fn room(&self, slot: OwnSlot) -> u64 {
        let most_kept = self.kept_by_others.load(Relaxed) + UNEVEN;
        let has_few_kept = slot.connections_kept.load(Relaxed) <= most_kept;
        let has_room = self.lifetimes.are_short() && self.pace.is_quick() && has_few_kept;
        if has_room { self.pace.in_a_slice().min(self.at_most) } else { 0 }
    }

    /// How many of its connections the program need not count as in hand. A worker at its limit has none of these: a
    /// connection that it gets must wait until another ends.
    fn idle(&self, slot: OwnSlot) -> u32 {
        let is_full = slot.connections_open.load(Relaxed) >= self.at_most;
        if is_full { 0 } else { slot.connections_kept.load(Relaxed) as u32 }
    }

    /// Whether this process keeps the lane: while one worker replaces another, two have it, and one may write.
    fn is_kept_by_us(&self) -> bool {
        self.line.keeper.load(Relaxed) == self.pid
    }

    /// Corrects the load, and shows it in the worker's slot of the scoreboard.
    fn settle(&self, slot: OwnSlot, correct: impl FnOnce(i64, i64) -> i64) {
        let line = self.line;
        let open = slot.connections_open.load(Relaxed) as i64;
        if !self.is_kept_by_us() {
            slot.set(|slot| &slot.load, open as u64);
            return;
        }
        let given = line.given();
        let load = given.wrapping_sub(line.ended.load(Relaxed)) as i64;
        let correct = correct(load, open);
        if correct != load {
            line.ended.store(given.wrapping_sub(correct as u64), Relaxed);
        }
        slot.set(|slot| &slot.load, correct.max(0) as u64);
        let since = |counter: &AtomicU64, before| counter.load(Relaxed).wrapping_sub(before);
        slot.set(|slot| &slot.steered, since(&line.steered, self.steered_before));
        slot.set(|slot| &slot.migrated, since(&line.migrated, self.migrated_before));
    }
}

impl Lane for OwnLane {
    /// Notes that a connection was accepted, after it was counted as open in the slot.
    ///
    /// It was counted when it was steered here, unless it came another way: by the hash, because the choice
    /// failed, or through an adopted socket. So the load is set to at least the number of open connections.
    fn opened(&self, slot: OwnSlot) {
        self.settle(slot, |load, open| load.max(open));
    }

    /// Notes that a connection has ended, after it was taken off what is open in the slot.
    fn closed(&self, slot: OwnSlot) {
        self.settle(slot, |load, open| (load - 1).max(open));
    }

    /// Notes that the event loop has nothing to do and sleeps.
    fn sleeps(&self, slot: OwnSlot) {
        let woke = self.pace.sleeps(slot.requests.load(Relaxed));
        if self.is_kept_by_us() {
            self.line.room.store(self.room(slot), Relaxed);
            self.line.idle.store(self.idle(slot), Relaxed);
            self.show(woke, true);
        }
    }

    /// Notes that it wakes.
    fn wakes(&self) {
        let now = self.pace.wakes();
        if self.is_kept_by_us() {
            self.show(now, false);
        }
    }

    /// Notes that the event loop turns, and forgets connections that never arrived.
    ///
    /// A connection that was steered here before the last tick has had the time to be accepted. So the load is
    /// at most the open connections and those steered here since. A handshake that takes longer is forgotten,
    /// and counts again from its accept on: meanwhile the load is a little too low.
    ///
    /// Not whenever the accept queue is empty: under a flood of half-open connections the workers that accept
    /// most often would forget soonest, seem the least loaded, and get everything.
    fn tick(&self, slot: OwnSlot) {
        self.lifetimes.look(&slot);
        // Reading hundreds of lanes takes microseconds, so only if it matters.
        let matters = self.lifetimes.are_short() && slot.connections_kept.load(Relaxed) > UNEVEN;
        let by_others = if matters { self.lanes.kept_by_others(self.line) } else { 0 };
        self.kept_by_others.store(by_others, Relaxed);
        if self.is_kept_by_us() {
            self.line.beat.store(monotonic_nanoseconds(), Relaxed);
        }
        let given = self.line.given();
        let before = self.given_at_last_tick.swap(given, Relaxed);
        let recent = given.wrapping_sub(before) as i64;
        self.settle(slot, |load, open| load.min(open + recent).max(open));
    }
}

#[cfg(test)]
mod tests;
