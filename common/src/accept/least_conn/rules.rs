//! Which workers wait for the shared socket, which are called, and when a worker leaves a connection to another.
//!
//! Workers wait with EPOLLEXCLUSIVE ([`line`](crate::accept::line)), a few of them for all. If connections are
//! kept, the worker with fewer gets the next. There are three rules. A worker reads the state of the others on the
//! [scoreboard](crate::scoreboard) that they share.
//!
//! 1. **A short line.** At most two idle workers for each core wait in line. The others are in reserve: they
//!    sleep, and do not watch the socket. Waking a worker costs a context switch, and a connection wakes the
//!    first sleeper in line even if a worker that is awake takes the connection a moment later. With 64 workers
//!    in line each connection costs such a switch, and throughput was 0.6 of that with a short line.
//! 2. **A call.** A worker that takes a connection, or wakes for a request that may block, and leaves the line
//!    empty, calls a worker from the reserve. It does not if as many others as there are cores turn their loops
//!    quickly: these will be back before a sleeping worker is awake. A worker whose handler blocks does not turn,
//!    and so does not count. Linux's workqueues decide the same way (Documentation/core-api/workqueue.rst,
//!    "concurrency managed"). A worker that has both a request that may block and a new connection leaves the
//!    connection to any other worker that sleeps.
//! 3. **Fewer first.** If connections are kept, a worker leaves a new one to another worker that has fewer and is
//!    not blocked: it wakes that worker, and looks again a moment later. If requests are known to take
//!    long, it looks four times before it takes the connection itself, and workers with equally many get one in turn:
//!    clients often use their connections in turn, too, and two that a worker got one after the other would soon be
//!    used at the same time. With short requests that would only delay a burst of connections. If connections end after one request, a
//!    worker takes as many as it serves within 4 ms before it leaves one: each is over soon, and waking another
//!    worker costs a context switch. Without that, throughput with 64 workers was 0.8 of what it is. Connections
//!    that have had an answer and stayed count as kept, as do those that have sent nothing for half a second. Of
//!    these a worker has at most two more than others. If a request takes longer than the time for which a
//!    connection is left, each connection counts.
//!
//! No worker is ever forbidden to help: every worker, in reserve or not, looks at the queue at each tick, four
//! times a second. A call is a signal that interrupts the sleep, and does nothing else.
//!
//! With one queue and workers that take one connection at a time this is the ideal for handlers that block: a
//! blocked worker does not wait for connections.
//!
//! When it goes wrong: rule 3 counts connections, not work, and corrects nothing afterwards. If requests take long
//! and the workers with fewer get no core, a connection waits for 8 ms. After a load of
//! short connections, up to 64 that will be kept, and send nothing yet, may come to one worker. A worker that is
//! stopped in line holds the connection for which it was woken. Until its missing heartbeat shows, half a second
//! later, no other worker is called in its place: with many workers, all of them blocked, a connection may wait
//! for a tick.

use std::io::{self, ErrorKind};
use std::time::Duration;

use super::peers::{Peer, Peers, Turn};
use crate::accept::line::Line;
use crate::accept::place::{Place, WaitPolicy, Woken};
use crate::kernel::sockets::is_readable;
use crate::scoreboard::{OwnSlot, Slots};

/// Idle workers in line for each core: one that takes the next connection, and one for the moment until
/// another comes back or is called.
const IN_LINE_PER_CORE: usize = 2;

/// How long a connection is left to a worker that has fewer: that connection waits as long, and will be kept for
/// longer.
const LEAVE: Duration = Duration::from_millis(2);

/// How often it is left, at most, if requests are known to take long. Of several connections the worker to which this
/// one was left may have taken another, and the next worker with fewer is then woken only now. Otherwise once: when
/// cores were busy, a burst of 400 kept connections was answered after 250 ms instead of 50.
const TIMES: u32 = 4;

/// Waits in line, or in reserve.
pub struct Rules {
    line: Line,
    peers: Peers,
    cores: usize,
    /// Whether it was called. Then it joins the line, however long the line is.
    is_called: bool,
}

impl Rules {
    /// For the worker with the slot `own`, of several that run on this many cores.
    ///
    /// # Errors
    /// When the kernel has no descriptor to give.
    pub fn new(place: &Place, own: OwnSlot, slots: Slots, cores: usize) -> io::Result<Self> {
        let line = Line::watching_the_loop(place)?;
        Ok(Self { line, peers: Peers::of(own, slots), cores, is_called: false })
    }

    /// Accepts a connection, or leaves it to another worker. `None`: the queue was empty.
    fn take(&mut self, place: &Place) -> io::Result<Option<Woken>> {
        let times = if self.peers.takes_long() { TIMES } else { 1 };
        for _ in 0..times {
            let Some(other) = self.peers.with_fewer(LEAVE) else { break };
            self.peers.leaves_one();
            if other.is_asleep() {
                other.wake();
            }
            self.peers.sleeps(Turn::Reserve);
            let waited = place.wait_for_events(LEAVE);
            self.peers.wakes();
            match waited {
                Ok(true) => return Ok(Some(Woken::Loop)),
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                Ok(false) | Err(_) => {} // the connection is still there, or this worker is called
            }
            if !is_readable(&place.listener) {
                break;
            }
        }
        let accepted = place.accept()?;
        if accepted.is_some() {
            self.call();
        }
        Ok(accepted.map(Woken::Connection))
    }

    /// Rule 2.
    fn call(&self) {
        self.peers.whom_to_call(self.cores).inspect(Peer::wake);
    }
}

impl WaitPolicy for Rules {
    fn wait(&mut self, place: &Place, at_most: Duration) -> io::Result<Woken> {
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
        let waited = self.line.wait(place, at_most);
        self.peers.wakes();
        let ready = match waited {
            // Called. The epoll instance knows nothing of a connection for which another was woken.
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                self.is_called = true;
                return Ok(self.take(place)?.unwrap_or(Woken::Nothing));
            }
            ready => ready?,
        };
        if ready.events && !self.peers.is_quick() {
            // This worker may block now. So the connection is for another, which has not been woken for it yet.
            if ready.connection
                && let Some(other) = self.peers.asleep()
            {
                other.wake();
                return Ok(Woken::Loop);
            }
            self.call(); // this one may have been the last in line
        }
        if (ready.connection || ready.look)
            && let Some(woken) = self.take(place)?
        {
            return Ok(woken);
        }
        if ready.connection {
            self.peers.was_woken_in_vain(); // a worker that was awake was faster
        }
        Ok(if ready.events || ready.look { Woken::Loop } else { Woken::Nothing })
    }

    fn may_accept(&mut self, place: &Place) -> bool {
        self.peers.looks_up();
        let fewer = self.peers.with_fewer(LEAVE);
        // A worker with short requests comes to rest soon, and then waits and calls as the others do.
        if !self.peers.is_quick() && is_readable(&place.listener) {
            match &fewer {
                Some(other) if other.is_asleep() => other.wake(),
                Some(_) => {}
                None => self.call(),
            }
        }
        fewer.is_none()
    }
}
