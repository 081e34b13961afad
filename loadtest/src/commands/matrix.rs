//! `loadtest matrix`: every policy in every workload, and whether the load-aware ones are good in all.
//!
//! Each workload is a comparison of all policies, slice by slice (see [`compare`]); in the last one a
//! worker is stopped and then killed, which the prober does.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::atomic_file::AtomicFile;
use crate::cli;
use crate::commands::compare::{self, Measured};
use crate::documents;
use crate::environment::Environment;
use crate::interrupt;
use crate::lab::context::{self, Policy};
use crate::load;
use crate::load::wrk::Wrk;
use crate::matrix::expectations;
use crate::matrix::record::{Column, Figure, Kind, Matrix, MatrixBody};
use crate::matrix::workloads::{CELLS, Cell, MIX, POLICIES, STOPPED};
use crate::measure::comparison::{Comparison, Slice};
use crate::probe::arrivals::Arrivals;
use crate::probe::counters::Counters;
use crate::probe::drive::{self, Until};
use crate::probe::target::Target;
use crate::report::output::publish_to;
use crate::report::progress;
use crate::server::{Server, Spec};
use crate::statistics::estimate::Estimate;
use crate::statistics::{geometric_mean, median};

/// The clients that ask while a worker is stopped: each waits for its answer, on a connection for each
/// request.
const CLIENTS: u64 = 32;

/// When a worker is stopped, killed, and the asking ends.
const STOP_AT: Duration = Duration::from_millis(1500);
const KILL_AT: Duration = Duration::from_millis(3500);
const END_AT: Duration = Duration::from_millis(4500);

/// How long it takes until those who will be stuck are: each client is, with its next request.
const SETTLED: Duration = Duration::from_millis(300);

/// A client gives up after this, longer than a worker is stopped: nobody comes back unanswered.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);

/// Checks, runs, reports.
pub fn run(asked: &cli::Matrix) -> Result<()> {
    let wanted = wanted(&asked.only)?;
    let json =
        asked.output.json.clone().map_or_else(|| compare::default_place("matrix.json"), Ok)?;
    let folder = json.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).to_owned();
    AtomicFile::reserve("--json", &json)?;
    if let Some(path) = &asked.output.html {
        AtomicFile::reserve("--html", path)?;
    }
    let wrk = Wrk::find()?;
    load::raise_open_files();
    let (policies, missing) = context::available(&POLICIES)?;
    ensure!(policies.len() > 1, "fewer than two policies can be run here: {:?}", missing);

    let body = MatrixBody {
        quick: false,
        policies: policies.iter().map(|(name, _)| (*name).into()).collect(),
        missing,
        columns: Vec::new(),
        expectations: Vec::new(),
    };
    let environment = Environment::now(Some(wrk.version()))?;
    let mut matrix = Matrix::new(cli::arguments(), environment, body);
    let mut ended = Ok(());
    for cell in wanted {
        if interrupt::count() > 0 || ended.is_err() {
            break;
        }
        ended = column(&policies, &cell, asked, &folder).map(|(column, mut warnings)| {
            warnings.retain(|warning| !matrix.warnings.contains(warning));
            matrix.warnings.append(&mut warnings);
            matrix.columns.push(column);
        });
        finish(&mut matrix, &json)?;
    }
    let stopped = asked.only.is_empty() || asked.only.iter().any(|name| name == STOPPED);
    if interrupt::count() == 0 && ended.is_ok() && stopped {
        ended = stop_workers(&policies, asked.stops).map(|column| matrix.columns.extend(column));
        finish(&mut matrix, &json)?;
    }
    ensure!(!matrix.columns.is_empty(), "nothing was measured{}", reason(&ended));
    publish_to(&documents::matrix::document(&matrix), asked.output.with(Some(&json)))?;
    ended
}

fn reason(ended: &Result<()>) -> String {
    ended.as_ref().map_or_else(|error| format!(": {error:#}"), |()| String::new())
}

fn finish(matrix: &mut Matrix, json: &Path) -> Result<()> {
    matrix.expectations = expectations::judge(matrix);
    AtomicFile::reserve("--json", json)?.save(matrix)
}

/// The workloads that were asked for; all, if none were.
fn wanted(only: &[String]) -> Result<Vec<Cell>> {
    for name in only {
        let known = || CELLS.iter().map(|cell| cell.name).chain([STOPPED]);
        ensure!(
            known().any(|cell| cell == name),
            "--only '{name}' is no workload; they are '{}'",
            known().collect::<Vec<_>>().join("', '")
        );
    }
    let is_wanted = |cell: &&Cell| only.is_empty() || only.iter().any(|name| name == cell.name);
    Ok(CELLS.iter().filter(is_wanted).copied().collect())
}

/// One workload: compares all policies.
fn column(
    policies: &[Policy],
    cell: &Cell,
    asked: &cli::Matrix,
    folder: &Path,
) -> Result<(Column, Vec<String>)> {
    let file = format!("matrix-{}.json", cell.name.replace(", ", "-").replace(' ', "-"));
    let json = folder.join(&file);
    let mix = mix_file()?;
    let servers = policies.iter().map(|(name, server)| {
        let (program, options) = server.split_once(' ').unwrap_or((server, ""));
        format!("{name}={program} --lab --workers {} {options}", cell.workers)
    });
    let comparing = cli::Compare {
        servers: servers.collect(),
        rounds: asked.rounds,
        load: cli::LoadArgs {
            threads: cell.threads,
            connections: cell.connections,
            close: !cell.keep_alive,
        },
        mix: cell.mixed.then(|| mix.path().to_owned()),
        random: cli::SeedArg { seed: asked.random.seed },
        one_at_a_time: cell.one_at_a_time(),
        fixed_rate: Duration::ZERO,
        resume: asked.resume && json.is_file(),
        output: cli::OutputArgs { json: Some(json), html: None, markdown: false },
        ..cli::Compare::defaults()
    };
    let Measured { comparison, ended, .. } =
        compare::measure(&comparing).with_context(|| format!("workload '{}'", cell.name))?;
    ended?;
    let cells = figures(policies, &comparison);
    let column = Column {
        name: cell.name.into(),
        words: cell.words(),
        kind: Kind::Throughput,
        judged: cell.judged,
        slices: file,
        cells,
    };
    Ok((column, comparison.warnings.clone()))
}

fn mix_file() -> Result<tempfile::NamedTempFile> {
    let file = tempfile::NamedTempFile::new().context("cannot write the mix of paths")?;
    std::fs::write(file.path(), MIX).context("cannot write the mix of paths")?;
    Ok(file)
}

/// Every policy's figure in a comparison that was made of them, in the same order.
fn figures(policies: &[Policy], comparison: &Comparison) -> Vec<Figure> {
    let rates = |place: usize| -> Vec<f64> {
        comparison.subjects[place].slices.iter().map(|s| s.requests_per_second).collect()
    };
    let medians: Vec<f64> =
        (0..policies.len()).map(|place| median(&rates(place)).unwrap_or(0.0)).collect();
    let best = (0..policies.len()).max_by(|&a, &b| medians[a].total_cmp(&medians[b])).unwrap_or(0);
    let seed = comparison.plan.seed;
    (0..policies.len())
        .map(|place| {
            let slices = &comparison.subjects[place].slices;
            let summary = comparison.subjects[place].summary.as_ref();
            let ratios: Vec<f64> =
                rates(place).iter().zip(rates(best)).map(|(own, best)| own / best).collect();
            let uneven: Vec<f64> = slices.iter().filter_map(max_over_mean).collect();
            Figure {
                policy: policies[place].0.into(),
                requests_per_second: Estimate::median(&rates(place), seed),
                of_best: Estimate::of(&ratios, geometric_mean, seed),
                cpu_us_per_request: summary.and_then(|summary| summary.cpu_us_per_request),
                switches_per_request: summary.and_then(|summary| summary.switches_per_request),
                connections_max_over_mean: median(&uneven),
                connections_max_less_min: slices.iter().map(max_less_min).max(),
                ..Figure::default()
            }
        })
        .collect()
}

fn connections(slice: &Slice) -> impl Iterator<Item = u64> {
    slice.workers.iter().filter_map(|worker| worker.connections)
}

fn max_over_mean(slice: &Slice) -> Option<f64> {
    let sum: u64 = connections(slice).sum();
    let most = connections(slice).max().filter(|&most| most > 0)?;
    Some(most as f64 * slice.workers.len() as f64 / sum as f64)
}

fn max_less_min(slice: &Slice) -> u64 {
    connections(slice).max().unwrap_or(0) - connections(slice).min().unwrap_or(0)
}

/// The last workload: a worker of each server is stopped, later killed.
fn stop_workers(policies: &[Policy], stops: u32) -> Result<Option<Column>> {
    let bar = progress::slices(END_AT * stops * policies.len() as u32);
    let mut done = Duration::ZERO;
    let mut found: Vec<Vec<Stopped>> = vec![Vec::new(); policies.len()];
    for _ in 0..stops {
        for (place, (name, server)) in policies.iter().enumerate() {
            bar.name(format!("{STOPPED}: {name}"));
            let stopped = stop_one(server, &mut |elapsed| bar.show(done + elapsed))
                .with_context(|| format!("'{name}' with a worker stopped"))?;
            let Some(stopped) = stopped else { return Ok(None) };
            found[place].push(stopped);
            done += END_AT;
        }
    }
    let middle = |place: usize, of: fn(&Stopped) -> f64| {
        median(&found[place].iter().map(of).collect::<Vec<_>>()).unwrap_or(0.0)
    };
    // What is served is compared as in every other workload, round by round, with the best of all.
    let served: Vec<f64> = (0..policies.len()).map(|place| middle(place, |s| s.during)).collect();
    let best = (0..policies.len()).max_by(|&a, &b| served[a].total_cmp(&served[b])).unwrap_or(0);
    let of_best = |place: usize| {
        let rounds = found[place].iter().zip(&found[best]);
        median(&rounds.map(|(own, best)| own.during / best.during).collect::<Vec<_>>())
    };
    let cells = (0..policies.len()).map(|place| Figure {
        policy: policies[place].0.into(),
        requests_per_second: Some(Estimate::exact(served[place])),
        of_best: of_best(place).map(Estimate::exact),
        while_stopped: Some(middle(place, |stopped| stopped.during / stopped.before)),
        lost_when_killed: Some(
            found[place].iter().map(|s| s.lost as f64).sum::<f64>() / f64::from(stops),
        ),
        ..Figure::default()
    });
    Ok(Some(Column {
        name: STOPPED.into(),
        words: format!(
            "4 workers, {CLIENTS} clients, a new connection for each request; what is served while a \
             worker is stopped, and lost when it is then killed; {stops} times each"
        ),
        kind: Kind::Stopped,
        judged: true,
        slices: String::new(),
        cells: cells.collect(),
    }))
}

#[derive(Clone, Copy)]
struct Stopped {
    /// Requests/s before, and while the worker was stopped.
    before: f64,
    during: f64,
    lost: u64,
}

/// Stops the worker that has answered most, and kills it later. `None` after Ctrl-C.
fn stop_one(server: &str, show: &mut dyn FnMut(Duration)) -> Result<Option<Stopped>> {
    let mut server = Server::start(&Spec::parse(server)?, &[])?;
    let address = server.address();
    let target = Target::new(address, &address.to_string(), "/", false, ANSWER_WITHIN);
    let load = drive::Load {
        connections: CLIENTS,
        rate: None,
        arrivals: Arrivals::Even,
        keep_alive: false,
        until: Until::Time(END_AT),
    };
    let mut victim = None;
    let mut killed = false;
    let counters: Counters = drive::run(target, &load, Instant::now(), |_, elapsed| {
        show(elapsed);
        if victim.is_none() && elapsed >= STOP_AT {
            victim = server.busiest().first().copied();
            signal(victim, Signal::SIGSTOP);
        }
        if !killed && elapsed >= KILL_AT {
            killed = true;
            signal(victim, Signal::SIGKILL);
        }
    })?;
    if interrupt::count() > 0 {
        return Ok(None);
    }
    let rate = |from, to| counters.timeline.rate(from, to).context("nothing was answered");
    let stopped = Stopped {
        before: rate(SETTLED, STOP_AT)?,
        during: rate(STOP_AT + SETTLED, KILL_AT)?,
        lost: counters.attempted - counters.outcomes.ok,
    };
    server.stop()?;
    Ok(Some(stopped))
}

fn signal(worker: Option<u32>, signal: Signal) {
    if let Some(pid) = worker {
        let _ = kill(Pid::from_raw(pid as i32), signal); // gone already: nothing to do to it
    }
}
