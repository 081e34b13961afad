//! The impact of each fault.

use crate::probe::counters::Counters;
use crate::probe::fault::FaultRecord;
use crate::server::signals::Action;

/// Adds to each fault the requests lost after it and the time until the server was back.
pub fn measure_impact(counters: &Counters, faults: &mut [FaultRecord]) {
    let Counters { timeline, losses, lasted, .. } = counters;
    let mut stopped = 0_usize;
    let (mut begin, mut full_rate) = (Default::default(), None);
    for place in 0..faults.len() {
        let (later, at) = (&faults[place + 1..], faults[place].at());
        let next = later.first().map(FaultRecord::at);
        // Repeated faults may be less than 100 ms apart.
        let other = later.iter().find(|later| later.asked != faults[place].asked);
        let until = other.map_or(*lasted, |other| other.at().min(*lasted));
        let fault = &mut faults[place];
        fault.rate_before = timeline.rate(begin, at);
        fault.rate_after = timeline.rate(at, next.map_or(*lasted, |next| next.min(*lasted)));
        // While a worker is stopped, or no worker serves, the rate before is not the normal rate. Between faults
        // in quick succession there is no time to measure a rate.
        if stopped == 0 && fault.rate_before.is_some_and(|rate| rate > 0.0) {
            full_rate = fault.rate_before;
        }
        stopped = match (fault.what, fault.pid) {
            (Action::StopWorker, Some(_)) => stopped + 1,
            (Action::KillWorker, Some(_)) => stopped.saturating_sub(1),
            (Action::ContinueWorker, _) => 0,
            _ => stopped,
        };
        let back = full_rate.and_then(|rate| timeline.back_to(rate, at, until));
        fault.full_strength_after_ms = back.map(|time| time.as_millis() as u64);
        let known_before = |time| losses.partition_point(|&known| known < time);
        let lost = &losses[known_before(at)..next.map_or(losses.len(), known_before)];
        let within = lost.last().map(|last| last.saturating_sub(at));
        fault.lost = lost.len() as u64;
        fault.lost_within_ms = within.map(|time| time.as_millis() as u64);
        begin = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::outcome::Outcome;
    use std::time::Duration;

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    fn struck(at_ms: u64, what: Action, asked: &str) -> FaultRecord {
        FaultRecord { at_ms, what, asked: asked.into(), pid: Some(7), ..FaultRecord::default() }
    }

    fn impact<const N: usize>(
        counters: &Counters,
        mut faults: [FaultRecord; N],
    ) -> [FaultRecord; N] {
        measure_impact(counters, &mut faults);
        faults
    }

    /// Counters with these answers in each 100 ms.
    fn counters(counts: &[u64]) -> Counters {
        let mut counters = Counters::new();
        for (place, count) in counts.iter().enumerate() {
            let at = ms(place as u64 * 100);
            (0..*count).for_each(|_| counters.count(Outcome::Ok, at, at + ms(1)));
        }
        counters.lasted = ms(counts.len() as u64 * 100);
        counters.timeline.reach(counters.lasted);
        counters
    }

    #[test]
    fn a_worker_that_stops_and_dies_is_measured_by_the_rate_before_it_stopped() {
        let mut counters = counters(&[100, 100, 5, 5, 5, 60, 95, 100]);
        (0..32).for_each(|_| counters.count(Outcome::Reset, ms(300), ms(403)));
        let faults = [
            struck(200, Action::StopWorker, "stop-worker@200ms"),
            struck(400, Action::KillWorker, "kill-worker@400ms"),
        ];
        let [stop, kill] = impact(&counters, faults);
        assert_eq!((stop.rate_before, stop.rate_after), (Some(1000.0), Some(50.0)));
        assert_eq!((stop.lost, stop.lost_within_ms, stop.full_strength_after_ms), (0, None, None));
        assert_eq!((kill.rate_before, kill.rate_after), (Some(50.0), Some(650.0)));
        assert_eq!((kill.lost, kill.lost_within_ms), (32, Some(3)));
        assert_eq!(kill.full_strength_after_ms, Some(200));
    }

    #[test]
    fn what_is_lost_counts_for_the_last_fault_before_it() {
        let mut counters = counters(&[1, 1, 1, 1]);
        for known in [50, 101, 103, 250] {
            counters.count(Outcome::Reset, ms(0), ms(known));
        }
        let faults = [struck(100, Action::KillWorker, "a"), struck(200, Action::Reload, "b")];
        let lost = impact(&counters, faults).map(|fault| (fault.lost, fault.lost_within_ms));
        assert_eq!(lost, [(2, Some(3)), (1, Some(50))]);
    }

    #[test]
    fn being_back_may_take_longer_than_until_the_fault_is_repeated_and_an_outage_is_no_measure() {
        let faults =
            [100, 200].map(|at| struck(at, Action::KillWorker, "kill-worker@100ms*2/100ms"));
        let found = impact(&counters(&[100, 0, 0, 100]), faults);
        assert_eq!(found.map(|fault| fault.full_strength_after_ms), [Some(200), Some(100)]);
    }

    #[test]
    fn faults_at_the_same_time_have_no_rate_between_them() {
        let faults = [100, 100].map(|at| struck(at, Action::Reload, "reload@100ms*2/0s"));
        let [first, second] = impact(&counters(&[5]), faults);
        assert_eq!((first.rate_after, second.rate_before, second.rate_after), (None, None, None));
    }
}
