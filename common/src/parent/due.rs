//! What follows from time alone: drains that are over, workers that hang, and delayed decisions.

use std::time::{Duration, Instant};

use super::state::{Action, Generation, Note, Settings, State, Succession, Worker, WorkerState};
use super::upgrade::SUCCEEDS_WITHIN;

/// How long a worker may take until its event loop turns for the first time: it may wait 5 s for another's sockets.
const STARTS_WITHIN: Duration = Duration::from_secs(10);

/// How often the parent looks whether a worker hangs, at least.
const LOOK: Duration = Duration::from_secs(1);

/// How long a worker that has closed its channel may take to exit.
const EXIT_WITHIN: Duration = Duration::from_secs(1);

/// How long to wait for a signal to the parent after a worker was sent SIGTERM. A terminal or systemd stops the
/// whole process group or control group: it sends SIGTERM to parent and workers one by one, in any order. Then
/// the server ends, and no worker is replaced.
const ALONE_AFTER: Duration = Duration::from_millis(100);

impl State {
    pub(super) fn on_time(
        &mut self,
        silences: &[(Generation, Option<Duration>)],
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        for worker in &mut self.workers {
            worker.rests_until = worker.rests_until.filter(|&time| time > now);
        }
        self.replace_terminated(now, actions);
        if matches!(self.succession, Succession::Starting { until } if until <= now) {
            self.end_successor(now, actions);
            let why = format!("it did not serve within {SUCCEEDS_WITHIN:?}");
            actions.push(Action::Note(Note::NotSucceeded(why)));
        }
        if matches!(self.succession, Succession::Ending { until: Some(until) } if until <= now) {
            actions.push(Action::Note(Note::SuccessorsDrainIsOver));
            self.kill_successor(actions);
        }
        let is_over = |worker: &Worker| matches!(worker.state, WorkerState::Draining { until: Some(until) } if until <= now);
        for worker in self.workers.iter_mut().filter(|worker| is_over(worker)) {
            worker.state = WorkerState::Killed;
            actions.push(Action::Note(Note::DrainIsOver(worker.generation)));
            actions.push(Action::Kill(worker.generation));
        }
        let lost = |worker: &&Worker| worker.closed.is_some_and(|since| now >= since + EXIT_WITHIN);
        let lost: Vec<Generation> =
            self.workers.iter().filter(lost).map(|worker| worker.generation).collect();
        lost.into_iter().for_each(|worker| self.fail(worker, actions));
        if self.next_look.is_some_and(|time| time <= now) {
            self.next_look = self.settings.look_interval().map(|interval| now + interval);
            silences.iter().for_each(|&(worker, silence)| {
                self.look_whether_it_hangs(worker, silence, now, actions);
            });
        }
    }

    /// Replaces the workers that were sent SIGTERM, if the parent was not.
    fn replace_terminated(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for worker in &mut self.workers {
            if worker.terminated.is_none_or(|since| now < since + ALONE_AFTER) {
                continue;
            }
            worker.terminated = None;
            let generation = worker.generation;
            if !self.ending && !worker.ends() && !self.to_replace.contains(&generation) {
                self.to_replace.push_back(generation);
                actions.push(Action::Note(Note::Terminated(generation)));
            }
        }
    }

    /// Kills a worker that hangs, once it was seen to hang for a while: if the whole machine or the whole server
    /// stood still, no event loop has had the time to turn yet.
    fn look_whether_it_hangs(
        &mut self,
        generation: Generation,
        silence: Option<Duration>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let mut limit = self.settings.hang_timeout;
        let Some(worker) = self.worker_mut(generation) else { return };
        if worker.ends() || worker.state == WorkerState::Failing {
            return;
        }
        if silence.is_none() {
            limit = limit.max(STARTS_WITHIN);
        }
        if silence.unwrap_or_else(|| now - worker.started) <= limit {
            worker.suspected = None;
            return;
        }
        let since = *worker.suspected.get_or_insert(now);
        if now - since >= LOOK.min(limit / 2) {
            actions.push(Action::Note(Note::Hangs(generation)));
            self.fail(generation, actions);
        }
    }

    /// When the driver must call with [`Event::Time`](super::state::Event::Time) if nothing else happens. After
    /// that event it is always later than now: all that was due has been done.
    pub fn deadline(&self) -> Option<Instant> {
        let mut times: Vec<Option<Instant>> = vec![self.next_look.filter(|_| !self.ending)];
        match self.succession {
            Succession::Starting { until } => times.push(Some(until)),
            Succession::Ending { until } => times.push(until),
            Succession::None | Succession::Wanted => {}
        }
        for worker in &self.workers {
            match worker.state {
                WorkerState::Draining { until } => times.push(until),
                WorkerState::Killed | WorkerState::Failing => continue,
                _ => times.push(worker.rests_until),
            }
            times.push(worker.closed.map(|since| since + EXIT_WITHIN));
            times.push(worker.terminated.map(|since| since + ALONE_AFTER));
        }
        if self.count(Worker::stays) < self.wanted && !self.ending {
            times.push(self.backoff.next_start());
        }
        times.into_iter().flatten().min()
    }
}

impl Settings {
    /// The time between two looks for workers that hang; `None` without `--hang-timeout`.
    pub(super) fn look_interval(&self) -> Option<Duration> {
        let limit = self.hang_timeout;
        // Not shorter, or the parent would do nothing but look.
        (!limit.is_zero()).then(|| LOOK.min(limit / 2).max(Duration::from_millis(1)))
    }
}
