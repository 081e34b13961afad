//! Requests that reloads lose with `tcp_migrate_req` off and on, the subject of granian#897. The load is
//! the same as that on the lab's own servers.

use anyhow::{Context, Result, ensure};

use crate::kernel::migrate_req::Namespace;
use crate::probe::fault::parsed;
use crate::probe::fault_run::run_with_faults;
use crate::probe::load::Load;
use crate::servers::record::Form;
use crate::servers::replacing::time_between_reloads;
use crate::servers::subject::Subject;

/// Its name, during the measurement and among what was skipped.
pub const WHAT: &str = "granian's reloads, with tcp_migrate_req off and on";

/// Clients in a closed loop, with a new connection for each request, as in the lab.
const CLIENTS: u64 = 32;

/// The time of the first reload, in milliseconds.
const BEGIN_MS: u64 = 500;

/// Requests lost for each reload, with the sysctl off and on, for each start of the server.
///
/// # Errors
/// When a network namespace is impossible, or the server has no reload, or a reload ends it.
pub fn measure(subject: &Subject, form: Form) -> Result<[Vec<f64>; 2]> {
    let (namespaces, only_one) = Namespace::both();
    ensure!(only_one.is_none(), "{}", only_one.unwrap_or_default());
    let every = time_between_reloads(subject)?.context("it has no reload")?;
    let mut lost = [Vec::new(), Vec::new()];
    // In turns, so that a change of the machine's speed affects both.
    for _ in 0..form.choose(4, 2, 1) {
        for namespace in &namespaces {
            let found = namespace.within(|| reload(subject, form.choose(3, 2, 1), every))?;
            lost[usize::from(namespace.migrates)].push(found);
        }
    }
    Ok(lost)
}

/// Requests lost for each reload, in this number of reloads, one every so many milliseconds.
fn reload(subject: &Subject, times: u64, every: u64) -> Result<f64> {
    let mut server = subject.start()?;
    let load = Load {
        connections: CLIENTS,
        seconds: (BEGIN_MS + times * every) as f64 / 1e3,
        ..Load::of(&server, "/")
    };
    let faults = parsed(&[format!("reload@{BEGIN_MS}ms*{times}/{every}ms")])?;
    let found = run_with_faults(&mut server, &load, &faults, |_, _| {})?;
    ensure!(found.faults.len() as u64 == times, "not all reloads were done");
    ensure!(!server.has_ended(), "it ended with a reload");
    server.stop()?;
    Ok(found.counters.unbroken()?.outcomes.lost() as f64 / times as f64)
}
