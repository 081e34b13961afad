//! The prober's counters.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use hdrhistogram::Histogram;

use crate::probe::outcome::{Outcome, Outcomes};
use crate::probe::timeline::Timeline;
use crate::statistics::latency::{self, percentile_of};

/// 1 ms, in microseconds: a client whose lateness at p99 is greater measures itself.
const MOST_LATE_US: u64 = 1000;

/// A client has fallen behind if its last request is late by more than this part of the time.
const BEHIND: f64 = 0.05;

/// Any request may be late by this much.
const JITTER: Duration = Duration::from_millis(5);

/// All counts of one run. Times are from the start of the load.
#[derive(Debug)]
pub struct Counters {
    /// Requests that were begun.
    pub attempted: u64,
    /// How they ended.
    pub outcomes: Outcomes,
    /// When clients of a closed loop stop asking, if they do. What they still wait for is answered later.
    pub end: Option<Duration>,
    /// Requests that are due before this are not in latencies and lateness.
    pub lead_in: Duration,
    /// Good answers by then.
    pub ok_by_end: u64,
    /// Requests of an open loop that were due and not sent, because too many were under way or, see
    /// [`fell_behind`](Self::fell_behind), time was over.
    pub not_sent: u64,
    /// Whether the client could not send as fast as required.
    pub fell_behind: bool,
    /// Requests that Ctrl-C interrupted; they have no outcome, and do not count as attempted.
    pub cut_off: u64,
    /// Latencies of good answers, in microseconds from when the requests were due.
    pub latency: Histogram<u64>,
    /// How late each request of an open loop was sent, in microseconds from when it was due.
    pub lateness: Histogram<u64>,
    /// When each request that was sent in an open loop was due.
    pub arrivals: Vec<Duration>,
    /// Served and lost per 100 ms.
    pub timeline: Timeline,
    /// When each lost request was known to be lost, in the order of time.
    pub losses: Vec<Duration>,
    /// What was wrong with the first wrong answer.
    pub first_wrong: Option<String>,
    /// How long requests were sent.
    pub lasted: Duration,
    /// Whether a number of requests ends the run: it then lasts until the last good answer.
    pub ends_by_number: bool,
    /// The time of the last good answer.
    pub last_ok: Duration,
    /// Whether Ctrl-C ended the run.
    pub interrupted: bool,
    /// Why the prober itself failed, if it did; the counts until then are valid.
    pub failure: Option<String>,
}

impl Counters {
    /// Empty counters.
    pub fn new() -> Self {
        Self {
            attempted: 0,
            outcomes: Outcomes::default(),
            end: None,
            lead_in: Duration::ZERO,
            ok_by_end: 0,
            not_sent: 0,
            fell_behind: false,
            cut_off: 0,
            latency: latency::empty(),
            lateness: latency::empty(),
            arrivals: Vec::new(),
            timeline: Timeline::default(),
            losses: Vec::new(),
            first_wrong: None,
            lasted: Duration::ZERO,
            ends_by_number: false,
            last_ok: Duration::ZERO,
            interrupted: false,
            failure: None,
        }
    }

    /// Counts a request of an open loop that is sent `now`, and was `due` earlier.
    pub fn sent(&mut self, due: Duration, now: Duration) {
        if due >= self.lead_in {
            latency::record(&mut self.lateness, now.saturating_sub(due));
        }
        self.arrivals.push(due);
    }

    /// Ends the sending of an open loop, whose last request was due and sent at these times.
    pub fn all_sent(&mut self, due: Duration, now: Duration) {
        self.fell_behind |= now > due.mul_f64(1.0 + BEHIND) + JITTER;
        self.lasted = self.lasted.max(now);
    }

    /// The counters, unless the prober failed.
    pub fn unbroken(self) -> Result<Self> {
        match self.failure {
            Some(reason) => bail!(reason),
            None => Ok(self),
        }
    }

    /// Requests sent per second; 0 if there was no time.
    pub fn sent_per_second(&self) -> f64 {
        per_second(self.attempted, self.lasted)
    }

    /// How long requests were sent or, if their number ends the run, answered.
    pub fn took(&self) -> Duration {
        if self.ends_by_number { self.lasted.max(self.last_ok) } else { self.lasted }
    }

    /// Good answers per second of that time. Those that a closed loop's clients got after its end do not count: with
    /// many clients and a slow server they are more than those within it.
    pub fn ok_per_second(&self) -> f64 {
        let ok = if self.end.is_some() { self.ok_by_end } else { self.outcomes.ok };
        per_second(ok, self.took())
    }

    /// Whether the client itself was late: then its latencies say little about the server.
    pub fn client_was_late(&self) -> bool {
        percentile_of(&self.lateness, 99.0) > MOST_LATE_US
    }

    /// Counts the outcome of a request, with the time at which it was due and the time of its outcome.
    pub fn count(&mut self, outcome: Outcome, intended: Duration, known: Duration) {
        self.outcomes.add(outcome);
        self.timeline.add(known, outcome == Outcome::Ok);
        if outcome == Outcome::Ok {
            self.ok_by_end += u64::from(self.end.is_none_or(|end| known <= end));
            self.last_ok = self.last_ok.max(known);
            if intended >= self.lead_in {
                latency::record(&mut self.latency, known.saturating_sub(intended));
            }
        } else {
            self.losses.push(known);
        }
    }

    /// Ends the count. `cut`: requests may be under way that will never be counted.
    /// Fails when the sums do not agree, which would be an error of this program.
    pub fn close(&mut self, cut: bool) -> Result<()> {
        let open = self.attempted.saturating_sub(self.outcomes.total());
        if cut {
            self.cut_off = open;
            self.attempted -= open;
        }
        self.timeline.reach(self.lasted);
        ensure!(
            self.attempted == self.outcomes.total(),
            "the prober lost count: {} requests attempted, {} outcomes; this is no result",
            self.attempted,
            self.outcomes.total()
        );
        Ok(())
    }
}

fn per_second(count: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    fn counters(attempted: u64, outcomes: &[(Outcome, u64)]) -> Counters {
        let mut counters = Counters::new();
        counters.attempted = attempted;
        for (outcome, at) in outcomes {
            counters.count(*outcome, ms(at - 10), ms(*at));
        }
        counters
    }

    #[test]
    fn latencies_are_of_good_answers_and_from_when_they_were_due() {
        let counters = counters(2, &[(Outcome::Ok, 50), (Outcome::TimedOutAnswering, 2050)]);
        assert_eq!((counters.latency.len(), &*counters.losses), (1, &[ms(2050)][..]));
        assert!((9_990..=10_010).contains(&counters.latency.max()), "{}", counters.latency.max());
    }

    #[test]
    fn the_rate_of_a_number_of_requests_is_until_the_last_answer() {
        let mut counters = counters(2, &[(Outcome::Ok, 50), (Outcome::Ok, 1000)]);
        counters.lasted = ms(500);
        assert_eq!(counters.ok_per_second(), 4.0);
        counters.ends_by_number = true;
        assert_eq!((counters.ok_per_second(), counters.sent_per_second()), (2.0, 4.0));
    }

    #[test]
    fn answers_after_the_end_of_a_closed_loop_are_not_in_its_rate() {
        let mut counters = Counters { end: Some(ms(1000)), ..counters(0, &[]) };
        for known in [500, 1000, 1001, 3000] {
            counters.count(Outcome::Ok, ms(0), ms(known));
        }
        counters.lasted = ms(1000);
        assert_eq!((counters.ok_per_second(), counters.outcomes.ok), (2.0, 4));
        counters.end = None; // an open loop: each request was due before
        assert_eq!(counters.ok_per_second(), 4.0);
    }

    #[test]
    fn a_client_is_late_by_its_99th_percentile_and_behind_by_its_last_request() {
        let mut counters = counters(0, &[]);
        (0..100).for_each(|number| counters.sent(ms(number), ms(number)));
        counters.sent(ms(100), ms(200));
        assert!(!counters.client_was_late());
        counters.sent(ms(101), ms(200));
        assert!(counters.client_was_late());
        assert_eq!((counters.lateness.len(), counters.arrivals.len()), (102, 102));

        counters.attempted = 102;
        counters.all_sent(ms(101), ms(102));
        assert!(!counters.fell_behind);
        counters.all_sent(ms(101), ms(204));
        assert!(counters.fell_behind);
        assert_eq!((counters.lasted, counters.sent_per_second().round()), (ms(204), 500.0));
    }

    #[test]
    fn a_request_without_an_outcome_is_an_error_unless_it_was_cut_off() {
        let outcomes = [(Outcome::Ok, 50)];
        for (attempted, cut, fits) in
            [(1, false, true), (2, false, false), (0, false, false), (0, true, false)]
        {
            let closed = counters(attempted, &outcomes).close(cut);
            assert_eq!(closed.is_ok(), fits, "{attempted} {cut}");
            assert!(closed.is_ok() || closed.unwrap_err().to_string().contains("lost count"));
        }
        let mut cut = counters(3, &outcomes);
        cut.close(true).unwrap();
        assert_eq!((cut.attempted, cut.cut_off), (1, 2));
    }
}
