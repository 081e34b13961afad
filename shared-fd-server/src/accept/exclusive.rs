//! `--accept exclusive`: the event loop itself waits with EPOLLEXCLUSIVE, as nginx's does.
//!
//! The kernel wakes one worker for each connection, the first in line that is idle, and the order of the line
//! never changes ([`common::accept::line`] says why). So there is no herd.
//!
//! It is level-triggered, and a worker takes **one** connection, serves what it has, and then waits again
//! ([`super::event_loop`]). So the accept queue is one queue for all workers, and a worker that blocks in a
//! handler does not wait for connections. A thread that accepts while the event loop is blocked would take
//! connections out of that queue, which then wait behind the handler: with handlers of 10 ms, p99 was 40 ms
//! instead of 11.
//!
//! When it goes wrong: an idle worker in front of the line gets everything. A burst of connections goes to
//! the first few workers, which have them as long as they are kept. With many more workers than cores each
//! connection wakes a sleeping worker, although one that is awake would have taken it a moment later. And if
//! the worker that was woken is stopped or killed in that moment, the connection waits until the next one
//! arrives; so all workers look at the queue now and then.

use std::io;
use std::time::Duration;

use common::accept::acceptor::Way;
use common::accept::line::Line;
use common::accept::place::{Place, WaitPolicy, Woken};
use common::scoreboard::OwnSlot;

use super::event_loop;

/// Waits with EPOLLEXCLUSIVE.
pub struct Exclusive {
    line: Line,
    slot: OwnSlot,
}

impl Exclusive {
    /// The way in which the event loop of the worker with this slot waits.
    pub fn wait(slot: OwnSlot) -> Way {
        event_loop::by(move |place| {
            let mut line = Line::watching_the_loop(place)?;
            line.join(place)?;
            Ok(Box::new(Self { line, slot }))
        })
    }
}

impl WaitPolicy for Exclusive {
    fn wait(&mut self, place: &Place, at_most: Duration) -> io::Result<Woken> {
        let ready = self.line.wait(place, at_most)?;
        if (ready.connection || ready.look)
            && let Some(stream) = place.accept()?
        {
            return Ok(Woken::Connection(stream));
        }
        if ready.connection {
            // A worker that was awake was faster.
            self.slot.add(|slot| &slot.wakeups_without_connection, 1);
        }
        Ok(if ready.events || ready.look { Woken::Loop } else { Woken::Nothing })
    }

    fn may_accept(&mut self, _: &Place) -> bool {
        true
    }
}
