//! `--accept least-conn`: as [`exclusive`](super::exclusive), but a few wait for all, and where connections
//! are kept, whoever has fewer gets the next.
//!
//! 1. **A short line.** Only so many idle workers wait in line as there are cores, times two.
//! 2. **A call.** Whoever takes a connection and leaves nobody in line calls one of those that are in reserve,
//!    unless enough others turn their loops quickly.
//! 3. **Fewer first.** Where connections are kept, a worker leaves the next one to another that has fewer.
//!
//! The [rules](common::accept::least_conn::rules) are in `common`, and are not only for this server:
//! [`LeastConn`](common::accept::least_conn::LeastConn) is a listener for any other. What workers must know of
//! each other they read in the scoreboard here.
//!
//! Workers are scheduled as SCHED_BATCH ([`common::platform::schedule`]): one that is woken while a core is
//! busy lets others finish.

use common::accept::acceptor::Way;
use common::accept::least_conn::on_scoreboard::OnScoreboard;
use common::accept::least_conn::rules::Rules;
use common::parent::context::WorkerContext;

use super::event_loop;

/// Has the event loop of the worker with this context wait like this.
pub fn wait(context: &WorkerContext) -> Way {
    let workers = OnScoreboard { own: context.slot, slots: context.slots };
    // Before the worker is pinned, and sees one core.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    event_loop::by(move |place| Ok(Box::new(Rules::new(place, workers, cores)?)))
}
