//! `--accept least-conn`: as [`exclusive`](super::exclusive), but few workers wait for all, and of connections
//! that are kept the worker with fewer gets the next.
//!
//! 1. **A short line.** At most two idle workers for each core wait in line.
//! 2. **A call.** A worker that takes a connection and leaves the line empty calls one from the reserve,
//!    unless enough others turn their loops quickly.
//! 3. **Fewer first.** If connections are kept, a worker leaves the next one to another that has fewer.
//!
//! The [rules](common::accept::least_conn::rules) are in `common`, since other servers can use them, too:
//! [`LeastConn`](common::accept::least_conn::LeastConn) is a listener for these. Workers read each other's
//! state on the scoreboard.
//!
//! While cores are busy, workers are scheduled as SCHED_BATCH ([`common::platform::schedule`]): a worker that
//! is woken lets others finish.

use common::accept::acceptor::Way;
use common::accept::least_conn::rules::Rules;
use common::parent::context::WorkerContext;

use super::event_loop;

/// The way in which the event loop of the worker with this context waits.
pub fn wait(context: &WorkerContext) -> Way {
    let (own, slots) = (context.slot, context.slots);
    // Before the worker is pinned, when it still sees all cores.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    event_loop::by(move |place| Ok(Box::new(Rules::new(place, own, slots, cores)?)))
}
