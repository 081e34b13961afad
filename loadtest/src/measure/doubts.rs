//! Warnings that follow from the figures of `bench` and of a comparison.

use crate::load::Load;
use crate::measure::bench::{BenchBody, acceptors};
use crate::measure::bottleneck::ALL;
use crate::measure::comparison::{Comparison, Summary, Who};
use crate::measure::cross_check::littles_law;
use crate::types::Errors;
use crate::warnings::Warning;

/// The part of the CPU that this program may use during the slices.
const MOST_FOR_ITSELF: f64 = 0.02;

/// Warnings before the first slice. `ours`: a server was built with this program.
pub fn of_load(load: &Load, is_for_wrk: bool, files: u64, ours: bool) -> Vec<Warning> {
    let mut found = Vec::new();
    if cfg!(debug_assertions) && ours {
        found.push(Warning::DebugBuild);
    }
    let (asked, opened, threads) = (load.connections, load.connections_opened, load.threads);
    if opened != asked && is_for_wrk {
        found.push(Warning::ConnectionsNotOpened { asked, opened, threads });
    }
    let needs = [("wrk", load.files_of_wrk()), ("each worker", load.files_of_a_worker())];
    let too_many = needs.into_iter().filter(|&(_, needs)| needs > files);
    found.extend(too_many.map(|(who, needs)| Warning::TooFewFiles { who, needs, limit: files }));
    found
}

fn of_errors(errors: Errors, load: &Load) -> Vec<Warning> {
    let mut found = Vec::new();
    if errors.timeout > 0 {
        let (count, limit_seconds) = (errors.timeout, load.timeout_seconds());
        found.push(Warning::Timeouts { count, limit_seconds });
    }
    if errors.total() > 0 {
        found.push(Warning::Errors(errors));
    }
    found
}

/// Requests under way on average, in slices that took so many seconds together. Their mean rate counts, not the median:
/// the mean latency is of all requests, too.
fn under_way(summary: &Summary, seconds: f64) -> f64 {
    summary.requests as f64 / seconds * summary.latency_us.mean / 1e6
}

/// Warnings about one run of wrk, which used this CPU time.
pub fn of_bench(bench: &BenchBody, wrk_cpu_seconds: f64, cores: usize) -> Vec<Warning> {
    let BenchBody { load, workers, seconds, result, .. } = bench;
    let mut found = of_errors(result.errors, load);
    let (threads, keep_alive) = (load.threads, load.keep_alive);
    let idle = workers.iter().filter(|worker| worker.requests == Some(0)).count();
    if idle > 0 {
        found.push(Warning::IdleWorkers { idle, workers: workers.len(), keep_alive });
    }
    let used_cores = wrk_cpu_seconds / seconds;
    let most = (cores as f64).min(threads as f64);
    // If the server's part is not known, wrk may have what it can use.
    if result.limit.map_or(used_cores >= ALL * most, |limit| limit.who == Who::Wrk) {
        // CPU time is read a moment before and after the load, so it can exceed the available time.
        let had_cores = most.max(used_cores);
        found.push(Warning::ClientIsBottleneck { used_cores, had_cores });
    }
    if workers.is_empty() {
        found.push(Warning::NoWorkers);
    } else if threads as usize + workers.len() > cores {
        let acceptors = acceptors(workers);
        let workers = workers.len() - acceptors;
        found.push(Warning::SharedCores { cores, threads, workers, accepts: acceptors > 0 });
    }
    found.extend(littles_law(
        "wrk",
        under_way(result, *seconds),
        load.connections_opened,
        keep_alive,
    ));
    found
}

/// Warnings about a comparison.
pub fn of_comparison(comparison: &Comparison) -> Vec<Warning> {
    let mut found = Vec::new();
    let (mut errors, mut own, mut all) = (Errors::default(), 0.0, 0.0);
    for subject in &comparison.subjects {
        let Some(summary) = &subject.summary else { continue };
        errors += summary.errors;
        own += subject.slices.iter().map(|slice| slice.own_cpu_seconds).sum::<f64>();
        let seconds: f64 = subject.slices.iter().map(|slice| slice.seconds).sum();
        all += seconds;
        let (in_flight, connections) =
            (under_way(summary, seconds), comparison.plan.load.connections_opened);
        found.extend(littles_law(&subject.name, in_flight, connections, subject.keep_alive));
    }
    found.extend(of_errors(errors, &comparison.plan.load));
    let share = own / all / comparison.environment.cores as f64;
    if share > MOST_FOR_ITSELF {
        found.push(Warning::BusyHarness { share });
    }
    let at_rates = || comparison.fixed_rates.iter().flat_map(|at| &at.results);
    for at in &comparison.fixed_rates {
        for result in at.results.iter().filter(|result| result.not_sent > 0) {
            let (rate, not_sent, server) = (at.rate, result.not_sent, result.subject.clone());
            found.push(Warning::RateNotKept { rate, not_sent, server });
        }
    }
    let late: usize = at_rates().map(|result| result.late_slices).sum();
    if late > 0 {
        let slices = at_rates().flat_map(|result| &result.slices);
        let worst = slices.clone().map(|slice| slice.lateness_p99_us).max().unwrap_or(0);
        let slices = Some([late, slices.count()]);
        found.push(Warning::ClientLate { p99_ms: worst as f64 / 1e3, slices });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::tests::load;
    use crate::measure::fixture::{slice, worker};

    /// The warnings of a run with these answers of two workers, and these cores used by wrk.
    fn found(load: &Load, wrk_cores: f64, timeout: u64, last: u64, cores: usize) -> Vec<Warning> {
        let mut slice = slice(0, 1000, &[1, 1]);
        slice.wrk_cpu_seconds = wrk_cores * slice.seconds;
        slice.errors.timeout = timeout;
        let workers = vec![worker(0, 10), worker(1, last)];
        let (name, url, wrk_cpu) = (String::new(), String::new(), slice.wrk_cpu_seconds);
        let mut bench = BenchBody::of(name, url, load.clone(), slice, workers, cores).unwrap();
        bench.result.latency_us.mean = load.connections_opened as f64 * 1e3;
        of_bench(&bench, wrk_cpu, cores)
    }

    #[test]
    fn a_quiet_run_with_cores_to_spare_warns_of_nothing() {
        assert_eq!(of_load(&load(4, 100, 10), true, 1024, false), []);
        assert_eq!(found(&load(4, 100, 10), 0.1, 0, 10, 64), []);
    }

    #[test]
    fn every_doubtful_circumstance_is_found() {
        let load = load(12, 100, 10);
        let all = [of_load(&load, true, 64, true), found(&load, 1.7, 2, 0, 2)].concat();
        let has = |wanted: fn(&Warning) -> bool| all.iter().any(wanted);
        assert!(has(|w| matches!(w, Warning::ConnectionsNotOpened { opened: 96, .. })));
        assert!(has(|w| matches!(w, Warning::TooFewFiles { who: "wrk", needs: 124, .. })));
        assert!(has(|w| matches!(w, Warning::Errors(_))));
        assert!(has(|w| matches!(w, Warning::Timeouts { count: 2, .. })));
        assert!(has(|w| matches!(w, Warning::IdleWorkers { idle: 1, workers: 2, .. })));
        assert!(has(|w| matches!(w, Warning::SharedCores { cores: 2, .. })));
    }

    #[test]
    fn a_client_without_a_core_left_is_a_bottleneck_unless_the_server_uses_the_same_cores() {
        for (threads, wrk_cores, cores, is_one) in [(1, 0.97, 16, true), (12, 1.7, 2, false)] {
            let found = found(&load(threads, 96, 10), wrk_cores, 0, 10, cores);
            let is_there = found.iter().any(|w| matches!(w, Warning::ClientIsBottleneck { .. }));
            assert_eq!(is_there, is_one, "{found:?}");
        }
    }

    #[test]
    fn a_client_that_waits_for_a_slow_server_is_no_bottleneck() {
        let found = found(&load(2, 10, 10), 0.2, 0, 10, 4);
        assert!(!found.iter().any(|w| matches!(w, Warning::ClientIsBottleneck { .. })));
    }
}
