//! Carries out what the state machine decides, and tells it what comes of it.
//!
//! Everything that the parent learns comes through descriptors that poll(2) watches: signals through a
//! signalfd, workers through their channels.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::channel::{Channel, Message};
use super::signals::Signals;
use super::start::Start;
use super::state::{Action, Event, Generation, Settings, State};
use super::step::step;
use super::succession::Successor;
use crate::cli::options::Options;
use crate::platform::rights::{self, Needs};
use crate::platform::{limits, systemd};
use crate::scoreboard::ScoreboardOwner;
use crate::steering::lane::Lanes;

/// How many messages a worker may send that are no answer to an order. It has a few things to say of
/// itself; one that goes on and on would keep the parent from everybody else.
pub(super) const UNASKED: u32 = 64;

/// Between two copies of the scoreboard into its file.
const COPY_EVERY: Duration = Duration::from_millis(250);

/// Runs a server: starts the workers, and comes back when all of them have ended.
///
/// `address` is where they serve, its port settled; `join` lets the scoreboard be shared with
/// servers that run already.
///
/// # Errors
/// When a worker cannot serve at the first start.
pub fn run(options: &Options, address: SocketAddr, join: bool, start: Start) -> Result<()> {
    options.user.as_ref().map_or(Ok(()), rights::ensure_can_become)?;
    limits::raise_open_files();
    limits::warn_of_capped_backlog(options.backlog);
    limits::warn_of_too_many_connections(options.max_connections);
    let scoreboard = match &options.scoreboard {
        // The server that this one succeeds counts there still.
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
    };
    let mut driver = Driver {
        parent_only: Some(ParentOnly { signals: Signals::take()?, scoreboard }),
        state: State::new(settings),
        processes: BTreeMap::new(),
        claimed: VecDeque::new(),
        along: Vec::new(),
        successor: None,
        is_succeeded: false,
        next_copy: options.scoreboard.as_ref().map(|_| Instant::now()),
        next_sign: systemd::watchdog().map(|_| Instant::now()),
        told: String::new(),
        address,
        options,
        start,
    };
    let served = driver.serve();
    // However it went, nothing is left behind. (A successor that serves is none any more.)
    if let Some(successor) = &driver.successor {
        let _ = kill(successor.pid, Signal::SIGKILL);
    }
    for process in driver.processes.values() {
        let _ = kill(process.pid, Signal::SIGKILL);
        let _ = waitpid(process.pid, None);
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
    /// The descriptors that came with the message in hand. The parent keeps none of them: if it held a
    /// worker's socket, its queue would live on with nobody to answer it when that worker crashes.
    pub(super) along: Vec<OwnedFd>,
    /// The server that is to succeed this one, while it starts.
    pub(super) successor: Option<Successor>,
    /// Whether it serves: then it is the server.
    is_succeeded: bool,
    /// When the scoreboard is next copied into its file, if it has one.
    next_copy: Option<Instant>,
    /// When systemd is next told that the parent is alive, if it wants to know.
    next_sign: Option<Instant>,
    /// What systemd was told last of what is going on; nothing before the server is ready.
    pub(super) told: String,
    pub(super) address: SocketAddr,
    pub(super) options: &'a Options,
    pub(super) start: Start<'a>,
}

/// What is the parent's alone, and no worker may keep.
pub(super) struct ParentOnly {
    signals: Signals,
    pub(super) scoreboard: ScoreboardOwner,
}

/// A worker's process.
pub(super) struct Process {
    pub(super) pid: Pid,
    /// Its slot of the scoreboard.
    pub(super) index: usize,
    pub(super) channel: Channel,
    /// Whether it is listened to: not after its end of the channel has closed, or it has said something
    /// that makes no sense. poll(2) would report a closed channel at once, again and again.
    pub(super) is_heard: bool,
    /// The end of the line over which another worker is to send it sockets, until that one is asked.
    pub(super) line: Option<OwnedFd>,
    /// How many messages it may send yet.
    pub(super) allowance: u32,
    /// Why it could not go on, if it had the time to say.
    pub(super) last_words: Option<String>,
}

impl Driver<'_> {
    fn serve(&mut self) -> Result<()> {
        // All slots first: a reader who sees one worker serve sees that the others do not yet.
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
            if self.next_sign.is_some_and(|time| time <= now) {
                systemd::alive();
                self.next_sign = systemd::watchdog().map(|interval| now + interval);
            }
            if self.state.deadline().is_some_and(|deadline| deadline <= now) {
                self.handle(Event::Time(self.silences()))?;
            } else {
                self.wait(now)?;
            }
        }
        Ok(())
    }

    /// Takes one event, and carries out all that follows from it.
    fn handle(&mut self, event: Event) -> Result<()> {
        let mut actions = VecDeque::from(step(&mut self.state, event, Instant::now()));
        while let Some(action) = actions.pop_front() {
            if let Some(event) = self.carry_out(action)? {
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
        let heard = self.processes.iter().filter(|(_, process)| process.is_heard);
        let (workers, mut watched): (Vec<Generation>, Vec<PollFd>) = heard
            .map(|(&worker, process)| {
                (worker, PollFd::new(process.channel.as_fd(), PollFlags::POLLIN))
            })
            .unzip();
        let successor = self.successor.as_ref().filter(|it| it.is_heard);
        let has_successor = successor.is_some();
        let line = successor.map(|it| PollFd::new(it.channel.as_fd(), PollFlags::POLLIN));
        watched.extend(line);
        watched.push(PollFd::new(self.parent_only().signals.as_fd(), PollFlags::POLLIN));
        let deadline =
            self.state.deadline().into_iter().chain(self.next_copy).chain(self.next_sign).min();
        let timeout = deadline.map_or(PollTimeout::NONE, |deadline| {
            // Rounded up, or the last millisecond would be spent spinning.
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

    fn on_signal(&mut self) -> Result<()> {
        let event = match self.parent_only().signals.next()? {
            Some(Signal::SIGCHLD) => return self.reap(),
            Some(Signal::SIGINT | Signal::SIGTERM) => Event::Stop,
            Some(Signal::SIGQUIT) => Event::StopNow,
            Some(Signal::SIGHUP) => Event::Reload,
            Some(Signal::SIGUSR2) => Event::Succeed,
            Some(Signal::SIGTTIN) => Event::More,
            Some(Signal::SIGTTOU) => Event::Fewer,
            _ => return Ok(()),
        };
        self.handle(event)
    }

    /// Receives one message of a worker. Whatever is wrong with it is that worker's fault, and no reason
    /// to end the server.
    fn on_message(&mut self, worker: Generation) -> Result<()> {
        let Some(process) = self.processes.get_mut(&worker) else { return Ok(()) };
        let event = match process.channel.try_receive() {
            Ok(None) => return Ok(()),
            Ok(Some(None)) => {
                process.is_heard = false;
                Event::Closed(worker)
            }
            Ok(Some(Some(_))) if process.allowance == 0 => {
                process.is_unusable(worker, "has sent more than it was asked for".into())
            }
            Ok(Some(Some((message, along)))) => {
                process.allowance -= 1;
                self.along = along;
                match message {
                    Message::Socket => Event::Socket(worker),
                    Message::Ready => Event::Ready(worker),
                    Message::Adopted => Event::Adopted(worker),
                    Message::Terminated => Event::Terminated(worker),
                    Message::NotAdopted(why) => Event::NotAdopted(worker, why),
                    Message::Failed(why) => {
                        process.last_words = Some(why); // it is about to exit
                        return Ok(());
                    }
                    other => process.is_unusable(worker, format!("has sent {other:?}")),
                }
            }
            Err(error) => process.is_unusable(worker, format!("cannot be understood: {error:#}")),
        };
        let handled = self.handle(event);
        self.along.clear();
        handled
    }

    /// Receives what the server says that is to succeed this one.
    fn on_successors_message(&mut self) -> Result<()> {
        let Some(successor) = &mut self.successor else { return Ok(()) };
        match successor.channel.try_receive() {
            Ok(None) => Ok(()),
            Ok(Some(Some((Message::Ready, _)))) => self.handle(Event::Succeeded),
            Ok(Some(Some((Message::Failed(why), _)))) => {
                successor.last_words = Some(why);
                Ok(())
            }
            // What is wrong with it, or that it has ended, its exit tells.
            _ => {
                successor.is_heard = false;
                Ok(())
            }
        }
    }

    /// Notes that the server has ended that was to succeed this one, if it was that.
    fn reap_successor(&mut self, pid: Pid, how: &str) -> Result<()> {
        if self.successor.as_ref().is_none_or(|it| it.pid != pid) {
            return Ok(());
        }
        if self.successor.as_ref().is_some_and(|it| it.is_heard) {
            self.on_successors_message()?; // its last words
        }
        let last_words = self.successor.take().and_then(|it| it.last_words);
        self.handle(Event::NotSucceeded(last_words.unwrap_or_else(|| format!("it {how}"))))
    }

    /// Takes the workers that have ended off the list.
    fn reap(&mut self) -> Result<()> {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            let (pid, how) = match status {
                WaitStatus::Exited(pid, status) => (pid, format!("exited with status {status}")),
                WaitStatus::Signaled(pid, signal, _) => (pid, format!("was killed by {signal}")),
                _ => break,
            };
            self.reap_successor(pid, &how)?;
            let found = self.processes.iter_mut().find(|(_, process)| process.pid == pid);
            if let Some((&worker, dead)) = found {
                // What it said last may still be in the channel. Nothing else in there matters any more:
                // a worker that said that it serves does not.
                while let Ok(Some(Some((message, _)))) = dead.channel.try_receive() {
                    if let Message::Failed(why) = message {
                        dead.last_words = Some(why);
                    }
                }
                let why = dead.last_words.take().unwrap_or(how);
                let index = dead.index;
                self.scoreboard_mut().release(index);
                self.handle(Event::Exited(worker, why))?;
                self.processes.remove(&worker); // only now: the log may name it
            }
        }
        Ok(())
    }

    /// For how long each worker's event loop has not turned.
    fn silences(&self) -> Vec<(Generation, Option<Duration>)> {
        let slot = |process: &Process| self.scoreboard().board().slot(process.index);
        self.processes.iter().map(|(&worker, process)| (worker, slot(process).silence())).collect()
    }

    /// Carries out one action. Gives what came of it, if the state machine must know.
    fn carry_out(&mut self, action: Action) -> Result<Option<Event>> {
        match action {
            Action::Start { worker, inherits, lane } => {
                return Ok(Some(match self.start(worker, inherits, lane) {
                    Ok(cpu) => Event::Started(worker, cpu),
                    Err(error) => Event::StartFailed(worker, format!("{error:#}")),
                }));
            }
            Action::Give { giver, taker, all } => {
                let line = self.processes.get_mut(&taker).and_then(|process| process.line.take());
                let message = if all { Message::GiveAll } else { Message::GiveOne };
                return Ok(line.and_then(|line| self.tell(giver, &message, Some(&line))));
            }
            Action::Release(giver) => return Ok(self.tell(giver, &Message::Release, None)),
            Action::Adopt { giver, heir } => {
                let (from, to) = Channel::pair()?;
                let heir = self.tell(heir, &Message::Adopt, Some(&to.into()));
                let giver = self.tell(giver, &Message::GiveAll, Some(&from.into()));
                return Ok(heir.or(giver));
            }
            Action::Drain(worker) => return Ok(self.tell(worker, &Message::Drain, None)),
            Action::Kill(worker) => {
                let process = self.processes.get(&worker);
                process.inspect(|process| _ = kill(process.pid, Signal::SIGKILL));
            }
            Action::StartSuccessor(givers) => {
                let failed = self.start_successor(&givers).err();
                return Ok(failed.map(|error| Event::NotSucceeded(format!("{error:#}"))));
            }
            Action::EndSuccessor => {
                // Its first workers may have accepted something already, which they answer.
                self.successor.as_ref().inspect(|it| _ = kill(it.pid, Signal::SIGTERM));
            }
            Action::NameSuccessor => {
                self.is_succeeded = true;
                if let Some(successor) = self.successor.take() {
                    tracing::info!("the server with pid {} serves; this one ends", successor.pid);
                    systemd::main_process(successor.pid.as_raw());
                }
            }
            Action::Steer { worker, sockets } => return Ok(self.steer(worker, sockets)),
            Action::OpenLane(worker) => {
                if let (Some(lanes), Some(process)) = (self.lanes(), self.processes.get(&worker))
                    && let Some((lane, cpu)) = self.state.lane_of(worker)
                {
                    lanes.give(lane, process.pid.as_raw() as u32, cpu);
                }
            }
            Action::LeaveLane(lane) => {
                self.start.steering.as_ref().inspect(|steering| steering.leave(lane));
            }
            Action::CloseLane(lane) => _ = self.lanes().inspect(|lanes| lanes.close(lane)),
            Action::Announce => {
                // Who reads that all serve, and then the copy, sees them serve there too.
                self.scoreboard_mut().publish();
                self.announce();
                self.tell_predecessor(&Message::Ready);
                self.start.inherited = None;
            }
            Action::StopListening => {
                if !self.is_succeeded {
                    systemd::stopping(&self.status());
                }
                // Held open here, a shared socket would go on queueing connections that nobody accepts.
                self.start.listener = None;
            }
            Action::Abort(worker, why) => {
                return Err(match self.processes.get(&worker) {
                    Some(process) => anyhow!("worker {} cannot serve: {why}", process.index),
                    None => anyhow!(why),
                });
            }
            Action::Note(note) => {
                self.tell_systemd(&note);
                self.log(note);
            }
        }
        Ok(None)
    }

    /// Sends an order. A worker that is dying does not hear it any more, which its exit tells; one that has
    /// not read for so long that the channel is full is of no use.
    pub(super) fn tell(
        &mut self,
        worker: Generation,
        message: &Message,
        along: Option<&OwnedFd>,
    ) -> Option<Event> {
        let process = self.processes.get_mut(&worker)?;
        let along: Vec<_> = along.into_iter().map(AsFd::as_fd).collect();
        process.allowance = process.allowance.saturating_add(1); // for the answer
        let error = process.channel.try_send(message, &along).err()?;
        let is_full = error.downcast_ref() == Some(&Errno::EAGAIN);
        is_full.then(|| process.is_unusable(worker, "does not read its orders".into()))
    }

    /// Tells the server that this one succeeds, if there is one. It may be gone, which is no reason to end.
    fn tell_predecessor(&self, message: &Message) {
        self.start.inherited.as_ref().inspect(|it| _ = it.channel.try_send(message, &[]));
    }

    pub(super) fn lanes(&self) -> Option<&Lanes> {
        self.start.steering.as_ref()?.lanes()
    }

    fn parent_only(&self) -> &ParentOnly {
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
    /// Notes why it is of no use any more, for the line that is written when it has ended.
    pub(super) fn is_unusable(&mut self, worker: Generation, why: String) -> Event {
        self.is_heard = false;
        self.last_words = Some(why);
        Event::Unusable(worker)
    }
}
