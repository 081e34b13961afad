//! `loadtest probe`: what is lost when a worker stalls, dies or is replaced?

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::atomic_file::AtomicFile;
use crate::cli;
use crate::environment::Environment;
use crate::load;
use crate::probe::arrivals::Arrivals;
use crate::probe::counters::Counters;
use crate::probe::drive::{self, Failed, Load, Until};
use crate::probe::fault_impact::fault_impact;
use crate::probe::fault_run::{FaultRun, run_with_faults};
use crate::probe::ideal::Service;
use crate::probe::record::{Ideal, OfIdeal, ProbeBody, ProbeLoad, ProbeRecord};
use crate::probe::target::Target;
use crate::report::{self, progress, terminal};
use crate::server::{Kind, Server, Spec};
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
    let spec = spec(asked)?;
    check_faults(asked, until)?;
    let connections = connections(asked, load::raise_open_files())?;
    let arrivals = match asked.arrivals {
        cli::Arrivals::Poisson => Arrivals::Poisson { seed: asked.random.seed },
        cli::Arrivals::Even => Arrivals::Even,
    };
    let load =
        Load { connections, rate: asked.rate, arrivals, keep_alive: asked.keep_alive, until };
    let place =
        asked.output.json.as_deref().map(|path| AtomicFile::reserve("--json", path)).transpose()?;

    let environment = Environment::now(None)?;
    let (body, warnings) = match &spec.kind {
        Kind::Running { url } => elsewhere(&spec, url, &load, asked)?,
        _ => started_here(&spec, &load, asked, environment.cores)?,
    };
    let mut record = ProbeRecord::new(cli::arguments(), environment, body);
    record.warnings = warnings.iter().map(Warning::to_string).collect();
    // Saved first: a terminal that is gone must not cost the result.
    if let Some(place) = place {
        place.save(&record)?;
    }
    terminal::print(&report::probe::probe(&record))?;
    terminal::warn(record.warnings);
    Ok(())
}

/// The server that is asked for, if what is to be done to it can be done.
fn spec(asked: &cli::Probe) -> Result<Spec> {
    let target = &asked.target;
    let text = target.server.as_ref().or(target.url.as_ref());
    let spec = Spec::parse(text.context("name a server, or a --url")?)?;
    ensure!(
        target.server_options.is_empty() || spec.strategy().is_some(),
        "options after -- are for shared and reuseport; write those of '{}' into its command",
        spec.text
    );
    ensure!(
        asked.faults.is_empty() || !matches!(spec.kind, Kind::Running { .. }),
        "--fault needs a server that is started here, and '{}' runs already; give its command: \
         \"cmd:PROGRAM --port {{port}}\"",
        spec.text
    );
    Ok(spec)
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

/// Starts a server, asks it while faults are done to it, stops it.
fn started_here(
    spec: &Spec,
    load: &Load,
    asked: &cli::Probe,
    cpus: usize,
) -> Result<(ProbeBody, Vec<Warning>)> {
    let (name, options) = (spec.display_name(), &asked.target.server_options);
    let path = &asked.target.url_path;
    let mut server = Server::start(spec, options)?;
    let url = server.url(path);
    let target = expecting(Target::of(&server, path, load.keep_alive, asked.timeout)?, asked);
    let service = Service::of(spec, options, path, server.worker_pids().len(), cpus);
    let before = server.requests();
    let mut body = body(spec, url, load, &target);

    let bar = progress::probe(&name, load.until);
    let run = run_with_faults(&mut server, target, load, &asked.faults, |counters, elapsed| {
        show(&bar, load, counters, elapsed);
    });
    let FaultRun { counters, struck, warnings: mut more } = run.or_else(|error| {
        let (counters, warning) = salvage(error)?;
        anyhow::Ok(FaultRun { counters, struck: Vec::new(), warnings: vec![warning] })
    })?;
    bar.finish();
    if cfg!(debug_assertions) && spec.strategy().is_some() {
        more.push(Warning::DebugBuild);
    }
    let how = server.end()?;
    let asked_to = struck.iter().any(|f| f.kind.ends_the_server() && f.pid.is_some());
    let stopped = |how| Warning::DidNotStop { program: name.clone(), how };
    more.extend(how.filter(|_| !asked_to).map(stopped));
    let said = server.warnings();
    let lines = said.len().saturating_sub(REPEATED);
    more.extend(said.into_iter().take(REPEATED));
    if lines > 0 {
        more.push(Warning::ServerSaidMore { program: name.clone(), lines });
    }
    let answered = server.requests().zip(before).map(|(now, then)| now.saturating_sub(then));
    body.faults = fault_impact(&counters, &struck);
    let mut warnings = fill(&mut body, &counters, answered, load, service)?;
    warnings.extend(more);
    Ok((body, warnings))
}

/// Asks a server that somebody else started.
fn elsewhere(
    spec: &Spec,
    url: &str,
    load: &Load,
    asked: &cli::Probe,
) -> Result<(ProbeBody, Vec<Warning>)> {
    let target = expecting(Target::at(url, load.keep_alive, asked.timeout)?, asked);
    let mut body = body(spec, url.into(), load, &target);
    let bar = progress::probe(url, load.until);
    let look = |counters: &Counters, elapsed| show(&bar, load, counters, elapsed);
    let (counters, failed) = match drive::run(target, load, Instant::now(), look) {
        Ok(counters) => (counters, None),
        Err(error) => salvage(error).map(|(counters, warning)| (counters, Some(warning)))?,
    };
    let mut warnings = fill(&mut body, &counters, None, load, None)?;
    warnings.extend(failed);
    Ok((body, warnings))
}

/// The target with the body that was asked for, if one was.
fn expecting(target: Target, asked: &cli::Probe) -> Target {
    let expect = asked.expect.as_ref().map(|text| text.clone().into_bytes());
    Target { expect: expect.or(target.expect), ..target }
}

/// What was counted until the prober failed, and why it did.
fn salvage(error: anyhow::Error) -> Result<(Counters, Warning)> {
    let failed: Failed = error.downcast()?;
    let seconds = failed.counters.lasted.as_secs_f64();
    let warning = Warning::ProberFailed { seconds, reason: failed.to_string() };
    Ok((*failed.counters, warning))
}

fn show(bar: &progress::Bar, load: &Load, counters: &Counters, elapsed: Duration) {
    match load.until {
        Until::Time(_) => bar.show(elapsed),
        Until::Requests(_) => bar.show_requests(counters.attempted),
    }
}

/// What is asked of whom; nothing was counted yet.
fn body(spec: &Spec, url: String, load: &Load, target: &Target) -> ProbeBody {
    let expect = target.expect.as_ref().map(|text| String::from_utf8_lossy(text).into_owned());
    let load = ProbeLoad {
        url,
        connections: load.connections,
        rate: load.rate,
        arrivals: load.rate.map(|_| load.arrivals.name().into()),
        keep_alive: load.keep_alive,
        seconds: 0.0,
        timeout_ms: target.timeout.as_millis() as u64,
        expect,
    };
    ProbeBody { server: spec.display_name(), load, ..ProbeBody::default() }
}

/// Writes down what was counted. Gives the warnings that follow from it.
fn fill(
    body: &mut ProbeBody,
    counters: &Counters,
    answered: Option<u64>,
    load: &Load,
    service: Option<Service>,
) -> Result<Vec<Warning>> {
    body.load.seconds = counters.lasted.as_secs_f64();
    body.attempted = counters.attempted;
    body.outcomes = counters.outcomes;
    body.not_sent = counters.not_sent;
    body.sent_per_second = counters.sent_per_second();
    body.ok_per_second = counters.ok_per_second();
    body.answered_by_server = answered;
    body.latency_us = Latency::of(&counters.latency);
    body.lateness_us = Latency::of(&counters.lateness);
    body.timeline = counters.timeline.buckets().to_vec();
    if let (Some(service), Some(latency)) = (service, &body.latency_us)
        && !counters.arrivals.is_empty()
    {
        let all = service.ideal(&counters.arrivals)?;
        let ideal = Ideal {
            service_us: service.time.as_micros() as u64,
            servers: service.servers,
            p50: percentile_of(&all, 50.0),
            p99: percentile_of(&all, 99.0),
        };
        let times = |latency: u64, ideal: u64| latency as f64 / ideal as f64;
        body.of_ideal = Some(OfIdeal {
            p50: times(latency.p50, ideal.p50),
            p99: times(latency.p99, ideal.p99),
        });
        body.ideal = Some(ideal);
    }
    Ok(warnings(counters, answered, load))
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
    if let Some(asked) = load.rate.filter(|_| counters.fell_behind) {
        found.push(Warning::RateNotReached { asked, sent: counters.sent_per_second() });
    } else if counters.not_sent > 0 {
        found.push(Warning::NotSent { count: counters.not_sent, limit: load.connections });
    }
    if counters.client_was_late() {
        let p99_ms = percentile_of(&counters.lateness, 99.0) as f64 / 1e3;
        found.push(Warning::ClientLate { p99_ms, slices: None });
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
