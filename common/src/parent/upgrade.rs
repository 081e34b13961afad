//! The part of [`step`](super::step) about a new server that replaces this one.

use std::time::Duration;

use super::state::{Action, Generation, Note, Socket, Succession, Worker, WorkerState};
use super::step::Step;
use crate::cli::options::MOST_WORKERS;

/// How long the new server may take until it serves.
pub(super) const SUCCEEDS_WITHIN: Duration = Duration::from_secs(60);

/// How long a new server that was told to end may take beyond the drain timeout: it then kills its workers itself,
/// and exits.
const SUCCESSOR_EXITS_WITHIN: Duration = Duration::from_secs(1);

impl Step<'_> {
    /// In the new server: counts the sockets that a worker got from a worker of the old server, which may have
    /// adopted some. If they were not counted, another worker would open a new socket instead of getting one of
    /// them, and a steering program, which is made for a number of sockets, would leave one out. In a reload they
    /// are counted already.
    pub(super) fn on_holds(&mut self, generation: Generation, sockets: usize) {
        let next = self.state.next_socket;
        let Some(worker) = self.state.worker_mut(generation) else { return };
        if worker.state == WorkerState::Starting && worker.inherits.is_none() {
            // A bound for what a worker may claim: no server has more sockets than it may have workers.
            let more = sockets.min(MOST_WORKERS).saturating_sub(worker.sockets.len()) as u64;
            worker.sockets.extend((next..next + more).map(Socket));
            self.state.next_socket += more;
        }
    }

    pub(super) fn on_succeed(&mut self) {
        match self.state.succession {
            Succession::None => self.state.succession = Succession::Wanted,
            Succession::Ending { .. } => self.note(Note::RefusedMeanwhile),
            _ => {}
        }
    }

    /// Starts the new server, if one is wanted and no worker starts, ends or is busy.
    pub(super) fn begin_succession(&mut self) {
        let serves = |worker: &Worker| {
            worker.state == WorkerState::Serving
                && worker.closed.is_none()
                && worker.adopting.is_none()
                && worker.terminated.is_none()
        };
        let is_calm = self.state.announced
            && !self.state.reloading
            && self.state.to_replace.is_empty()
            && self.state.serving().count() == self.state.wanted
            && self.state.workers.iter().all(|worker| worker.ends() || serves(worker));
        if self.state.succession == Succession::Wanted && is_calm {
            self.state.succession = Succession::Starting { until: self.now + SUCCEEDS_WITHIN };
            self.note(Note::Succeeding);
            self.actions.push(Action::StartSuccessor(self.state.serving().collect()));
        }
    }

    /// Ends this server, as the new one serves.
    pub(super) fn on_succeeded(&mut self) {
        if self.state.ending || !self.state.is_succeeded() {
            return;
        }
        self.state.succession = Succession::None;
        self.actions.push(Action::NameSuccessor);
        self.end();
    }

    pub(super) fn on_not_succeeded(&mut self, why: String) {
        match self.state.succession {
            Succession::Starting { .. } => {
                self.state.succession = Succession::None;
                self.note(Note::NotSucceeded(why));
            }
            Succession::Ending { .. } => self.state.succession = Succession::None,
            Succession::None | Succession::Wanted => {}
        }
    }

    pub(super) fn end_successor(&mut self) {
        match self.state.succession {
            Succession::None | Succession::Ending { .. } => {}
            Succession::Wanted => self.state.succession = Succession::None,
            Succession::Starting { .. } => {
                let time = self.state.settings.drain_timeout.checked_add(SUCCESSOR_EXITS_WITHIN);
                let until = time.and_then(|time| self.now.checked_add(time));
                self.state.succession = Succession::Ending { until };
                self.actions.push(Action::EndSuccessor);
            }
        }
    }

    /// Kills the new server, if there is one. This server still waits for its end.
    pub(super) fn kill_successor(&mut self) {
        self.state.succession = match self.state.succession {
            Succession::None | Succession::Wanted => Succession::None,
            Succession::Starting { .. } | Succession::Ending { .. } => {
                self.actions.push(Action::KillSuccessor);
                Succession::Ending { until: None }
            }
        };
    }
}
