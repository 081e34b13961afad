//! A server as `diagnose` sees it, looked at by a thread of its own that is in the server's network
//! namespace. What is counted goes on from window to window; findings are about the last of them.

use std::collections::BTreeMap;
use std::sync::mpsc::RecvTimeoutError::{Disconnected, Timeout};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Error, Result, anyhow};

use crate::diagnose::findings::{Finding, findings};
use crate::diagnose::model::Readings;
use crate::diagnose::{Observer, Target};

/// How often queues are looked at, and processes if that is due.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Findings are about so many seconds, at least.
const WINDOW: f64 = 5.0;

/// A younger window says little: until then the findings of the one before are shown.
const SETTLED: f64 = 2.0;

/// What was seen at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When.
    pub at: Instant,
    /// Of this window.
    pub readings: Readings,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Connections that each process accepted since the watch began, those that have ended included.
    pub accepted: BTreeMap<u32, u64>,
    /// How often an accept queue of that network namespace was full, likewise.
    pub overflows: u64,
}

/// The thread, and what it said last.
#[derive(Debug)]
pub struct Outside {
    questions: Sender<()>,
    answers: Receiver<Result<Snapshot>>,
    is_asked: bool,
    last: Option<Snapshot>,
}

impl Outside {
    /// Begins to look.
    pub fn start(target: Target) -> Self {
        let (questions, asked) = channel();
        let (answer, answers) = channel();
        thread::spawn(move || {
            let own = answer.clone();
            if let Err(error) = target.observe(move |observer| answer_all(observer, &asked, &own)) {
                let _ = answer.send(Err(error)); // nobody listens if the program ends
            }
        });
        Self { questions, answers, is_asked: false, last: None }
    }

    /// What is so now.
    ///
    /// # Errors
    /// When there is no such server any more, or it may not be looked at; with the remedy.
    pub fn now(&mut self) -> Result<Snapshot> {
        self.ask();
        let answer = self.answers.recv().unwrap_or_else(|_| Err(is_over()));
        self.is_asked = false;
        answer
    }

    /// What was so lately, without waiting; `None` at first.
    ///
    /// # Errors
    /// As above.
    pub fn lately(&mut self) -> Result<Option<Snapshot>> {
        self.ask();
        match self.answers.try_recv() {
            Ok(answer) => {
                self.is_asked = false;
                self.last = Some(answer?);
            }
            Err(std::sync::mpsc::TryRecvError::Empty) => {}
            Err(std::sync::mpsc::TryRecvError::Disconnected) => return Err(is_over()),
        }
        Ok(self.last.clone())
    }

    fn ask(&mut self) {
        if !self.is_asked {
            self.is_asked = self.questions.send(()).is_ok();
        }
    }
}

fn is_over() -> Error {
    anyhow!("it can no longer be observed")
}

/// Looks until nobody asks any more.
fn answer_all(
    observer: &mut Observer,
    asked: &Receiver<()>,
    answer: &Sender<Result<Snapshot>>,
) -> Result<()> {
    let mut windows = Windows::default();
    loop {
        match asked.recv_timeout(LOOK_EVERY) {
            Ok(()) => {
                let snapshot = windows.take(observer.readings()?);
                let is_over = snapshot.readings.seconds >= WINDOW;
                let _ = answer.send(Ok(snapshot)); // the next question fails, then
                if is_over {
                    observer.restart();
                    windows.close();
                }
            }
            Err(Timeout) => observer.look()?,
            Err(Disconnected) => return Ok(()),
        }
    }
}

/// Puts windows together.
#[derive(Debug, Default)]
struct Windows {
    /// How many are over, and what they counted.
    over: usize,
    accepted: BTreeMap<u32, u64>,
    overflows: u64,
    /// What the present one has counted.
    accepted_now: BTreeMap<u32, u64>,
    overflows_now: u64,
    findings: Vec<Finding>,
}

impl Windows {
    fn take(&mut self, readings: Readings) -> Snapshot {
        for worker in readings.own() {
            let count = self.accepted_now.entry(worker.pid).or_default();
            *count = worker.accepted.max(*count);
        }
        self.overflows_now = readings.overflows.max(self.overflows_now);
        if self.over == 0 || readings.seconds >= SETTLED {
            self.findings = findings(&readings);
        }
        let mut accepted = self.accepted.clone();
        add(&mut accepted, &self.accepted_now);
        Snapshot {
            at: Instant::now(),
            readings,
            findings: self.findings.clone(),
            accepted,
            overflows: self.overflows + self.overflows_now,
        }
    }

    fn close(&mut self) {
        self.over += 1;
        add(&mut self.accepted, &std::mem::take(&mut self.accepted_now));
        self.overflows += std::mem::take(&mut self.overflows_now);
    }
}

fn add(all: &mut BTreeMap<u32, u64>, new: &BTreeMap<u32, u64>) {
    new.iter().for_each(|(&pid, count)| *all.entry(pid).or_default() += count);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::model::{Role, Worker};

    /// Readings of a server whose workers accepted so much in so many seconds; 10 is in this state.
    fn readings(seconds: f64, accepted: &[(u32, u64)], state: char) -> Readings {
        let workers = accepted.iter().map(|&(pid, accepted)| Worker {
            pid,
            server: 1,
            role: Role::Worker,
            accepted,
            state: if pid == 10 { state } else { 'S' },
            ..Worker::default()
        });
        let workers: Vec<Worker> = workers.collect();
        Readings { seconds, server: 1, overflows: 2, workers, ..Readings::default() }
    }

    #[test]
    fn counts_go_on_over_windows_and_workers_that_end_and_findings_stay_until_there_are_better() {
        let mut windows = Windows::default();
        let first = windows.take(readings(5.0, &[(10, 3), (11, 4)], 'T'));
        assert_eq!(first.findings.len(), 1, "{:?}", first.findings);
        windows.close();
        let young = windows.take(readings(0.5, &[(11, 1), (12, 7)], 'S'));
        assert_eq!(young.accepted, BTreeMap::from([(10, 3), (11, 5), (12, 7)]));
        assert_eq!((young.findings.len(), young.overflows), (1, 4));
        let settled = windows.take(readings(2.5, &[(11, 1)], 'S'));
        assert_eq!((settled.findings.len(), settled.accepted[&12]), (0, 7));
    }
}
