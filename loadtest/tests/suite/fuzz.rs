//! Mutated requests: no worker dies or hangs, and none of them takes broken framing for a request.
//!
//! Each case has a seed of its own, which a failure names: `FUZZ_SEED=that FUZZ_REQUESTS=1` repeats
//! it. What is certainly broken is decided here by a small parser that shares nothing with the
//! server's. It is strict where RFC 9112 leaves no choice, and makes no claim where it leaves one.

mod mutation;
mod parser;

use std::fs::File;
use std::io::{ErrorKind, Read, Seek};
use std::net::Shutdown;
use std::process::Command;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::support::{RawClient, SERVERS, Server, ask, program, wait_for};
use mutation::case;
use parser::{Claim, claims};

/// Threads that ask at the same time.
const ASKING: u64 = 4;

/// Sends a case and collects the statuses of the answers.
fn send(bytes: &[u8], server: &Server, random: &mut Rng) -> Result<Vec<u16>, String> {
    let mut client = RawClient::connect(server.address());
    let mut rest = bytes;
    while !rest.is_empty() {
        let whole = random.u8(..4) != 0;
        let (now, later) =
            rest.split_at(if whole { rest.len() } else { random.usize(..rest.len()) });
        if client.send(now).is_err() {
            break; // it has refused already; what it said is still to be read
        }
        rest = later;
    }
    let _ = client.stream().shutdown(Shutdown::Write);
    let mut statuses = Vec::new();
    loop {
        match client.answer() {
            Ok(Some(answer)) if answer.status == 100 => {}
            Ok(Some(answer)) => statuses.push(answer.status),
            Ok(None) => return Ok(statuses),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(statuses),
            Err(error) => return Err(format!("{statuses:?}, then {error}")),
        }
    }
}

/// What is wrong about these answers, if anything.
fn judge(bytes: &[u8], statuses: &[u16]) -> Result<(), String> {
    if let Some(status) = statuses.iter().find(|&&status| status >= 500 && status != 501) {
        return Err(format!("{status}, which says that the server is at fault"));
    }
    let (claims, doubt) = claims(bytes);
    if !doubt && statuses.len() > claims.len() {
        return Err(format!("{statuses:?}, more answers than requests: {claims:?}"));
    }
    match claims.last() {
        Some(Claim::Broken(how)) => match statuses.get(claims.len() - 1) {
            Some(status @ 200..300) => Err(format!("{status} for {how}")),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[test]
fn mutated_requests_kill_and_hang_nobody_and_broken_framing_is_never_answered_with_success() {
    let first = setting("FUZZ_SEED", 1);
    let count = setting("FUZZ_REQUESTS", 4000);
    // Then it stops, having done what it could.
    let until = Instant::now() + Duration::from_secs(20) + Duration::from_millis(5) * count as u32;
    let started = SERVERS.map(|name| {
        let said = tempfile::tempfile().unwrap();
        let mut command = Command::new(program(name));
        command.args(["--port", "0", "--workers", "2"]).stderr(said.try_clone().unwrap());
        (Server::from(command), said)
    });
    let servers = started.each_ref().map(|(server, _)| server);
    let workers = servers.map(Server::workers);

    let (next, successes, refusals) = (AtomicU64::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..ASKING {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Relaxed);
                    if index >= count || Instant::now() > until {
                        break;
                    }
                    let seed = first.wrapping_add(index);
                    let mut random = Rng::with_seed(seed);
                    let bytes = case(&mut random);
                    for (server, name) in servers.iter().zip(SERVERS) {
                        let sent = send(&bytes, server, &mut random);
                        let judged = sent.and_then(|statuses| {
                            let success = statuses.iter().filter(|&&s| s < 300).count();
                            successes.fetch_add(success, Relaxed);
                            refusals.fetch_add(statuses.len() - success, Relaxed);
                            judge(&bytes, &statuses)
                        });
                        if let Err(how) = judged {
                            panic!("FUZZ_SEED={seed}, {name}: {how}\n{}", bytes.escape_ascii());
                        }
                    }
                }
            });
        }
    });

    for ((mut server, mut said), workers) in started.into_iter().zip(workers) {
        assert_eq!(server.workers(), workers, "a worker died");
        let open = |slot: &common::scoreboard::Slot| slot.connections_open.load(Relaxed);
        for (_, slot) in server.scoreboard.workers() {
            wait_for("the last connection's end", || (open(slot) == 0).then_some(()));
            let is_awake = || (slot.silence()? < Duration::from_secs(1)).then_some(());
            wait_for("a turn of its event loop", is_awake);
        }
        for _ in 0..20 {
            let start = Instant::now();
            assert!(ask(server.address(), "GET /").ends_with("hello"));
            assert!(start.elapsed() < Duration::from_secs(10));
        }
        assert!(server.child.try_wait().unwrap().is_none());
        server.stop();
        assert_eq!(contents(&mut said), "", "it complained");
    }
    // Both happened, or this test would show nothing.
    let (successes, refusals) = (successes.into_inner(), refusals.into_inner());
    assert!(count < 1000 || (successes > 100 && refusals > 100), "{successes}, {refusals}");
}

fn contents(file: &mut File) -> String {
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}
