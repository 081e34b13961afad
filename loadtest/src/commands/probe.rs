//! `loadtest probe`: what is lost when a worker stalls, dies or is replaced?

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::atomic_file::AtomicFile;
use crate::cli;
use crate::environment::Environment;
use crate::load;
use crate::probe::arrivals::Arrivals;
use crate::probe::counters::Counters;
use crate::probe::drive::{self, Load, Until};
use crate::probe::fault_impact::fault_impact;
use crate::probe::fault_run::{FaultRun, run_with_faults};
use crate::probe::inject::Struck;
use crate::probe::record::{ProbeLoad, ProbeRecord, SCHEMA};
use crate::probe::target::{Target, resolve};
use crate::report::{self, progress, terminal};
use crate::server::{Server, Spec};
use crate::statistics::latency::{Latency, percentile_of};
use crate::warnings::Warning;

/// How long requests are sent if nothing is said.
const DURATION: Duration = Duration::from_secs(5);

/// Clients of a closed loop if nothing is said.
const CLIENTS: u64 = 32;

/// Requests under way in an open loop if nothing is said.
const UNDER_WAY: u64 = 10_000;

/// Files this program has open beside its connections.
const OTHER_FILES: u64 = 32;

/// Of the server's own warnings, so many are repeated: it has one for each worker that is killed.
const REPEATED: usize = 5;

/// Checks, runs, reports.
pub fn run(asked: &cli::Probe) -> Result<()> {
    let until = match asked.requests {
        Some(requests) => Until::Requests(requests),
        None => Until::Time(asked.duration.unwrap_or(DURATION)),
    };
    check_faults(asked, until)?;
    let server = asked.target.server.as_deref().map(Spec::parse).transpose()?;
    let connections = connections(asked, load::raise_open_files())?;
    let arrivals = Arrivals::Poisson { seed: 1 };
    let load =
        Load { connections, rate: asked.rate, arrivals, keep_alive: asked.keep_alive, until };
    let place =
        asked.output.json.as_deref().map(|path| AtomicFile::reserve("--json", path)).transpose()?;

    let environment = Environment::now(None)?;
    let (url, run) = match (&server, &asked.target.url) {
        (Some(server), _) => on_own_server(&load, server, asked)?,
        (None, Some(url)) => (url.clone(), elsewhere(&load, url, asked)?),
        (None, None) => bail!("name a server, `shared` or `reuseport`, or a --url"),
    };

    let Run { counters, faults, answered, .. } = &run;
    let seconds = counters.lasted.as_secs_f64();
    let mut record = ProbeRecord {
        schema: SCHEMA.into(),
        server: server.as_ref().map_or_else(|| url.clone(), |server| server.display_name()),
        arguments: cli::arguments(),
        environment,
        load: ProbeLoad {
            url,
            connections,
            rate: load.rate,
            keep_alive: load.keep_alive,
            seconds,
            timeout_ms: asked.timeout.as_millis() as u64,
        },
        attempted: counters.attempted,
        outcomes: counters.outcomes,
        not_sent: counters.not_sent,
        ok_per_second: if seconds > 0.0 { counters.outcomes.ok as f64 / seconds } else { 0.0 },
        answered_by_server: *answered,
        latency_us: Latency::of(&counters.latency),
        timeline: counters.timeline.buckets().to_vec(),
        faults: fault_impact(counters, faults),
        warnings: Vec::new(),
    };
    let found = warnings(counters, *answered, &load).into_iter().chain(run.warnings);
    record.warnings = found.map(|warning| warning.to_string()).collect();
    // Saved first: a terminal that is gone must not cost the result.
    if let Some(place) = place {
        place.save(&record)?;
    }
    terminal::print(&report::probe::probe(&record))?;
    terminal::warn(record.warnings);
    Ok(())
}

/// A fault that never comes would make a run that says nothing.
fn check_faults(asked: &cli::Probe, until: Until) -> Result<()> {
    let Until::Time(end) = until else { return Ok(()) };
    for fault in &asked.faults {
        ensure!(
            fault.last() < end,
            "--fault {fault} comes after the end of the run ({}); give it a longer --duration",
            humantime::format_duration(end)
        );
    }
    Ok(())
}

/// How many connections there may be at a time, if so many files may be open.
fn connections(asked: &cli::Probe, files: u64) -> Result<u64> {
    let most = files.saturating_sub(OTHER_FILES).max(1);
    let wanted = match (asked.connections, asked.rate) {
        (Some(wanted), _) => wanted,
        (None, Some(_)) => UNDER_WAY.min(most),
        (None, None) => CLIENTS,
    };
    ensure!(
        wanted <= most,
        "--connections {wanted} need {} open files, and {files} are allowed; choose up to {most}, \
         or raise the hard limit (`ulimit -Hn`)",
        wanted + OTHER_FILES
    );
    Ok(wanted)
}

/// What one run gave.
struct Run {
    counters: Counters,
    /// What was done to the server meanwhile.
    faults: Vec<Struck>,
    /// By the server's own count.
    answered: Option<u64>,
    /// Those that only the one who ran it could know.
    warnings: Vec<Warning>,
}

/// Starts a server, asks it while faults are done to it, stops it.
fn on_own_server(load: &Load, spec: &Spec, asked: &cli::Probe) -> Result<(String, Run)> {
    let name = spec.display_name();
    let program = name.as_str();
    let mut server = Server::start(spec, &asked.target.server_options)?;
    let address = server.address();
    let host = address.to_string();
    let target =
        Target::new(address, &host, &asked.target.url_path, load.keep_alive, asked.timeout);
    let before = server.requests();

    let bar = progress::probe(program, load.until);
    let fault_run =
        run_with_faults(&mut server, target, load, &asked.faults, |counters, elapsed| {
            show(&bar, load, counters, elapsed);
        })?;
    let FaultRun { counters, struck: faults, mut warnings } = fault_run;
    if cfg!(debug_assertions) {
        warnings.push(Warning::DebugBuild);
    }
    let how = server.end()?;
    let asked_to = faults.iter().any(|f| f.kind.ends_the_server() && f.pid.is_some());
    let stopped = |how| Warning::DidNotStop { program: program.into(), how };
    warnings.extend(how.filter(|_| !asked_to).map(stopped));
    let said = server.warnings();
    let more = said.len().saturating_sub(REPEATED);
    warnings.extend(said.into_iter().take(REPEATED));
    if more > 0 {
        warnings.push(Warning::ServerSaidMore { program: program.into(), lines: more });
    }
    let answered = server.requests().zip(before).map(|(now, then)| now.saturating_sub(then));
    Ok((server.url(&asked.target.url_path), Run { counters, faults, answered, warnings }))
}

/// Asks a server that somebody else started.
fn elsewhere(load: &Load, url: &str, asked: &cli::Probe) -> Result<Run> {
    let (address, host, path) = resolve(url)?;
    let target = Target::new(address, host, path, load.keep_alive, asked.timeout);
    let counters = ask(target, load, url)?;
    Ok(Run { counters, faults: Vec::new(), answered: None, warnings: Vec::new() })
}

/// Puts the load on the target, with a bar.
fn ask(target: Target, load: &Load, whom: &str) -> Result<Counters> {
    let bar = progress::probe(whom, load.until);
    drive::run(target, load, Instant::now(), |counters, elapsed| {
        show(&bar, load, counters, elapsed)
    })
}

fn show(bar: &progress::Bar, load: &Load, counters: &Counters, elapsed: Duration) {
    match load.until {
        Until::Time(_) => bar.show(elapsed),
        Until::Requests(_) => bar.show_requests(counters.attempted),
    }
}

/// The warnings that follow from figures.
fn warnings(counters: &Counters, answered: Option<u64>, load: &Load) -> Vec<Warning> {
    let mut found = Vec::new();
    if counters.interrupted {
        found.push(Warning::Interrupted { seconds: counters.lasted.as_secs_f64() });
    }
    if counters.cut_off > 0 {
        found.push(Warning::CutOff { count: counters.cut_off });
    }
    if counters.not_sent > 0 {
        found.push(Warning::NotSent { count: counters.not_sent, limit: load.connections });
    }
    if counters.client_was_late() {
        let p99_us = percentile_of(&counters.lateness, 99.0);
        found.push(Warning::ClientLate { p99_ms: p99_us as f64 / 1e3, slices: None });
    }
    if let Some(first) = counters.first_wrong.clone() {
        found.push(Warning::WrongAnswers { count: counters.outcomes.wrong_answer, first });
    }
    // The server counts an answer before it sends it, so it may have counted what was lost.
    let (ok, lost) = (counters.outcomes.ok, counters.outcomes.lost() + counters.cut_off);
    if let Some(served) = answered.filter(|served| !(ok..=ok + lost).contains(served)) {
        found.push(Warning::CountsDisagree { ok, lost, served });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::outcome::Outcome;

    fn asked(line: &str) -> cli::Probe {
        use clap::Parser;
        let words = ["loadtest", "probe", "shared"].into_iter().chain(line.split_whitespace());
        match cli::Cli::try_parse_from(words).unwrap().command {
            cli::Command::Probe(probe) => probe,
            _ => unreachable!(),
        }
    }

    #[test]
    fn a_fault_after_the_end_is_refused_and_so_is_the_last_of_several() {
        let until = Until::Time(Duration::from_secs(5));
        for (line, fits) in [
            ("--fault reload@4999ms", true),
            ("--fault reload@5s", false),
            ("--fault reload@1s*9/400ms", true),
            ("--fault reload@1s*11/400ms", false),
        ] {
            let checked = check_faults(&asked(line), until);
            assert_eq!(checked.is_ok(), fits, "{line}");
            if let Err(refusal) = checked {
                assert!(refusal.to_string().contains("after the end of the run (5s)"));
            }
        }
        assert!(check_faults(&asked("--fault reload@9s"), Until::Requests(5)).is_ok());
    }

    #[test]
    fn more_clients_than_files_are_refused_and_what_nobody_asked_for_is_made_to_fit() {
        assert_eq!(connections(&asked(""), 1024).unwrap(), 32);
        assert_eq!(connections(&asked("--rate 5"), 1024).unwrap(), 992);
        assert_eq!(connections(&asked("--rate 5"), 100_000).unwrap(), UNDER_WAY);
        assert_eq!(connections(&asked("--rate 5 --connections 7"), 1024).unwrap(), 7);
        let refusal = connections(&asked("--connections 1000"), 1024).unwrap_err().to_string();
        assert!(refusal.contains("1032 open files") && refusal.contains("up to 992"), "{refusal}");
    }

    #[test]
    fn the_servers_count_may_exceed_the_good_answers_by_those_that_were_lost() {
        let mut counters = Counters::new().unwrap();
        let load = Load {
            connections: 1,
            rate: None,
            arrivals: Arrivals::Even,
            keep_alive: false,
            until: Until::Requests(4),
        };
        for outcome in [Outcome::Ok, Outcome::Ok, Outcome::Ok, Outcome::Reset] {
            counters.count(outcome, Duration::ZERO, Duration::ZERO);
        }
        for (answered, agrees) in [(2, false), (3, true), (4, true), (5, false)] {
            let found = warnings(&counters, Some(answered), &load);
            let disagrees = |w: &Warning| matches!(w, Warning::CountsDisagree { .. });
            assert_eq!(!found.iter().any(disagrees), agrees, "{answered}");
        }
    }
}
