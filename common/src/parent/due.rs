//! What follows from time alone: drains that are over, workers that hang, and delayed decisions.

use std::time::{Duration, Instant};

use super::state::{Action, Generation, Note, State, Succession, Worker, WorkerState};
use super::step::Step;
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

impl Step<'_> {
    pub(super) fn on_time(&mut self, silences: &[(Generation, Option<Duration>)]) {
        for worker in &mut self.state.workers {
            worker.rests_until = worker.rests_until.filter(|&time| time > self.now);
        }
        self.replace_terminated();
        if matches!(self.state.succession, Succession::Starting { until } if until <= self.now) {
            self.end_successor();
            let why = format!("it did not serve within {SUCCEEDS_WITHIN:?}");
            self.note(Note::NotSucceeded(why));
        }
        if matches!(self.state.succession, Succession::Ending { until: Some(until) } if until <= self.now)
        {
            self.note(Note::SuccessorsDrainIsOver);
            self.kill_successor();
        }
        let is_over = |worker: &Worker| matches!(worker.state, WorkerState::Draining { until: Some(until) } if until <= self.now);
        for worker in self.state.workers.iter_mut().filter(|worker| is_over(worker)) {
            worker.state = WorkerState::Killed;
            self.actions.push(Action::Note(Note::DrainIsOver(worker.generation)));
            self.actions.push(Action::Kill(worker.generation));
        }
        let is_lost =
            |worker: &Worker| worker.closed.is_some_and(|since| self.now >= since + EXIT_WITHIN);
        self.state.those(is_lost).into_iter().for_each(|worker| self.fail(worker));
        if self.state.next_look.is_some_and(|time| time <= self.now) {
            self.look_again();
            for &(worker, silence) in silences {
                self.look_whether_it_hangs(worker, silence);
            }
        }
    }

    /// Sets the time of the next look for workers that hang; none without `--hang-timeout`.
    pub(super) fn look_again(&mut self) {
        let limit = self.state.settings.hang_timeout;
        // Not more often, or the parent would do nothing but look.
        let interval = LOOK.min(limit / 2).max(Duration::from_millis(1));
        self.state.next_look = (!limit.is_zero()).then(|| self.now + interval);
    }

    /// Replaces the workers that were sent SIGTERM, if the parent was not.
    fn replace_terminated(&mut self) {
        for worker in &mut self.state.workers {
            if worker.terminated.is_none_or(|since| self.now < since + ALONE_AFTER) {
                continue;
            }
            worker.terminated = None;
            let generation = worker.generation;
            if !self.state.ending && !worker.ends() && !self.state.to_replace.contains(&generation)
            {
                self.state.to_replace.push_back(generation);
                self.actions.push(Action::Note(Note::Terminated(generation)));
            }
        }
    }

    /// Kills a worker that hangs, once it was seen to hang for a while: if the whole machine or the whole server
    /// stood still, no event loop has had the time to turn yet.
    fn look_whether_it_hangs(&mut self, generation: Generation, silence: Option<Duration>) {
        let mut limit = self.state.settings.hang_timeout;
        let Some(worker) = self.state.worker_mut(generation) else { return };
        if worker.ends() || worker.state == WorkerState::Failing {
            return;
        }
        if silence.is_none() {
            limit = limit.max(STARTS_WITHIN);
        }
        if silence.unwrap_or_else(|| self.now - worker.started) <= limit {
            worker.suspected = None;
            return;
        }
        let since = *worker.suspected.get_or_insert(self.now);
        if self.now - since >= LOOK.min(limit / 2) {
            self.note(Note::Hangs(generation));
            self.fail(generation);
        }
    }
}

impl State {
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
