//! `--accept least-conn`: as [`exclusive`](crate::exclusive), behind a gate. A worker joins those who
//! wait only while it has about as few connections open as any other.
//!
//! The kernel wakes one waiter and knows nothing of load; but it can only wake who waits. So a
//! worker that has more connections open than another, by more than a [slack](SLACK), stands
//! back. How many the others have it reads in the scoreboard, which is shared memory; no word is
//! exchanged.
//!
//! Standing back must not cost anything while nothing is to be done, so it is a wait as well, but a
//! common one: poll(2), which enters the socket's waiters without being exclusive. A connection
//! that is established wakes the exclusive waiter in front *and* everybody who stands back. These
//! leave it to the other, look at the scoreboard again after a [`STEP`], and wait on. If it still
//! lies there after [`BOUND`], one of them takes it: then who should have is stopped, or blocked, or
//! has no core to run on. Who let a connection lie like this is not waited for again for a while,
//! twice as long each time, until it accepts something; and nobody waits for one whose heart, which
//! beats four times a second, has missed two beats. So a worker that stands still with few
//! connections open costs the others a few pauses, and not one for each connection.
//!
//! The gate comes *before* the wait. A worker that found out only when woken that it has too many
//! would have taken the wake-up from somebody else; there is no way to pass it on.
//!
//! When it goes wrong: it counts connections, not work. One that asks for much and one that is idle
//! weigh the same, where the connections are kept. While a worker waits the others may close theirs,
//! and it then takes one although it has the most; one, since after it the gate is closed.

use std::collections::HashMap;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use common::deadlines::TICK;
use common::scoreboard::{CAPACITY, Slot, Slots, State};
use common::start::Seat;
use common::waiter::{Policy, Post};

use crate::exclusive::Exclusive;

/// How many connections more than the least loaded worker's are no reason to stand back. With 0, who
/// has just accepted would stand back from everybody, and each connection would be a change of
/// worker; with 1 a server with little to do never sees the gate closed.
const SLACK: u64 = 1;

/// For each so many workers the slack is one more. Many workers have few connections each, and more
/// workers than cores do not get more done: to spread a hundred connections over as many workers,
/// where a few can serve them, is to wake a sleeping process for each.
const MANY: u64 = 8;

/// How long a worker leaves connections to those with fewer, before it looks at the scoreboard
/// again: so long for each worker there is, and no longer than [`BOUND`]. When a connection of its
/// own ends, it looks at once.
const STEP: Duration = Duration::from_micros(125);

/// How long it leaves connections in the queue to them in all. Longer than the turns at a core that
/// others may have before them; short enough for nobody to notice.
const BOUND: Duration = Duration::from_millis(5);

/// Milliseconds between two heartbeats of which one is missing.
const SILENT: u64 = 2 * TICK.as_millis() as u64;

/// The longest time for which a worker is not waited for. It may be there again meanwhile.
const LONGEST: Duration = Duration::from_secs(1);

/// Waits with EPOLLEXCLUSIVE, behind the gate.
pub struct LeastConn {
    wait: Exclusive,
    own: &'static Slot,
    slots: Slots,
    /// The slots of this server's workers, as of our heartbeat at that time: a look through all
    /// there may be costs more than an accept.
    peers: (u64, Vec<usize>),
    /// Who let connections lie, by slot.
    let_downs: HashMap<usize, LetDown>,
}

/// A worker that was waited for in vain.
struct LetDown {
    /// What it had accepted then: if it is something else now, all is forgotten.
    accepted: u64,
    /// For how long it is not waited for again.
    lasts: Duration,
    until: Instant,
}

impl LeastConn {
    /// Registers this socket, and reads the scoreboard from this seat.
    pub fn on(seat: &Seat, listener: &TcpListener) -> io::Result<Self> {
        Ok(Self {
            wait: Exclusive::on(listener)?,
            own: seat.slot,
            slots: seat.slots,
            peers: (u64::MAX, Vec::new()),
            let_downs: HashMap::new(),
        })
    }

    /// Stands back while somebody else has fewer connections, but not longer than [`BOUND`] from a
    /// connection that nobody takes.
    fn pass_the_gate(&mut self, post: &Post) -> io::Result<()> {
        let mut lies_since = None;
        while let Some(other) = self.less_loaded()
            && !post.is_relieved()
        {
            Slot::add(&self.own.gated, 1);
            post.worker.gate.pause(self.step());
            if !post.has_connection() {
                lies_since = None;
                post.until_one_comes()?;
            }
            let since = *lies_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= BOUND {
                self.note_let_down(other);
                return Ok(());
            }
        }
        Ok(())
    }

    /// How long to pause: all together look about as often, however many they are.
    fn step(&self) -> Duration {
        (STEP * self.peers.1.len() as u32).min(BOUND)
    }

    /// A worker with fewer connections than this one has, by more than the slack.
    fn less_loaded(&mut self) -> Option<usize> {
        let open = |slot: &Slot| slot.connections_open.load(Relaxed);
        open(self.own).checked_sub(SLACK + 1)?; // the usual case, without a look at anybody
        self.look_for_peers();
        let slack = SLACK + self.peers.1.len() as u64 / MANY;
        let most = open(self.own).checked_sub(slack + 1)?;
        let has_fewer = |&index: &usize| open(self.slots.at(index)) <= most;
        self.peers.1.iter().copied().find(|index| has_fewer(index) && self.takes_part(*index))
    }

    /// Whether this worker can be expected to accept.
    fn takes_part(&self, index: usize) -> bool {
        let slot = self.slots.at(index);
        let heartbeat = |slot: &Slot| slot.heartbeat.load(Relaxed);
        slot.is_of_one_server_with(self.own)
            && slot.state() == State::Serving
            // By our own heart, since to ask the clock for every worker would take longer.
            && heartbeat(self.own).saturating_sub(heartbeat(slot)) <= SILENT
            && self.let_downs.get(&index).is_none_or(|last| {
                last.accepted != slot.connections_accepted.load(Relaxed)
                    || last.until <= Instant::now()
            })
    }

    fn note_let_down(&mut self, index: usize) {
        let accepted = self.slots.at(index).connections_accepted.load(Relaxed);
        let last = self.let_downs.get(&index).filter(|last| last.accepted == accepted);
        let lasts = last.map_or(2 * BOUND, |last| LONGEST.min(2 * last.lasts));
        let let_down = LetDown { accepted, lasts, until: Instant::now() + lasts };
        self.let_downs.insert(index, let_down);
    }

    /// Looks who there is, once per heartbeat.
    fn look_for_peers(&mut self) {
        let now = self.own.heartbeat.load(Relaxed);
        if self.peers.0 != now {
            let is_peer = |&index: &usize| self.slots.at(index).is_of_one_server_with(self.own);
            self.peers = (now, (0..CAPACITY).filter(is_peer).collect());
        }
    }
}

impl Policy for LeastConn {
    fn next(&mut self, post: &Post) -> io::Result<Option<TcpStream>> {
        self.pass_the_gate(post)?;
        self.wait.next(post)
    }
}
