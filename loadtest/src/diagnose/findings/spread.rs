//! The spread of connections over workers, and whether chance explains it.

use super::{Finding, Id, Severity};
use crate::diagnose::busy::{LEAST_PART, LEAST_SHARE};
use crate::diagnose::model::{Readings, Worker};
use crate::report::format::probability;
use crate::statistics::significance::{Evenness, evenness};

/// Chance alone gives a finding less often than once in a thousand observations.
const UNLIKELY: f64 = 0.001;

/// A worker with this part of all connections has nearly all.
const NEARLY_ALL: f64 = 0.95;

/// The least number of connections for a finding.
const ENOUGH: u64 = 20;

/// A worker that gets everything and uses less than this part of a core has time for it.
const BUSY: f64 = 0.5;

/// The chi-square test of what those of these workers accepted whose [count](Worker::is_counted) is exact; `None` with
/// fewer than 5 for each, which the test needs.
pub fn chance_of(workers: &[&Worker]) -> Option<Evenness> {
    let counted = workers.iter().filter(|worker| worker.is_counted);
    let accepted: Vec<u64> = counted.map(|worker| worker.accepted).collect();
    let all: u64 = accepted.iter().sum();
    let is_enough = all >= ENOUGH && all >= 5 * accepted.len() as u64;
    is_enough.then(|| evenness([&accepted[..]])).flatten()
}

/// One worker gets everything, or chance does not explain the spread: of the connections accepted during the
/// observation or, if these are too few, of the open ones.
pub fn uneven(readings: &Readings) -> Vec<Finding> {
    let competing_groups = readings.competing_groups();
    competing_groups
        .iter()
        .filter_map(|workers| of_new(readings, workers).or_else(|| of_kept(workers)))
        .collect()
}

/// The finding about connections accepted during the observation.
fn of_new(readings: &Readings, workers: &[&Worker]) -> Option<Finding> {
    let counts: Vec<u64> = workers.iter().map(|worker| worker.accepted).collect();
    let (all, most) = (counts.iter().sum::<u64>(), busiest(workers, |worker| worker.accepted)?);
    // A worker that has nearly all is uneven in any case, also where the test is not valid.
    let takes_all = most.accepted as f64 >= NEARLY_ALL * all as f64
        && !workers.iter().any(|worker| may_accept_unseen(worker, most));
    let chance = if takes_all { evenness([&counts[..]]) } else { chance_of(workers) };
    let chance = chance.filter(|found| all >= ENOUGH && found.as_uneven < UNLIKELY)?;
    let own = readings.has_own_sockets();
    let busy = most.cpu >= BUSY || most.held >= ENOUGH;
    let severity = if own || busy { Severity::Warning } else { Severity::Info };
    let evidence = format!(
        "{all} connections were accepted in {:.1} s: {} (chi-square = {:.1}, df = {}, {})",
        readings.seconds,
        listed(workers, |worker| worker.accepted),
        chance.chi_square,
        chance.degrees,
        probability(chance.as_uneven)
    );
    let evidence = match busy || own {
        true => evidence,
        false => format!(
            "{evidence}; this costs nothing while process {} has CPU time to spare",
            most.pid
        ),
    };
    Some(match takes_all {
        true => Finding::new(Id::OneTakesAll, severity, evidence, remedy(readings)).of(most.pid),
        false => Finding::new(Id::Uneven, severity, evidence, remedy(readings)),
    })
}

/// Whether a worker may have accepted what no look could see, as it uses CPU time and is not counted.
fn may_accept_unseen(worker: &Worker, most: &Worker) -> bool {
    let works = worker.cpu >= LEAST_PART && worker.cpu >= LEAST_SHARE * most.cpu;
    !worker.is_counted && worker.pid != most.pid && works
}

fn remedy(readings: &Readings) -> &'static str {
    match readings.has_own_sockets() {
        true => {
            "the kernel's hash does not explain this: look for a BPF program that is attached to \
             the group, for sockets that no process accepts from, and for clients that reuse one \
             source address and port"
        }
        false => {
            "on a shared socket the worker that is awake gets the connection: give each worker its \
             own socket (SO_REUSEPORT), or have the worker with most connections pause accepting"
        }
    }
}

/// The finding about open connections. Their history cannot be seen, so it only says which worker has how many.
fn of_kept(workers: &[&Worker]) -> Option<Finding> {
    let counts: Vec<u64> = workers.iter().map(|worker| worker.held).collect();
    let (all, most) = (counts.iter().sum::<u64>(), busiest(workers, |worker| worker.held)?);
    let chance =
        evenness([&counts[..]]).filter(|_| all >= ENOUGH && all >= 5 * counts.len() as u64)?;
    if chance.as_uneven >= UNLIKELY {
        return None;
    }
    let evidence = format!(
        "{all} connections are open: {}. How they came to be spread like this was not observed",
        listed(workers, |worker| worker.held)
    );
    let remedy = "kept connections stay where they were accepted: limit how long one is kept, or \
                  how many requests it may bring, so that clients reconnect";
    Some(match most.held as f64 >= NEARLY_ALL * all as f64 {
        true => Finding::warning(Id::OneTakesAll, evidence, remedy).of(most.pid),
        false => Finding::new(Id::Uneven, Severity::Info, evidence, remedy),
    })
}

fn busiest<'a>(workers: &[&'a Worker], count: fn(&Worker) -> u64) -> Option<&'a Worker> {
    workers.iter().copied().max_by_key(|worker| count(worker))
}

/// The count of each worker, the greatest first; of many workers the ends of the list.
fn listed(workers: &[&Worker], count: fn(&Worker) -> u64) -> String {
    const SHOWN: usize = 8;
    let mut counts: Vec<(u64, u32)> = workers.iter().map(|it| (count(it), it.pid)).collect();
    counts.sort_by_key(|&(count, pid)| (std::cmp::Reverse(count), pid));
    let name = |&(count, pid): &(u64, u32)| format!("{count} by {pid}");
    let shown = counts.iter().take(SHOWN).map(name).collect::<Vec<_>>().join(", ");
    match counts.get(SHOWN..).filter(|rest| !rest.is_empty()) {
        Some(rest) => {
            let sum: u64 = rest.iter().map(|(count, _)| count).sum();
            format!("{shown}, {sum} by {} others", rest.len())
        }
        None => shown,
    }
}
