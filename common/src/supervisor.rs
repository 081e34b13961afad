//! The parent's life: start workers, watch them, replace them, stop them.
//!
//! The parent serves nobody and has one thread; it never touches tokio, so that it may fork at any
//! time. It learns of everything through descriptors that poll(2) watches: signals through a
//! signalfd, workers through their channels. Whatever it learns only changes what it *wants* or
//! *knows*; `move_on` then takes the next step from what is to what is wanted.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::affinity::{self, Affinity};
use crate::announce::{Announced, announce};
use crate::channel::{Channel, Message};
use crate::lane::{LANES, Lanes};
use crate::options::Options;
use crate::restarts::Restarts;
use crate::scoreboard::Scoreboard;
use crate::signals::Signals;
use crate::start::{How, Start, by_exec, by_fork};
use crate::{limits, systemd};

/// As many workers as `--workers` allows; SIGTTIN does not go beyond it either.
const MOST_WORKERS: usize = 1024;

/// How often the parent looks whether a worker hangs, at least.
const LOOK: Duration = Duration::from_secs(1);

/// Runs a server: starts the workers, and comes back when all of them have ended.
///
/// `address` is where they serve, its port settled; `join` lets the scoreboard be shared with
/// servers that run already.
///
/// # Errors
/// When a worker cannot serve at the first start.
pub fn run(options: &Options, address: SocketAddr, join: bool, start: Start) -> Result<()> {
    limits::raise_open_files();
    limits::warn_of_capped_backlog(options.backlog);
    let scoreboard = match &options.scoreboard {
        Some(path) => Scoreboard::at(path, address, join)?,
        None => Scoreboard::anonymous(address)?,
    };
    let mut supervisor = Supervisor {
        desk: Some(Desk { signals: Signals::take()?, scoreboard }),
        address,
        options,
        start,
        wanted: options.workers.into(),
        workers: Vec::new(),
        to_replace: VecDeque::new(),
        reloading: false,
        restarts: Restarts::default(),
        announced: false,
        ending: false,
    };
    let served = supervisor.serve();
    // However it went, nothing is left behind.
    supervisor.kill_all();
    for worker in &supervisor.workers {
        let _ = waitpid(worker.pid, None);
    }
    supervisor.scoreboard().leave();
    served
}

struct Supervisor<'a> {
    /// `None` only in a forked child, which has taken it.
    desk: Option<Desk>,
    address: SocketAddr,
    options: &'a Options,
    start: Start<'a>,
    /// How many workers there should be.
    wanted: usize,
    workers: Vec<Worker>,
    /// A reload under way: the slots of the workers that are still to be replaced.
    to_replace: VecDeque<usize>,
    reloading: bool,
    restarts: Restarts,
    /// Whether all workers have served once.
    announced: bool,
    /// Whether the server is told to end.
    ending: bool,
}

/// What is the parent's alone, and no worker may keep.
struct Desk {
    signals: Signals,
    scoreboard: Scoreboard,
}

/// A worker as its parent knows it.
struct Worker {
    pid: Pid,
    /// Its slot of the scoreboard.
    index: usize,
    channel: Channel,
    life: Life,
    started: Instant,
    /// Listening sockets of its own: one, and those it adopted.
    sockets: usize,
    /// The lane by which a steering policy knows it; a successor takes over its predecessor's.
    lane: Option<usize>,
    /// The CPU it is pinned to, if it is.
    cpu: Option<usize>,
    /// Since when its event loop has been seen to stand still.
    suspected: Option<Instant>,
    /// Why it could not go on, if it had the time to say.
    last_words: Option<String>,
}

/// Where a worker is in its life.
#[derive(Clone, Copy, PartialEq)]
enum Life {
    /// Not serving yet; to replace the worker in this slot, if it is for a reload.
    Starting {
        replaces: Option<usize>,
    },
    Serving,
    /// Its listening sockets are on their way to the worker in this slot; then it drains.
    GivingAway {
        heir: usize,
    },
    /// Ends by itself, until then; afterwards it is killed.
    Draining {
        until: Instant,
    },
    /// Killed, not reaped yet.
    Killed,
}

impl Life {
    /// Whether it is given nothing more to do.
    fn ends(self) -> bool {
        matches!(self, Life::Draining { .. } | Life::Killed)
    }
}

/// What woke the parent.
enum Event {
    Signal(Signal),
    /// From the worker at this place of the list, with what came along.
    Message(usize, Message, Vec<OwnedFd>),
}

impl Supervisor<'_> {
    fn serve(&mut self) -> Result<()> {
        // All slots first: a reader who sees one worker serve sees that the others do not yet.
        let claim = |_| self.scoreboard().claim();
        let slots: Vec<usize> = (0..self.wanted).map(claim).collect::<Result<_>>()?;
        for index in slots {
            self.start_worker(index, None)?;
        }
        loop {
            self.move_on()?;
            if self.ending && self.workers.is_empty() {
                return Ok(());
            }
            match self.next_event()? {
                Some(Event::Signal(Signal::SIGCHLD)) => self.bury()?,
                Some(Event::Signal(signal)) => self.obey(signal),
                Some(Event::Message(place, message, along)) => self.hear(place, message, along),
                None => {}
            }
        }
    }

    /// Takes what steps are due from what is to what is wanted.
    fn move_on(&mut self) -> Result<()> {
        let now = Instant::now();
        for place in 0..self.workers.len() {
            match self.workers[place].life {
                Life::Draining { until } if until <= now => self.end_of_patience(place),
                Life::Draining { .. } | Life::Killed => {}
                _ => self.look_whether_it_hangs(place, now),
            }
        }
        if self.ending {
            return Ok(());
        }
        let mut staying =
            self.count(|life| matches!(life, Life::Serving | Life::Starting { replaces: None }));
        while staying < self.wanted && self.restarts.not_before(now).is_none() {
            if let Err(error) = self.start_one_more(None) {
                self.put_off(&format!("a worker cannot be started: {error:#}"));
            }
            staying += 1;
        }
        while staying > self.wanted && self.let_one_go()? {
            staying -= 1;
        }
        let replacing = self.count(|life| matches!(life, Life::Starting { replaces: Some(_) }));
        if self.reloading && replacing == 0 {
            self.replace_the_next();
        }
        if !self.announced && self.count(|life| life == Life::Serving) == self.wanted {
            self.announced = true;
            let inode = |index| self.scoreboard().slot(index).socket_inode.load(Relaxed);
            let announced: Vec<Announced> = (self.workers.iter())
                .map(|w| Announced { index: w.index, pid: w.pid.as_raw(), inode: inode(w.index) })
                .collect();
            // A closed stdout is no reason to stop serving.
            let _ = announce(self.address, &announced);
            systemd::ready();
        }
        Ok(())
    }

    /// One step of a reload. Workers that died meanwhile have been replaced already.
    fn replace_the_next(&mut self) {
        while let Some(old) = self.to_replace.pop_front() {
            if self.serving(old).is_some() {
                if let Err(error) = self.start_one_more(Some(old)) {
                    self.give_up_reload(old, &format!("{error:#}"));
                }
                return;
            }
        }
        self.reloading = false;
        let serving = self.workers.iter().filter(|worker| worker.life == Life::Serving);
        let pids: Vec<i32> = serving.map(|worker| worker.pid.as_raw()).collect();
        tracing::info!("reloaded, the workers' pids are {pids:?}");
    }

    /// When to look again though nothing happens.
    fn next_look(&self) -> Option<Instant> {
        let now = Instant::now();
        let deadlines = self.workers.iter().filter_map(|worker| match worker.life {
            Life::Draining { until } => Some(until),
            _ => None,
        });
        let hang = self.options.hang_timeout;
        let look = (!hang.is_zero()).then(|| now + LOOK.min(hang / 2));
        // A start that failed is tried again though nobody died of it.
        let retry = (self.workers.len() < self.wanted).then(|| now + LOOK);
        deadlines.chain(self.restarts.not_before(now)).chain(look).chain(retry).min()
    }

    /// Waits for the next event; `None` when it is time to look again.
    fn next_event(&mut self) -> Result<Option<Event>> {
        let mut watched = vec![PollFd::new(self.desk().signals.as_fd(), PollFlags::POLLIN)];
        let living: Vec<usize> = (0..self.workers.len())
            .filter(|&place| self.workers[place].life != Life::Killed)
            .collect();
        let channels = living.iter().map(|&place| self.workers[place].channel.as_fd());
        watched.extend(channels.map(|channel| PollFd::new(channel, PollFlags::POLLIN)));
        let timeout = match self.next_look() {
            None => PollTimeout::NONE,
            Some(look) => {
                let left = look.saturating_duration_since(Instant::now()).as_millis();
                // Rounded up, or the last millisecond would be spent spinning.
                PollTimeout::from(u16::try_from(left + 1).unwrap_or(u16::MAX))
            }
        };
        match poll(&mut watched, timeout) {
            Err(Errno::EINTR) => return Ok(None),
            other => other.context("cannot wait for events")?,
        };
        let readable = |fd: &PollFd| fd.revents().is_some_and(|e| e.contains(PollFlags::POLLIN));
        match watched.iter().position(readable) {
            None => Ok(None),
            Some(0) => Ok(self.desk().signals.next()?.map(Event::Signal)),
            Some(place) => {
                let place = living[place - 1];
                let received = self.workers[place].channel.try_receive()?.flatten();
                Ok(received.map(|(message, along)| Event::Message(place, message, along)))
            }
        }
    }

    fn obey(&mut self, signal: Signal) {
        match signal {
            Signal::SIGINT | Signal::SIGTERM if !self.ending => {
                self.begin_to_end();
                for place in 0..self.workers.len() {
                    self.drain(place);
                }
            }
            Signal::SIGINT | Signal::SIGTERM | Signal::SIGQUIT => {
                self.begin_to_end();
                self.kill_all();
            }
            Signal::SIGHUP => {
                tracing::info!("reloading");
                self.reloading = true;
                self.to_replace = self.workers.iter().map(|worker| worker.index).collect();
            }
            Signal::SIGTTIN => self.want((self.wanted + 1).min(MOST_WORKERS)),
            Signal::SIGTTOU => self.want((self.wanted - 1).max(1)),
            _ => {}
        }
    }

    fn want(&mut self, workers: usize) {
        tracing::info!("{workers} workers from now on, instead of {}", self.wanted);
        self.wanted = workers;
    }

    fn begin_to_end(&mut self) {
        self.ending = true;
        systemd::stopping();
        // Held open here, a shared socket would go on queueing connections that nobody accepts.
        self.start.listener = None;
    }

    fn hear(&mut self, place: usize, message: Message, along: Vec<OwnedFd>) {
        let (index, life) = (self.workers[place].index, self.workers[place].life);
        match (message, life) {
            (Message::Socket, Life::Starting { replaces: None }) => {
                along.first().inspect(|socket| self.steer_to(place, socket.as_fd()));
            }
            // It serves the socket of the worker that it replaces, which has been entered already.
            (Message::Socket, _) => {}
            (Message::Ready, Life::Starting { replaces }) => {
                self.workers[place].life = Life::Serving;
                if replaces.is_some() {
                    self.open_lane(place);
                }
                if let Some(old) = replaces.and_then(|old| self.serving(old)) {
                    self.drain(old);
                }
            }
            (Message::Adopted, _) => {
                let giver = Life::GivingAway { heir: index };
                if let Some(giver) = self.workers.iter().position(|worker| worker.life == giver) {
                    self.workers[place].sockets += self.workers[giver].sockets;
                    self.leave_lane(giver);
                    self.drain(giver);
                }
            }
            // It is about to exit, and is buried with its reason then.
            (Message::Failed(why), _) => self.workers[place].last_words = Some(why),
            _ => {}
        }
    }

    /// Takes the workers that have ended off the list, and draws the consequences.
    fn bury(&mut self) -> Result<()> {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            let (pid, how) = match status {
                WaitStatus::Exited(pid, status) => (pid, format!("exited with status {status}")),
                WaitStatus::Signaled(pid, signal, _) => (pid, format!("was killed by {signal}")),
                _ => break,
            };
            if let Some(place) = self.workers.iter().position(|worker| worker.pid == pid) {
                let mut dead = self.workers.remove(place);
                self.scoreboard().release(dead.index);
                self.close_lane(dead.lane);
                // What it said last may still be in the channel.
                while let Ok(Some(Some((message, _)))) = dead.channel.try_receive() {
                    if let Message::Failed(why) = message {
                        dead.last_words = Some(why);
                    }
                }
                self.mourn(dead, how)?;
            }
        }
        Ok(())
    }

    fn mourn(&mut self, dead: Worker, how: String) -> Result<()> {
        let giver = Life::GivingAway { heir: dead.index };
        for worker in self.workers.iter_mut().filter(|worker| worker.life == giver) {
            worker.life = Life::Serving; // it has its sockets still, and will find another heir
        }
        if self.ending || matches!(dead.life, Life::Draining { .. } | Life::Killed) {
            return Ok(());
        }
        let (index, pid) = (dead.index, dead.pid);
        let why = dead.last_words.unwrap_or(how);
        match dead.life {
            Life::Starting { .. } if !self.announced => {
                bail!("worker {index} cannot serve: {why}")
            }
            Life::Starting { replaces: Some(old) } => {
                self.give_up_reload(old, &format!("worker {index} cannot serve: {why}"));
            }
            _ => self.put_off(&format!("worker {index} (pid {pid}) {why}")),
        }
        Ok(())
    }

    /// Notes a death, or a start that failed, so that too many of them make the next start wait.
    fn put_off(&mut self, what: &str) {
        match self.restarts.died(Instant::now()) {
            None => tracing::error!("{what}; another is started"),
            Some(pause) => tracing::error!("{what}; too many deaths, the next start in {pause:?}"),
        }
    }

    fn give_up_reload(&mut self, old: usize, why: &str) {
        tracing::error!("reload given up, worker {old} stays: {why}");
        self.to_replace.clear();
        self.reloading = false;
    }

    fn start_one_more(&mut self, replaces: Option<usize>) -> Result<()> {
        let index = self.scoreboard().claim()?;
        let started = self.start_worker(index, replaces);
        if started.is_err() {
            self.scoreboard().release(index);
        }
        started
    }

    /// Starts a worker that counts in this slot; in a reload, the successor of another.
    fn start_worker(&mut self, index: usize, replaces: Option<usize>) -> Result<()> {
        let (ours, theirs) = Channel::pair()?;
        let mut ours = Some(ours);
        let lane = self.lane_for(replaces);
        let cpu = self.cpu_for(replaces)?;
        let (pid, sockets) = match self.start.how {
            How::Fork(live) => {
                let take_seat = || {
                    // In the child: its copies of what is the parent's are closed, or taken.
                    ours = None;
                    self.workers.clear();
                    let desk = self.desk.take().expect("every child takes it once");
                    let listener = self.start.listener.take().expect("so it does this");
                    (desk.scoreboard.into_slots(), listener)
                };
                (by_fork(theirs, index, cpu, take_seat, live)?, 1)
            }
            How::Exec => {
                let (line, sockets) = self.sockets_for(replaces)?;
                let shared = self.start.listener.as_ref().map(AsFd::as_fd);
                let inheritance = shared.or(line.as_ref().map(AsFd::as_fd));
                let ours = ours.as_ref().expect("it is taken in forked children alone");
                let lane = lane.zip(self.lanes().map(AsFd::as_fd));
                (by_exec(ours, theirs, index, self.scoreboard(), lane, cpu, inheritance)?, sockets)
            }
        };
        let channel = ours.expect("a forked child does not come back");
        self.workers.push(Worker {
            pid,
            index,
            channel,
            life: Life::Starting { replaces },
            started: Instant::now(),
            sockets,
            lane,
            cpu,
            suspected: None,
            last_words: None,
        });
        Ok(())
    }

    /// Where workers have sockets of their own, a new one may get its from another: a successor all
    /// that its predecessor has, and an additional worker one that somebody had to adopt. Gives the
    /// line they come over, and how many they are.
    fn sockets_for(&mut self, replaces: Option<usize>) -> Result<(Option<OwnedFd>, usize)> {
        if self.start.listener.is_some() {
            return Ok((None, 1));
        }
        if let Some(place) = replaces.and_then(|old| self.serving(old)) {
            let line = self.ask_to_give(place, &Message::GiveAll)?;
            return Ok((Some(line), self.workers[place].sockets));
        }
        let richest = (0..self.workers.len())
            .filter(|&place| self.workers[place].life == Life::Serving)
            .max_by_key(|&place| self.workers[place].sockets);
        match richest {
            Some(place) if self.workers[place].sockets > 1 => {
                self.workers[place].sockets -= 1;
                Ok((Some(self.ask_to_give(place, &Message::GiveOne)?), 1))
            }
            _ => Ok((None, 1)),
        }
    }

    /// Asks a worker to send sockets over a new line, and gives the line's other end.
    fn ask_to_give(&self, place: usize, message: &Message) -> Result<OwnedFd> {
        let (giver, taker) = Channel::pair()?;
        // A giver that is dying is noticed by the taker: its end of the line closes.
        let _ = self.workers[place].channel.send(message, &[giver.as_fd()]);
        Ok(taker.into())
    }

    /// The lane of a worker to be started: its predecessor's, or the first that is free.
    fn lane_for(&self, replaces: Option<usize>) -> Option<usize> {
        self.start.steering.as_ref()?;
        match replaces.and_then(|old| self.serving(old)) {
            Some(place) => self.workers[place].lane,
            None => (1..=LANES).find(|&lane| !self.is_in_use(lane)),
        }
    }

    /// Whether a worker that does not drain has this lane.
    fn is_in_use(&self, lane: usize) -> bool {
        self.workers.iter().any(|worker| worker.lane == Some(lane) && !worker.life.ends())
    }

    /// The CPU of a worker to be started, if workers are pinned: its predecessor's, or the emptiest.
    fn cpu_for(&self, replaces: Option<usize>) -> Result<Option<usize>> {
        if self.options.affinity != Some(Affinity::Pinned) {
            return Ok(None);
        }
        let cpus = affinity::cpus()?; // asked anew: some may have been taken away from us
        let old = replaces.and_then(|old| self.serving(old)).map(|place| &self.workers[place]);
        let predecessors = old.and_then(|old| old.cpu).filter(|cpu| cpus.contains(cpu));
        let staying = self.workers.iter().filter(|worker| !worker.life.ends());
        let taken = staying.filter_map(|worker| worker.cpu);
        Ok(predecessors.or_else(|| affinity::emptiest(&cpus, taken)))
    }

    /// Has new connections steered to a worker that listens on a new socket. If that fails the worker
    /// is of no use: it would get nothing, or something by another rule than was asked for.
    fn steer_to(&mut self, place: usize, socket: BorrowedFd) {
        let sockets = self.sockets();
        let worker = &mut self.workers[place];
        if let (Some(steering), Some(lane)) = (&self.start.steering, worker.lane)
            && let Err(error) = steering.enter(lane, socket, sockets)
        {
            worker.last_words = Some(format!("{error:#}"));
            let _ = kill(worker.pid, Signal::SIGKILL);
        }
        self.open_lane(place);
    }

    /// Listening sockets of all workers, those that are being opened included. A successor's are its
    /// predecessor's, and those of a worker that drains are somebody else's already.
    fn sockets(&self) -> usize {
        let counts = |life| match life {
            Life::Starting { replaces } => replaces.is_none_or(|old| self.serving(old).is_none()),
            Life::Serving | Life::GivingAway { .. } => true,
            Life::Draining { .. } | Life::Killed => false,
        };
        self.workers.iter().filter(|worker| counts(worker.life)).map(|worker| worker.sockets).sum()
    }

    /// Gives a worker its lane, which may have been another's until now.
    fn open_lane(&self, place: usize) {
        let worker = &self.workers[place];
        if let (Some(lanes), Some(lane)) = (self.lanes(), worker.lane) {
            lanes.give(lane, worker.pid.as_raw() as u32, worker.cpu);
        }
    }

    /// Frees the lane of a worker whose sockets another has adopted.
    fn leave_lane(&mut self, place: usize) {
        let lane = self.workers[place].lane.take();
        if let (Some(steering), Some(lane)) = (&self.start.steering, lane) {
            steering.leave(lane);
        }
        self.close_lane(lane);
    }

    /// Closes a lane, unless another worker has it now.
    fn close_lane(&self, lane: Option<usize>) {
        if let (Some(lanes), Some(lane)) = (self.lanes(), lane)
            && !self.is_in_use(lane)
        {
            lanes.close(lane);
        }
    }

    fn lanes(&self) -> Option<&Lanes> {
        self.start.steering.as_ref()?.lanes()
    }

    /// Has the worker that came last end, of those on the fullest CPU if they are pinned, without losing
    /// what waits in its queues. False if it must wait for something.
    fn let_one_go(&mut self) -> Result<bool> {
        let on_cpu = |cpu| self.workers.iter().filter(|w| !w.life.ends() && w.cpu == cpu).count();
        let serving = (0..self.workers.len())
            .filter(|&place| self.workers[place].life == Life::Serving)
            .max_by_key(|&place| (on_cpu(self.workers[place].cpu), place));
        let Some(place) = serving else { return Ok(false) };
        if self.start.listener.is_some() {
            self.drain(place); // the others accept from the same queue
            return Ok(true);
        }
        let heir = (0..self.workers.len())
            .filter(|&heir| heir != place && self.workers[heir].life == Life::Serving)
            .min_by_key(|&heir| self.workers[heir].sockets);
        let Some(heir) = heir else { return Ok(false) };
        let line = self.ask_to_give(place, &Message::GiveAll)?;
        let _ = self.workers[heir].channel.send(&Message::Adopt, &[line.as_fd()]);
        self.workers[place].life = Life::GivingAway { heir: self.workers[heir].index };
        Ok(true)
    }

    fn drain(&mut self, place: usize) {
        let worker = &mut self.workers[place];
        if !matches!(worker.life, Life::Draining { .. } | Life::Killed) {
            let _ = worker.channel.send(&Message::Drain, &[]);
            worker.life = Life::Draining { until: Instant::now() + self.options.drain_timeout };
        }
    }

    /// Kills a worker that hangs, once it has been seen to hang for a while: if the whole machine, or
    /// all of us, stood still, nobody has had the time to turn yet.
    fn look_whether_it_hangs(&mut self, place: usize, now: Instant) {
        let limit = self.options.hang_timeout;
        let worker = &self.workers[place];
        let silence = self.scoreboard().slot(worker.index).silence();
        let hangs = silence.unwrap_or_else(|| worker.started.elapsed()) > limit;
        if limit.is_zero() || !hangs {
            self.workers[place].suspected = None;
            return;
        }
        let since = *self.workers[place].suspected.get_or_insert(now);
        if now - since >= LOOK.min(limit / 2) {
            let Worker { index, pid, .. } = self.workers[place];
            tracing::error!(
                "the event loop of worker {index} (pid {pid}) has not turned for {limit:?}"
            );
            let _ = kill(pid, Signal::SIGKILL);
            self.workers[place].suspected = Some(now); // killed and said once, not at every look
        }
    }

    fn end_of_patience(&mut self, place: usize) {
        let Worker { index, pid, .. } = self.workers[place];
        let open = self.scoreboard().slot(index).connections_open.load(Relaxed);
        tracing::warn!(
            "worker {index} (pid {pid}) is killed with {open} connections open: --drain-timeout is over"
        );
        self.kill(place);
    }

    fn kill(&mut self, place: usize) {
        let worker = &mut self.workers[place];
        let _ = kill(worker.pid, Signal::SIGKILL);
        worker.life = Life::Killed;
    }

    fn kill_all(&mut self) {
        (0..self.workers.len()).for_each(|place| self.kill(place));
    }

    fn count(&self, which: impl Fn(Life) -> bool) -> usize {
        self.workers.iter().filter(|worker| which(worker.life)).count()
    }

    /// The place in the list of the worker that serves and has this slot.
    fn serving(&self, index: usize) -> Option<usize> {
        let is_it = |worker: &Worker| worker.index == index && worker.life == Life::Serving;
        self.workers.iter().position(is_it)
    }

    fn desk(&self) -> &Desk {
        self.desk.as_ref().expect("only a forked child takes it, and never comes back")
    }

    fn scoreboard(&self) -> &Scoreboard {
        &self.desk().scoreboard
    }
}
