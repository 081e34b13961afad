//! `--accept least-conn`: as [`exclusive`](super::exclusive), but a few wait for all, and where connections
//! are kept, whoever has fewer gets the next.
//!
//! Three rules. What a worker must know of the others it reads in the scoreboard, which is shared memory.
//!
//! 1. **A short line.** Only so many idle workers wait in line as there are cores, times two. The others
//!    are in reserve: they sleep, and do not watch the socket. A worker that sleeps costs a context switch
//!    to wake, and a connection wakes the first sleeper in line even if a worker that is awake takes the
//!    connection a moment later. With 64 workers in line each connection is such a switch, and throughput
//!    was 0.6 of what it is with a short line.
//! 2. **A call.** Whoever takes a connection and leaves nobody in line calls one from the reserve, unless as
//!    many others as there are cores are turning their loops quickly: those will be back before anybody who
//!    has to be woken. A worker whose handler blocks does not turn, and so does not count. Linux's
//!    workqueues decide the same way (Documentation/core-api/workqueue.rst, "concurrency managed").
//! 3. **Fewer first.** Where connections are kept, a worker that could take one leaves it to another that
//!    has fewer and is not blocked, wakes that, and looks again a moment later. Where they end after one
//!    request there is next to nothing to balance, and a small difference does not count.
//!
//! Nobody is ever forbidden to help: every worker, in reserve or not, looks at the queue at each tick, four
//! times a second. A call is a signal that interrupts the sleep, and does nothing else.
//!
//! With one queue and workers that take one connection at a time this is the ideal for handlers that block
//! (see [`exclusive`](super::exclusive)). Workers are scheduled as SCHED_BATCH
//! ([`common::platform::schedule`]): one that is woken while a core is busy lets others finish.
//!
//! When it goes wrong: rule 3 counts connections, not work, and corrects nothing afterwards. A worker that
//! is stopped in line holds the connection it was woken for, as with `exclusive`; and until its missing
//! heartbeat shows, half a second later, nobody is called in its place, so that with many workers, all
//! of them blocked, a connection may wait for a tick.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::time::Duration;

use common::accept::parking::{Enter, Park, Place, Woken};
use common::parent::context::WorkerContext;

use super::exclusive::Line;
use super::peers::{Peer, Peers, Turn};

/// Idle workers in line for each core: one that takes the next connection, and one for the moment until
/// another comes back or is called.
const IN_LINE_PER_CORE: usize = 2;

/// How long a connection is left to a worker that has fewer. It may wait as long once, and is kept for longer.
const LEAVE: Duration = Duration::from_millis(2);

/// Waits in line, or in reserve.
pub struct LeastConn {
    line: Line,
    peers: Peers,
    cores: usize,
    /// Whether it was called, and so joins the line however long that is.
    is_called: bool,
}

impl LeastConn {
    /// Has the event loop of the worker with this context wait like this.
    pub fn enter(context: &WorkerContext) -> Enter {
        let peers = Peers::new(context.slot, context.slots);
        // Before the worker is pinned, and sees one core.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Box::new(move |place| {
            let line = Line::watching_the_loop(place)?;
            Ok(Box::new(Self { line, peers, cores, is_called: false }))
        })
    }

    /// Accepts a connection, or leaves it to another. `None`: none was there.
    fn take(&mut self, place: &Place) -> io::Result<Option<Woken>> {
        if let Some(other) = self.peers.with_fewer(LEAVE) {
            self.peers.own.add(|slot| &slot.gated, 1);
            if other.is_asleep() {
                other.wake();
            }
            self.peers.sleeps(Turn::Reserve);
            let waited = place.poll([place.events.as_fd()], LEAVE);
            self.peers.wakes();
            let [has_work] = waited?;
            if has_work {
                return Ok(Some(Woken::Loop));
            }
        }
        let accepted = place.accept()?;
        if accepted.is_some() {
            self.peers.whom_to_call(self.cores).inspect(Peer::wake);
        }
        Ok(accepted.map(Woken::Connection))
    }
}

impl Park for LeastConn {
    fn wait(&mut self, place: &Place) -> io::Result<Woken> {
        self.peers.comes_by();
        if !std::mem::take(&mut self.is_called)
            && self.peers.are_in_line(IN_LINE_PER_CORE * self.cores)
        {
            self.line.leave(place)?;
            self.peers.sleeps(Turn::Reserve);
        } else {
            self.line.join(place)?;
            self.peers.sleeps(Turn::InLine);
        }
        let waited = self.line.wait(place);
        self.peers.wakes();
        let ready = match waited {
            // Called. The epoll instance knows nothing of a connection for which another was woken.
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                self.is_called = true;
                return Ok(self.take(place)?.unwrap_or(Woken::Nothing));
            }
            ready => ready?,
        };
        if (ready.connection || ready.nothing)
            && let Some(woken) = self.take(place)?
        {
            return Ok(woken);
        }
        if ready.connection {
            place.was_woken_in_vain(); // somebody who did not have to be woken was faster
        }
        Ok(if ready.events || ready.nothing { Woken::Loop } else { Woken::Nothing })
    }

    fn may_accept(&mut self) -> bool {
        self.peers.with_fewer(LEAVE).is_none()
    }
}
