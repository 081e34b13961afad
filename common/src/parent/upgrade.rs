//! The part of [`step`](super::step) about a new server that replaces this one.

use std::time::{Duration, Instant};

use super::state::{Action, Generation, Note, Socket, State, Succession, Worker, WorkerState};
use crate::cli::options::MOST_WORKERS;

/// How long the new server may take until it serves.
pub(super) const SUCCEEDS_WITHIN: Duration = Duration::from_secs(60);

/// How long a new server that was told to end may take beyond the drain timeout: it then kills its workers itself,
/// and exits.
const SUCCESSOR_EXITS_WITHIN: Duration = Duration::from_secs(1);

impl State {
    /// In the new server: counts the sockets that a worker got from a worker of the old server, which may have
    /// adopted some. If they were not counted, another worker would open a new socket instead of getting one of
    /// them, and a steering program, which is made for a number of sockets, would leave one out. In a reload they
    /// are counted already.
    pub(super) fn on_holds(&mut self, generation: Generation, sockets: usize) {
        let next = self.next_socket;
        let Some(worker) = self.worker_mut(generation) else { return };
        if worker.state == WorkerState::Starting && worker.inherits.is_none() {
            // A bound for what a worker may claim: no server has more sockets than it may have workers.
            let more = sockets.min(MOST_WORKERS).saturating_sub(worker.sockets.len()) as u64;
            worker.sockets.extend((next..next + more).map(Socket));
            self.next_socket += more;
        }
    }

    pub(super) fn on_succeed(&mut self, actions: &mut Vec<Action>) {
        match self.succession {
            Succession::None => self.succession = Succession::Wanted,
            Succession::Ending { .. } => actions.push(Action::Note(Note::RefusedMeanwhile)),
            _ => {}
        }
    }

    /// Starts the new server, if one is wanted and no worker starts, ends or is busy.
    pub(super) fn begin_succession(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let serves = |worker: &Worker| {
            worker.state == WorkerState::Serving
                && worker.closed.is_none()
                && worker.adopting.is_none()
                && worker.terminated.is_none()
        };
        let is_calm = self.announced
            && !self.reloading
            && self.to_replace.is_empty()
            && self.serving().count() == self.wanted
            && self.workers.iter().all(|worker| worker.ends() || serves(worker));
        if self.succession == Succession::Wanted && is_calm {
            self.succession = Succession::Starting { until: now + SUCCEEDS_WITHIN };
            actions.push(Action::Note(Note::Succeeding));
            actions.push(Action::StartSuccessor(self.serving().collect()));
        }
    }

    /// Ends this server, as the new one serves.
    pub(super) fn on_succeeded(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.ending || !self.is_succeeded() {
            return;
        }
        self.succession = Succession::None;
        actions.push(Action::NameSuccessor);
        self.end(now, actions);
    }

    pub(super) fn on_not_succeeded(&mut self, why: String, actions: &mut Vec<Action>) {
        match self.succession {
            Succession::Starting { .. } => {
                self.succession = Succession::None;
                actions.push(Action::Note(Note::NotSucceeded(why)));
            }
            Succession::Ending { .. } => self.succession = Succession::None,
            Succession::None | Succession::Wanted => {}
        }
    }

    /// Whether a new server is starting.
    pub(super) fn is_succeeded(&self) -> bool {
        matches!(self.succession, Succession::Starting { .. })
    }

    pub(super) fn end_successor(&mut self, now: Instant, actions: &mut Vec<Action>) {
        match self.succession {
            Succession::None | Succession::Ending { .. } => {}
            Succession::Wanted => self.succession = Succession::None,
            Succession::Starting { .. } => {
                let time = self.settings.drain_timeout.checked_add(SUCCESSOR_EXITS_WITHIN);
                let until = time.and_then(|time| now.checked_add(time));
                self.succession = Succession::Ending { until };
                actions.push(Action::EndSuccessor);
            }
        }
    }

    /// Kills the new server, if there is one. This server still waits for its end.
    pub(super) fn kill_successor(&mut self, actions: &mut Vec<Action>) {
        self.succession = match self.succession {
            Succession::None | Succession::Wanted => Succession::None,
            Succession::Starting { .. } | Succession::Ending { .. } => {
                actions.push(Action::KillSuccessor);
                Succession::Ending { until: None }
            }
        };
    }
}
