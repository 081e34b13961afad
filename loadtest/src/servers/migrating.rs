//! Requests that reloads lose with `tcp_migrate_req` off and on: what granian#897 is about. The lab's own
//! servers are asked in the same way.

use anyhow::{Result, ensure};

use crate::kernel::migrate_req::Namespace;
use crate::probe::fault_run::run_with_faults;
use crate::probe::load::Load;
use crate::servers::faults::parsed;
use crate::servers::record::Form;
use crate::servers::subject::Subject;

/// What it is called while it is measured, and among what was not.
pub const WHAT: &str = "granian's reloads, with tcp_migrate_req off and on";

/// Clients that ask without a pause, each with a connection for each request, as in the lab.
const CLIENTS: u64 = 32;

/// How long an answer may take, and when the first reload comes; in milliseconds.
const TIMEOUT_MS: u64 = 2000;
const BEGIN_MS: u64 = 500;

/// Requests lost for each reload, with the sysctl off and on, by each server that was started for it.
///
/// # Errors
/// When there can be no network namespace, or the server has no reload, or ends with one.
pub fn measure(subject: &Subject, form: Form) -> Result<[Vec<f64>; 2]> {
    let (namespaces, only_one) = Namespace::both();
    ensure!(only_one.is_none(), "{}", only_one.unwrap_or_default());
    let mut lost = [Vec::new(), Vec::new()];
    // In turns, so that a change of the machine's speed is in both.
    for _ in 0..form.choose(4, 2, 1) {
        for namespace in &namespaces {
            let found = namespace.within(|| reload(subject, form.choose(3, 2, 1)))?;
            lost[usize::from(namespace.migrates)].push(found);
        }
    }
    Ok(lost)
}

/// Requests lost for each of so many reloads.
fn reload(subject: &Subject, times: u64) -> Result<f64> {
    let mut server = subject.start()?;
    let every = subject.reload_every_ms;
    let load = Load {
        connections: CLIENTS,
        seconds: (BEGIN_MS + times * every) as f64 / 1e3,
        timeout_ms: TIMEOUT_MS,
        ..Load::of(&server, "/")
    };
    let faults = parsed(&[format!("reload@{BEGIN_MS}ms*{times}/{every}ms")])?;
    let found = run_with_faults(&mut server, &load, &faults, |_, _| {})?;
    ensure!(found.faults.len() as u64 == times, "not all reloads were done");
    ensure!(!server.has_ended(), "it ended with a reload");
    server.stop()?;
    Ok(found.counters.unbroken()?.outcomes.lost() as f64 / times as f64)
}
