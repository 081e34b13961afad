//! The readings as text for Prometheus, over plain HTTP. The counters of a place go on when another worker takes it,
//! and when no worker does: they never run backwards.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;

use crate::watch::reading::{Condition, Reading, Worker};

/// The media type of the format.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A counter of each worker: name, help, whether it needs a scoreboard, value.
type Counter = (&'static str, &'static str, bool, fn(&Worker) -> f64);

static COUNTERS: [Counter; 7] = [
    ("connections_accepted", "Connections accepted.", false, |it| it.accepted as f64),
    ("cpu_seconds", "CPU time used.", false, |it| it.cpu),
    ("requests", "Requests answered.", true, |it| it.requests as f64),
    ("wakeups_without_connection", "Wake-ups that found no connection.", true, |it| {
        it.empty as f64
    }),
    ("stood_back", "Times that a worker stood back for another.", true, |it| it.gated as f64),
    ("connections_steered", "Connections assigned by a policy.", true, |it| it.steered as f64),
    ("connections_migrated", "Connections that came from a dead worker.", true, |it| {
        it.migrated as f64
    }),
];

/// One value of each counter.
type Counts = [f64; COUNTERS.len()];

/// Serves the latest reading.
#[derive(Debug)]
pub struct Exporter {
    text: Arc<Mutex<String>>,
    /// Its address.
    pub address: SocketAddr,
    places: BTreeMap<usize, Place>,
    replaced: u64,
}

/// The counters of one place.
#[derive(Clone, Debug, Default)]
struct Place {
    pid: u32,
    ended: Counts,
    present: Counts,
}

impl Place {
    fn total(&self, counter: usize) -> f64 {
        self.ended[counter] + self.present[counter]
    }
}

impl Exporter {
    /// Begins to serve.
    /// Fails when the address cannot be used.
    pub fn start(address: SocketAddr) -> Result<Self> {
        let remedy = || {
            format!(
                "cannot serve readings on {address}: choose another --prometheus, such as 127.0.0.1:0 \
                 for any free port"
            )
        };
        let listener = TcpListener::bind(address).with_context(remedy)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let text = Arc::new(Mutex::new(String::new()));
        let served = text.clone();
        let answer = move || {
            let text = served.lock().unwrap_or_else(PoisonError::into_inner).clone();
            async move { ([(CONTENT_TYPE, FORMAT)], text) }
        };
        let router = Router::new().route("/metrics", get(answer));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(async { tokio::net::TcpListener::from_std(listener) })?;
        std::thread::spawn(move || runtime.block_on(async { axum::serve(listener, router).await }));
        Ok(Self { text, address, places: BTreeMap::new(), replaced: 0 })
    }

    /// Takes a reading, which it serves from now on.
    pub fn take(&mut self, reading: &Reading) {
        for worker in &reading.workers {
            self.count(worker);
        }
        *self.text.lock().unwrap_or_else(PoisonError::into_inner) = self.render(reading);
    }

    fn count(&mut self, worker: &Worker) {
        let Some(pid) = worker.pid else { return };
        let place = self.places.entry(worker.index).or_default();
        if place.pid != pid {
            self.replaced += u64::from(place.pid != 0);
            let present = std::mem::take(&mut place.present);
            place.ended.iter_mut().zip(present).for_each(|(ended, present)| *ended += present);
            place.pid = pid;
        }
        // Some counters of a worker that has just ended cannot be read any more.
        for (count, (.., read)) in place.present.iter_mut().zip(&COUNTERS) {
            *count = read(worker).max(*count);
        }
    }

    fn render(&self, reading: &Reading) -> String {
        let mut text = Text::default();
        for (index, (name, help, needs_scoreboard, _)) in COUNTERS.iter().enumerate() {
            if !needs_scoreboard || reading.requests.is_some() {
                let values = self.places.iter();
                let values = values.map(|(place, it)| (label("worker", place), it.total(index)));
                text.add(&format!("{name}_total"), help, values);
            }
        }
        let of_workers = |value: fn(&Worker) -> f64| {
            let workers = reading.workers.iter();
            workers.map(move |worker| (label("worker", &worker.index), value(worker)))
        };
        text.add("connections_open", "Connections open.", of_workers(|it| it.open as f64));
        let is_stopped = |it: &Worker| f64::from(u8::from(it.condition == Condition::Stopped));
        text.add(
            "worker_stopped",
            "1 if the worker is stopped (SIGSTOP, a debugger).",
            of_workers(is_stopped),
        );
        let workers = reading.workers.iter().filter(|it| it.condition != Condition::Acceptor);
        text.add("workers", "Workers.", whole(workers.count() as u64));
        text.add("workers_replaced_total", "Workers replaced by another.", whole(self.replaced));
        add_queues(&mut text, reading);
        add_diagnosis(&mut text, reading);
        text.0
    }
}

/// Accept queues, one for each worker or one that they share.
fn add_queues(text: &mut Text, reading: &Reading) {
    let sockets: BTreeSet<u64> = reading.workers.iter().map(|worker| worker.socket).collect();
    let is_shared = sockets.len() == 1 && reading.workers.len() > 1;
    let with =
        reading.workers.iter().filter_map(|worker| Some((worker.index, worker.queue.as_ref()?)));
    let queues: Vec<_> = with.take(if is_shared { 1 } else { usize::MAX }).collect();
    let name = |index: usize| if is_shared { "shared".to_owned() } else { index.to_string() };
    let waiting =
        queues.iter().map(|(it, queue)| (label("queue", &name(*it)), queue.queued.into()));
    text.add("accept_queue_connections", "Connections that wait to be accepted.", waiting);
    let most = queues.iter().map(|(it, queue)| (label("queue", &name(*it)), queue.backlog.into()));
    text.add("accept_queue_max_connections", "Connections that may wait.", most);
}

fn add_diagnosis(text: &mut Text, reading: &Reading) {
    let Some(diagnosis) = &reading.diagnosis else { return };
    let help = "Times an accept queue of the network namespace was full.";
    text.add("accept_queue_overflows_total", help, whole(diagnosis.overflows));
    let mut findings: BTreeMap<String, f64> = BTreeMap::new();
    for found in &diagnosis.findings {
        let labels = format!("{{id=\"{}\",severity=\"{}\"}}", found.id, found.severity);
        *findings.entry(labels).or_default() += 1.0;
    }
    text.add("findings", "Findings of loadtest diagnose.", findings);
}

fn whole(number: u64) -> [(String, f64); 1] {
    [(String::new(), number as f64)]
}

fn label(name: &str, value: &impl std::fmt::Display) -> String {
    format!("{{{name}=\"{value}\"}}")
}

/// The served text.
#[derive(Default)]
struct Text(String);

impl Text {
    /// Adds one metric with its values and their labels; a name that ends in `_total` is a counter.
    fn add(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (String, f64)>) {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        let _ = writeln!(self.0, "# HELP loadtest_{name} {help}\n# TYPE loadtest_{name} {kind}");
        for (labels, value) in values {
            let _ = writeln!(self.0, "loadtest_{name}{labels} {value}"); // to a String: never fails
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::watch::view::tests::{reading, worker};

    #[test]
    fn counters_go_on_when_a_worker_is_replaced_and_when_its_place_is_empty() {
        let mut exporter = Exporter::start(([127, 0, 0, 1], 0).into()).unwrap();
        let mut text = |workers: Vec<Worker>| {
            exporter.take(&reading(Instant::now(), workers));
            exporter.text.lock().unwrap().clone()
        };
        let line = |place: u32, count: u64| {
            format!("\nloadtest_requests_total{{worker=\"{place}\"}} {count}\n")
        };
        let first = text(vec![worker(0, 100), worker(1, 7)]);
        assert!(first.contains(&line(0, 100)) && first.contains(&line(1, 7)), "{first}");
        assert!(first.contains("\n# TYPE loadtest_requests_total counter\n"), "{first}");
        let gone = text(vec![worker(1, 8)]);
        assert!(gone.contains(&line(0, 100)) && gone.contains(&line(1, 8)), "{gone}");
        let new = text(vec![Worker { pid: Some(999), ..worker(0, 5) }, worker(1, 8)]);
        assert!(new.contains(&line(0, 105)) && new.contains("replaced_total 1\n"), "{new}");
        let dying = text(vec![Worker { pid: Some(999), ..worker(0, 0) }, worker(1, 8)]);
        assert!(dying.contains(&line(0, 105)), "{dying}");
    }
}
