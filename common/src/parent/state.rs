//! The types of the state machine: what the parent knows, what it learns, and what it can order.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::parent::{backoff::Backoff, exit::Exit};
use crate::platform::affinity;

/// A worker's number. Slots, lanes and pids are reused when a worker has ended; a generation never is. So no
/// order or message is taken for another worker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub(super) u64);

/// A per-worker listening socket. A number, as the parent never holds the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Socket(pub(super) u64);

/// The server's settings, which never change.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Workers at the start.
    pub workers: usize,
    /// How long a worker may drain.
    pub drain_timeout: Duration,
    /// After how long a silent worker is killed; zero for never.
    pub hang_timeout: Duration,
    /// Whether each worker has a listening socket of its own.
    pub own_sockets: bool,
    /// Whether a policy steers connections. It knows workers by lanes.
    pub steers: bool,
    /// Whether this server was started to replace another, whose sockets it has.
    pub replaces: bool,
}

/// Everything the parent knows.
#[derive(Debug)]
pub struct State {
    pub(super) settings: Settings,
    /// How many workers there should be.
    pub(super) wanted: usize,
    /// In the order in which they were started.
    pub(super) workers: Vec<Worker>,
    pub(super) next_generation: u64,
    pub(super) next_socket: u64,
    /// Whether a reload is under way.
    pub(super) reloading: bool,
    /// The workers still to be replaced, in a reload or without one.
    pub(super) to_replace: VecDeque<Generation>,
    pub(super) backoff: Backoff,
    /// Whether all workers have served once.
    pub(super) announced: bool,
    /// Whether the server was told to end.
    pub(super) ending: bool,
    /// How far the replacement of this server by a new one is.
    pub(super) succession: Succession,
    /// When to look next whether a worker hangs; `None` if hanging workers are not looked for.
    pub(super) next_look: Option<Instant>,
}

/// How far the replacement of this server by a new one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Succession {
    /// No replacement.
    None,
    /// Ordered. It begins when no worker is starting, being replaced or giving sockets away.
    Wanted,
    /// The new server must serve by `until`. Meanwhile no workers come or go, except for those that die: a
    /// further worker would have a socket that the new server does not get.
    Starting { until: Instant },
    /// The new server was told to end, and is killed at `until`; `None` for never, and after it was killed.
    /// Its workers answer what they have accepted: this server does not end before.
    Ending { until: Option<Instant> },
}

/// A worker as the state machine knows it.
#[derive(Debug)]
pub(super) struct Worker {
    pub generation: Generation,
    pub state: WorkerState,
    /// When it was started.
    pub started: Instant,
    /// Since when it serves, or when it began to serve before it was told to end.
    pub serves_since: Option<Instant>,
    /// The worker that it will replace, as long as that one lives.
    pub replaces: Option<Generation>,
    /// While it starts: the sockets that it gets from another worker.
    pub inherits: Option<Transfer>,
    /// While it serves: the sockets that it was told to take over from a worker that will end.
    pub adopting: Option<Transfer>,
    /// Its listening sockets; none if all workers share one.
    pub sockets: Vec<Socket>,
    /// The lane by which a steering policy knows it.
    pub lane: Option<usize>,
    /// Whether that was its predecessor's lane.
    pub takes_lane: bool,
    /// The CPU that it is pinned to, if it is.
    pub cpu: Option<usize>,
    /// Since when its event loop is known to stand still.
    pub suspected: Option<Instant>,
    /// When its end of the channel was closed: it is about to exit, or has failed.
    pub closed: Option<Instant>,
    /// Until when it is not asked again to give or to adopt sockets, after that has failed.
    pub rests_until: Option<Instant>,
    /// When it was sent SIGTERM, until the parent has decided what that means.
    pub terminated: Option<Instant>,
}

/// Where a worker is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkerState {
    /// Not serving yet.
    Starting,
    /// In the accept loop.
    Serving,
    /// Its sockets are on their way to the worker `heir`. It serves until the heir has them, then drains.
    GivingAway { heir: Generation },
    /// Ends by itself, and is killed at `until`; `None`: it may take as long as it needs.
    Draining { until: Option<Instant> },
    /// Killed because it has failed; it is replaced once it has ended.
    Failing,
    /// Killed, and not to be replaced.
    Killed,
}

/// Sockets on their way from one worker to another. They belong to the giver, which keeps them open, until the
/// taker says that it has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Transfer {
    pub giver: Generation,
    pub sockets: Vec<Socket>,
}

/// What the parent learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The server begins.
    Begin,
    /// A worker's process runs, on this CPU if it is pinned.
    Started(Generation, Option<usize>),
    /// A worker's process could not be started.
    StartFailed(Generation, String),
    /// A starting worker has got this many sockets from another.
    Holds(Generation, usize),
    /// A worker has sent its listening socket, so that connections can be steered to it.
    Socket(Generation),
    /// A worker serves.
    Ready(Generation),
    /// A worker has adopted the sockets of another.
    Adopted(Generation),
    /// A worker could not adopt the sockets of another, and has none of them.
    NotAdopted(Generation, String),
    /// A worker has failed: its message makes no sense, or nothing can be steered to it.
    Unusable(Generation),
    /// A worker was sent SIGTERM: it will be replaced, unless the whole server was told to end.
    Terminated(Generation),
    /// A worker's end of the channel is closed.
    Closed(Generation),
    /// A worker has ended.
    Exited(Generation, Exit),
    /// SIGTERM or SIGINT: answer open requests, then end; the second time, end at once.
    Stop,
    /// SIGQUIT: end at once.
    StopNow,
    /// SIGHUP: replace every worker.
    Reload,
    /// SIGUSR2: start the program anew, perhaps another version, and let it take over.
    Succeed,
    /// The new server serves.
    Succeeded,
    /// The new server could not be started, or has ended.
    NotSucceeded(String),
    /// SIGTTIN: one worker more.
    More,
    /// SIGTTOU: one fewer.
    Fewer,
    /// The time of [`State::deadline`] has come. For each worker: how long its event loop has not turned; `None`
    /// before its first turn.
    Time(Vec<(Generation, Option<Duration>)>),
}

/// What the parent must do. The driver carries actions out in order, and reports the result of one to the state
/// machine before the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a worker's process. If it inherits, make a line over which another worker will send it
    /// sockets. Leads to [`Event::Started`] or [`Event::StartFailed`].
    Start {
        /// The new worker.
        worker: Generation,
        /// Whether it gets its sockets from another.
        inherits: bool,
        /// The lane that it keeps, if any.
        lane: Option<usize>,
    },
    /// Ask a worker to send sockets to one that was just started. The giver keeps them open.
    Give {
        /// The worker that sends them.
        giver: Generation,
        /// The worker that waits for them.
        taker: Generation,
        /// All of them, or only the last.
        all: bool,
    },
    /// Tell a worker to close its last socket, which another worker has now.
    Release(Generation),
    /// Tell a serving worker to send all its sockets to another, which will serve them as well.
    Adopt {
        /// The worker that sends them.
        giver: Generation,
        /// The worker that takes them. Leads to [`Event::Adopted`] or [`Event::NotAdopted`].
        heir: Generation,
    },
    /// Tell a worker to drain.
    Drain(Generation),
    /// Kill a worker.
    Kill(Generation),
    /// Steer new connections to the socket that this worker has sent.
    Steer {
        /// The worker that has sent it.
        worker: Generation,
        /// How many sockets listen in all, those that are being opened included.
        sockets: usize,
    },
    /// Give a worker its lane, which may have been another worker's until now.
    OpenLane(Generation),
    /// Steer nothing more to this lane's socket: another worker has adopted it.
    LeaveLane(usize),
    /// Close a lane that no worker has any more.
    CloseLane(usize),
    /// Start the server that will replace this one. These workers give it their sockets, if they have their own.
    /// Leads to [`Event::NotSucceeded`] if that fails.
    StartSuccessor(Vec<Generation>),
    /// Tell the new server to end: it has taken too long, or this server was told to end. Leads to
    /// [`Event::NotSucceeded`], as its death does.
    EndSuccessor,
    /// Kill the new server.
    KillSuccessor,
    /// Tell systemd and the log that the new server serves from now on.
    NameSuccessor,
    /// Announce that all workers serve.
    Announce,
    /// Close the parent's copy of the shared listening socket: the server ends.
    StopListening,
    /// Give up: a worker could not serve at the first start. If the server replaces another, its workers drain then.
    Abort(Generation, String),
    /// Write a line to the log.
    Note(Note),
}

/// A line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The number of workers from now on, and before.
    Wanted(usize, usize),
    /// A reload begins.
    Reloading,
    /// A reload is over, and these workers serve.
    Reloaded(Vec<Generation>),
    /// A reload is given up: the first worker stays, since the second could not replace it.
    ReloadGivenUp(Generation, Generation, String),
    /// A worker is replaced, since only this worker was sent SIGTERM.
    Terminated(Generation),
    /// The first worker, which was sent SIGTERM, stays, since the second could not replace it.
    NotReplaced(Generation, Generation, String),
    /// A new server is started, to replace this one.
    Succeeding,
    /// This server goes on, since the new one failed.
    NotSucceeded(String),
    /// The order is refused while the new server starts, or ends.
    RefusedMeanwhile,
    /// So is a reload, for the end of which systemd may wait.
    ReloadRefused,
    /// The order is refused because this server ends.
    RefusedAtEnd,
    /// The new server has not ended within the drain timeout.
    SuccessorsDrainIsOver,
    /// A worker has died, or could not be started; the pause before the next start, if there is one.
    Died(Generation, String, Option<Duration>),
    /// A worker that was about to end has died.
    DiedLeaving(Generation, String),
    /// A worker's event loop stands still.
    Hangs(Generation),
    /// A worker has not ended within the drain timeout.
    DrainIsOver(Generation),
    /// The first worker keeps its sockets, since the second could not adopt them.
    NotAdopted(Generation, Generation, String),
}

impl State {
    /// A server that has not started yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            wanted: settings.workers,
            settings,
            workers: Vec::new(),
            next_generation: 1,
            next_socket: 1,
            reloading: false,
            to_replace: VecDeque::new(),
            backoff: Backoff::default(),
            announced: false,
            ending: false,
            succession: Succession::None,
            next_look: None,
        }
    }

    /// Whether the server was told to end and no process is left.
    pub fn is_over(&self) -> bool {
        let has_successor = matches!(self.succession, Succession::Ending { .. });
        self.ending && self.workers.is_empty() && !has_successor
    }

    /// The workers that serve.
    pub fn serving(&self) -> impl Iterator<Item = Generation> {
        let serving = self.workers.iter().filter(|worker| worker.state == WorkerState::Serving);
        serving.map(|worker| worker.generation)
    }

    /// The CPU for a worker that is about to start: its predecessor's, or of these the one with the fewest
    /// workers.
    pub fn cpu_for(&self, worker: Generation, cpus: &[usize]) -> Option<usize> {
        let replaced = self.worker(worker)?.replaces.and_then(|old| self.worker(old)?.cpu);
        let staying = self.workers.iter().filter(|worker| !worker.ends());
        let taken = staying.filter_map(|worker| worker.cpu);
        let replaced = replaced.filter(|cpu| cpus.contains(cpu));
        replaced.or_else(|| affinity::emptiest(cpus, taken))
    }

    /// A worker's lane.
    pub fn lane_of(&self, worker: Generation) -> Option<usize> {
        self.worker(worker)?.lane
    }

    /// The number of listening sockets of all workers that stay, those that are being opened included.
    pub(super) fn sockets(&self) -> usize {
        let staying = self.workers.iter().filter(|worker| !worker.ends());
        let all = staying.flat_map(|worker| {
            let transfers = [&worker.inherits, &worker.adopting].into_iter().flatten();
            worker.sockets.iter().chain(transfers.flat_map(|transfer| &transfer.sockets))
        });
        all.collect::<BTreeSet<_>>().len()
    }

    /// Whether a worker that stays has this lane.
    pub(super) fn is_in_use(&self, lane: usize) -> bool {
        self.workers.iter().any(|worker| worker.lane == Some(lane) && !worker.ends())
    }

    /// Whether a new server is starting.
    pub(super) fn is_succeeded(&self) -> bool {
        matches!(self.succession, Succession::Starting { .. })
    }

    pub(super) fn worker(&self, generation: Generation) -> Option<&Worker> {
        self.workers.iter().find(|worker| worker.generation == generation)
    }

    pub(super) fn worker_mut(&mut self, generation: Generation) -> Option<&mut Worker> {
        self.workers.iter_mut().find(|worker| worker.generation == generation)
    }

    /// The workers for which this is true.
    pub(super) fn those(&self, which: impl Fn(&Worker) -> bool) -> Vec<Generation> {
        let those = self.workers.iter().filter(|worker| which(worker));
        those.map(|worker| worker.generation).collect()
    }

    pub(super) fn count(&self, which: impl Fn(&Worker) -> bool) -> usize {
        self.workers.iter().filter(|worker| which(worker)).count()
    }
}

impl Worker {
    /// Whether it ends, or has failed.
    pub fn ends(&self) -> bool {
        matches!(self.state, WorkerState::Draining { .. } | WorkerState::Killed)
    }

    /// Whether it was killed: its connections and sockets are lost.
    pub fn is_killed(&self) -> bool {
        matches!(self.state, WorkerState::Failing | WorkerState::Killed)
    }

    /// Whether it counts as one of the wanted workers: it serves, will serve, or will be replaced. A successor does
    /// not count as long as the worker that it replaces does.
    pub fn stays(&self) -> bool {
        use WorkerState::{Failing, Serving, Starting};
        self.state == Serving || matches!(self.state, Starting | Failing) && self.replaces.is_none()
    }
}
