//! `loadtest probe`: what is lost when a worker stalls, dies or is replaced?

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::cli;
use crate::commands::{bench, conclude, record, reserve};
use crate::documents;
use crate::environment::Environment;
use crate::load;
use crate::probe::counters::Counters;
use crate::probe::fault_run::{FaultRun, run_with_faults, signals_for};
use crate::probe::ideal::Service;
use crate::probe::load::{Load, UNDER_WAY};
use crate::probe::record::ProbeBody;
use crate::probe::spread::Spread;
use crate::report::progress;
use crate::server::{Server, Spec};
use crate::statistics::latency::percentile_of;
use crate::warnings::Warning;

/// The default duration.
const DURATION: Duration = Duration::from_secs(5);

/// The default number of clients of a closed loop.
const CLIENTS: u64 = 32;

/// Files that this program has open besides its connections.
const OTHER_FILES: u64 = 32;

/// At most this many of the server's own warnings are repeated: it logs one for each worker that is killed.
const REPEATED: usize = 5;

/// Checks, runs, reports.
pub fn run(asked: &cli::Probe) -> Result<()> {
    let spec = bench::spec(&asked.target)?;
    check_faults(asked)?;
    let connections = connections(asked, load::raise_open_files())?;
    let json = asked.output.json.as_deref();
    reserve(json, &asked.output)?;

    let environment = Environment::now(None)?;
    let (body, warnings) = probe(&spec, connections, asked, environment.cores)?;
    let record = record(environment, body, &warnings);
    conclude(&record, json, &asked.output, documents::probe::document)
}

/// Refuses a fault that would come after the end of the run.
fn check_faults(asked: &cli::Probe) -> Result<()> {
    if asked.requests.is_some() {
        return Ok(());
    }
    let end = asked.duration.unwrap_or(DURATION);
    for fault in &asked.faults {
        ensure!(
            fault.last() < end,
            "--fault {fault} is due after the end of the run ({}); choose a longer --duration",
            humantime::format_duration(end)
        );
    }
    Ok(())
}

/// How many connections there may be at a time, with this limit of open files.
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

/// Starts a server, or finds a running one; sends requests and injects faults; stops the server.
fn probe(
    spec: &Spec,
    connections: u64,
    asked: &cli::Probe,
    cpus: usize,
) -> Result<(ProbeBody, Vec<Warning>)> {
    let name = spec.display_name();
    let path = &asked.target.url_path;
    let signals = signals_for(spec, &asked.signals, &asked.faults)?;
    let mut server = Server::start(spec, &[])?;
    server.check_reachable()?;
    server.signals = signals;
    let of_server = Load::of(&server, path);
    let load = Load {
        connections,
        rate: asked.rate,
        arrivals: asked.rate.map(|_| asked.arrivals),
        seed: asked.random.seed,
        keep_alive: asked.keep_alive,
        seconds: asked.duration.unwrap_or(DURATION).as_secs_f64(),
        lead_in: Duration::ZERO,
        requests: asked.requests,
        timeout_ms: asked.timeout.as_millis() as u64,
        mix: Vec::new(),
        expect: asked.expect.expect.clone().or(of_server.expect),
        url: of_server.url,
    };
    let service = Service::of(spec, &[], path, server.worker_pids().len(), cpus);
    let before = server.requests();
    let mut spread = Spread::of(server.pid().filter(|_| load.keep_alive));

    let bar = match load.requests {
        None => progress::asking(&name, Duration::from_secs_f64(load.seconds)),
        Some(number) => progress::requests(&name, number),
    };
    let run = run_with_faults(&mut server, &load, &asked.faults, |counters, elapsed| {
        if let Some(spread) = &mut spread {
            spread.look(elapsed);
        }
        match load.requests {
            None => bar.show(elapsed),
            Some(_) => bar.show_requests(counters.attempted),
        }
    });
    let FaultRun { counters, faults, ended_the_server, warnings } = run?;
    bar.finish();
    let end = server.end()?.filter(|_| !ended_the_server);
    let how = server.stop()?;
    let answered = server.requests().zip(before).map(|(now, then)| now.saturating_sub(then));

    let mut found = figures(&counters, answered, &load);
    found.extend(warnings);
    if spec.is_debug_build() {
        found.push(Warning::DebugBuild);
    }
    let stopped = |how| Warning::DidNotStop { program: server.name().into(), how };
    found.extend(how.filter(|_| !ended_the_server && end.is_none()).map(stopped));
    found.extend(end.map(|how| Warning::ServerEnded { how }));
    let said = server.warnings();
    let lines = said.len().saturating_sub(REPEATED);
    found.extend(said.into_iter().take(REPEATED));
    if lines > 0 {
        found.push(Warning::ServerSaidMore { program: server.name().into(), lines });
    }
    let body = ProbeBody {
        answered_by_server: answered,
        faults,
        held: spread.map(Spread::into_held).unwrap_or_default(),
        ..ProbeBody::of(name, load, &counters, service)
    };
    Ok((body, found))
}

/// The warnings that follow from figures.
fn figures(counters: &Counters, answered: Option<u64>, load: &Load) -> Vec<Warning> {
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
    // The server counts an answer before it sends it, so it may have counted lost answers.
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
        for (line, fits) in [
            ("--fault reload@4999ms", true),
            ("--fault reload@5s", false),
            ("--fault reload@1s*9/400ms", true),
            ("--fault reload@1s*11/400ms", false),
        ] {
            let checked = check_faults(&asked(line));
            assert_eq!(checked.is_ok(), fits, "{line}");
            if let Err(refusal) = checked {
                assert!(refusal.to_string().contains("after the end of the run (5s)"));
            }
        }
        assert!(check_faults(&asked("--fault reload@9s --requests 5")).is_ok());
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
        let mut counters = Counters::new();
        let load = Load::default();
        for outcome in [Outcome::Ok, Outcome::Ok, Outcome::Ok, Outcome::Reset] {
            counters.count(outcome, Duration::ZERO, Duration::ZERO);
        }
        for (answered, agrees) in [(2, false), (3, true), (4, true), (5, false)] {
            let found = figures(&counters, Some(answered), &load);
            let disagrees = |w: &Warning| matches!(w, Warning::CountsDisagree { .. });
            assert_eq!(!found.iter().any(disagrees), agrees, "{answered}");
        }
    }
}
