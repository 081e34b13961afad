//! The parent's messages: the announcement, the log, and systemd's status.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::driver::{Driver, Process};
use super::state::{Generation, Note, State, WorkerState};
use crate::cli::announce::{Announced, announce};
use crate::platform::systemd;

impl Driver<'_> {
    pub(super) fn announce(&self) {
        let inode = |index| self.scoreboard().board().slot(index).socket_inode.load(Relaxed);
        let announced = |process: &Process| Announced {
            index: process.index,
            pid: process.pid.as_raw(),
            inode: inode(process.index),
        };
        let all: Vec<Announced> = self.processes.values().map(announced).collect();
        // A closed stdout is no reason to stop serving.
        let _ = announce(self.address, &all);
        systemd::ready(&self.status());
    }

    /// The status, with the address.
    pub(super) fn status(&self) -> String {
        format!("http://{}/: {}", self.address, self.state.status())
    }

    /// Tells systemd at once when a reload begins and how it ends.
    pub(super) fn tell_systemd(&mut self, note: &Note) {
        if !self.state.announced || self.state.ending {
            return; // still starting, or already ending
        }
        let status = self.status();
        match note {
            Note::Reloading => systemd::reloading(&status),
            Note::Reloaded(_) => systemd::ready(&status),
            Note::ReloadGivenUp(_, _, why) => {
                systemd::ready(&format!("{status}; the reload was aborted: {why}"));
            }
            Note::ReloadRefused => {
                // With Type=notify-reload systemd waits for both messages, at most until its time limit.
                systemd::reloading(&status);
                systemd::ready(&format!("{status}; no reload: an upgrade is in progress"));
            }
            _ => return,
        }
        self.told = status;
    }

    /// Why a worker cannot serve. It has a name if it was started.
    pub(super) fn cannot_serve(&self, worker: Generation, why: String) -> String {
        match self.processes.get(&worker) {
            Some(process) => format!("worker {} cannot serve: {why}", process.index),
            None => why,
        }
    }

    pub(super) fn log(&self, note: Note) {
        let known = |worker| self.processes.get(&worker);
        let index = |worker| known(worker).map_or("?".into(), |it| it.index.to_string());
        let name = |worker| {
            let pid = known(worker).map_or("?".into(), |it| it.pid.to_string());
            format!("worker {} (pid {pid})", index(worker))
        };
        match note {
            Note::Wanted(now, before) if now == before => {
                tracing::info!("the number of workers stays {now}, the limit");
            }
            Note::Wanted(now, before) => {
                tracing::info!("the number of workers changes from {before} to {now}");
            }
            Note::Reloading => tracing::info!("reloading"),
            Note::Reloaded(serving) => {
                let pids: Vec<i32> =
                    serving.into_iter().filter_map(known).map(|it| it.pid.as_raw()).collect();
                tracing::info!("reloaded; pids of the workers: {pids:?}");
            }
            Note::ReloadGivenUp(old, failed, why) => {
                let why = self.cannot_serve(failed, why);
                tracing::error!("reload aborted, worker {} stays: {why}", index(old));
            }
            Note::Succeeding => tracing::info!("starting a new server to take over (upgrade)"),
            Note::NotSucceeded(why) => {
                tracing::error!("the upgrade failed and this server keeps serving: {why}");
            }
            Note::RefusedMeanwhile | Note::ReloadRefused => {
                tracing::warn!(
                    "signal ignored: an upgrade is in progress; send it again when that has ended"
                );
            }
            Note::RefusedAtEnd => tracing::warn!("signal ignored: this server is ending"),
            Note::SuccessorsDrainIsOver => {
                tracing::warn!(
                    "the new server is killed: it did not end within the time limit for the drain"
                );
            }
            Note::Terminated(worker) => {
                tracing::info!("{} received SIGTERM and is replaced", name(worker));
            }
            Note::NotReplaced(old, failed, why) => {
                let why = self.cannot_serve(failed, why);
                tracing::error!(
                    "{} received SIGTERM and stays, as its replacement failed: {why}",
                    name(old)
                );
            }
            Note::Died(worker, why, pause) => match known(worker) {
                Some(_) => put_off(&format!("{} {why}", name(worker)), pause),
                None => put_off(&format!("a worker cannot be started: {why}"), pause),
            },
            Note::DiedLeaving(worker, why) => {
                tracing::error!("{} {why}; it was about to end", name(worker));
            }
            Note::Hangs(worker) => {
                let limit = self.options.hang_timeout;
                tracing::error!(
                    "the event loop of {} has not run for {limit:?} (--hang-timeout)",
                    name(worker)
                );
            }
            Note::DrainIsOver(worker) => {
                let open = known(worker).map_or(0, |process| {
                    self.scoreboard().board().slot(process.index).connections_open.load(Relaxed)
                });
                tracing::warn!(
                    "{} is killed with {open} connections open: --drain-timeout has expired",
                    name(worker)
                );
            }
            Note::NotAdopted(giver, heir, why) => {
                let (giver, heir) = (name(giver), name(heir));
                tracing::warn!("{giver} stays, as {heir} cannot take over its sockets: {why}");
            }
        }
    }
}

impl State {
    /// What is going on, for a person.
    pub fn status(&self) -> String {
        let serving = self.count(|worker| worker.state == WorkerState::Serving);
        if self.ending {
            "ending: open requests are answered".into()
        } else if self.reloading {
            let before = self.to_replace.iter().filter(|&&old| self.worker(old).is_some()).count();
            let now = self.count(|worker| worker.replaces.is_some());
            format!("reloading: {} of {} workers to be replaced", before + now, self.wanted)
        } else if serving < self.wanted {
            format!("{serving} of {} workers serve", self.wanted)
        } else {
            format!("{serving} worker{}", if serving == 1 { " serves" } else { "s serve" })
        }
    }
}

fn put_off(what: &str, pause: Option<Duration>) {
    match pause {
        None => tracing::error!("{what}; starting another"),
        Some(pause) => {
            tracing::error!("{what}; too many workers died, the next one starts in {pause:?}")
        }
    }
}
