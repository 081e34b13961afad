//! One worker is stopped, then some are killed, while new connections are opened at a fixed rate.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::probe::arrivals::Arrivals;
use crate::probe::fault::{FaultRecord, parsed};
use crate::probe::fault_run::run_with_faults;
use crate::probe::load::Load;
use crate::probe::outcome::Outcomes;
use crate::server::Server;
use crate::servers::record::{Faults, Form};
use crate::servers::subject::{Subject, meet};

/// Requests per second, each on a new connection: far below what any server can serve.
const RATE: u64 = 200;

/// How long an answer may take.
const TIMEOUT_MS: u64 = 1000;

/// How long a server may take to replace workers.
const REPLACED_WITHIN: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Clients in a closed loop while a worker hangs: this is the most that can be lost with the worker.
const HUNG_CLIENTS: u64 = 32;

/// Workers that are killed, one after the other.
const KILLS: u64 = 3;

/// Measures the faults. The kills have a separate run: the backlog that a worker answers when it goes on
/// again would count for the rate before the kills.
pub fn measure(subject: &Subject, form: Form) -> Result<Faults> {
    let mut server = subject.start()?;
    // In milliseconds: the time until a worker is stopped, how long it is stopped, and the time from one
    // kill to the next. The first kill comes after the first of these times.
    let [before, stopped, every] =
        form.choose([1500, 3000, 1500], [1000, 2000, 1000], [300, 500, 300]);
    let go_on = before + stopped;
    let stop = [format!("stop-worker@{before}ms"), format!("continue-worker@{go_on}ms")];
    let done = strike(&mut server, &stop, go_on + before)?;
    let stop = done.first().filter(|fault| fault.pid.is_some());
    let stop = stop.context("no worker was found to be stopped")?;
    let rates = stop.rate_after.zip(stop.rate_before).filter(|(_, before)| *before > 0.0);

    let workers = server.worker_pids().len();
    let kills = [format!("kill-worker@{before}ms*{KILLS}/{every}ms")];
    let kills = strike(&mut server, &kills, before + every * KILLS)?;
    let struck = || kills.iter().filter(|fault| fault.pid.is_some());
    let back: Option<Vec<u64>> = struck().map(|fault| fault.full_strength_after_ms).collect();
    let mut found = Faults {
        lost_with_hung: None,
        served_while_stopped: rates.map(|(after, before)| after / before),
        kills: struck().count() as u64,
        lost: kills.iter().map(|fault| fault.lost).sum(),
        back_after_ms: back.and_then(|all| all.into_iter().max()),
        workers: [workers, workers_after(&mut server, workers)],
    };
    server.stop()?;

    // A server that has ended with a worker must be started again.
    let mut server = subject.start()?;
    let load = Load { connections: HUNG_CLIENTS, seconds: 2.0, ..Load::of(&server, "/") };
    let hung = parsed(&["stop-worker@500ms", "kill-worker@1500ms"].map(str::to_owned))?;
    let hung = run_with_faults(&mut server, &load, &hung, |_, _| {})?;
    let is_done = hung.faults.last().is_some_and(|fault| fault.pid.is_some());
    // A server that ends with its worker then refuses every connection: these do not count.
    found.lost_with_hung = is_done.then(|| lost_accepted(&hung.counters.outcomes));
    server.stop()?;
    Ok(found)
}

/// Sends requests on new connections, with faults.
fn strike(server: &mut Server, faults: &[String], milliseconds: u64) -> Result<Vec<FaultRecord>> {
    let load = Load { timeout_ms: TIMEOUT_MS, ..steady(server, "/", RATE, milliseconds) };
    Ok(run_with_faults(server, &load, &parsed(faults)?, |_, _| {})?.faults)
}

/// A load of `rate` requests/s, each on a new connection, at even intervals.
pub fn steady(server: &Server, path: &str, rate: u64, milliseconds: u64) -> Load {
    let seconds = milliseconds as f64 / 1e3;
    Load { seconds, ..Load::of(server, path).at_rate(rate, Arrivals::Even) }
}

/// Requests that were lost after the kernel had accepted their connection.
pub fn lost_accepted(outcomes: &Outcomes) -> u64 {
    outcomes.lost() - outcomes.refused - outcomes.timed_out_connecting
}

/// The number of workers when as many as before are back, or when time is over.
fn workers_after(server: &mut Server, before: usize) -> usize {
    let begin = Instant::now();
    loop {
        drop(meet(server));
        let now = if server.has_ended() { 0 } else { server.worker_pids().len() };
        if now >= before || now == 0 || begin.elapsed() >= REPLACED_WITHIN {
            return now;
        }
        sleep(LOOK_EVERY);
    }
}
