//! Carries out the actions of the state machine.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use anyhow::{Result, anyhow};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};

use super::channel::{Channel, Message};
use super::driver::Driver;
use super::state::{Action, Event, Generation};
use crate::platform::systemd;

impl Driver<'_> {
    /// Carries out one action. Returns its result, if the state machine must know it.
    pub(super) fn carry_out(&mut self, action: Action) -> Result<Option<Event>> {
        match action {
            Action::Start { worker, inherits, lane } => {
                return Ok(Some(match self.start(worker, inherits, lane) {
                    Ok(cpu) => Event::Started(worker, cpu),
                    Err(error) => Event::StartFailed(worker, format!("{error:#}")),
                }));
            }
            Action::Give { giver, taker, all } => {
                let line = self.processes.get_mut(&taker).and_then(|process| process.line.take());
                line.inspect(|line| self.tell(giver, &Message::Give { all }, Some(line)));
            }
            Action::Release(giver) => self.tell(giver, &Message::Release, None),
            Action::Adopt { giver, heir } => {
                let (from, to) = match Channel::pair() {
                    Ok(line) => line,
                    // Without a free descriptor, for example: both go on as they are, and are asked again later.
                    Err(error) => return Ok(Some(Event::NotAdopted(heir, format!("{error:#}")))),
                };
                self.tell(heir, &Message::Adopt, Some(&to.into()));
                self.tell(giver, &Message::Give { all: true }, Some(&from.into()));
            }
            Action::Drain(worker) => self.tell(worker, &Message::Drain, None),
            Action::Kill(worker) => {
                let process = self.processes.get(&worker);
                process.inspect(|process| _ = kill(process.pid, Signal::SIGKILL));
            }
            Action::StartSuccessor(givers) => {
                let failed = self.start_successor(&givers).err();
                return Ok(failed.map(|error| Event::NotSucceeded(format!("{error:#}"))));
            }
            Action::EndSuccessor => {
                // Not SIGKILL: its workers may have accepted connections already.
                self.successor.as_ref().inspect(|it| _ = kill(it.pid, Signal::SIGTERM));
            }
            Action::KillSuccessor => {
                self.successor.as_ref().inspect(|it| _ = kill(it.pid, Signal::SIGKILL));
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
                if let (Some(steering), Some(process)) =
                    (self.steering(), self.processes.get(&worker))
                    && let Some(lane) = self.state.lane_of(worker)
                {
                    steering.open_lane(lane, process.pid.as_raw() as u32);
                }
            }
            Action::LeaveLane(lane) => {
                self.steering().inspect(|steering| steering.leave(lane));
            }
            Action::CloseLane(lane) => {
                self.steering().inspect(|steering| steering.close_lane(lane));
            }
            Action::Announce => {
                // First the copy: a reader of the announcement must find there that all serve.
                self.scoreboard_mut().publish();
                self.announce();
                self.tell_predecessor(&Message::Ready);
                self.start.inherited = None;
                self.next_look = Some(Instant::now());
            }
            Action::StopListening => {
                // Only if the service ends with it: not if another server serves already, or still.
                if !self.is_succeeded && self.start.inherited.is_none() {
                    systemd::stopping(&self.status());
                }
                self.next_look = None;
                // If the parent kept a shared socket open, it would queue connections that no worker accepts.
                self.start.listener = None;
            }
            Action::Abort(worker, why) => {
                let error = anyhow!(self.cannot_serve(worker, why));
                if !self.state.ending {
                    return Err(error);
                }
                self.failed = Some(error); // it ends in good order
            }
            Action::Note(note) => {
                self.tell_systemd(&note);
                self.log(note);
            }
        }
        Ok(None)
    }

    /// Sends an order. A dying worker does not receive it any more, which its exit shows. A worker has failed if it
    /// has not read for so long that the channel, or the kernel's room for descriptors in flight, is full.
    pub(super) fn tell(&mut self, worker: Generation, message: &Message, along: Option<&OwnedFd>) {
        let Some(process) = self.processes.get_mut(&worker) else { return };
        let along: Vec<_> = along.into_iter().map(AsFd::as_fd).collect();
        process.allowance = process.allowance.saturating_add(1); // for the answer
        let Err(error) = process.channel.try_send(message, &along) else { return };
        if matches!(error.downcast_ref(), Some(Errno::EAGAIN | Errno::ETOOMANYREFS)) {
            self.undelivered.push(process.is_unusable(worker, "does not read its messages".into()));
        }
    }
}
