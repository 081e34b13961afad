//! What a comparison's figures give reason to doubt.

use crate::measure::comparison::Comparison;
use crate::measure::cross_check::littles_law;
use crate::types::Errors;
use crate::warnings::Warning;

/// The part of the CPU that this program may use during the slices.
const MOST_FOR_ITSELF: f64 = 0.02;

/// The warnings that follow from figures.
pub fn doubts(comparison: &Comparison) -> Vec<Warning> {
    let mut found = Vec::new();
    let (mut errors, mut own, mut all) = (Errors::default(), 0.0, 0.0);
    for subject in &comparison.subjects {
        let Some(summary) = &subject.summary else { continue };
        errors += summary.errors.clone();
        own += subject.slices.iter().map(|slice| slice.own_cpu_seconds).sum::<f64>();
        all += subject.slices.iter().map(|slice| slice.seconds).sum::<f64>();
        found.extend(littles_law(
            &subject.name,
            summary.requests_per_second.value,
            summary.latency_us.mean,
            comparison.plan.connections_opened,
            subject.keep_alive,
        ));
    }
    if errors.timeout > 0 {
        let limit_seconds = comparison.plan.slice_seconds + 1;
        found.push(Warning::Timeouts { count: errors.timeout, limit_seconds });
    }
    if errors.total() > 0 {
        found.push(Warning::Errors(errors));
    }
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
