//! `--accept least-conn`: workers wait with EPOLLEXCLUSIVE, as with [`exclusive`](crate::exclusive), behind a
//! gate. A worker joins those who wait only while it has about as few connections open as any other.
//!
//! The kernel wakes one waiter and knows nothing of load; but it can only wake who waits. So a
//! worker that has more connections open than another, by more than a [slack](SLACK), stands
//! back. How many the others have it reads in the scoreboard, which is shared memory; no word is
//! exchanged.
//!
//! Nobody waits but the event loop itself, when it has nothing else to do ([`common::accept::parking`]). So who is
//! awake anyway accepts without having been woken for it, and a connection costs no change of threads.
//! Workers are scheduled as SCHED_BATCH ([`common::platform::schedule`]): one that is woken while a core is busy
//! lets others finish, and finds more to do when it comes to run. With many more workers than cores only
//! some of them wait in line ([`crew`](crate::crew)).
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
//! would have taken the wake-up from somebody else; there is no way to pass it on. So who is woken
//! accepts.
//!
//! When it goes wrong: it counts connections, not work. One that asks for much and one that is idle
//! weigh the same, where the connections are kept. While a worker waits the others may close theirs,
//! and it then takes one although it has the most; one, since after it the gate is closed.

use std::collections::HashMap;
use std::io;
use std::mem;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use common::accept::parking::{Enter, Park, Place, Woken};
use common::http::deadlines::TICK;
use common::parent::context::WorkerContext;
use common::scoreboard::{Slot, State};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::crew::Crew;
use crate::peers::Peers;

/// How many connections more than the least loaded worker's are no reason to stand back. With 0, who
/// has just accepted would stand back from everybody, and each connection would be a change of
/// worker; with 1 a server with little to do never sees the gate closed.
const SLACK: u64 = 1;

/// For each so many workers the slack is one more. Many workers have few connections each, and more
/// workers than cores do not get more done: to spread a hundred connections over as many workers,
/// where a few can serve them, is to wake a sleeping process for each.
const MANY: u64 = 8;

/// How long a worker leaves connections to those with fewer, before it looks at the scoreboard
/// again, unless its event loop has something to do: so long for each worker there is, and no
/// longer than [`BOUND`].
const STEP: Duration = Duration::from_micros(125);

/// How long it leaves connections in the queue to them in all. Longer than the turns at a core that
/// others may have before them; short enough for nobody to notice.
const BOUND: Duration = Duration::from_millis(5);

/// Milliseconds between two heartbeats of which one is missing.
const SILENT: u64 = 2 * TICK.as_millis() as u64;

/// The longest time for which a worker is not waited for. It may be there again meanwhile.
const LONGEST: Duration = Duration::from_secs(1);

/// What the epoll instance says is ready: a connection, or the event loop.
const SOCKET: u64 = 0;
const LOOP: u64 = 1;

/// Waits with EPOLLEXCLUSIVE, behind the gate.
pub struct LeastConn {
    /// Watches the event loop and, exclusively, the socket.
    line: Epoll,
    /// Whether it watches the socket.
    is_in_line: bool,
    peers: Peers,
    /// Who does without us, where there are many.
    crew: Crew,
    /// Who let connections lie, by slot.
    let_downs: HashMap<usize, LetDown>,
    /// Since when a connection lies in the queue that is left to another.
    lies_since: Option<Instant>,
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
    /// Waits for the worker with this context.
    pub fn from(context: &WorkerContext) -> Enter {
        let peers = Peers::new(context.slot, context.slots);
        let crew = Crew::new(); // before the worker is pinned, and sees one core
        Box::new(|place| {
            let line = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
            line.add(&place.events, EpollEvent::new(EpollFlags::EPOLLIN, LOOP))?;
            Ok(Box::new(Self {
                line,
                is_in_line: false,
                peers,
                crew,
                let_downs: HashMap::new(),
                lies_since: None,
            }))
        })
    }

    /// Waits in the line of those who may be woken for a connection.
    fn stand_in_line(&mut self, place: &Place) -> io::Result<Woken> {
        self.lies_since = None;
        if !self.is_in_line {
            let exclusively = EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE;
            self.line.add(&place.listener, EpollEvent::new(exclusively, SOCKET))?;
            self.is_in_line = true;
        }
        let mut events = [EpollEvent::empty(); 2];
        let time = EpollTimeout::try_from(place.time()).unwrap_or(EpollTimeout::ZERO);
        let ready = self.line.wait(&mut events, time)?;
        let is_ready = |what| events[..ready].iter().any(|event| event.data() == what);
        // Also without a wake-up, now and then: no code can help a worker that is stopped or killed
        // between its wake-up and its accept, but others can.
        if ready == 0 || is_ready(SOCKET) {
            if let Some(stream) = place.accept()? {
                return Ok(Woken::Connection(stream));
            }
            if ready > 0 {
                // Somebody who did not have to be woken was faster.
                self.peers.own.add(|slot| &slot.wakeups_without_connection, 1);
            }
        }
        Ok(if ready == 0 || is_ready(LOOP) { Woken::Loop } else { Woken::Nothing })
    }

    /// Is not woken for connections, but looks now and then whether one lies in the queue.
    fn keep_out(&mut self, place: &Place) -> io::Result<Woken> {
        self.lies_since = None;
        if mem::take(&mut self.is_in_line) {
            self.line.delete(&place.listener)?;
        }
        let time = self.crew.until_look(&self.peers).min(place.time());
        let [has_work] = place.poll([place.events.as_fd()], time)?;
        if has_work {
            return Ok(Woken::Loop);
        }
        let accepted = place.accept()?;
        self.crew.looked(accepted.is_some());
        Ok(accepted.map_or(Woken::Nothing, Woken::Connection))
    }

    /// Leaves connections to this other worker, but none for longer than [`BOUND`].
    fn stand_back(&mut self, place: &Place, other: usize) -> io::Result<Woken> {
        self.peers.own.add(|slot| &slot.gated, 1);
        let Some(since) = self.lies_since else {
            let both = [place.listener.as_fd(), place.events.as_fd()];
            let [lies, has_work] = place.poll(both, place.time())?;
            self.lies_since = lies.then(Instant::now);
            return Ok(if has_work || !lies { Woken::Loop } else { Woken::Nothing });
        };
        let [lies] = place.poll([place.listener.as_fd()], Duration::ZERO)?;
        if !lies {
            self.lies_since = None;
            return Ok(Woken::Nothing);
        }
        if since.elapsed() >= BOUND {
            self.lies_since = None;
            self.note_let_down(other);
            return Ok(place.accept()?.map_or(Woken::Nothing, Woken::Connection));
        }
        let [has_work] = place.poll([place.events.as_fd()], self.step())?;
        Ok(if has_work { Woken::Loop } else { Woken::Nothing })
    }

    /// How long to pause: all together look about as often, however many they are.
    fn step(&self) -> Duration {
        (STEP * self.peers.all.len() as u32).min(BOUND)
    }

    /// A worker with fewer connections than this one has, by more than the slack.
    fn less_loaded(&mut self) -> Option<usize> {
        let open = |slot: &Slot| slot.connections_open.load(Relaxed);
        open(&self.peers.own).checked_sub(SLACK + 1)?; // the usual case, without a look at anybody
        self.peers.look();
        let most = open(&self.peers.own).checked_sub(self.slack() + 1)?;
        let has_fewer = |&index: &usize| open(self.peers.at(index)) <= most;
        self.peers.all.iter().copied().find(|index| has_fewer(index) && self.takes_part(*index))
    }

    fn slack(&self) -> u64 {
        SLACK + self.peers.all.len() as u64 / MANY
    }

    /// Whether the crew does without this worker.
    fn is_surplus(&mut self) -> bool {
        self.peers.look();
        self.crew.suffices(&self.peers, self.is_in_line, self.slack())
    }

    /// Whether this worker can be expected to accept.
    fn takes_part(&self, index: usize) -> bool {
        let slot = self.peers.at(index);
        let heartbeat = |slot: &Slot| slot.heartbeat.load(Relaxed);
        slot.is_of_one_server_with(&self.peers.own)
            && slot.state() == State::Serving
            // By our own heart, since to ask the clock for every worker would take longer.
            && heartbeat(&self.peers.own).saturating_sub(heartbeat(slot)) <= SILENT
            && self.let_downs.get(&index).is_none_or(|last| {
                last.accepted != slot.connections_accepted.load(Relaxed)
                    || last.until <= Instant::now()
            })
    }

    fn note_let_down(&mut self, index: usize) {
        let accepted = self.peers.at(index).connections_accepted.load(Relaxed);
        let last = self.let_downs.get(&index).filter(|last| last.accepted == accepted);
        let lasts = last.map_or(2 * BOUND, |last| LONGEST.min(2 * last.lasts));
        let let_down = LetDown { accepted, lasts, until: Instant::now() + lasts };
        self.let_downs.insert(index, let_down);
    }
}

impl Park for LeastConn {
    fn wait(&mut self, place: &Place) -> io::Result<Woken> {
        match self.less_loaded() {
            Some(other) => self.stand_back(place, other),
            None if self.is_surplus() => self.keep_out(place),
            None => self.stand_in_line(place),
        }
    }

    fn may_accept(&mut self) -> bool {
        self.less_loaded().is_none()
    }
}
