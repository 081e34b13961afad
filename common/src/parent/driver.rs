//! Carries out what the state machine decides, and reports the results to it.
//!
//! The parent learns everything through descriptors that poll(2) watches: signals through a signalfd,
//! messages of workers through their channels.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, getppid};

use super::channel::{Channel, Message};
use super::setup::Start;
use super::signals;
use super::state::{Event, Generation, Settings, State};
use super::step::step;
use super::succession::Successor;
use crate::cli::options::Options;
use crate::kernel::port_watch::PortWatch;
use crate::platform::rights::{self, Needs};
use crate::platform::{limits, systemd};
use crate::scoreboard::ScoreboardOwner;
use crate::steering::Steering;

/// How many messages a worker may send that are no answer to an order. A healthy worker sends a few; a worker that
/// sends on and on would keep the parent from the others.
pub(super) const UNASKED: u32 = 64;

/// The time between two copies of the scoreboard into its file.
const COPY_EVERY: Duration = Duration::from_millis(250);

/// Runs a server: starts the workers, and returns when all of them have ended.
///
/// `address` is the address that they serve, with its final port. With `join` it shares the scoreboard of servers
/// that run already.
///
/// # Errors
/// When a worker cannot serve at the first start.
pub fn run(options: &Options, address: SocketAddr, join: bool, start: Start) -> Result<()> {
    options.user.as_ref().map_or(Ok(()), rights::ensure_can_become)?;
    limits::raise_open_files();
    limits::warn_of_capped_backlog(options.backlog);
    limits::warn_of_too_many_connections(options.max_connections);
    let scoreboard = match &options.scoreboard {
        // The server that this one replaces still counts there.
        Some(path) => ScoreboardOwner::at(path, address, join || start.inherited.is_some())?,
        None => ScoreboardOwner::anonymous(address)?,
    };
    rights::keep_only(&Needs {
        user: options.user.as_ref(),
        binds: start.listener.is_none().then_some(address.port()),
        steering: start.steering.as_ref().map_or(&[], |steering| steering.keeps()),
    })?;
    let settings = Settings {
        workers: start.inherited.as_ref().map_or(options.workers, |it| it.workers).into(),
        drain_timeout: options.drain_timeout,
        hang_timeout: options.hang_timeout,
        own_sockets: start.listener.is_none(),
        steers: start.steering.is_some(),
        replaces: start.inherited.is_some(),
    };
    let mut driver = Driver {
        parent_only: Some(ParentOnly { signals: signals::take()?, scoreboard }),
        state: State::new(settings),
        processes: BTreeMap::new(),
        claimed: VecDeque::new(),
        along: Vec::new(),
        undelivered: Vec::new(),
        successor: None,
        is_succeeded: false,
        was_told_to_end: false,
        predecessor: start.inherited.as_ref().map(|_| getppid()),
        failed: None,
        next_copy: options.scoreboard.as_ref().map(|_| Instant::now()),
        next_sign: systemd::watchdog().map(|_| Instant::now()),
        told: String::new(),
        port_watch: PortWatch::new(address, join),
        next_look: None,
        asked: None,
        address,
        options,
        start,
    };
    let served = driver.serve();
    // Leave no process behind, after an error either. (A new server that serves is no longer in `successor`.)
    let successor = driver.successor.iter().map(|it| it.pid);
    for pid in successor.chain(driver.processes.values().map(|it| it.pid)) {
        let _ = kill(pid, Signal::SIGKILL);
        let _ = waitpid(pid, None);
    }
    if let Err(error) = &served {
        driver.tell_predecessor(&Message::Failed(format!("{error:#}")));
    }
    driver.scoreboard_mut().leave();
    served
}

pub(super) struct Driver<'a> {
    /// `None` only in a forked child, which has taken it.
    pub(super) parent_only: Option<ParentOnly>,
    pub(super) state: State,
    pub(super) processes: BTreeMap<Generation, Process>,
    /// Slots that were claimed before the first worker started.
    pub(super) claimed: VecDeque<usize>,
    /// The descriptors that came with the present message. The parent keeps none of them: if it held a worker's
    /// socket, the socket's queue would survive a crash of the worker, and no process would answer it.
    pub(super) along: Vec<OwnedFd>,
    /// Events for the state machine about orders that could not be delivered.
    pub(super) undelivered: Vec<Event>,
    /// The new server that will replace this one, while it starts.
    pub(super) successor: Option<Successor>,
    /// Whether the new server serves.
    pub(super) is_succeeded: bool,
    /// Whether the last order to end was the first, and came from the server that this one will replace.
    pub(super) was_told_to_end: bool,
    /// The server that this one replaces, if it was started for that; it may have ended.
    pub(super) predecessor: Option<Pid>,
    /// Why this server, which was to replace another, ends.
    pub(super) failed: Option<anyhow::Error>,
    /// When the scoreboard is next copied into its file, if it has one.
    next_copy: Option<Instant>,
    /// When the next sign of life to systemd is due, if its watchdog is on.
    next_sign: Option<Instant>,
    /// The last status that was sent to systemd; empty before the server is ready.
    pub(super) told: String,
    /// Looks for other servers' sockets on the port.
    pub(super) port_watch: PortWatch,
    /// When to look at the port next; `None` before the server is ready.
    pub(super) next_look: Option<Instant>,
    /// A line over which a worker was asked to send its socket, to attach the steering program through it.
    pub(super) asked: Option<Channel>,
    pub(super) address: SocketAddr,
    pub(super) options: &'a Options,
    pub(super) start: Start<'a>,
}

/// What belongs to the parent only. A forked worker must close it.
pub(super) struct ParentOnly {
    pub(super) signals: SignalFd,
    pub(super) scoreboard: ScoreboardOwner,
}

/// A worker's process.
pub(super) struct Process {
    pub(super) pid: Pid,
    /// Its slot of the scoreboard.
    pub(super) index: usize,
    pub(super) channel: Channel,
    /// Whether poll(2) watches its channel. Not after the worker's end has closed, which poll(2) would report again
    /// and again, or after a message that makes no sense.
    pub(super) is_polled: bool,
    /// The giver's end of the line over which another worker will send it sockets, until the giver is asked.
    pub(super) line: Option<OwnedFd>,
    /// How many more messages it may send.
    pub(super) allowance: u32,
    /// How many requests it had answered when that was last looked at, and since when it has been so many.
    pub(super) answered: (u64, Instant),
    /// Why it could not go on, if it has said so.
    pub(super) last_words: Option<String>,
}

impl Driver<'_> {
    fn serve(&mut self) -> Result<()> {
        // All slots first: a reader that sees one worker serve must see that the others do not yet.
        for _ in 0..self.state.settings.workers {
            let slot = self.scoreboard_mut().claim()?;
            self.claimed.push_back(slot);
        }
        self.handle(Event::Begin)?;
        while !self.state.is_over() {
            let now = Instant::now();
            if self.next_copy.is_some_and(|time| time <= now) {
                self.scoreboard_mut().publish();
                self.next_copy = self.scoreboard().has_copy().then(|| now + COPY_EVERY);
            }
            if self.next_look.is_some_and(|time| time <= now) {
                self.next_look = Some(now + self.look_at_port());
            }
            if self.next_sign.is_some_and(|time| time <= now) {
                systemd::alive();
                self.next_sign = systemd::watchdog().map(|interval| now + interval);
            }
            if self.state.deadline().is_some_and(|deadline| deadline <= now) {
                let silences = self.silences(now);
                self.handle(Event::Time(silences))?;
            } else {
                self.wait(now)?;
            }
        }
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Takes one event, and carries out all that follows from it.
    pub(super) fn handle(&mut self, event: Event) -> Result<()> {
        let mut actions = VecDeque::from(step(&mut self.state, event, Instant::now()));
        while let Some(action) = actions.pop_front() {
            let outcome = self.carry_out(action)?;
            for event in outcome.into_iter().chain(std::mem::take(&mut self.undelivered)) {
                actions.extend(step(&mut self.state, event, Instant::now()));
            }
        }
        let status = self.status();
        if self.state.announced && status != self.told {
            if !self.told.is_empty() && !self.state.ending {
                systemd::status(&status);
            }
            self.told = status;
        }
        Ok(())
    }

    /// Waits for signals and messages until the next deadline, and handles them.
    fn wait(&mut self, now: Instant) -> Result<()> {
        let polled = self.processes.iter().filter(|(_, process)| process.is_polled);
        let (workers, mut watched): (Vec<Generation>, Vec<PollFd>) = polled
            .map(|(&worker, process)| {
                (worker, PollFd::new(process.channel.as_fd(), PollFlags::POLLIN))
            })
            .unzip();
        let successor = self.successor.as_ref().filter(|it| it.is_polled);
        let has_successor = successor.is_some();
        let line = successor.map(|it| PollFd::new(it.channel.as_fd(), PollFlags::POLLIN));
        watched.extend(line);
        watched.push(PollFd::new(self.parent_only().signals.as_fd(), PollFlags::POLLIN));
        let deadline = [self.state.deadline(), self.next_copy, self.next_sign, self.next_look]
            .into_iter()
            .flatten()
            .min();
        let timeout = deadline.map_or(PollTimeout::NONE, |deadline| {
            // Rounded up, or the parent would spin during the last millisecond.
            let left = deadline.saturating_duration_since(now).as_millis() + 1;
            PollTimeout::from(u16::try_from(left).unwrap_or(u16::MAX))
        });
        match poll(&mut watched, timeout) {
            Err(Errno::EINTR) => return Ok(()),
            other => other.context("cannot wait for events")?,
        };
        let mut ready: Vec<bool> = watched.iter().map(|it| it.any().unwrap_or(false)).collect();
        if ready.pop() == Some(true) {
            self.on_signal()?;
        }
        if has_successor && ready.pop() == Some(true) {
            self.on_successors_message()?;
        }
        for (worker, _) in workers.into_iter().zip(ready).filter(|&(_, ready)| ready) {
            self.on_message(worker)?;
        }
        Ok(())
    }

    /// Tells the server that this one replaces, if there is one. It may have ended, which does not matter.
    pub(super) fn tell_predecessor(&self, message: &Message) {
        self.start.inherited.as_ref().inspect(|it| _ = it.channel.try_send(message, &[]));
    }

    pub(super) fn steering(&self) -> Option<&dyn Steering> {
        self.start.steering.as_deref()
    }

    /// The memory in which workers show their load, if a policy steers by load.
    pub(super) fn loads(&self) -> Option<BorrowedFd<'_>> {
        self.steering()?.loads()
    }

    pub(super) fn parent_only(&self) -> &ParentOnly {
        self.parent_only.as_ref().expect("only a forked child takes it, and never comes back")
    }

    pub(super) fn scoreboard(&self) -> &ScoreboardOwner {
        &self.parent_only().scoreboard
    }

    pub(super) fn scoreboard_mut(&mut self) -> &mut ScoreboardOwner {
        let parent_only = self.parent_only.as_mut();
        &mut parent_only.expect("only a forked child takes it, and never comes back").scoreboard
    }
}

impl Process {
    /// Notes why it has failed, for the log line when it has ended.
    pub(super) fn is_unusable(&mut self, worker: Generation, why: String) -> Event {
        self.is_polled = false;
        self.last_words = Some(why);
        Event::Unusable(worker)
    }
}
