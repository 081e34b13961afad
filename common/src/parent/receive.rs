//! What the parent learns: signals, messages, deaths. Each becomes an event of the state machine.

use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::channel::Message;
use super::driver::{Driver, Process};
use super::state::{Event, Generation};

impl Driver<'_> {
    pub(super) fn on_signal(&mut self) -> Result<()> {
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
    pub(super) fn on_message(&mut self, worker: Generation) -> Result<()> {
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
    pub(super) fn on_successors_message(&mut self) -> Result<()> {
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
    pub(super) fn silences(&self) -> Vec<(Generation, Option<Duration>)> {
        let slot = |process: &Process| self.scoreboard().board().slot(process.index);
        self.processes.iter().map(|(&worker, process)| (worker, slot(process).silence())).collect()
    }
}
