//! A reading: scoreboard, /proc and the kernel at one moment.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use common::scoreboard::{Scoreboard, Slot, State};

use crate::kernel::procfs::{CpuSeconds, Running, stat};
use crate::watch::outside::Snapshot;
use common::kernel::port_watch::Look;
use common::kernel::sock_diag::{Listener, listeners};

/// A worker whose event loop has not turned for this long is blocked or hangs. A healthy one turns four times a
/// second.
const SILENT_AFTER: Duration = Duration::from_secs(3);

/// A reading.
#[derive(Clone, Debug)]
pub struct Reading {
    /// When.
    pub at: Instant,
    /// The address that is served.
    pub address: SocketAddr,
    /// The servers that have workers on this scoreboard: one, or several that joined.
    pub servers: Vec<Server>,
    /// The listening sockets of the port, and which of them are the workers'.
    pub look: Look,
    /// The workers in the order of their slots.
    pub workers: Vec<Worker>,
    /// Connections accepted by all workers, including those that have ended, since the server started or, without a
    /// scoreboard, since the watch began.
    pub connections: u64,
    /// Requests answered, likewise; `None` without a scoreboard.
    pub requests: Option<u64>,
    /// The diagnosis of the last seconds; `None` before the first one, or if it is not possible.
    pub diagnosis: Option<Snapshot>,
    /// Why it is not possible.
    pub undiagnosed: Option<String>,
}

/// A server, that is, the parent of workers.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its process.
    pub pid: u32,
    /// Its command line, without the folder of the program.
    pub command: String,
    /// Whether it runs.
    pub is_there: bool,
}

/// A worker. Counters count since it started.
#[derive(Clone, Debug, Default)]
pub struct Worker {
    /// Its slot's index.
    pub index: usize,
    /// Its process; `None` before it has one.
    pub pid: Option<u32>,
    /// Its condition.
    pub condition: Condition,
    /// Its first listening socket; 0 before it has one.
    pub socket: u64,
    /// That socket with its accept queue; `None` if it cannot be seen, for example in another network namespace.
    pub queue: Option<Listener>,
    /// Connections open now.
    pub open: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Requests answered.
    pub requests: u64,
    /// Seconds of CPU time, of all its threads.
    pub cpu: f64,
    /// Wake-ups that found no connection.
    pub empty: u64,
    /// Connections that it left to another worker (`--accept least-conn`).
    pub gated: u64,
    /// Connections that a policy gave to it (`--steer least-conn`).
    pub steered: u64,
    /// Connections of a dead worker's queue that were given to it.
    pub migrated: u64,
}

/// The condition of a worker: the state of its slot, unless its process shows otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// It does not accept yet.
    #[default]
    Starting,
    /// It accepts.
    Serving,
    /// It accepts all connections, and passes them to its children.
    Acceptor,
    /// It answers open requests, and accepts nothing new.
    Draining,
    /// Its event loop has not turned for this long.
    Silent(Duration),
    /// It is stopped (SIGSTOP, a debugger).
    Stopped,
    /// Its process has ended, and its parent has not noticed yet.
    Gone,
}

impl Reading {
    /// Reads everything.
    pub fn take(board: &Scoreboard) -> Self {
        let address = board.address();
        // If the kernel does not answer, there are no queues to show.
        let queues = listeners(address.port()).unwrap_or_default();
        let (shown, held) = board.sockets();
        let owners: BTreeSet<u32> = board.workers().map(|(_, slot)| slot.owner()).collect();
        let owners = owners.into_iter().filter(|&owner| owner != 0); // 0: it has just become free
        Self {
            address,
            servers: owners.map(Server::of).collect(),
            workers: (board.workers())
                .map(|(index, slot)| Worker::read(index, slot, &queues))
                .collect(),
            look: Look { listeners: queues, shown, held, ..Look::default() },
            connections: board.total_connections(),
            requests: Some(board.total_requests()),
            diagnosis: None,
            undiagnosed: None,
            at: Instant::now(),
        }
    }

    /// Whether no parent is left.
    pub fn has_ended(&self) -> bool {
        !self.servers.iter().any(|server| server.is_there)
    }

    /// The servers' names for a line.
    pub fn names(&self) -> String {
        let servers = self.servers.iter().filter(|server| server.is_there);
        servers.map(Server::name).collect::<Vec<_>>().join(", ")
    }
}

impl Server {
    /// The parent with this process id.
    pub fn of(pid: u32) -> Self {
        Self { pid, command: command_of(pid), is_there: Running::of(pid).is_some() }
    }

    /// Its command line, if that can be read, and its pid.
    pub fn name(&self) -> String {
        let pid = format!("pid {}{}", self.pid, if self.is_there { "" } else { ", gone" });
        if self.command.is_empty() { pid } else { format!("{} ({pid})", self.command) }
    }
}

impl Condition {
    /// In a word or two.
    pub fn text(self) -> String {
        match self {
            Self::Starting => "starting".into(),
            Self::Serving => "serving".into(),
            Self::Acceptor => "acceptor".into(),
            Self::Draining => "draining".into(),
            Self::Silent(time) if time.as_secs() < 1000 => format!("silent {} s", time.as_secs()),
            Self::Silent(_) => "silent".into(),
            Self::Stopped => "stopped".into(),
            Self::Gone => "gone".into(),
        }
    }
}

impl Worker {
    /// CPU time since it started, in a unit whose rate is percent of one core.
    pub fn cpu_percent(&self) -> f64 {
        100.0 * self.cpu
    }

    fn read(index: usize, slot: &Slot, queues: &[Listener]) -> Self {
        let pid = slot.pid();
        // One file for each process. The threads' files are exact to the nanosecond, but that would double the
        // number of files, every second, for up to a thousand workers.
        let stat = pid.and_then(stat);
        let socket = slot.socket_inode.load(Relaxed);
        let condition = match (pid, &stat, slot.state(), slot.silence()) {
            (None, ..) => Condition::Starting,
            (_, None, ..) => Condition::Gone,
            (_, Some(stat), ..) if matches!(stat.state, 'Z' | 'X') => Condition::Gone,
            (_, Some(stat), ..) if matches!(stat.state, 'T' | 't') => Condition::Stopped,
            (_, _, _, Some(silence)) if silence > SILENT_AFTER => Condition::Silent(silence),
            (_, _, State::Starting, _) => Condition::Starting,
            (_, _, State::Serving, _) => Condition::Serving,
            (_, _, State::Draining, _) => Condition::Draining,
        };
        Self {
            index,
            pid,
            condition,
            socket,
            queue: queues.iter().find(|queue| queue.inode == socket).cloned(),
            open: slot.connections_open.load(Relaxed),
            accepted: slot.connections_accepted.load(Relaxed),
            requests: slot.requests.load(Relaxed),
            cpu: stat.map_or(0.0, |stat| CpuSeconds::of(&stat).total()),
            empty: slot.wakeups_without_connection.load(Relaxed),
            gated: slot.gated.load(Relaxed),
            steered: slot.steered.load(Relaxed),
            migrated: slot.migrated.load(Relaxed),
        }
    }
}

/// Seconds of CPU time that a process has used; 0 if it has ended.
pub fn cpu_of(pid: u32) -> f64 {
    stat(pid).map_or(0.0, |stat| CpuSeconds::of(&stat).total())
}

/// A process's command line, without control characters, for a terminal.
pub fn command_of(pid: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let mut words = text.trim_end_matches('\0').split('\0');
    let first = words.next().unwrap_or_default();
    // A title that a program writes there, as nginx does, is one word.
    let (program, title) = first.split_at(first.find(' ').unwrap_or(first.len()));
    let program = Path::new(program).file_name().unwrap_or_default();
    let mut command = program.to_string_lossy().into_owned() + title;
    words.for_each(|word| command.extend([" ", word]));
    command.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use common::scoreboard::{ScoreboardOwner, Slots};

    use super::*;

    #[test]
    fn a_command_line_is_shown_without_folder_and_without_what_a_terminal_would_obey() {
        let mut child = Command::new("/bin/sh")
            .arg0("/bin/sh: master /etc/sh.conf")
            .args(["-c", "read line", "x\x1b[2J"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let shown = loop {
            // Between fork and exec it is still this program.
            let shown = command_of(child.id());
            if shown.starts_with("sh: ") {
                break shown;
            }
        };
        assert_eq!(shown, "sh: master /etc/sh.conf -c read line x?[2J");
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn a_worker_without_a_process_starts_and_one_whose_process_is_gone_is_gone() {
        let mut board = ScoreboardOwner::anonymous(([127, 0, 0, 1], 80).into()).unwrap();
        let index = board.claim().unwrap();
        let slot = Slots::map(board.file().try_clone().unwrap()).unwrap().own(index);
        let condition = || Worker::read(0, &slot, &[]).condition;
        assert_eq!(condition(), Condition::Starting);
        slot.occupy();
        assert_eq!(condition(), Condition::Starting);
        slot.set_state(State::Serving);
        slot.beat();
        assert_eq!(condition(), Condition::Serving);
        slot.set_state(State::Draining);
        assert_eq!(condition(), Condition::Draining);
        slot.set(|slot| &slot.heartbeat, 1); // just after boot
        assert!(matches!(condition(), Condition::Silent(_)));
    }
}
