//! The readings of a running server: its sockets, the processes that wait for them, and what these did. Figures
//! only; conclusions are in [`findings`](super::findings()).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

pub use crate::kernel::open_sockets::How;
pub use crate::kernel::workers::Role;

/// All readings of one observation.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Readings {
    /// The port.
    pub port: u16,
    /// The length of the observation.
    pub seconds: f64,
    /// Cores of the machine that this program may use.
    pub cores: usize,
    /// The sysctl net.core.somaxconn of the network namespace, the limit of every backlog.
    pub somaxconn: Option<u32>,
    /// Whether the kernel migrates connections in the queue of a closed socket to another one of its group.
    pub migrates: bool,
    /// How accepted connections were counted.
    pub counted: Counted,
    /// How often an accept queue of the network namespace was full when a connection arrived.
    pub overflows: u64,
    /// How many connections waited in an accept queue of the port during all of the observation. A queue is first in,
    /// first out: from one whose least length is greater, something was accepted.
    #[serde(default)]
    pub waited_throughout: u32,
    /// The topmost process of the observed server. Other programs may be on the port, too.
    pub server: u32,
    /// All sockets that listen on the port.
    pub sockets: Vec<Socket>,
    /// All processes that have something to do with them.
    pub workers: Vec<Worker>,
    /// How many descendants of accepting processes have neither a listening socket nor a connection: whether they serve
    /// cannot be seen.
    #[serde(default)]
    pub children: usize,
    /// Whether a process of the server holds a steering program (BPF_PROG_TYPE_SK_REUSEPORT).
    pub steering_program: bool,
    /// What could not be seen, and why.
    pub unseen: Vec<String>,
}

/// How accepted connections were counted.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Counted {
    /// By the kernel, every one.
    ByKernel,
    /// By looks at open connections; some may have come and gone between two looks.
    #[default]
    BySockets,
}

/// A listening socket.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Socket {
    /// The inode, as in `/proc/PID/fd`.
    pub inode: u64,
    /// The address that it is bound to.
    pub address: SocketAddr,
    /// Whether it is an IPv6 socket that takes no IPv4 connections.
    pub only_v6: bool,
    /// The user that made it.
    pub uid: u32,
    /// How many connections may wait; the kernel lets one more in.
    pub backlog: u32,
    /// How many wait at the end of the observation.
    pub queued: u32,
    /// The least and the greatest number of waiting connections seen.
    pub queued_range: [u32; 2],
    /// Connections that it dropped during the observation.
    pub dropped: u32,
    /// Whether SO_REUSEPORT is set; `None` if that may not be read.
    pub reuse_port: Option<bool>,
    /// The topmost process of the server that has it open; `None` if no process was seen to.
    pub server: Option<u32>,
    /// The waiters, one for each thread or epoll instance.
    pub waiters: Vec<Waiter>,
    /// All processes that have it open.
    pub holders: Vec<u32>,
}

/// A waiter for a socket.
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
    /// Its program, from its command line.
    pub name: String,
    /// The file that it runs, if that may be read.
    pub program: Option<String>,
    /// The topmost process of its server.
    pub server: u32,
    /// How it takes part.
    pub role: Role,
    /// When it was started, in seconds since the boot.
    pub started: f64,
    /// The listening sockets that it waits for, or accepted from; if there are none, those that it has open.
    pub sockets: Vec<u64>,
    /// Connections that it has at the end of the observation.
    pub held: u64,
    /// Connections that it accepted during the observation.
    pub accepted: u64,
    /// Whether that is the kernel's count over the whole observation, also where it is 0. Chance says nothing about connections that were
    /// seen in looks, which miss the short ones, nor about a worker that was there for a part of the time.
    #[serde(default)]
    pub is_counted: bool,
    /// CPU time over the length of the observation: 1 is one core.
    pub cpu: f64,
    /// Time that it was ready to run and waited for a core, likewise; `None` if the kernel does not count it.
    pub waited: Option<f64>,
    /// Voluntary context switches.
    pub switches: u64,
    /// Its state at the end, as ps(1) names it: R, S, D, T.
    pub state: char,
    /// The kernel function in which its first thread waited at the end, if that may be read.
    pub sits_in: Option<String>,
}

impl Worker {
    /// Whether it is stopped (SIGSTOP, a debugger).
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }

    /// Whether it accepts connections itself.
    pub fn accepts(&self) -> bool {
        matches!(self.role, Role::Worker | Role::Acceptor)
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
    /// Whether its queue was seen full: the kernel lets one more in than the backlog.
    pub fn was_full(&self) -> bool {
        self.queued_range[1] > self.backlog
    }

    /// The processes that wait for it.
    pub fn waiting(&self) -> BTreeSet<u32> {
        self.waiters.iter().map(|waiter| waiter.pid).collect()
    }

    /// How many waiters one connection wakes.
    pub fn woken_at_once(&self) -> usize {
        let is_woken = |waiter: &&Waiter| {
            matches!(waiter.how, How::Poll | How::Epoll { exclusive: false, .. })
        };
        self.waiters.iter().filter(is_woken).count()
    }
}

impl Readings {
    /// The sockets of the observed server.
    pub fn own_sockets(&self) -> impl Iterator<Item = &Socket> {
        self.sockets.iter().filter(|socket| socket.server == Some(self.server))
    }

    /// The processes of the observed server.
    pub fn own(&self) -> impl Iterator<Item = &Worker> {
        self.workers.iter().filter(|worker| worker.server == self.server)
    }

    /// The processes that serve: all that accept, or the children of the one that does.
    pub fn serving(&self) -> impl Iterator<Item = &Worker> {
        self.own().filter(|worker| matches!(worker.role, Role::Worker | Role::Child))
    }

    /// The processes that accept from a socket: those that wait for it, and those that are too busy to be seen waiting.
    pub fn accepting(&self, socket: &Socket) -> BTreeSet<u32> {
        let busy = self
            .workers
            .iter()
            .filter(|worker| worker.accepts() && worker.sockets.contains(&socket.inode));
        busy.map(|worker| worker.pid).chain(socket.waiting()).collect()
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

    /// The sockets from which only this worker accepts, or which only it has open.
    pub fn sockets_of_its_own<'a>(&'a self, worker: &Worker) -> impl Iterator<Item = &'a Socket> {
        let pid = worker.pid;
        self.own_sockets()
            .filter(move |it| it.holders == [pid] || self.accepting(it).into_iter().eq([pid]))
    }

    /// Connections that wait for this worker only.
    pub fn queued_for(&self, worker: &Worker) -> u32 {
        self.sockets_of_its_own(worker).map(|socket| socket.queued).sum()
    }

    /// Whether SO_REUSEPORT was read from some socket, and is set on none.
    pub fn is_never_set(&self) -> bool {
        let set: Vec<bool> = self.own_sockets().filter_map(|socket| socket.reuse_port).collect();
        !set.is_empty() && !set.contains(&true)
    }

    /// Whether workers have their own sockets: more than one on some address.
    pub fn has_own_sockets(&self) -> bool {
        self.by_address().values().any(|sockets| sockets.len() > 1)
    }

    /// The groups of workers that compete for connections: those that wait on the same addresses, without stopped
    /// ones.
    pub fn competing_groups(&self) -> Vec<Vec<&Worker>> {
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
