//! The view: what is shown, from two readings.

use std::collections::HashMap;
use std::time::Duration;

use crate::diagnose::model::Counted;
use crate::diagnose::words;
use crate::report::format::{count, plural, rounded, workers};
use crate::watch::outside::Snapshot;
use crate::watch::reading::{Condition, Reading, Worker};
use crate::watch::steering::Steering;
use common::kernel::port_owner::holder;
use common::kernel::port_watch::{How, PortWatch};
use common::kernel::sock_diag::Listener;

/// The most findings: more would leave no room for the table.
const MOST_FINDINGS: usize = 3;

/// The series of readings, with what must be remembered of earlier ones.
#[derive(Debug, Default)]
pub struct History {
    last: Option<Reading>,
    /// The process last seen in each slot, and how often it changed.
    slots: HashMap<usize, (u32, u64)>,
    /// Foreign sockets on the port.
    port: Option<PortWatch>,
    steering: Steering,
    /// The processes of foreign sockets, by inode.
    holders: HashMap<u64, String>,
}

/// The view.
#[derive(Clone, Debug)]
pub struct View {
    /// Facts about the whole server, each of which stays on one line; the first of each group begins a line.
    pub facts: [Vec<String>; 4],
    /// Sentences of the diagnosis, to be wrapped.
    pub sentences: Vec<String>,
    /// A row for each worker.
    pub rows: Vec<Row>,
    /// Whether all workers accept from one socket, whose queue is a fact about the whole server.
    pub is_shared: bool,
    /// Whether the server has a scoreboard.
    pub has_scoreboard: bool,
}

/// A row of the table: a worker.
#[derive(Clone, Debug)]
pub struct Row {
    /// The present reading.
    pub now: Worker,
    /// The reading before, and the time since then; `None` in the first view.
    pub before: Option<(Worker, Duration)>,
    /// How often the worker of this slot was replaced during the watch.
    pub replaced: u64,
}

impl Row {
    /// Whether it only accepts, and its children are the workers.
    pub fn accepts_for_others(&self) -> bool {
        self.now.condition == Condition::Acceptor
    }

    /// The increase per second since the reading before; `None` in the first view.
    pub fn rate(&self, of: fn(&Worker) -> f64) -> Option<f64> {
        let (before, passed) = self.before.as_ref()?;
        Some(each_second(of(&self.now) - of(before), *passed))
    }
}

impl History {
    /// Takes a reading, and returns the view.
    pub fn take(&mut self, reading: Reading) -> View {
        for worker in &reading.workers {
            let Some(pid) = worker.pid else { continue };
            let (last, replaced) = self.slots.entry(worker.index).or_insert((pid, 0));
            if *last != pid {
                (*last, *replaced) = (pid, *replaced + 1);
            }
        }
        let mut view = self.view(&reading);
        view.facts[0].extend(self.strangers(&reading));
        view.facts[0].extend(self.steering.take(&reading));
        self.last = Some(reading);
        view
    }

    /// Warnings about foreign sockets on the port.
    fn strangers(&mut self, reading: &Reading) -> Vec<String> {
        let port = self.port.get_or_insert_with(|| PortWatch::new(reading.address, false));
        port.take(&reading.look);
        let harmful = port.strangers().filter(|(how, _)| *how != How::IsShadowed);
        let told = harmful.map(|(_, socket)| {
            let holder = self.holders.entry(socket.inode).or_insert_with(|| {
                holder(socket.inode).unwrap_or_else(|| "an unknown process".into())
            });
            format!("warning: {holder} also listens on {}", socket.address)
        });
        told.collect()
    }

    fn view(&self, reading: &Reading) -> View {
        let passed = self.last.as_ref().map(|last| reading.at.saturating_duration_since(last.at));
        let rows = reading.workers.iter().map(|now| Row {
            now: now.clone(),
            before: passed.map(|passed| (self.before(now), passed)),
            replaced: self.slots.get(&now.index).map_or(0, |(_, replaced)| *replaced),
        });
        let rows: Vec<Row> = rows.collect();
        let mut sockets = rows.iter().map(|row| row.now.socket).filter(|&socket| socket != 0);
        let first = sockets.next();
        let is_shared = sockets.clone().count() > 0 && sockets.all(|socket| Some(socket) == first);
        let queues = if first.is_some() { queues(&rows, is_shared) } else { Vec::new() };
        let queues = queues.into_iter().chain(self.overflows(reading, passed)).collect();
        let facts =
            [servers(reading), self.load(reading, &rows, passed), queues, self.events(&rows)];
        let has_scoreboard = reading.requests.is_some();
        View { facts, sentences: sentences(reading), rows, is_shared, has_scoreboard }
    }

    /// A worker's reading before; if the worker was not there, or was another one, all counters are 0.
    fn before(&self, now: &Worker) -> Worker {
        let mut workers = self.last.iter().flat_map(|last| &last.workers);
        let same = |then: &&Worker| then.index == now.index && then.pid == now.pid;
        // Without a scoreboard a worker is first seen when it does something: it may have run long before.
        let is_told = self.last.as_ref().is_some_and(|last| last.requests.is_some());
        let new = || Worker { cpu: if is_told { 0.0 } else { now.cpu }, ..Worker::default() };
        workers.find(same).cloned().unwrap_or_else(new)
    }

    fn load(&self, reading: &Reading, rows: &[Row], passed: Option<Duration>) -> Vec<String> {
        let open: u64 = rows.iter().map(|row| row.now.open).sum();
        // The first view reserves the room, so that the table does not move.
        let last = self.last.as_ref();
        let requests = reading.requests.map(|now| {
            let before = last.and_then(|last| last.requests);
            format!("{} requests/s", added(now, before, passed))
        });
        let cpu: Option<f64> = rows.iter().map(|row| row.rate(Worker::cpu_percent)).sum();
        let cpu = cpu.filter(|_| passed.is_some()).map_or("–".into(), rounded);
        let how = match &reading.diagnosis {
            _ if requests.is_some() => "accepted",
            Some(it) if it.readings.counted == Counted::ByKernel => "accepted while watched",
            _ => "seen to appear",
        };
        let mut facts = vec![
            workers(rows.len(), rows.iter().filter(|row| row.accepts_for_others()).count()),
            format!("{} open", plural(open, "connection")),
            format!("{} {how}", count(reading.connections)),
        ];
        facts.extend(requests);
        facts.push(format!("CPU {cpu} %"));
        facts
    }

    /// How often connections found an accept queue full.
    fn overflows(&self, reading: &Reading, passed: Option<Duration>) -> Option<String> {
        let overflows = |reading: &Reading| Some(reading.diagnosis.as_ref()?.overflows);
        let before = self.last.as_ref().and_then(overflows);
        Some(format!("{} overflows/s", added(overflows(reading)?, before, passed)))
    }

    /// Facts about rare events, only those that have happened.
    fn events(&self, rows: &[Row]) -> Vec<String> {
        let sum = |of: fn(&Worker) -> u64| rows.iter().map(|row| of(&row.now)).sum::<u64>();
        let events = [
            (self.slots.values().map(|(_, replaced)| replaced).sum(), "replaced"),
            (sum(|worker| worker.empty), "empty wake-ups"),
            (sum(|worker| worker.gated), "gated"),
            (sum(|worker| worker.steered), "steered"),
            (sum(|worker| worker.migrated), "migrated"),
        ];
        let happened = events.into_iter().filter(|(number, _)| *number > 0);
        happened.map(|(number, what)| format!("{} {what}", count(number))).collect()
    }
}

/// The increase per second, as text.
fn added(now: u64, before: Option<u64>, passed: Option<Duration>) -> String {
    let rate = before.zip(passed);
    rate.map_or("–".into(), |(before, passed)| {
        rounded(each_second(now as f64 - before as f64, passed))
    })
}

/// The findings, and how a foreign server listens.
fn sentences(reading: &Reading) -> Vec<String> {
    let Some(Snapshot { readings, findings, .. }) = &reading.diagnosis else {
        let looks = "findings: looking".to_owned();
        let reason = reading.undiagnosed.as_ref();
        return vec![
            reason.map_or(looks, |reason| format!("findings are not available: {reason}")),
        ];
    };
    let mut sentences = Vec::new();
    if reading.requests.is_none() {
        sentences.push(format!("model: {}", words::model(readings)));
    }
    sentences.extend(
        findings
            .iter()
            .take(MOST_FINDINGS)
            .map(|found| format!("{}: {}: {}", found.severity, found.id, found.evidence)),
    );
    let port = reading.address.port();
    sentences.push(match findings.len() {
        0 => "findings: none".into(),
        1..=MOST_FINDINGS => format!("for the remedies: loadtest diagnose --port {port}"),
        all => format!(
            "{} more, and the remedies: loadtest diagnose --port {port}",
            all - MOST_FINDINGS
        ),
    });
    sentences
}

fn servers(reading: &Reading) -> Vec<String> {
    let address = match reading.requests {
        Some(_) => format!("http://{}/", reading.address),
        None => reading.address.to_string(), // its protocol is not known
    };
    [address].into_iter().chain(reading.servers.iter().map(|server| server.name())).collect()
}

fn queues(rows: &[Row], is_shared: bool) -> Vec<String> {
    let queues = rows.iter().filter_map(|row| Some((row.now.socket, row.now.queue.as_ref()?)));
    let queues: HashMap<u64, &Listener> = queues.collect(); // a shared queue counts once
    if queues.is_empty() {
        return vec!["accept queues cannot be seen from this network namespace".into()];
    }
    let waiting: u64 = queues.values().map(|queue| u64::from(queue.queued)).sum();
    let most: u64 = queues.values().map(|queue| u64::from(queue.backlog)).sum();
    let which = match is_shared {
        true => "the shared socket's accept queue".to_owned(),
        false => plural(queues.len() as u64, "accept queue"),
    };
    vec![format!("{} of {} waiting in {which}", count(waiting), count(most))]
}

/// A rate: never negative, and defined for no time at all.
fn each_second(added: f64, passed: Duration) -> f64 {
    added.max(0.0) / passed.as_secs_f64().max(1e-3)
}

#[cfg(test)]
pub mod tests {
    use std::time::Instant;

    use common::kernel::port_watch::Look;

    use super::*;
    use crate::watch::reading::{Condition, Server};

    /// A reading of workers of one server.
    pub fn reading(at: Instant, workers: Vec<Worker>) -> Reading {
        Reading {
            at,
            address: ([127, 0, 0, 1], 8080).into(),
            servers: vec![Server {
                pid: 100,
                command: "reuseport-server --workers 4".into(),
                is_there: true,
            }],
            look: Look::default(),
            connections: workers.iter().map(|worker| worker.accepted).sum(),
            requests: Some(workers.iter().map(|worker| worker.requests).sum()),
            diagnosis: None,
            undiagnosed: None,
            workers,
        }
    }

    /// An accept queue of 1024.
    pub fn queue(queued: u32) -> Option<Listener> {
        let address = ([127, 0, 0, 1], 8080).into();
        Some(Listener { address, inode: 1, uid: 0, queued, backlog: 1024 })
    }

    /// A worker that serves.
    pub fn worker(index: usize, requests: u64) -> Worker {
        Worker {
            index,
            pid: Some(200 + index as u32),
            condition: Condition::Serving,
            socket: 300 + index as u64,
            queue: queue(index as u32),
            open: 10,
            accepted: 10,
            requests,
            ..Worker::default()
        }
    }

    /// The view of two readings, two seconds apart.
    pub fn view(before: Vec<Worker>, after: Vec<Worker>) -> View {
        let mut history = History::default();
        let start = Instant::now();
        history.take(reading(start, before));
        history.take(reading(start + Duration::from_secs(2), after))
    }

    fn has_fact(view: &View, fact: &str) -> bool {
        view.facts.iter().flatten().any(|found| found == fact)
    }

    #[test]
    fn rates_are_what_was_added_over_the_time_between_two_readings() {
        let busy = Worker { cpu: 3.0, empty: 50, ..worker(1, 1300) };
        let view = view(
            vec![worker(0, 100), Worker { cpu: 2.0, ..worker(1, 300) }],
            vec![worker(0, 120), busy],
        );
        let requests = view.rows.iter().map(|row| row.rate(|worker| worker.requests as f64));
        assert_eq!(requests.collect::<Vec<_>>(), [Some(10.0), Some(500.0)]);
        assert_eq!(view.rows[0].rate(Worker::cpu_percent), Some(0.0));
        assert_eq!(view.rows[1].rate(Worker::cpu_percent), Some(50.0));
        assert_eq!(view.rows[1].rate(|worker| worker.empty as f64), Some(25.0));
        for fact in ["2 workers", "20 connections open", "510 requests/s", "CPU 50 %"] {
            assert!(has_fact(&view, fact), "{fact}: {view:?}");
        }
    }

    #[test]
    fn a_process_that_accepts_for_its_children_is_no_worker() {
        let acceptor = || Worker { condition: Condition::Acceptor, ..worker(0, 0) };
        let all = || vec![acceptor(), worker(1, 0), worker(2, 0)];
        let view = view(all(), all());
        assert!(has_fact(&view, "2 workers and a process that accepts"), "{view:?}");
    }

    #[test]
    fn a_stranger_on_the_port_is_shown_from_the_second_reading_on() {
        let mut history = History::default();
        let mut shown = || {
            let mut reading = reading(Instant::now(), vec![worker(0, 0)]);
            reading.look.listeners = queue(0).into_iter().collect(); // which belongs to no worker here
            let view = history.take(reading);
            has_fact(&view, "warning: an unknown process also listens on 127.0.0.1:8080")
        };
        assert_eq!([shown(), shown(), shown()], [false, true, true]);
    }

    #[test]
    fn of_no_workers_the_cpu_time_is_0() {
        let view = view(vec![], vec![]);
        assert!(has_fact(&view, "0 workers") && has_fact(&view, "CPU 0 %"), "{view:?}");
    }

    #[test]
    fn the_first_reading_has_no_rates() {
        let view = History::default().take(reading(Instant::now(), vec![worker(0, 100)]));
        assert_eq!(view.rows[0].rate(|worker| worker.requests as f64), None);
        assert!(has_fact(&view, "– requests/s") && has_fact(&view, "CPU – %"), "{view:?}");
    }

    #[test]
    fn a_worker_that_took_anothers_slot_counts_from_nothing_and_as_replaced() {
        let new = Worker { pid: Some(999), ..worker(0, 40) };
        let view = view(vec![worker(0, 1_000_000), worker(1, 0)], vec![new, worker(1, 0)]);
        assert_eq!(view.rows[0].rate(|worker| worker.requests as f64), Some(20.0));
        assert_eq!((view.rows[0].replaced, view.rows[1].replaced), (1, 0));
        assert!(has_fact(&view, "1 replaced"));
    }

    #[test]
    fn a_slot_that_is_empty_for_a_while_between_two_workers_counts_as_replaced_once() {
        let mut history = History::default();
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        history.take(reading(at(0), vec![worker(0, 5)]));
        history.take(reading(at(1), vec![]));
        history.take(reading(at(2), vec![Worker { pid: None, ..worker(0, 0) }]));
        let new = Worker { pid: Some(999), ..worker(0, 0) };
        let view = history.take(reading(at(3), vec![new.clone()]));
        assert_eq!(view.rows[0].replaced, 1);
        assert_eq!(history.take(reading(at(4), vec![new])).rows[0].replaced, 1);
    }

    #[test]
    fn queues_of_ones_own_are_added_up_and_those_that_cannot_be_seen_are_said_to_be() {
        let own = view(vec![], vec![worker(1, 0), worker(2, 0)]);
        assert!(!own.is_shared);
        assert!(has_fact(&own, "3 of 2 048 waiting in 2 accept queues"), "{own:?}");
        let elsewhere = Worker { queue: None, ..worker(0, 0) };
        let view = view(vec![], vec![elsewhere]);
        assert!(has_fact(&view, "accept queues cannot be seen from this network namespace"));
    }
}
