//! The parent's decisions: what follows from an event.
//!
//! [`step`] is a pure function of state, event and time. It makes no system call and reads no clock, so
//! every sequence of deaths, signals and late messages can be tried without a process.
//!
//! | event | what follows |
//! |---|---|
//! | a worker serves | the worker that it replaces drains; the giver of its socket closes that socket |
//! | a worker has got several sockets from the server before this one | they are counted, and can be given to other workers |
//! | a worker has adopted sockets | their giver drains |
//! | a worker could not adopt | the giver keeps its sockets and serves on; for a while other workers are asked first |
//! | a worker that stays dies | another is started, at once or after a pause |
//! | a successor dies before it serves | the reload is given up, the old worker stays |
//! | a worker dies while its successor starts | the successor becomes its replacement |
//! | a worker dies before all have served once | the server gives up; one that replaces another drains first, as its workers share accept queues with the old one's |
//! | a start fails | as a death; no worker has been asked for a socket yet |
//! | the channel of a living worker closes | it is killed, unless it exits within a second |
//! | SIGTERM to one worker | after 100 ms it is replaced as in a reload, unless the server ends |
//! | SIGUSR2 | when no worker comes, goes or is replaced, a new server is started and gets the sockets |
//! | the new server serves | all workers of this one drain |
//! | it ends before, or a minute passes | this server goes on, and the new one, if it lives, is told to end |
//! | SIGTERM | all workers drain, a new server is told to end; the second time, or with SIGQUIT, all are killed; from then on any other signal is refused |
//! | a drain's time is over, an event loop stands still | that worker, or server, is killed |
//!
//! What concerns a new server that replaces this one is in `upgrade`.
//!
//! After each event `advance` orders what is due: it starts missing workers, ends surplus ones, and takes the next
//! step of a reload.

use std::time::{Duration, Instant};

use super::exit::Exit;
use super::state::{Action, Event, Generation, Note, State, Transfer, Worker, WorkerState};
use crate::cli::options::MOST_WORKERS;

/// How long a worker is not asked again to give or adopt sockets after that failed.
const REST: Duration = Duration::from_secs(5);

/// Changes the state by an event, and returns what must be done.
pub fn step(state: &mut State, event: Event, now: Instant) -> Vec<Action> {
    let mut step = Step { state, now, actions: Vec::new() };
    step.take(event);
    if !step.state.ending {
        step.advance();
    }
    step.actions
}

/// One step, as far as it has come.
pub(super) struct Step<'a> {
    pub state: &'a mut State,
    pub now: Instant,
    pub actions: Vec<Action>,
}

impl Step<'_> {
    fn take(&mut self, event: Event) {
        match event {
            Event::Begin => self.look_again(),
            Event::Started(worker, cpu) => self.on_started(worker, cpu),
            Event::StartFailed(worker, why) => self.on_start_failed(worker, why),
            Event::Holds(worker, sockets) => self.on_holds(worker, sockets),
            Event::Socket(worker) => self.on_socket(worker),
            Event::Ready(worker) => self.on_ready(worker),
            Event::Adopted(heir) => self.on_adopted(heir),
            Event::NotAdopted(heir, why) => self.on_not_adopted(heir, why),
            Event::Unusable(worker) => self.fail(worker),
            Event::Terminated(worker) => {
                if let Some(worker) = self.state.worker_mut(worker) {
                    worker.terminated.get_or_insert(self.now);
                }
            }
            Event::Closed(worker) => {
                if let Some(worker) = self.state.worker_mut(worker) {
                    worker.closed.get_or_insert(self.now);
                }
            }
            Event::Exited(worker, exit) => self.on_exited(worker, exit),
            Event::Stop if !self.state.ending => self.end(),
            Event::Stop | Event::StopNow => self.end_at_once(),
            Event::Reload | Event::More | Event::Fewer | Event::Succeed if self.state.ending => {
                self.note(Note::RefusedAtEnd);
            }
            Event::Succeed => self.on_succeed(),
            Event::Succeeded => self.on_succeeded(),
            Event::NotSucceeded(why) => self.on_not_succeeded(why),
            Event::Reload if self.state.is_succeeded() => self.note(Note::ReloadRefused),
            Event::More | Event::Fewer if self.state.is_succeeded() => {
                self.note(Note::RefusedMeanwhile);
            }
            Event::Reload => {
                self.note(Note::Reloading);
                self.state.reloading = true;
                self.state.to_replace = self.state.those(|_| true).into();
            }
            Event::More => self.want((self.state.wanted + 1).min(MOST_WORKERS)),
            Event::Fewer => self.want((self.state.wanted - 1).max(1)),
            Event::Time(silences) => self.on_time(&silences),
        }
    }

    pub(super) fn note(&mut self, note: Note) {
        self.actions.push(Action::Note(note));
    }

    fn on_started(&mut self, generation: Generation, cpu: Option<usize>) {
        let Some(worker) = self.state.worker_mut(generation) else { return };
        worker.cpu = cpu;
        // Only now: if the start had failed, the sockets would be in a line that no process reads.
        if let Some(Transfer { giver, .. }) = worker.inherits {
            let all = worker.replaces.is_some();
            self.actions.push(Action::Give { giver, taker: generation, all });
        }
    }

    fn on_start_failed(&mut self, generation: Generation, why: String) {
        let Some(failed) = self.remove(generation) else { return };
        if !self.state.ending {
            self.on_lost(failed, why);
        }
    }

    /// A worker that was to stay is gone: another is started for it, or it is given up.
    fn on_lost(&mut self, lost: Worker, why: String) {
        if lost.serves_since.is_none() && !self.state.announced {
            self.abort(lost.generation, why);
        } else if let Some(old) = lost.replaces {
            self.give_up_reload(old, lost.generation, why);
        } else {
            let served = lost.serves_since.map(|since| self.now - since);
            let nobody = self.state.serving().next().is_none();
            let pause = self.state.backoff.died(served, nobody, self.now);
            self.note(Note::Died(lost.generation, why, pause));
        }
    }

    /// Gives up at the first start. If this server was to replace another, its workers have perhaps accepted
    /// connections already.
    fn abort(&mut self, worker: Generation, why: String) {
        self.actions.push(Action::Abort(worker, why));
        if self.state.settings.replaces {
            self.end();
        }
    }

    fn on_socket(&mut self, generation: Generation) {
        let Some(worker) = self.state.worker(generation) else { return };
        // A successor has its predecessor's socket, to which connections are steered already.
        if worker.state == WorkerState::Starting && worker.lane.is_some() && !worker.takes_lane {
            self.actions.push(Action::Steer { worker: generation, sockets: self.state.sockets() });
            self.actions.push(Action::OpenLane(generation));
        }
    }

    fn on_ready(&mut self, generation: Generation) {
        let Some(worker) = self.state.worker_mut(generation) else { return };
        if worker.state != WorkerState::Starting {
            return; // it was told to end meanwhile
        }
        worker.state = WorkerState::Serving;
        worker.serves_since = Some(self.now);
        let (replaced, inherited) = (worker.replaces.take(), worker.inherits.take());
        if worker.takes_lane {
            self.actions.push(Action::OpenLane(generation));
        }
        if let Some(Transfer { giver, sockets }) = inherited {
            worker.sockets = sockets.clone();
            if let Some(giver) = self.state.worker_mut(giver) {
                giver.sockets.retain(|socket| !sockets.contains(socket));
                if replaced.is_none() && !giver.ends() {
                    self.actions.push(Action::Release(giver.generation));
                }
            }
        }
        if let Some(old) = replaced {
            match self.state.worker_mut(old) {
                Some(old) if old.is_killed() => old.state = WorkerState::Killed, // and not replaced again
                _ => self.drain(old),
            }
        }
    }

    fn on_adopted(&mut self, heir: Generation) {
        let Some(worker) = self.state.worker_mut(heir) else { return };
        if worker.is_killed() {
            return; // the giver still has the sockets, and serves on when this worker has ended
        }
        let Some(Transfer { giver, sockets }) = worker.adopting.take() else { return };
        worker.sockets.extend(&sockets);
        if let Some(worker) = self.state.worker_mut(giver) {
            worker.sockets.retain(|socket| !sockets.contains(socket));
            if let Some(lane) = worker.lane.take() {
                self.actions.push(Action::LeaveLane(lane));
                self.close_lane(Some(lane));
            }
            self.drain(giver);
        }
    }

    fn on_not_adopted(&mut self, heir: Generation, why: String) {
        let Some(worker) = self.state.worker_mut(heir) else { return };
        let Some(Transfer { giver, .. }) = worker.adopting.take() else { return };
        worker.rests_until = Some(self.now + REST);
        if let Some(worker) = self.state.worker_mut(giver)
            && worker.state == (WorkerState::GivingAway { heir })
        {
            worker.state = WorkerState::Serving;
            worker.rests_until = Some(self.now + REST);
            self.note(Note::NotAdopted(giver, heir, why));
        }
    }

    fn on_exited(&mut self, generation: Generation, exit: Exit) {
        let Some(dead) = self.remove(generation) else { return };
        self.close_lane(dead.lane);
        let as_told = exit == Exit::Done || exit == Exit::Killed && dead.is_killed();
        let why = exit.to_string();
        if dead.ends() && !as_told {
            self.note(Note::DiedLeaving(generation, why));
            return;
        }
        if self.state.ending || dead.ends() {
            return;
        }
        // What it waited for in vain may be a socket of a worker that stands still: the next one opens its own.
        if let (None, None, Some(transfer)) = (dead.serves_since, dead.replaces, &dead.inherits)
            && let Some(giver) = self.state.worker_mut(transfer.giver)
        {
            giver.rests_until = Some(self.now + REST);
        }
        match dead.state {
            WorkerState::GivingAway { .. } => self.note(Note::DiedLeaving(generation, why)),
            _ => self.on_lost(dead, why),
        }
    }

    /// Forgets a worker, and undoes what other workers now wait for in vain.
    fn remove(&mut self, generation: Generation) -> Option<Worker> {
        let place = self.state.workers.iter().position(|worker| worker.generation == generation)?;
        let gone = self.state.workers.remove(place);
        for worker in &mut self.state.workers {
            // It still has its sockets, and will get another heir.
            if worker.state == (WorkerState::GivingAway { heir: generation }) {
                worker.state = WorkerState::Serving;
            }
            // Its successor may have its sockets already, and is an ordinary worker from now on. If it has none,
            // it will fail.
            if worker.replaces == Some(generation) {
                worker.replaces = None;
            }
        }
        Some(gone)
    }

    fn give_up_reload(&mut self, old: Generation, failed: Generation, why: String) {
        if std::mem::take(&mut self.state.reloading) {
            self.state.to_replace.clear();
            self.note(Note::ReloadGivenUp(old, failed, why));
        } else {
            self.note(Note::NotReplaced(old, failed, why)); // the other workers are still replaced
        }
    }

    fn want(&mut self, workers: usize) {
        self.note(Note::Wanted(workers, self.state.wanted));
        self.state.wanted = workers;
    }

    pub(super) fn end(&mut self) {
        self.state.ending = true;
        self.end_successor();
        self.actions.push(Action::StopListening);
        self.state.those(|_| true).into_iter().for_each(|worker| self.drain(worker));
    }

    fn end_at_once(&mut self) {
        self.kill_successor();
        if !std::mem::replace(&mut self.state.ending, true) {
            self.actions.push(Action::StopListening);
        }
        for worker in &mut self.state.workers {
            worker.state = WorkerState::Killed;
            self.actions.push(Action::Kill(worker.generation));
        }
    }

    pub(super) fn drain(&mut self, generation: Generation) {
        let until = self.now.checked_add(self.state.settings.drain_timeout); // too far to be a time: never
        if let Some(worker) = self.state.worker_mut(generation)
            && !worker.ends()
            && worker.state != WorkerState::Failing
        {
            worker.state = WorkerState::Draining { until };
            self.actions.push(Action::Drain(generation));
        }
    }

    /// Kills a worker that has failed. It will be replaced, unless it was about to end.
    pub(super) fn fail(&mut self, generation: Generation) {
        let Some(worker) = self.state.worker_mut(generation) else { return };
        worker.state = match worker.state {
            WorkerState::Starting | WorkerState::Serving => WorkerState::Failing,
            WorkerState::GivingAway { .. } | WorkerState::Draining { .. } => WorkerState::Killed,
            WorkerState::Failing | WorkerState::Killed => return,
        };
        self.actions.push(Action::Kill(generation));
    }

    /// Closes a lane, unless another worker has it.
    fn close_lane(&mut self, lane: Option<usize>) {
        if let Some(lane) = lane.filter(|&lane| !self.state.is_in_use(lane)) {
            self.actions.push(Action::CloseLane(lane));
        }
    }
}
