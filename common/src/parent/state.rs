//! What the parent knows, what it learns, and what it can have done: the types of the state machine.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use crate::parent::backoff::Backoff;
use crate::platform::affinity;

/// A worker's number. Slots, lanes and pids are used again when a worker has ended; a generation never
/// is, so an order or a message cannot be taken for another worker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub(super) u64);

impl fmt::Display for Generation {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A listening socket of one worker's own; numbered, as the parent never holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Socket(pub(super) u64);

/// What the state machine is told about the server once.
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
    /// Whether a policy steers connections, and so knows workers by lanes.
    pub steers: bool,
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
    /// Who is still to be replaced, in a reload or without one.
    pub(super) to_replace: VecDeque<Generation>,
    pub(super) backoff: Backoff,
    /// Whether all workers have served once.
    pub(super) announced: bool,
    /// Whether the server is told to end.
    pub(super) ending: bool,
    /// Another program in this one's place: how far that is.
    pub(super) succession: Succession,
    /// When to look next whether a worker hangs; `None` if nobody looks.
    pub(super) next_look: Option<Instant>,
}

/// How far the start of another program in this one's place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Succession {
    /// Nobody has asked for it.
    None,
    /// It begins when no worker is starting, being replaced or giving sockets away.
    Wanted,
    /// It is to serve until then. Meanwhile workers stay as they are, but for those that die: others would
    /// have sockets that it does not get.
    Starting { until: Instant },
    /// It was told to end, and is killed then if it has not; `None` for never, and when it was killed.
    /// Its workers may have accepted something, which they answer: this server does not end before.
    Ending { until: Option<Instant> },
}

/// A worker as the state machine knows it.
#[derive(Debug)]
pub(super) struct Worker {
    pub generation: Generation,
    pub state: WorkerState,
    /// When it was started.
    pub started: Instant,
    /// Since when it serves, or served before it was told to end.
    pub serves_since: Option<Instant>,
    /// The worker that it is to replace, in a reload, for as long as that one lives.
    pub replaces: Option<Generation>,
    /// While it starts: the sockets that it gets from another worker.
    pub inherits: Option<Transfer>,
    /// While it serves: the sockets that it was told to take over from a worker that is to end.
    pub adopting: Option<Transfer>,
    /// Its listening sockets, none where all workers share one.
    pub sockets: Vec<Socket>,
    /// The lane by which a steering policy knows it.
    pub lane: Option<usize>,
    /// Whether that was its predecessor's lane.
    pub takes_lane: bool,
    /// The CPU that it is pinned to, if it is.
    pub cpu: Option<usize>,
    /// Since when its event loop has been seen to stand still.
    pub suspected: Option<Instant>,
    /// When its end of the channel was closed: it is about to exit, or of no use any more.
    pub closed: Option<Instant>,
    /// Until when it is not asked again to give or to adopt sockets, after that has failed.
    pub rests_until: Option<Instant>,
    /// When it was sent SIGTERM, until it is decided what that means.
    pub terminated: Option<Instant>,
}

/// Where a worker is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkerState {
    /// Not serving yet.
    Starting,
    /// In the accept loop.
    Serving,
    /// Its sockets are on their way to this worker; it serves until that one has them, then drains.
    GivingAway { heir: Generation },
    /// Ends by itself, until then (for as long as it takes, if that is never); then it is killed.
    Draining { until: Option<Instant> },
    /// Killed because it is of no use; it is replaced once it has ended.
    Failing,
    /// Killed, and not missed.
    Killed,
}

/// Sockets on their way from one worker to another. Until the taker says that it has them they are the
/// giver's, which keeps them open.
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
    /// A worker's process runs, on this CPU alone if it is pinned.
    Started(Generation, Option<usize>),
    /// A worker's process could not be started.
    StartFailed(Generation, String),
    /// A starting worker has got so many sockets from another.
    Holds(Generation, usize),
    /// A worker has sent its listening socket, to be steered to.
    Socket(Generation),
    /// A worker serves.
    Ready(Generation),
    /// A worker has adopted the sockets of another.
    Adopted(Generation),
    /// It could not, and has none of them.
    NotAdopted(Generation, String),
    /// A worker is of no use: what it said makes no sense, or nothing can be steered to it.
    Unusable(Generation),
    /// A worker was sent SIGTERM: it is to be replaced, unless the whole server was told to end.
    Terminated(Generation),
    /// A worker's end of the channel is closed.
    Closed(Generation),
    /// A worker has ended; why, in its own words or the kernel's.
    Exited(Generation, String),
    /// SIGTERM or SIGINT: answer what there is, then end; the second time, end at once.
    Stop,
    /// SIGQUIT: end at once.
    StopNow,
    /// SIGHUP: replace every worker.
    Reload,
    /// SIGUSR2: start the program anew, which may be another by now, and let it take over.
    Succeed,
    /// The new server serves.
    Succeeded,
    /// It could not be started, or has ended.
    NotSucceeded(String),
    /// SIGTTIN: one worker more.
    More,
    /// SIGTTOU: one fewer.
    Fewer,
    /// The time that [`State::deadline`] named has come. For each worker, for how long its event loop
    /// has not turned; `None` before its first turn.
    Time(Vec<(Generation, Option<Duration>)>),
}

/// What the parent is to do. Actions are carried out in order, and what comes of one is told to the state
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
    /// Ask a worker to send sockets to one that was just started; they stay open where they are.
    Give {
        /// Who sends them.
        giver: Generation,
        /// Who waits for them.
        taker: Generation,
        /// All of them, or only the last.
        all: bool,
    },
    /// Tell a worker to close its last socket, which another has now.
    Release(Generation),
    /// Have one serving worker send all its sockets to another, which serves them as well.
    Adopt {
        /// Who sends them.
        giver: Generation,
        /// Who takes them. Leads to [`Event::Adopted`] or [`Event::NotAdopted`].
        heir: Generation,
    },
    /// Tell a worker to drain.
    Drain(Generation),
    /// Kill a worker.
    Kill(Generation),
    /// Have new connections steered to the socket that this worker has sent; `sockets` listen in all,
    /// those that are being opened included.
    Steer {
        /// Whose socket it is.
        worker: Generation,
        /// How many there are.
        sockets: usize,
    },
    /// Give a worker its lane, which may have been another's until now.
    OpenLane(Generation),
    /// Have nothing more steered to this lane's socket: another worker has adopted it.
    LeaveLane(usize),
    /// Close a lane that nobody has any more.
    CloseLane(usize),
    /// Start the server that is to succeed this one; these workers give it their sockets, if they have some
    /// of their own. Leads to [`Event::NotSucceeded`] if that fails.
    StartSuccessor(Vec<Generation>),
    /// Tell it to end: it has taken too long, or this server is told to end. Leads to
    /// [`Event::NotSucceeded`], as its death does.
    EndSuccessor,
    /// Kill it.
    KillSuccessor,
    /// It serves: it is the server from now on.
    NameSuccessor,
    /// Tell everybody that all workers serve.
    Announce,
    /// Close the shared listening socket here: the server ends.
    StopListening,
    /// Give up: a worker could not even serve at the first start.
    Abort(Generation, String),
    /// Write a line to the log.
    Note(Note),
}

/// A line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// So many workers from now on, instead of so many.
    Wanted(usize, usize),
    /// A reload begins.
    Reloading,
    /// It is over, and these serve.
    Reloaded(Vec<Generation>),
    /// It is given up: this worker stays, since that one could not replace it.
    ReloadGivenUp(Generation, Generation, String),
    /// A worker is replaced, since it alone was sent SIGTERM.
    Terminated(Generation),
    /// The first worker, which was sent SIGTERM, stays, since the second could not replace it.
    NotReplaced(Generation, Generation, String),
    /// Another server is started, to succeed this one.
    Succeeding,
    /// This one goes on, and why.
    NotSucceeded(String),
    /// The order is refused while a server is started that is to succeed this one, or ends.
    RefusedMeanwhile,
    /// So is a reload, for whose end somebody may wait.
    ReloadRefused,
    /// The order is refused because this server ends.
    RefusedAtEnd,
    /// That server has not ended within the drain's time.
    SuccessorsDrainIsOver,
    /// A worker has died; how long the next start waits, if it does.
    Died(Generation, String, Option<Duration>),
    /// A worker has died that was about to end.
    DiedLeaving(Generation, String),
    /// A worker could not be started; how long the next start waits, if it does.
    NotStarted(String, Option<Duration>),
    /// A worker's event loop stands still.
    Hangs(Generation),
    /// A worker has not ended within the drain's time.
    DrainIsOver(Generation),
    /// The first worker keeps its sockets, since the second could not adopt them.
    NotAdopted(Generation, Generation, String),
}

impl State {
    /// A server that has not begun.
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

    /// Whether the server was told to end and nobody is left.
    pub fn is_over(&self) -> bool {
        let has_successor = matches!(self.succession, Succession::Ending { .. });
        self.ending && self.workers.is_empty() && !has_successor
    }

    /// What is going on, for a person.
    pub fn status(&self) -> String {
        let serving = self.count(|worker| worker.state == WorkerState::Serving);
        if self.ending {
            "ending: open requests are answered".into()
        } else if self.reloading {
            let before = self.to_replace.iter().filter(|&&old| self.worker(old).is_some()).count();
            let now = self.count(|worker| worker.replaces.is_some());
            format!("reloading: {} of {} workers to be replaced", before + now, self.wanted)
        } else if serving < self.wanted {
            format!("{serving} of {} workers serve", self.wanted)
        } else {
            format!("{serving} worker{}", if serving == 1 { " serves" } else { "s serve" })
        }
    }

    /// The workers that serve.
    pub fn serving(&self) -> impl Iterator<Item = Generation> {
        let serving = self.workers.iter().filter(|worker| worker.state == WorkerState::Serving);
        serving.map(|worker| worker.generation)
    }

    /// The CPU for a worker that is about to start: its predecessor's, or the one of these with the
    /// fewest workers.
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

    /// Listening sockets of all workers that stay, each counted once, those that are being opened
    /// included.
    pub(super) fn sockets(&self) -> usize {
        let staying = self.workers.iter().filter(|worker| !worker.ends());
        let all = staying.flat_map(|worker| {
            let transfers = [&worker.inherits, &worker.adopting].into_iter().flatten();
            worker.sockets.iter().chain(transfers.flat_map(|transfer| &transfer.sockets))
        });
        all.collect::<BTreeSet<_>>().len()
    }

    pub(super) fn worker(&self, generation: Generation) -> Option<&Worker> {
        self.workers.iter().find(|worker| worker.generation == generation)
    }

    pub(super) fn worker_mut(&mut self, generation: Generation) -> Option<&mut Worker> {
        self.workers.iter_mut().find(|worker| worker.generation == generation)
    }

    pub(super) fn count(&self, which: impl Fn(&Worker) -> bool) -> usize {
        self.workers.iter().filter(|worker| which(worker)).count()
    }
}

impl Worker {
    /// Whether it is given nothing more to do.
    pub fn ends(&self) -> bool {
        matches!(self.state, WorkerState::Draining { .. } | WorkerState::Killed)
    }

    /// Whether it was killed: what it has is lost with it.
    pub fn is_killed(&self) -> bool {
        matches!(self.state, WorkerState::Failing | WorkerState::Killed)
    }

    /// Whether it counts as one of those that are wanted: it serves, will serve, or will be replaced. A
    /// successor does not, as long as the worker does that it replaces.
    pub fn stays(&self) -> bool {
        use WorkerState::{Failing, Serving, Starting};
        self.state == Serving || matches!(self.state, Starting | Failing) && self.replaces.is_none()
    }
}
