//! A server as `diagnose` sees it, observed by a separate thread in the server's network namespace. Counters go on
//! from window to window; findings are about the last window or, if they may be chance, about the last two.

use std::collections::BTreeMap;
use std::sync::mpsc::RecvTimeoutError::{Disconnected, Timeout};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Error, Result, anyhow};

use crate::diagnose::findings::{Finding, findings};
use crate::diagnose::model::Readings;
use crate::diagnose::{Observer, Target};

/// How often queues are read, and processes if that is due.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The length of a window, in seconds.
const WINDOW: f64 = 5.0;

/// Seconds: until a window is this long, the findings of the window before are shown.
const SETTLED: f64 = 2.0;

/// The state at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When.
    pub at: Instant,
    /// The readings of this window.
    pub readings: Readings,
    /// The findings.
    pub findings: Vec<Finding>,
    /// Connections that each process accepted since the watch began, including processes that have ended.
    pub accepted: BTreeMap<u32, u64>,
    /// How often an accept queue of the network namespace was full, likewise.
    pub overflows: u64,
}

/// The thread, and its last snapshot.
#[derive(Debug)]
pub struct Outside {
    questions: Sender<()>,
    answers: Receiver<Result<Snapshot>>,
    is_asked: bool,
    last: Option<Snapshot>,
}

impl Outside {
    /// Begins to observe.
    pub fn start(target: Target) -> Self {
        let (questions, asked) = channel();
        let (answer, answers) = channel();
        thread::spawn(move || {
            let own = answer.clone();
            if let Err(error) = target.observe(move |observer| answer_all(observer, &asked, &own)) {
                let _ = answer.send(Err(error)); // it fails at the end of the program
            }
        });
        Self { questions, answers, is_asked: false, last: None }
    }

    /// The present state.
    ///
    /// # Errors
    /// When there is no such server any more, or it may not be observed; with the remedy.
    pub fn now(&mut self) -> Result<Snapshot> {
        self.ask();
        let answer = self.answers.recv().unwrap_or_else(|_| Err(is_over()));
        self.is_asked = false;
        answer
    }

    /// A recent state, without waiting; `None` at first.
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

/// Answers questions until the other side is dropped.
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
                let _ = answer.send(Ok(snapshot)); // if it fails, the next question does, too
                if is_over {
                    observer.restart()?;
                    windows.close();
                }
            }
            Err(Timeout) => observer.look()?,
            Err(Disconnected) => return Ok(()),
        }
    }
}

/// The sums over all windows.
#[derive(Debug, Default)]
struct Windows {
    /// The number of complete windows, and their counts.
    over: usize,
    accepted: BTreeMap<u32, u64>,
    overflows: u64,
    /// The counts of the present window.
    accepted_now: BTreeMap<u32, u64>,
    overflows_now: u64,
    /// Findings of this window that do not depend on chance.
    seen: Vec<Finding>,
    /// Findings of the last complete window that may be chance, and those that the last two windows have.
    suspected: Vec<Finding>,
    confirmed: Vec<Finding>,
}

impl Windows {
    fn take(&mut self, readings: Readings) -> Snapshot {
        for worker in readings.own() {
            let count = self.accepted_now.entry(worker.pid).or_default();
            *count = worker.accepted.max(*count);
        }
        self.overflows_now = readings.overflows.max(self.overflows_now);
        let (inferred, seen) =
            findings(&readings).into_iter().partition(|finding| finding.id.may_be_chance());
        if self.over == 0 || readings.seconds >= SETTLED {
            self.seen = seen;
        }
        self.judge(inferred, readings.seconds >= WINDOW);
        let mut accepted = self.accepted.clone();
        add(&mut accepted, &self.accepted_now);
        Snapshot {
            at: Instant::now(),
            readings,
            findings: self.findings(),
            accepted,
            overflows: self.overflows + self.overflows_now,
        }
    }

    /// Of the findings that may be chance, keeps only those that the window before had, too.
    ///
    /// One test accuses a healthy server in one case of 1000. A watch tests each window, 720 in an hour, and would
    /// accuse every second healthy server in an hour. Windows are independent, as each is about the connections
    /// accepted in it. So two in a row are wrong in one case of a million: in an hour for less than one server in
    /// 1000. A limit divided by the number of windows would have the same effect, but would find less the longer the
    /// watch lasts. And a window is tested once, when it is complete: testing again and again until something is
    /// found always finds something. Kept connections are the same in each window; their uneven spread is not a
    /// warning.
    ///
    /// The first window has none before it, and is judged as `diagnose` judges its observation: a user who takes one
    /// reading must see what is wrong. This adds a few false findings in 1000 watches, however long they are.
    fn judge(&mut self, inferred: Vec<Finding>, is_whole: bool) {
        let is_same = |a: &Finding, b: &Finding| (a.id, a.worker) == (b.id, b.worker);
        let was_there = |found: &&Finding| self.suspected.iter().any(|it| is_same(it, found));
        if self.over == 0 {
            self.confirmed.clone_from(&inferred);
        } else if is_whole {
            self.confirmed = inferred.iter().filter(was_there).cloned().collect();
        }
        if is_whole {
            self.suspected = inferred;
        }
    }

    /// What is wrong, warnings first.
    fn findings(&self) -> Vec<Finding> {
        let mut all = [&self.seen[..], &self.confirmed].concat();
        all.sort_by_key(|finding| finding.severity);
        all
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
    use crate::diagnose::findings::Id;
    use crate::diagnose::model::{Role, Worker};

    /// Readings of a server with these accepted connections; worker 10 is in this state.
    fn readings(seconds: f64, accepted: &[(u32, u64)], state: char) -> Readings {
        let workers = accepted.iter().map(|&(pid, accepted)| Worker {
            pid,
            server: 1,
            role: Role::Worker,
            accepted,
            is_counted: true,
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

    /// Whether windows in a row find the spread uneven, for two workers with these accepted connections in each.
    fn uneven_in(accepted: impl IntoIterator<Item = [u64; 2]>) -> Vec<bool> {
        let mut windows = Windows::default();
        let window = |[a, b]: [u64; 2]| {
            // An incomplete window is not judged.
            let part = windows.take(readings(3.0, &[(10, a / 2), (11, b / 2)], 'S'));
            let whole = windows.take(readings(WINDOW, &[(10, a), (11, b)], 'S'));
            windows.close();
            let is_uneven = |of: &Snapshot| of.findings.iter().any(|it| it.id == Id::Uneven);
            [is_uneven(&part), is_uneven(&whole)]
        };
        accepted.into_iter().flat_map(window).collect()
    }

    #[test]
    fn what_chance_may_have_made_is_told_when_two_windows_in_a_row_have_it() {
        let once = uneven_in([[50, 50], [80, 20], [50, 50], [80, 20]]);
        assert_eq!(once, [false; 8]);
        let twice = uneven_in([[50, 50], [80, 20], [80, 20], [80, 20], [50, 50]]);
        // From the end of the second uneven window until the end of an even one.
        assert_eq!(twice[..5], [false; 5]);
        assert_eq!(twice[5..], [true, true, true, true, false]);
        // The first window is judged by itself.
        let first = uneven_in([[80, 20], [50, 50], [80, 20]]);
        assert_eq!(first, [true, true, true, false, false, false]);
    }

    #[test]
    fn a_healthy_server_is_not_accused_in_a_day_of_windows() {
        let mut random = 1_u64;
        let mut draw = || {
            // Of a linear congruential generator the upper bits are random.
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            random >> 63
        };
        let window = |_| {
            let ones = (0..200).map(|_| draw()).sum();
            [200 - ones, ones]
        };
        let day: Vec<[u64; 2]> = (0..17_280).map(window).collect();
        let by_chance = day.iter().filter(|counts| {
            let readings = readings(WINDOW, &[(10, counts[0]), (11, counts[1])], 'S');
            findings(&readings).iter().any(|found| found.id == Id::Uneven)
        });
        assert!(by_chance.count() > 3, "one test for each window accuses it");
        assert!(!uneven_in(day).contains(&true));
    }
}
