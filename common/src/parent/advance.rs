//! The next step towards the wanted state: which workers are started, replaced or ended.
//!
//! Two rules keep sockets from being lost or counted twice. A worker that gives sockets away or takes
//! some over is *busy*: until that is done or has failed, it is not chosen for anything else. And only
//! one worker at a time is replaced.

use std::collections::BTreeSet;

use super::state::{Action, Generation, Note, Socket, Transfer, Worker, WorkerState};
use super::step::Step;
use crate::scoreboard::CAPACITY;

impl Step<'_> {
    /// Orders what is due.
    pub(super) fn advance(&mut self) {
        let mut staying = self.state.count(Worker::stays);
        while staying < self.state.wanted && self.state.backoff.may_start(self.now) {
            self.start_one_more();
            staying += 1;
        }
        if self.state.is_succeeded() {
            return; // no workers come or go meanwhile
        }
        while staying > self.state.wanted && self.let_one_go() {
            staying -= 1;
        }
        let has_somebody_to_replace = self.state.reloading || !self.state.to_replace.is_empty();
        if has_somebody_to_replace && self.state.count(|worker| worker.replaces.is_some()) == 0 {
            self.replace_next();
        }
        let serving = self.state.count(|worker| worker.state == WorkerState::Serving);
        if !self.state.announced && serving == self.state.wanted {
            self.state.announced = true;
            self.actions.push(Action::Announce);
        }
        self.begin_succession();
    }

    /// Starts an additional worker. With per-worker sockets it opens a new one, unless another worker had to
    /// adopt one and can spare it.
    fn start_one_more(&mut self) {
        let richest = self.free().max_by_key(|worker| worker.sockets.len());
        let inherits = richest.filter(|worker| worker.sockets.len() > 1).map(|giver| Transfer {
            giver: giver.generation,
            sockets: giver.sockets.last().copied().into_iter().collect(),
        });
        let is_free = |lane: &usize| !self.state.is_in_use(*lane);
        let lane = self.state.settings.steers.then(|| (1..=CAPACITY).find(is_free));
        self.start(None, inherits, lane.flatten());
    }

    /// One step of a reload, or the replacement of one worker. Workers that died meanwhile have been replaced
    /// already, and workers that end need no replacement; workers that are busy or still starting come later.
    fn replace_next(&mut self) {
        let workers = &self.state.workers;
        let is_left = |old: &Generation| {
            workers.iter().any(|worker| worker.generation == *old && !worker.ends())
        };
        self.state.to_replace.retain(is_left);
        let free: BTreeSet<Generation> = self.free_at_all().map(|it| it.generation).collect();
        let place = self.state.to_replace.iter().position(|old| free.contains(old));
        let next = place.and_then(|place| self.state.to_replace.remove(place));
        if let Some(old) = next.and_then(|old| self.state.worker(old)) {
            let (giver, lane) = (old.generation, old.lane);
            let own = self.state.settings.own_sockets;
            let inherits = own.then(|| Transfer { giver, sockets: old.sockets.clone() });
            self.start(Some(giver), inherits, lane);
        } else if self.state.to_replace.is_empty() && self.state.reloading {
            self.state.reloading = false;
            self.note(Note::Reloaded(self.state.serving().collect()));
        }
    }

    fn start(
        &mut self,
        replaces: Option<Generation>,
        inherits: Option<Transfer>,
        lane: Option<usize>,
    ) {
        let generation = Generation(self.state.next_generation);
        self.state.next_generation += 1;
        self.actions.push(Action::Start { worker: generation, inherits: inherits.is_some(), lane });
        let opens_one = self.state.settings.own_sockets && inherits.is_none();
        let sockets = opens_one.then_some(Socket(self.state.next_socket));
        self.state.next_socket += u64::from(opens_one);
        self.state.workers.push(Worker {
            generation,
            state: WorkerState::Starting,
            started: self.now,
            serves_since: None,
            replaces,
            inherits,
            adopting: None,
            sockets: sockets.into_iter().collect(),
            lane,
            takes_lane: replaces.is_some() && lane.is_some(),
            cpu: None,
            suspected: None,
            closed: None,
            rests_until: None,
            terminated: None,
        });
    }

    /// Ends the worker that was started last (if workers are pinned, of those on the CPU with most) without losing
    /// what waits in its queues. Returns false if that must wait.
    fn let_one_go(&mut self) -> bool {
        let on_cpu = |cpu| self.state.count(|worker| !worker.ends() && worker.cpu == cpu);
        let rank = |worker: &&Worker| (on_cpu(worker.cpu), worker.generation);
        let Some(leaving) = self.free().max_by_key(rank).map(|worker| worker.generation) else {
            return false;
        };
        if !self.state.settings.own_sockets {
            let has_others = self.state.serving().count() > 1;
            if has_others {
                self.drain(leaving); // they accept from the same queue
            }
            return has_others;
        }
        let others = self.free().filter(|worker| worker.generation != leaving);
        let heir = others.min_by_key(|worker| worker.sockets.len()).map(|heir| heir.generation);
        let Some(heir) = heir else { return false };
        let sockets =
            self.state.worker(leaving).map(|worker| worker.sockets.clone()).unwrap_or_default();
        if let Some(worker) = self.state.worker_mut(heir) {
            worker.adopting = Some(Transfer { giver: leaving, sockets });
        }
        if let Some(worker) = self.state.worker_mut(leaving) {
            worker.state = WorkerState::GivingAway { heir };
        }
        self.actions.push(Action::Adopt { giver: leaving, heir });
        true
    }

    /// The workers that serve, are not busy, and do not rest after a failure.
    fn free(&self) -> impl Iterator<Item = &Worker> {
        self.free_at_all()
            .filter(move |worker| worker.rests_until.is_none_or(|time| time <= self.now))
    }

    /// The workers that serve and are not busy.
    fn free_at_all(&self) -> impl Iterator<Item = &Worker> {
        let busy = self.busy();
        let is_free = move |worker: &&Worker| {
            worker.state == WorkerState::Serving
                && worker.closed.is_none()
                && !busy.contains(&worker.generation)
        };
        self.state.workers.iter().filter(is_free)
    }

    /// The workers that take part in a transfer of sockets, or are being replaced.
    fn busy(&self) -> BTreeSet<Generation> {
        let giver = |transfer: &Option<Transfer>| transfer.as_ref().map(|it| it.giver);
        let taking_part = self.state.workers.iter().flat_map(|worker| {
            let heir = worker.adopting.as_ref().map(|_| worker.generation);
            [heir, worker.replaces, giver(&worker.inherits), giver(&worker.adopting)]
        });
        taking_part.flatten().collect()
    }
}
