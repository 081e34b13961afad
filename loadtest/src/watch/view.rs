//! What is to be seen, from two readings.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

use crate::report::format::{count, rounded};
use crate::watch::reading::{Condition, Queue, Reading, Worker};

/// Readings one after the other, and what must be remembered of earlier ones.
#[derive(Default)]
pub struct History {
    last: Option<Reading>,
    /// How often each slot's worker was seen to be another than before.
    replaced: HashMap<usize, u64>,
    /// The process last seen in each slot.
    pids: HashMap<usize, u32>,
}

/// What is to be seen.
#[derive(Clone, Debug)]
pub struct View {
    /// Facts about the whole, each to be kept on one line; the first of each group begins a line.
    pub facts: Vec<Vec<String>>,
    /// A row for each worker.
    pub rows: Vec<Row>,
    /// Whether all workers accept from one socket, whose queue is a fact about the whole.
    pub is_shared: bool,
}

/// A worker as it is seen.
#[derive(Clone, Debug)]
pub struct Row {
    /// As it was read.
    pub now: Worker,
    /// What it did each second since the reading before; `None` in the first.
    pub rates: Option<Rates>,
    /// How often the worker of this slot was replaced while it was watched.
    pub replaced: u64,
}

/// What a worker did, each second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Requests answered.
    pub requests: f64,
    /// Connections accepted.
    pub accepted: f64,
    /// CPU time, percent of one core.
    pub cpu: f64,
    /// Wake-ups that found no connection.
    pub empty: f64,
    /// Times it stood back for another.
    pub gated: f64,
    /// Connections that a policy gave to it.
    pub steered: f64,
}

/// What rows are sorted by: workers by their number, all else with the most on top.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// The worker's number.
    #[default]
    Worker,
    /// Connections open.
    Open,
    /// Requests answered each second.
    Requests,
    /// CPU time.
    Cpu,
    /// Connections that wait in its accept queue.
    Queue,
}

impl History {
    /// Takes a reading, and shows what it says together with those before.
    pub fn take(&mut self, reading: Reading) -> View {
        for worker in &reading.workers {
            let Some(pid) = worker.pid else { continue };
            let before = self.pids.insert(worker.index, pid);
            if before.is_some_and(|before| before != pid) {
                *self.replaced.entry(worker.index).or_default() += 1;
            }
        }
        let view = self.view(&reading);
        self.last = Some(reading);
        view
    }

    fn view(&self, reading: &Reading) -> View {
        let passed = self.last.as_ref().map(|last| reading.at.saturating_duration_since(last.at));
        let rows = reading.workers.iter().map(|now| Row {
            now: now.clone(),
            rates: passed.map(|passed| self.before(now).rates_until(now, passed)),
            replaced: self.replaced.get(&now.index).copied().unwrap_or(0),
        });
        let rows: Vec<Row> = rows.collect();
        let mut sockets: Vec<u64> = rows.iter().map(|row| row.now.socket).collect();
        sockets.retain(|&socket| socket != 0);
        let served = sockets.len();
        sockets.sort_unstable();
        sockets.dedup();
        let is_shared = served > 1 && sockets.len() == 1;
        let facts = vec![
            servers(reading),
            self.load(reading, &rows, passed),
            self.queues(&rows, &sockets, is_shared),
            self.events(&rows),
        ];
        View { facts, rows, is_shared }
    }

    /// A worker as it was before; one that was not there, or another, had counted nothing.
    fn before(&self, now: &Worker) -> Worker {
        let workers = self.last.iter().flat_map(|last| &last.workers);
        let same = |then: &&Worker| then.index == now.index && then.pid == now.pid;
        workers.clone().find(same).cloned().unwrap_or_default()
    }

    fn load(&self, reading: &Reading, rows: &[Row], passed: Option<Duration>) -> Vec<String> {
        let open: u64 = rows.iter().map(|row| row.now.open).sum();
        let mut facts = vec![
            plural(rows.len() as u64, "worker"),
            format!("{} open", plural(open, "connection")),
            format!("{} accepted", count(reading.connections)),
        ];
        // In the first reading as much room is taken, so that the table does not move.
        let requests = self.last.as_ref().zip(passed).map_or("–".into(), |(last, passed)| {
            rounded(each_second(reading.requests.saturating_sub(last.requests), passed))
        });
        let cpu: Option<f64> = rows.iter().map(|row| Some(row.rates?.cpu)).sum();
        let cpu = cpu.filter(|_| passed.is_some()).map_or("–".into(), |cpu| format!("{cpu:.0}"));
        facts.extend([format!("{requests} requests/s"), format!("CPU {cpu} %")]);
        facts
    }

    fn queues(&self, rows: &[Row], sockets: &[u64], is_shared: bool) -> Vec<String> {
        if sockets.is_empty() {
            return Vec::new();
        }
        let mut queues: HashMap<u64, Queue> = HashMap::new();
        queues.extend(rows.iter().filter_map(|row| Some((row.now.socket, row.now.queue?))));
        if queues.is_empty() {
            return vec!["accept queues cannot be seen from this network namespace".into()];
        }
        let waiting: u64 = queues.values().map(|queue| u64::from(queue.waiting)).sum();
        let most: u64 = queues.values().map(|queue| u64::from(queue.most)).sum();
        let which = match is_shared {
            true => "the shared socket's accept queue".to_owned(),
            false => plural(queues.len() as u64, "accept queue"),
        };
        vec![format!("{} of {} waiting in {which}", count(waiting), count(most))]
    }

    /// What is no part of every server's life, so only what has happened.
    fn events(&self, rows: &[Row]) -> Vec<String> {
        let sum = |of: fn(&Worker) -> u64| rows.iter().map(|row| of(&row.now)).sum::<u64>();
        let events = [
            (self.replaced.values().sum(), "replaced"),
            (sum(|worker| worker.empty), "empty wake-ups"),
            (sum(|worker| worker.gated), "gated"),
            (sum(|worker| worker.steered), "steered"),
            (sum(|worker| worker.migrated), "migrated"),
        ];
        let happened = events.into_iter().filter(|(number, _)| *number > 0);
        happened.map(|(number, what)| format!("{} {what}", count(number))).collect()
    }
}

impl Worker {
    /// What it did each second until it was as `now`.
    fn rates_until(&self, now: &Self, passed: Duration) -> Rates {
        let rate = |of: fn(&Self) -> u64| each_second(of(now).saturating_sub(of(self)), passed);
        Rates {
            requests: rate(|worker| worker.requests),
            accepted: rate(|worker| worker.accepted),
            cpu: 100.0 * ((now.cpu - self.cpu) / seconds(passed)).max(0.0),
            empty: rate(|worker| worker.empty),
            gated: rate(|worker| worker.gated),
            steered: rate(|worker| worker.steered),
        }
    }
}

impl View {
    /// Sorts the rows; equal ones stay in the order of their numbers.
    pub fn sort(&mut self, by: Sort) {
        let rates = |row: &Row| row.rates.unwrap_or_default();
        let requests = |row: &Row| rates(row).requests;
        let cpu = |row: &Row| rates(row).cpu;
        let waiting = |row: &Row| row.now.queue.map(|queue| queue.waiting);
        self.rows.sort_by_key(|row| row.now.index);
        match by {
            Sort::Worker => {}
            Sort::Open => self.rows.sort_by_key(|row| Reverse(row.now.open)),
            Sort::Requests => self.rows.sort_by(|a, b| requests(b).total_cmp(&requests(a))),
            Sort::Cpu => self.rows.sort_by(|a, b| cpu(b).total_cmp(&cpu(a))),
            Sort::Queue => self.rows.sort_by_key(|row| Reverse(waiting(row))),
        }
    }
}

impl Sort {
    /// In the order in which the columns stand.
    pub const ALL: [Self; 5] = [Self::Worker, Self::Open, Self::Requests, Self::Cpu, Self::Queue];

    /// The one so many columns further to the right, or to the left; behind the last comes the first.
    pub fn beside(self, columns: isize) -> Self {
        let place = Self::ALL.iter().position(|&sort| sort == self).unwrap_or(0) as isize;
        Self::ALL[(place + columns).rem_euclid(Self::ALL.len() as isize) as usize]
    }
}

impl Condition {
    /// In a word or two.
    pub fn text(self) -> String {
        match self {
            Self::Starting => "starting".into(),
            Self::Serving => "serving".into(),
            Self::Draining => "draining".into(),
            Self::Silent(time) if time.as_secs() < 1000 => format!("silent {} s", time.as_secs()),
            Self::Silent(_) => "silent".into(),
            Self::Stopped => "stopped".into(),
            Self::Gone => "gone".into(),
        }
    }
}

fn servers(reading: &Reading) -> Vec<String> {
    let mut facts = vec![format!("http://{}/", reading.address)];
    for server in &reading.servers {
        let gone = if server.is_there { "" } else { ", gone" };
        facts.push(match server.command.as_str() {
            "" => format!("pid {}{gone}", server.pid),
            command => format!("{command} (pid {}{gone})", server.pid),
        });
    }
    facts
}

fn plural(number: u64, what: &str) -> String {
    format!("{} {what}{}", count(number), if number == 1 { "" } else { "s" })
}

fn each_second(number: u64, passed: Duration) -> f64 {
    number as f64 / seconds(passed)
}

/// Never 0, by which a rate would be divided.
fn seconds(passed: Duration) -> f64 {
    passed.as_secs_f64().max(1e-3)
}

#[cfg(test)]
pub mod tests {
    use std::time::Instant;

    use super::*;
    use crate::watch::reading::Server;

    /// A reading of workers that have nothing in common but their server.
    pub fn reading(at: Instant, workers: Vec<Worker>) -> Reading {
        Reading {
            at,
            address: ([127, 0, 0, 1], 8080).into(),
            servers: vec![Server {
                pid: 100,
                command: "reuseport-server --workers 4".into(),
                is_there: true,
            }],
            connections: workers.iter().map(|worker| worker.accepted).sum(),
            requests: workers.iter().map(|worker| worker.requests).sum(),
            workers,
        }
    }

    /// A worker that serves.
    pub fn worker(index: usize, requests: u64) -> Worker {
        Worker {
            index,
            pid: Some(200 + index as u32),
            condition: Condition::Serving,
            socket: 300 + index as u64,
            queue: Some(Queue { waiting: index as u32, most: 1024 }),
            open: 10,
            accepted: 10,
            requests,
            ..Worker::default()
        }
    }

    /// What is seen of two readings, two seconds apart.
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
        let rates: Vec<Rates> = view.rows.iter().map(|row| row.rates.unwrap()).collect();
        assert_eq!((rates[0].requests, rates[0].cpu), (10.0, 0.0));
        assert_eq!((rates[1].requests, rates[1].cpu, rates[1].empty), (500.0, 50.0, 25.0));
        for fact in ["2 workers", "20 connections open", "510 requests/s", "CPU 50 %"] {
            assert!(has_fact(&view, fact), "{fact}: {view:?}");
        }
    }

    #[test]
    fn the_first_reading_has_no_rates() {
        let view = History::default().take(reading(Instant::now(), vec![worker(0, 100)]));
        assert_eq!(view.rows[0].rates, None);
        assert!(has_fact(&view, "– requests/s") && has_fact(&view, "CPU – %"), "{view:?}");
    }

    #[test]
    fn a_worker_that_took_anothers_slot_counts_from_nothing_and_as_replaced() {
        let new = Worker { pid: Some(999), ..worker(0, 40) };
        let view = view(vec![worker(0, 1_000_000), worker(1, 0)], vec![new, worker(1, 0)]);
        assert_eq!(view.rows[0].rates.unwrap().requests, 20.0);
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
    fn the_queue_of_a_shared_socket_is_counted_once() {
        let queue = Some(Queue { waiting: 3, most: 128 });
        let sharing = |index| Worker { socket: 7, queue, ..worker(index, 0) };
        let view = view(vec![], vec![sharing(0), sharing(1)]);
        assert!(view.is_shared);
        assert!(
            has_fact(&view, "3 of 128 waiting in the shared socket's accept queue"),
            "{view:?}"
        );
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

    #[test]
    fn rows_are_sorted_with_the_most_on_top_and_equals_by_number() {
        let with = |index, open, requests, cpu| Worker { open, cpu, ..worker(index, requests) };
        let start = vec![worker(0, 0), worker(1, 0), worker(2, 0), worker(3, 0)];
        let end =
            vec![with(0, 5, 9, 0.1), with(1, 7, 9, 0.3), with(2, 5, 20, 0.2), with(3, 1, 0, 0.0)];
        let mut view = view(start, end);
        for (by, expected) in [
            (Sort::Open, [1, 0, 2, 3]),
            (Sort::Requests, [2, 0, 1, 3]),
            (Sort::Cpu, [1, 2, 0, 3]),
            (Sort::Queue, [3, 2, 1, 0]),
            (Sort::Worker, [0, 1, 2, 3]),
        ] {
            view.sort(by);
            let order: Vec<usize> = view.rows.iter().map(|row| row.now.index).collect();
            assert_eq!(order, expected, "{by:?}");
        }
    }

    #[test]
    fn the_columns_to_sort_by_go_round() {
        assert_eq!(Sort::Worker.beside(1), Sort::Open);
        assert_eq!(Sort::Worker.beside(-1), Sort::Queue);
        assert_eq!(Sort::Queue.beside(1), Sort::Worker);
    }
}
