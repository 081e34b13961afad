//! The parent's life: start workers, tell what there is, watch them, stop them.
//!
//! The parent serves nobody and has one thread; it never touches tokio, so that it may fork at any
//! time. It learns of everything through descriptors that poll(2) watches: signals through a
//! signalfd, workers through their channels.

use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::channel::{Channel, Message};
use crate::limits;
use crate::options::Options;
use crate::scoreboard::Scoreboard;
use crate::start::{Start, by_exec, by_fork};

/// How long workers may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Runs a server: starts the workers, and comes back when all of them have ended.
///
/// `address` is where they serve, its port settled; `join` lets the scoreboard be shared with
/// servers that run already.
pub fn run(options: &Options, address: SocketAddr, join: bool, start: Start) -> Result<()> {
    limits::raise_open_files();
    limits::warn_of_capped_backlog(options.backlog);
    let scoreboard = match &options.scoreboard {
        Some(path) => Scoreboard::at(path, address, join)?,
        None => Scoreboard::anonymous(address)?,
    };
    let mut supervisor = Supervisor {
        signals: take_signals()?,
        scoreboard: Some(scoreboard),
        workers: Vec::new(),
        start,
    };
    let served = supervisor.serve(usize::from(options.workers), address);
    // However it went, nothing is left behind.
    supervisor.kill_all();
    supervisor.scoreboard().leave();
    served
}

/// The signals that a terminal or an administrator sends; they are the parent's alone.
fn take_signals() -> Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGQUIT,
        Signal::SIGHUP,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
        Signal::SIGCHLD,
    ] {
        set.add(signal);
    }
    // Workers inherit the mask, through fork and exec alike, and so never see these signals: they
    // obey their parent, who tells them over the channel.
    set.thread_block().context("cannot block signals")?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .context("cannot make a signalfd")
}

struct Supervisor<'a> {
    signals: SignalFd,
    /// `None` only in a forked child, which takes its copy to keep one slot of it.
    scoreboard: Option<Scoreboard>,
    workers: Vec<Worker>,
    start: Start<'a>,
}

/// A worker as its parent knows it.
struct Worker {
    pid: Pid,
    /// Its slot of the scoreboard.
    index: usize,
    channel: Channel,
}

/// What woke the parent.
enum Event {
    Signal(Signal),
    /// From the worker at this place of the list.
    Message(usize, Message),
}

impl Supervisor<'_> {
    fn serve(&mut self, count: usize, address: SocketAddr) -> Result<()> {
        // All slots first: a reader who sees one worker serve sees that the others do not yet.
        let claim = |_| self.scoreboard().claim();
        let slots: Vec<usize> = (0..count).map(claim).collect::<Result<_>>()?;
        for index in slots {
            self.start_worker(index)?;
        }
        self.wait_until_all_serve()?;
        // A closed stdout is no reason to stop serving.
        let _ = self.announce(address);
        loop {
            match self.next_event(None)? {
                Some(Event::Signal(Signal::SIGINT | Signal::SIGTERM | Signal::SIGQUIT)) => {
                    return self.stop();
                }
                Some(Event::Signal(Signal::SIGCHLD)) => {
                    for (worker, how) in self.reap() {
                        tracing::error!("worker {} (pid {}) {how}", worker.index, worker.pid);
                        self.scoreboard().release(worker.index);
                    }
                    if self.workers.is_empty() {
                        bail!("no worker is left");
                    }
                }
                _ => {}
            }
        }
    }

    fn scoreboard(&self) -> &Scoreboard {
        self.scoreboard.as_ref().expect("only a forked child takes it, and never comes back")
    }

    fn start_worker(&mut self, index: usize) -> Result<()> {
        let (ours, theirs) = Channel::pair()?;
        let pid = match self.start {
            Start::Exec(listener) => by_exec((&ours, theirs), index, self.scoreboard(), listener)?,
            Start::Fork(live) => {
                let take_seat = || {
                    // In the child: its copies of what is the parent's. The parent keeps its own.
                    self.workers.clear();
                    let scoreboard = self.scoreboard.take().expect("every child takes it once");
                    scoreboard.into_slot(index)
                };
                by_fork(theirs, take_seat, live)?
            }
        };
        self.workers.push(Worker { pid, index, channel: ours });
        Ok(())
    }

    fn wait_until_all_serve(&mut self) -> Result<()> {
        let mut waiting = self.workers.len();
        while waiting > 0 {
            match self.next_event(None)? {
                Some(Event::Message(_, Message::Ready)) => waiting -= 1,
                Some(Event::Message(place, Message::Failed(why))) => {
                    bail!("worker {} cannot serve: {why}", self.workers[place].index)
                }
                Some(Event::Signal(Signal::SIGCHLD)) => {
                    if let Some((worker, how)) = self.reap().first() {
                        // What it said before it died is still in the channel.
                        if let Ok(Some(Some((Message::Failed(why), _)))) =
                            worker.channel.try_receive()
                        {
                            bail!("worker {} cannot serve: {why}", worker.index);
                        }
                        bail!("worker {} {how} before it served", worker.index);
                    }
                }
                Some(Event::Signal(Signal::SIGINT | Signal::SIGTERM | Signal::SIGQUIT)) => {
                    bail!("stopped before all workers served")
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// One line per fact: where, how many sockets, and who holds which.
    fn announce(&self, address: SocketAddr) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        let inode =
            |worker: &Worker| self.scoreboard().slot(worker.index).socket_inode.load(Relaxed);
        let mut inodes: Vec<u64> = self.workers.iter().map(inode).collect();
        inodes.sort_unstable();
        inodes.dedup();
        writeln!(out, "serving http://{address}/ (parent pid {})", std::process::id())?;
        writeln!(out, "{} workers, listening sockets: {}", self.workers.len(), inodes.len())?;
        for worker in &self.workers {
            let (index, pid) = (worker.index, worker.pid);
            writeln!(out, "worker {index}: pid {pid}, accepts from socket:[{}]", inode(worker))?;
        }
        out.flush()
    }

    /// Waits for the next event; `None` when the time has passed or nothing came of it.
    fn next_event(&mut self, until: Option<Instant>) -> Result<Option<Event>> {
        let mut watched = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let channels = self.workers.iter().map(|worker| worker.channel.as_fd());
        watched.extend(channels.map(|channel| PollFd::new(channel, PollFlags::POLLIN)));
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let timeout = match left {
            None => PollTimeout::NONE,
            // Rounded up, or the last millisecond would be spent spinning.
            Some(left) => PollTimeout::try_from(left.as_millis() as i32 + 1)?,
        };
        match poll(&mut watched, timeout) {
            Err(Errno::EINTR) => return Ok(None),
            other => other.context("cannot wait for events")?,
        };
        let readable = |fd: &PollFd| fd.revents().is_some_and(|e| e.contains(PollFlags::POLLIN));
        let Some(place) = watched.iter().position(readable) else { return Ok(None) };
        if place == 0 {
            let signal = self.signals.read_signal()?.map(|info| info.ssi_signo as i32);
            return Ok(signal.and_then(|number| Signal::try_from(number).ok()).map(Event::Signal));
        }
        let place = place - 1;
        let received = self.workers[place].channel.try_receive()?.flatten();
        Ok(received.map(|(message, _)| Event::Message(place, message)))
    }

    /// Takes the workers that have ended off the list, with how they ended.
    fn reap(&mut self) -> Vec<(Worker, String)> {
        let mut ended = Vec::new();
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            let (pid, how) = match status {
                WaitStatus::Exited(pid, status) => (pid, format!("exited with status {status}")),
                WaitStatus::Signaled(pid, signal, _) => (pid, format!("was killed by {signal}")),
                _ => break,
            };
            if let Some(place) = self.workers.iter().position(|worker| worker.pid == pid) {
                ended.push((self.workers.remove(place), how));
            }
        }
        ended
    }

    fn stop(&mut self) -> Result<()> {
        for worker in &self.workers {
            let _ = worker.channel.send(&Message::Drain, &[]);
        }
        let deadline = Instant::now() + STOP_WITHIN;
        while !self.workers.is_empty() && Instant::now() < deadline {
            if let Some(Event::Signal(Signal::SIGCHLD)) = self.next_event(Some(deadline))? {
                self.reap();
            }
        }
        Ok(())
    }

    fn kill_all(&mut self) {
        for worker in self.workers.drain(..) {
            let _ = kill(worker.pid, Signal::SIGKILL);
            let _ = waitpid(worker.pid, None);
        }
    }
}
