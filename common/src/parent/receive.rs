//! What the parent learns: signals, messages, deaths. Each becomes an event of the state machine.

use std::process::ExitStatus;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::channel::{Channel, Message};
use super::driver::{Driver, Process, UNASKED};
use super::exit::{Exit, next_dead};
use super::signals;
use super::state::{Event, Generation};

impl Driver<'_> {
    pub(super) fn on_signal(&mut self) -> Result<()> {
        let Some((signal, sender)) = signals::next(&self.parent_only().signals)? else {
            return Ok(());
        };
        if matches!(signal, Signal::SIGINT | Signal::SIGTERM) && self.is_the_same_stop(sender) {
            return Ok(());
        }
        let event = match signal {
            Signal::SIGCHLD => return self.reap(),
            Signal::SIGINT | Signal::SIGTERM => Event::Stop,
            Signal::SIGQUIT => Event::StopNow,
            Signal::SIGHUP => Event::Reload,
            Signal::SIGUSR2 => Event::Succeed,
            Signal::SIGTTIN => Event::More,
            Signal::SIGTTOU => Event::Fewer,
            _ => return Ok(()),
        };
        self.handle(event)
    }

    /// Whether this order to end is the same as the last one. During an upgrade, a terminal or systemd stops both
    /// servers, and the old server tells this one, too, before or after. That must not count as the second order,
    /// which ends all at once. The old server may do so even after this one has announced itself, until it has read
    /// that. So the first order from another sender after the old server's is taken for the same
    /// one. The time between them does not tell: it may be long if the cores are busy.
    fn is_the_same_stop(&mut self, sender: Pid) -> bool {
        let ends = self.state.ending;
        let is_told = self.predecessor == Some(sender);
        let was_told = std::mem::replace(&mut self.was_told_to_end, is_told && !ends);
        ends && (is_told || was_told)
    }

    /// Receives one message of a worker. If it makes no sense, that worker has failed; the server goes on.
    pub(super) fn on_message(&mut self, worker: Generation) -> Result<()> {
        let Some(process) = self.processes.get_mut(&worker) else { return Ok(()) };
        let event = match process.channel.try_receive() {
            Ok(None) => return Ok(()),
            Ok(Some(None)) => {
                process.is_polled = false;
                Event::Closed(worker)
            }
            Ok(Some(Some(_))) if process.allowance == 0 => {
                process.is_unusable(worker, "has sent more messages than expected".into())
            }
            Ok(Some(Some((message, along)))) => {
                process.allowance -= 1;
                self.along = along;
                match message {
                    Message::Holds(sockets) => Event::Holds(worker, sockets.into()),
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
            Err(error) => {
                process.is_unusable(worker, format!("has sent a malformed message: {error:#}"))
            }
        };
        let handled = self.handle(event);
        self.along.clear();
        handled
    }

    /// Receives a message of the new server that will replace this one.
    pub(super) fn on_successors_message(&mut self) -> Result<()> {
        let Some(successor) = &mut self.successor else { return Ok(()) };
        match successor.channel.try_receive() {
            Ok(None) => Ok(()),
            Ok(Some(Some((Message::Ready, _)))) => self.handle(Event::Succeeded),
            Ok(Some(Some((Message::Failed(why), _)))) => {
                successor.last_words = Some(why);
                Ok(())
            }
            // Its exit will tell what is wrong, or that it has ended.
            _ => {
                successor.is_polled = false;
                Ok(())
            }
        }
    }

    /// Notes that the new server has ended, if this is its pid.
    fn reap_successor(&mut self, pid: Pid, status: ExitStatus) -> Result<()> {
        let Some(mut dead) = self.successor.take_if(|it| it.pid == pid) else { return Ok(()) };
        dead.last_words = last_words(&dead.channel).or(dead.last_words);
        let how = || format!("it {}", Exit::of(status, None));
        self.handle(Event::NotSucceeded(dead.last_words.unwrap_or_else(how)))
    }

    /// Reaps the processes that have ended.
    fn reap(&mut self) -> Result<()> {
        while let Some((pid, status)) = next_dead() {
            self.reap_successor(pid, status)?;
            let found = self.processes.iter_mut().find(|(_, process)| process.pid == pid);
            if let Some((&worker, dead)) = found {
                dead.last_words = last_words(&dead.channel).or(dead.last_words.take());
                let exit = Exit::of(status, dead.last_words.take());
                let index = dead.index;
                self.scoreboard_mut().release(index);
                self.handle(Event::Exited(worker, exit))?;
                self.processes.remove(&worker); // only now: the log may name it
            }
        }
        Ok(())
    }

    /// How long each worker's event loop has neither turned nor answered a request. With hundreds of requests that each
    /// block it, a turn takes long, and a worker that answers them does not hang.
    pub(super) fn silences(&mut self, now: Instant) -> Vec<(Generation, Option<Duration>)> {
        let Self { parent_only, processes, .. } = self;
        let board = parent_only.as_ref().expect("this is the parent").scoreboard.board();
        let silence = |process: &mut Process| {
            let slot = board.slot(process.index);
            let answered = slot.requests.load(Relaxed);
            if answered != process.answered.0 {
                process.answered = (answered, now);
            }
            Some(slot.silence()?.min(now - process.answered.1))
        };
        processes.iter_mut().map(|(&worker, process)| (worker, silence(process))).collect()
    }
}

/// The reason that a process gave before it ended, if there is one in its channel. The other messages there do not
/// matter any more. They are not read without end: a process that it has left behind may go on sending.
fn last_words(channel: &Channel) -> Option<String> {
    let mut why = None;
    for _ in 0..UNASKED {
        let Ok(Some(Some((message, _)))) = channel.try_receive() else { break };
        if let Message::Failed(reason) = message {
            why = Some(reason);
        }
    }
    why
}
