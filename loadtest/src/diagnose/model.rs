//! What was read of a running server: its sockets, who waits for them, and what its workers did. Figures
//! alone; what follows from them is in [`findings`](super::findings()).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

pub use crate::kernel::open_sockets::How;

/// All that was read while the server was looked at.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Readings {
    /// The port that was looked at.
    pub port: u16,
    /// For how long.
    pub seconds: f64,
    /// Cores of the machine that this program may use.
    pub cores: usize,
    /// The sysctl net.core.somaxconn of that network namespace: no backlog is longer.
    pub somaxconn: Option<u32>,
    /// Whether the kernel gives what waits for a socket that is closed to another of its group.
    pub migrates: bool,
    /// How accepted connections were counted.
    pub counted: Counted,
    /// How often an accept queue of that network namespace was full when a connection came.
    pub overflows: u64,
    /// The server that is looked at: its topmost process. Other programs may be on the port, too.
    pub server: u32,
    /// All sockets that listen on the port.
    pub sockets: Vec<Socket>,
    /// All processes that have something to do with them.
    pub workers: Vec<Worker>,
    /// How many processes descend from those that accept, and have neither a listening socket nor a
    /// connection: whether they serve cannot be seen.
    #[serde(default)]
    pub children: usize,
    /// Whether a process of the server holds a steering program (BPF_PROG_TYPE_SK_REUSEPORT).
    pub steering_program: bool,
    /// What could not be seen, and why.
    pub unseen: Vec<String>,
}

/// Who counted the accepted connections.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Counted {
    /// The kernel, every one.
    ByKernel,
    /// They are those that were seen to appear; some may have come and gone between two looks.
    #[default]
    BySockets,
}

/// A listening socket.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Socket {
    /// As in `/proc/PID/fd`.
    pub inode: u64,
    /// What it is bound to.
    pub address: SocketAddr,
    /// Whether it is one of IPv6 that takes no IPv4 connections.
    pub only_v6: bool,
    /// The user who made it.
    pub uid: u32,
    /// How many connections may wait; the kernel lets one more in.
    pub backlog: u32,
    /// How many wait, at the end of the look.
    pub queued: u32,
    /// The fewest and the most that were seen to wait.
    pub queued_range: [u32; 2],
    /// Connections that it dropped during the look.
    pub dropped: u32,
    /// Whether SO_REUSEPORT is set; `None` where it may not be asked.
    pub reuse_port: Option<bool>,
    /// The topmost process of the server that has it open; `None` if nobody was seen to.
    pub server: Option<u32>,
    /// Who waits for it, and how: once for each thread or epoll.
    pub waiters: Vec<Waiter>,
    /// All processes that have it open.
    pub holders: Vec<u32>,
}

/// Who waits for a socket.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[allow(missing_docs)] // the names say it
pub struct Waiter {
    pub pid: u32,
    pub how: How,
}

/// A process that has something to do with the port.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Worker {
    /// Its process id.
    pub pid: u32,
    /// Its program, as it was called.
    pub name: String,
    /// The file that it runs, where that may be read.
    pub program: Option<String>,
    /// The topmost process of its server.
    pub server: u32,
    /// How it takes part.
    pub role: Role,
    /// When it was started, in seconds since the machine was.
    pub started: f64,
    /// The listening sockets that it waits for; of one that was never seen waiting, those it has open.
    pub sockets: Vec<u64>,
    /// Connections that it has, at the end of the look.
    pub held: u64,
    /// Connections that it accepted during the look.
    pub accepted: u64,
    /// CPU time over the time of the look: 1 is one core.
    pub cpu: f64,
    /// Time that it was ready to run and waited for a core, likewise; `None` if the kernel does not say.
    pub waited: Option<f64>,
    /// How often it left the CPU of its own accord.
    pub switches: u64,
    /// Its state at the end, as ps(1) names it: R, S, D, T.
    pub state: char,
    /// Where in the kernel its first thread was at the end, if that may be read.
    pub sits_in: Option<String>,
}

/// How a process takes part.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It accepts connections.
    Worker,
    /// It alone accepts, and hands connections to its children.
    Acceptor,
    /// A child of such an acceptor.
    Child,
    /// It has connections and does not listen any more: an old worker after a reload.
    Old,
    /// It has a listening socket open, and was not seen to wait for it.
    #[default]
    Holder,
}

impl Worker {
    /// Whether somebody stopped it (SIGSTOP, a debugger).
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }

    /// Its state in words.
    pub fn state_in_words(&self) -> &'static str {
        match self.state {
            'T' | 't' => "stopped",
            'R' => "running",
            'D' => "blocked",
            'Z' | 'X' => "gone",
            _ => "sleeping",
        }
    }
}

impl Socket {
    /// Whether its queue was seen full: the kernel lets one more in than the backlog says.
    pub fn was_full(&self) -> bool {
        self.queued_range[1] > self.backlog
    }

    /// The processes that wait for it.
    pub fn waiting(&self) -> BTreeSet<u32> {
        self.waiters.iter().map(|waiter| waiter.pid).collect()
    }

    /// Those who are all woken by one connection.
    pub fn woken_at_once(&self) -> usize {
        let is_woken = |waiter: &&Waiter| {
            matches!(waiter.how, How::Poll | How::Epoll { exclusive: false, .. })
        };
        self.waiters.iter().filter(is_woken).count()
    }
}

impl Readings {
    /// The sockets of the server that is looked at.
    pub fn own_sockets(&self) -> impl Iterator<Item = &Socket> {
        self.sockets.iter().filter(|socket| socket.server == Some(self.server))
    }

    /// Its processes.
    pub fn own(&self) -> impl Iterator<Item = &Worker> {
        self.workers.iter().filter(|worker| worker.server == self.server)
    }

    /// Those that serve: all that accept, or the children of the one that does.
    pub fn serving(&self) -> impl Iterator<Item = &Worker> {
        self.own().filter(|worker| matches!(worker.role, Role::Worker | Role::Child))
    }

    /// A process by its id.
    pub fn worker(&self, pid: u32) -> Option<&Worker> {
        self.workers.iter().find(|worker| worker.pid == pid)
    }

    /// The server's sockets by their address, each a group if they are several.
    pub fn by_address(&self) -> BTreeMap<SocketAddr, Vec<&Socket>> {
        let mut found: BTreeMap<SocketAddr, Vec<&Socket>> = BTreeMap::new();
        for socket in self.own_sockets() {
            found.entry(socket.address).or_default().push(socket);
        }
        found
    }

    /// Those of a worker that it alone waits for, or has open.
    pub fn sockets_of_its_own<'a>(&'a self, worker: &Worker) -> impl Iterator<Item = &'a Socket> {
        let pid = worker.pid;
        self.own_sockets()
            .filter(move |socket| socket.holders == [pid] || socket.waiting().into_iter().eq([pid]))
    }

    /// Connections that wait for this worker alone.
    pub fn queued_for(&self, worker: &Worker) -> u32 {
        self.sockets_of_its_own(worker).map(|socket| socket.queued).sum()
    }

    /// Whether workers have sockets of their own: more than one on some address.
    pub fn has_own_sockets(&self) -> bool {
        self.by_address().values().any(|sockets| sockets.len() > 1)
    }

    /// The sets of workers between which connections are drawn: those that wait on the same addresses.
    /// One that is stopped takes no part.
    pub fn lotteries(&self) -> Vec<Vec<&Worker>> {
        let address =
            |inode: &u64| Some(self.sockets.iter().find(|socket| socket.inode == *inode)?.address);
        let mut found: BTreeMap<BTreeSet<SocketAddr>, Vec<&Worker>> = BTreeMap::new();
        for worker in self.serving().filter(|worker| !worker.is_stopped()) {
            let addresses = worker.sockets.iter().filter_map(address).collect();
            found.entry(addresses).or_default().push(worker);
        }
        found.into_values().filter(|workers| workers.len() > 1).collect()
    }
}

/// How they wait; each way once.
pub fn ways(waiters: &[How]) -> String {
    let ways: BTreeSet<&How> = waiters.iter().collect();
    ways.into_iter().map(way).collect::<Vec<_>>().join(" and ")
}

/// One way to wait.
fn way(how: &How) -> &'static str {
    match how {
        How::Accept => "accept(2)",
        How::Poll => "select(2) or poll(2)",
        How::Epoll { exclusive: false, edge: false } => "epoll, level-triggered",
        How::Epoll { exclusive: false, edge: true } => "epoll, edge-triggered",
        How::Epoll { exclusive: true, edge: false } => "epoll with EPOLLEXCLUSIVE",
        How::Epoll { exclusive: true, edge: true } => "epoll with EPOLLEXCLUSIVE, edge-triggered",
        How::IoUring => "io_uring",
    }
}
