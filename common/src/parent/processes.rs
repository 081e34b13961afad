//! Starts workers' processes, and steers connections to them.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use nix::unistd::Pid;

use super::channel::{Channel, Message};
use super::context::{WorkerContext, serve_and_exit};
use super::driver::{Driver, Process, UNASKED};
use super::setup::{How, Serve};
use super::start::{by_exec, by_fork};
use super::state::{Event, Generation};
use super::succession::Successor;
use crate::platform::affinity::{self, Affinity};
use crate::platform::limits;
use crate::steering;

impl Driver<'_> {
    /// Starts a worker's process. Returns the CPU that it is pinned to, if it is.
    pub(super) fn start(
        &mut self,
        worker: Generation,
        inherits: bool,
        lane: Option<usize>,
    ) -> Result<Option<usize>> {
        let cpu = match self.options.affinity {
            // Read again: the process may have fewer CPUs by now.
            Some(Affinity::Pinned) => self.state.cpu_for(worker, &affinity::cpus()?),
            _ => None,
        };
        let (line, theirs) = match inherits.then(Channel::pair).transpose()? {
            Some((giver, taker)) => (Some(giver.into()), Some(OwnedFd::from(taker))),
            // A line from a worker of the old server, during an upgrade.
            None => (None, self.start.inherited.as_mut().and_then(|it| it.lines.pop_front())),
        };
        let index = match self.claimed.pop_front() {
            Some(index) => index,
            None => self.scoreboard_mut().claim()?,
        };
        match self.start_process(index, theirs, lane, cpu) {
            Ok((pid, channel)) => {
                let process = Process {
                    pid,
                    index,
                    channel,
                    is_polled: true,
                    line,
                    allowance: UNASKED,
                    answered: (0, Instant::now()),
                    last_words: None,
                };
                self.processes.insert(worker, process);
                Ok(cpu)
            }
            Err(error) => {
                self.scoreboard_mut().release(index);
                Err(limits::explain_open_files(error))
            }
        }
    }

    fn start_process(
        &mut self,
        index: usize,
        line: Option<OwnedFd>,
        lane: Option<usize>,
        cpu: Option<usize>,
    ) -> Result<(Pid, Channel)> {
        let (ours, theirs) = Channel::pair()?;
        let pid = match self.start.how {
            How::Fork(serve) => match by_fork()? {
                Some(pid) => pid,
                None => {
                    drop(ours);
                    self.serve_in_child(theirs, index, cpu, serve)
                }
            },
            How::Exec => {
                let pid = by_exec(theirs, index, self.address)?;
                self.equip(&ours, line, lane, cpu).context("cannot talk to a worker")?;
                pid
            }
        };
        Ok((pid, ours))
    }

    /// In a forked worker: closes or takes its copies of what belongs to the parent, and serves.
    fn serve_in_child(
        &mut self,
        channel: Channel,
        index: usize,
        cpu: Option<usize>,
        serve: &Serve,
    ) -> ! {
        self.processes.clear();
        self.start.inherited = None;
        self.successor = None;
        let parent_only = self.parent_only.take().expect("every child takes it once");
        let listener = self.start.listener.take().expect("so it does this");
        let slots = parent_only.scoreboard.into_slots();
        let context = WorkerContext { channel, slot: slots.own(index), slots, cpu };
        serve_and_exit(&context, |context| serve(context, listener))
    }

    /// Sends a worker that was started by exec what it needs: the scoreboard, its lane, if it has one, and what it
    /// inherits, if anything: the shared socket, or a line over which another worker gives it sockets.
    fn equip(
        &self,
        worker: &Channel,
        line: Option<OwnedFd>,
        lane: Option<usize>,
        cpu: Option<usize>,
    ) -> Result<()> {
        let scoreboard = Some(self.scoreboard().file().as_fd());
        let loads = lane.and(self.loads());
        let shared = self.start.listener.as_ref().map(AsFd::as_fd);
        let inheritance = shared.or(line.as_ref().map(AsFd::as_fd));
        let along: Vec<_> = [scoreboard, loads, inheritance].into_iter().flatten().collect();
        worker.send(&Message::Start { lane: lane.filter(|_| loads.is_some()), cpu }, &along)
    }

    /// Starts the new server that will replace this one, and asks these workers to give it their sockets.
    pub(super) fn start_successor(&mut self, givers: &[Generation]) -> Result<()> {
        ensure!(
            self.loads().is_none(),
            "not possible with --steer least-conn: its steering program knows the workers of one \
             server only; stop this server, then start the other"
        );
        let bound = self.start.listener.as_ref().or(self.start.reservation.as_ref());
        let bound = bound.context("nothing is bound")?;
        let workers = u16::try_from(givers.len())?;
        let count = if self.start.listener.is_none() { givers.len() } else { 0 };
        let lines: Vec<_> = (0..count).map(|_| Channel::pair()).collect::<Result<_>>()?;
        let (ours, theirs): (Vec<Channel>, Vec<Channel>) = lines.into_iter().unzip();
        let theirs = theirs.into_iter().map(OwnedFd::from).collect();
        self.successor = Some(Successor::start(bound, workers, theirs)?);
        // Only now: otherwise the sockets could be in a line that no process reads.
        for (&giver, line) in givers.iter().zip(ours) {
            self.tell(giver, &Message::Give { all: true }, Some(&line.into()));
        }
        Ok(())
    }

    /// Steers new connections to a worker that listens on a new socket. If that fails, the worker has failed: it
    /// would get no connections, or get them by another rule than the policy's.
    pub(super) fn steer(&mut self, worker: Generation, sockets: usize) -> Option<Event> {
        let steering = self.start.steering.as_ref()?;
        let lane = self.state.lane_of(worker)?;
        let entered = match self.along.first() {
            Some(socket) => steering::ensure_listens_on(socket, self.address)
                .and_then(|()| steering.enter(lane, socket.as_fd(), sockets)),
            None => Err(anyhow!("has sent no socket")),
        };
        let process = self.processes.get_mut(&worker)?;
        entered.err().map(|error| process.is_unusable(worker, format!("{error:#}")))
    }
}
