//! The next step towards the wanted state: which workers are started, replaced or ended.
//!
//! Two rules keep sockets from being lost or counted twice. A worker that gives sockets away or takes
//! some over is *busy*: until that is done or has failed, it is not chosen for anything else. And only
//! one worker at a time is replaced.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use super::state::{Action, Generation, Note, Socket, State, Transfer, Worker, WorkerState};
use crate::scoreboard::CAPACITY;

impl State {
    /// Orders what is due.
    pub(super) fn advance(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let mut staying = self.count(Worker::stays);
        while staying < self.wanted && self.backoff.may_start(now) {
            self.start_one_more(now, actions);
            staying += 1;
        }
        if self.is_succeeded() {
            return; // no workers come or go meanwhile
        }
        while staying > self.wanted && self.let_one_go(now, actions) {
            staying -= 1;
        }
        let has_somebody_to_replace = self.reloading || !self.to_replace.is_empty();
        if has_somebody_to_replace && self.count(|worker| worker.replaces.is_some()) == 0 {
            self.replace_next(now, actions);
        }
        let serving = self.count(|worker| worker.state == WorkerState::Serving);
        if !self.announced && serving == self.wanted {
            self.announced = true;
            actions.push(Action::Announce);
        }
        self.begin_succession(now, actions);
    }

    /// Starts an additional worker. With per-worker sockets it opens a new one, unless another worker had to
    /// adopt one and can spare it.
    fn start_one_more(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let richest = self.free(now).max_by_key(|worker| worker.sockets.len());
        let inherits = richest.filter(|worker| worker.sockets.len() > 1).map(|giver| Transfer {
            giver: giver.generation,
            sockets: giver.sockets.last().copied().into_iter().collect(),
        });
        let lane = self.settings.steers.then(|| (1..=CAPACITY).find(|&lane| !self.is_in_use(lane)));
        self.start(None, inherits, lane.flatten(), now, actions);
    }

    /// One step of a reload, or the replacement of one worker. Workers that died meanwhile have been replaced
    /// already, and workers that end need no replacement; workers that are busy or still starting come later.
    fn replace_next(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let is_left = |old: &Generation| self.worker(*old).is_some_and(|worker| !worker.ends());
        let mut left: VecDeque<Generation> =
            self.to_replace.iter().copied().filter(is_left).collect();
        let free: BTreeSet<Generation> = self.free_at_all().map(|it| it.generation).collect();
        let next =
            left.iter().position(|old| free.contains(old)).and_then(|place| left.remove(place));
        self.to_replace = left;
        if let Some(old) = next.and_then(|old| self.worker(old)) {
            let (old, lane) = (old.generation, old.lane);
            let own = self.settings.own_sockets;
            let sockets = |state: &Self| state.worker(old).map(|worker| worker.sockets.clone());
            let inherits =
                sockets(self).filter(|_| own).map(|sockets| Transfer { giver: old, sockets });
            self.start(Some(old), inherits, lane, now, actions);
        } else if self.to_replace.is_empty() && self.reloading {
            self.reloading = false;
            actions.push(Action::Note(Note::Reloaded(self.serving().collect())));
        }
    }

    fn start(
        &mut self,
        replaces: Option<Generation>,
        inherits: Option<Transfer>,
        lane: Option<usize>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let generation = Generation(self.next_generation);
        self.next_generation += 1;
        actions.push(Action::Start { worker: generation, inherits: inherits.is_some(), lane });
        let opens_one = self.settings.own_sockets && inherits.is_none();
        let sockets = opens_one.then_some(Socket(self.next_socket));
        self.next_socket += u64::from(opens_one);
        self.workers.push(Worker {
            generation,
            state: WorkerState::Starting,
            started: now,
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
    fn let_one_go(&mut self, now: Instant, actions: &mut Vec<Action>) -> bool {
        let on_cpu = |cpu| self.count(|worker| !worker.ends() && worker.cpu == cpu);
        let rank = |worker: &&Worker| (on_cpu(worker.cpu), worker.generation);
        let Some(leaving) = self.free(now).max_by_key(rank).map(|worker| worker.generation) else {
            return false;
        };
        if !self.settings.own_sockets {
            let has_others = self.serving().count() > 1;
            if has_others {
                self.drain(leaving, now, actions); // they accept from the same queue
            }
            return has_others;
        }
        let others = self.free(now).filter(|worker| worker.generation != leaving);
        let heir = others.min_by_key(|worker| worker.sockets.len()).map(|heir| heir.generation);
        let Some(heir) = heir else { return false };
        let sockets = self.worker(leaving).map(|worker| worker.sockets.clone()).unwrap_or_default();
        if let Some(worker) = self.worker_mut(heir) {
            worker.adopting = Some(Transfer { giver: leaving, sockets });
        }
        if let Some(worker) = self.worker_mut(leaving) {
            worker.state = WorkerState::GivingAway { heir };
        }
        actions.push(Action::Adopt { giver: leaving, heir });
        true
    }

    /// The workers that serve, are not busy, and do not rest after a failure.
    fn free(&self, now: Instant) -> impl Iterator<Item = &Worker> {
        self.free_at_all().filter(move |worker| worker.rests_until.is_none_or(|time| time <= now))
    }

    /// The workers that serve and are not busy.
    fn free_at_all(&self) -> impl Iterator<Item = &Worker> {
        let busy = self.busy();
        let is_free = move |worker: &&Worker| {
            worker.state == WorkerState::Serving
                && worker.closed.is_none()
                && !busy.contains(&worker.generation)
        };
        self.workers.iter().filter(is_free)
    }

    /// The workers that take part in a transfer of sockets, or are being replaced.
    fn busy(&self) -> BTreeSet<Generation> {
        let giver = |transfer: &Option<Transfer>| transfer.as_ref().map(|it| it.giver);
        let taking_part = self.workers.iter().flat_map(|worker| {
            let heir = worker.adopting.as_ref().map(|_| worker.generation);
            [heir, worker.replaces, giver(&worker.inherits), giver(&worker.adopting)]
        });
        taking_part.flatten().collect()
    }
}
