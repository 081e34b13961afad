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
    let mut actions = Vec::new();
    match event {
        Event::Begin => state.next_look = state.settings.look_interval().map(|time| now + time),
        Event::Started(worker, cpu) => state.on_started(worker, cpu, &mut actions),
        Event::StartFailed(worker, why) => state.on_start_failed(worker, why, now, &mut actions),
        Event::Holds(worker, sockets) => state.on_holds(worker, sockets),
        Event::Socket(worker) => state.on_socket(worker, &mut actions),
        Event::Ready(worker) => state.on_ready(worker, now, &mut actions),
        Event::Adopted(heir) => state.on_adopted(heir, now, &mut actions),
        Event::NotAdopted(heir, why) => state.on_not_adopted(heir, why, now, &mut actions),
        Event::Unusable(worker) => state.fail(worker, &mut actions),
        Event::Terminated(worker) => {
            if let Some(worker) = state.worker_mut(worker) {
                worker.terminated.get_or_insert(now);
            }
        }
        Event::Closed(worker) => {
            if let Some(worker) = state.worker_mut(worker) {
                worker.closed.get_or_insert(now);
            }
        }
        Event::Exited(worker, exit) => state.on_exited(worker, exit, now, &mut actions),
        Event::Stop if !state.ending => state.end(now, &mut actions),
        Event::Stop | Event::StopNow => state.end_at_once(&mut actions),
        Event::Reload | Event::More | Event::Fewer | Event::Succeed if state.ending => {
            actions.push(Action::Note(Note::RefusedAtEnd));
        }
        Event::Succeed => state.on_succeed(&mut actions),
        Event::Succeeded => state.on_succeeded(now, &mut actions),
        Event::NotSucceeded(why) => state.on_not_succeeded(why, &mut actions),
        Event::Reload if state.is_succeeded() => actions.push(Action::Note(Note::ReloadRefused)),
        Event::More | Event::Fewer if state.is_succeeded() => {
            actions.push(Action::Note(Note::RefusedMeanwhile));
        }
        Event::Reload => {
            actions.push(Action::Note(Note::Reloading));
            state.reloading = true;
            state.to_replace = state.workers.iter().map(|worker| worker.generation).collect();
        }
        Event::More => state.want((state.wanted + 1).min(MOST_WORKERS), &mut actions),
        Event::Fewer => state.want((state.wanted - 1).max(1), &mut actions),
        Event::Time(silences) => state.on_time(&silences, now, &mut actions),
    }
    if !state.ending {
        state.advance(now, &mut actions);
    }
    actions
}

impl State {
    fn on_started(
        &mut self,
        generation: Generation,
        cpu: Option<usize>,
        actions: &mut Vec<Action>,
    ) {
        let Some(worker) = self.worker_mut(generation) else { return };
        worker.cpu = cpu;
        // Only now: if the start had failed, the sockets would be in a line that no process reads.
        if let Some(Transfer { giver, .. }) = worker.inherits {
            let all = worker.replaces.is_some();
            actions.push(Action::Give { giver, taker: generation, all });
        }
    }

    fn on_start_failed(
        &mut self,
        generation: Generation,
        why: String,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let Some(failed) = self.remove(generation) else { return };
        if self.ending {
            return;
        }
        if !self.announced {
            self.abort(generation, why, now, actions);
        } else if let Some(old) = failed.replaces {
            self.give_up_reload(old, generation, why, actions);
        } else {
            let nobody = self.count(|worker| worker.state == WorkerState::Serving) == 0;
            let pause = self.backoff.died(None, nobody, now);
            actions.push(Action::Note(Note::NotStarted(why, pause)));
        }
    }

    /// Gives up at the first start. If this server was to replace another, its workers have perhaps accepted
    /// connections already.
    fn abort(&mut self, worker: Generation, why: String, now: Instant, actions: &mut Vec<Action>) {
        actions.push(Action::Abort(worker, why));
        if self.settings.replaces {
            self.end(now, actions);
        }
    }

    fn on_socket(&self, generation: Generation, actions: &mut Vec<Action>) {
        let Some(worker) = self.worker(generation) else { return };
        // A successor has its predecessor's socket, to which connections are steered already.
        if worker.state == WorkerState::Starting && worker.lane.is_some() && !worker.takes_lane {
            actions.push(Action::Steer { worker: generation, sockets: self.sockets() });
            actions.push(Action::OpenLane(generation));
        }
    }

    fn on_ready(&mut self, generation: Generation, now: Instant, actions: &mut Vec<Action>) {
        let Some(worker) = self.worker_mut(generation) else { return };
        if worker.state != WorkerState::Starting {
            return; // it was told to end meanwhile
        }
        worker.state = WorkerState::Serving;
        worker.serves_since = Some(now);
        let (replaced, inherited) = (worker.replaces.take(), worker.inherits.take());
        if worker.takes_lane {
            actions.push(Action::OpenLane(generation));
        }
        if let Some(Transfer { giver, sockets }) = inherited {
            worker.sockets = sockets.clone();
            if let Some(giver) = self.worker_mut(giver) {
                giver.sockets.retain(|socket| !sockets.contains(socket));
                if replaced.is_none() && !giver.ends() {
                    actions.push(Action::Release(giver.generation));
                }
            }
        }
        if let Some(old) = replaced {
            match self.worker_mut(old) {
                Some(old) if old.is_killed() => old.state = WorkerState::Killed, // and not replaced again
                _ => self.drain(old, now, actions),
            }
        }
    }

    fn on_adopted(&mut self, heir: Generation, now: Instant, actions: &mut Vec<Action>) {
        let Some(worker) = self.worker_mut(heir) else { return };
        if worker.is_killed() {
            return; // the giver still has the sockets, and serves on when this worker has ended
        }
        let Some(Transfer { giver, sockets }) = worker.adopting.take() else { return };
        worker.sockets.extend(&sockets);
        if let Some(worker) = self.worker_mut(giver) {
            worker.sockets.retain(|socket| !sockets.contains(socket));
            if let Some(lane) = worker.lane.take() {
                actions.push(Action::LeaveLane(lane));
                self.close_lane(Some(lane), actions);
            }
            self.drain(giver, now, actions);
        }
    }

    fn on_not_adopted(
        &mut self,
        heir: Generation,
        why: String,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let Some(worker) = self.worker_mut(heir) else { return };
        let Some(Transfer { giver, .. }) = worker.adopting.take() else { return };
        worker.rests_until = Some(now + REST);
        if let Some(worker) = self.worker_mut(giver)
            && worker.state == (WorkerState::GivingAway { heir })
        {
            worker.state = WorkerState::Serving;
            worker.rests_until = Some(now + REST);
            actions.push(Action::Note(Note::NotAdopted(giver, heir, why)));
        }
    }

    fn on_exited(
        &mut self,
        generation: Generation,
        exit: Exit,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let Some(dead) = self.remove(generation) else { return };
        self.close_lane(dead.lane, actions);
        let as_told = exit == Exit::Done || exit == Exit::Killed && dead.is_killed();
        let why = exit.to_string();
        if dead.ends() && !as_told {
            actions.push(Action::Note(Note::DiedLeaving(generation, why)));
            return;
        }
        if self.ending || dead.ends() {
            return;
        }
        // What it waited for in vain may be a socket of a worker that stands still: the next one opens its own.
        if let (None, None, Some(transfer)) = (dead.serves_since, dead.replaces, &dead.inherits)
            && let Some(giver) = self.worker_mut(transfer.giver)
        {
            giver.rests_until = Some(now + REST);
        }
        match dead.state {
            WorkerState::GivingAway { .. } => {
                actions.push(Action::Note(Note::DiedLeaving(generation, why)));
            }
            _ if dead.serves_since.is_none() && !self.announced => {
                self.abort(generation, why, now, actions);
            }
            _ => match dead.replaces {
                Some(old) => self.give_up_reload(old, generation, why, actions),
                None => {
                    let served = dead.serves_since.map(|since| now - since);
                    let nobody = self.count(|worker| worker.state == WorkerState::Serving) == 0;
                    let pause = self.backoff.died(served, nobody, now);
                    actions.push(Action::Note(Note::Died(generation, why, pause)));
                }
            },
        }
    }

    /// Forgets a worker, and undoes what other workers now wait for in vain.
    fn remove(&mut self, generation: Generation) -> Option<Worker> {
        let place = self.workers.iter().position(|worker| worker.generation == generation)?;
        let gone = self.workers.remove(place);
        for worker in &mut self.workers {
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

    fn give_up_reload(
        &mut self,
        old: Generation,
        failed: Generation,
        why: String,
        actions: &mut Vec<Action>,
    ) {
        if std::mem::take(&mut self.reloading) {
            self.to_replace.clear();
            actions.push(Action::Note(Note::ReloadGivenUp(old, failed, why)));
        } else {
            actions.push(Action::Note(Note::NotReplaced(old, failed, why))); // the other workers are still replaced
        }
    }

    fn want(&mut self, workers: usize, actions: &mut Vec<Action>) {
        actions.push(Action::Note(Note::Wanted(workers, self.wanted)));
        self.wanted = workers;
    }

    pub(super) fn end(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.ending = true;
        self.end_successor(now, actions);
        actions.push(Action::StopListening);
        let all: Vec<Generation> = self.workers.iter().map(|worker| worker.generation).collect();
        all.into_iter().for_each(|worker| self.drain(worker, now, actions));
    }

    fn end_at_once(&mut self, actions: &mut Vec<Action>) {
        self.kill_successor(actions);
        if !std::mem::replace(&mut self.ending, true) {
            actions.push(Action::StopListening);
        }
        for worker in &mut self.workers {
            worker.state = WorkerState::Killed;
            actions.push(Action::Kill(worker.generation));
        }
    }

    pub(super) fn drain(
        &mut self,
        generation: Generation,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let until = now.checked_add(self.settings.drain_timeout); // too far to be a time: never
        if let Some(worker) = self.worker_mut(generation)
            && !worker.ends()
            && worker.state != WorkerState::Failing
        {
            worker.state = WorkerState::Draining { until };
            actions.push(Action::Drain(generation));
        }
    }

    /// Kills a worker that has failed. It will be replaced, unless it was about to end.
    pub(super) fn fail(&mut self, generation: Generation, actions: &mut Vec<Action>) {
        let Some(worker) = self.worker_mut(generation) else { return };
        worker.state = match worker.state {
            WorkerState::Starting | WorkerState::Serving => WorkerState::Failing,
            WorkerState::GivingAway { .. } | WorkerState::Draining { .. } => WorkerState::Killed,
            WorkerState::Failing | WorkerState::Killed => return,
        };
        actions.push(Action::Kill(generation));
    }

    /// Closes a lane, unless another worker has it.
    fn close_lane(&self, lane: Option<usize>, actions: &mut Vec<Action>) {
        if let Some(lane) = lane.filter(|&lane| !self.is_in_use(lane)) {
            actions.push(Action::CloseLane(lane));
        }
    }

    /// Whether a worker that stays has this lane.
    pub(super) fn is_in_use(&self, lane: usize) -> bool {
        self.workers.iter().any(|worker| worker.lane == Some(lane) && !worker.ends())
    }
}
