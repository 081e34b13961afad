//! Blocking handlers: how long requests wait, at 75 % of what the workers can serve.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::probe::arrivals::Arrivals;
use crate::probe::ideal::Service;
use crate::probe::load::Load;
use crate::probe::record::ProbeBody;
use crate::probe::run::run;
use crate::servers::catalogue::WORKERS;
use crate::servers::record::{Blocking, Form};
use crate::servers::subject::Subject;

/// How long a handler blocks.
const BLOCKED: Duration = Duration::from_millis(20);

/// The rate, as a part of what all workers can serve.
const PART: f64 = 0.75;

/// Loads a server that runs our code, with `at_once` handlers for each worker.
pub fn measure(subject: &Subject, at_once: usize, form: Form, seed: u64) -> Result<Blocking> {
    let mut server = subject.start()?;
    let servers = WORKERS * at_once;
    let rate = (servers as f64 * PART / BLOCKED.as_secs_f64()) as u64;
    let path = subject.path_that_blocks(BLOCKED.as_micros() as u64);
    let load = Load {
        seed,
        seconds: form.choose(12.0, 6.0, 1.0),
        timeout_ms: 5000,
        ..Load::of(&server, &path).at_rate(rate, Arrivals::Poisson)
    };
    let counters = run(server.address(), &load, Instant::now(), |_, _| {})?.unbroken()?;
    server.stop()?;
    let service = Service { servers, time: BLOCKED };
    let found = ProbeBody::of(subject.name.clone(), load, &counters, Some(service));
    let latency = found.latency_us.context("no request had a good answer")?;
    let of_ideal = found.of_ideal.context("no request was sent")?.p99;
    ensure!(of_ideal.is_finite(), "no ideal to compare with");
    let lost = found.outcomes.lost();
    Ok(Blocking { rate, at_once: servers, p99_us: latency.p99, of_ideal, lost })
}
