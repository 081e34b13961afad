//! What is counted while the prober runs.

use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use hdrhistogram::Histogram;

use crate::probe::fate::{Fate, Fates};
use crate::probe::timeline::Timeline;

/// All counts of one run. Times are from the start of the load.
pub struct Tally {
    /// Requests begun.
    pub attempted: u64,
    /// How they ended.
    pub fates: Fates,
    /// Requests of an open loop that were due and not sent, because too many were under way.
    pub not_sent: u64,
    /// Requests that Ctrl-C cut off; they have no fate, and are not attempted any more.
    pub cut_off: u64,
    /// Answers that were as they should be, in microseconds from when they were due.
    pub latency: Histogram<u64>,
    /// Served and lost per 100 ms.
    pub timeline: Timeline,
    /// When each request that was lost was known to be, in the order of time.
    pub losses: Vec<Duration>,
    /// What was wrong with the first wrong answer.
    pub first_wrong: Option<String>,
    /// How long requests were sent.
    pub lasted: Duration,
    /// Whether Ctrl-C ended that.
    pub interrupted: bool,
}

impl Tally {
    /// Nothing counted yet.
    pub fn new() -> Result<Self> {
        // Three digits, and memory that grows with the longest latency and not with their number.
        let latency = Histogram::new(3).map_err(|error| anyhow!("no histogram: {error}"))?;
        Ok(Self {
            attempted: 0,
            fates: Fates::default(),
            not_sent: 0,
            cut_off: 0,
            latency,
            timeline: Timeline::default(),
            losses: Vec::new(),
            first_wrong: None,
            lasted: Duration::ZERO,
            interrupted: false,
        })
    }

    /// Counts a request that was due at one time and whose fate was known at another.
    pub fn count(&mut self, fate: Fate, intended: Duration, known: Duration) {
        self.fates.add(fate);
        self.timeline.add(known, fate == Fate::Ok);
        if fate == Fate::Ok {
            // Cannot fail: it resizes itself as far as any number goes.
            let _ = self.latency.record(known.saturating_sub(intended).as_micros() as u64);
        } else {
            self.losses.push(known);
        }
    }

    /// Ends the count. `cut` says that requests may be under way that will never be counted.
    ///
    /// # Errors
    /// When the sums do not agree: then this program is wrong, and so is every figure.
    pub fn close(&mut self, cut: bool) -> Result<()> {
        let open = self.attempted.saturating_sub(self.fates.total());
        if cut {
            self.cut_off = open;
            self.attempted -= open;
        }
        self.timeline.reach(self.lasted);
        ensure!(
            self.attempted == self.fates.total(),
            "the prober lost count: {} requests attempted, {} fates; this is no result",
            self.attempted,
            self.fates.total()
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    fn tally(attempted: u64, fates: &[(Fate, u64)]) -> Tally {
        let mut tally = Tally::new().unwrap();
        tally.attempted = attempted;
        for (fate, at) in fates {
            tally.count(*fate, ms(at - 10), ms(*at));
        }
        tally
    }

    #[test]
    fn latencies_are_of_good_answers_and_from_when_they_were_due() {
        let tally = tally(2, &[(Fate::Ok, 50), (Fate::TimedOutAnswering, 2050)]);
        assert_eq!((tally.latency.len(), &*tally.losses), (1, &[ms(2050)][..]));
        assert!((9_990..=10_010).contains(&tally.latency.max()), "{}", tally.latency.max());
    }

    #[test]
    fn a_request_without_a_fate_is_an_error_unless_it_was_cut_off() {
        let fates = [(Fate::Ok, 50)];
        assert!(tally(1, &fates).close(false).is_ok());
        assert!(tally(2, &fates).close(false).unwrap_err().to_string().contains("lost count"));
        assert!(tally(0, &fates).close(false).is_err());
        assert!(tally(0, &fates).close(true).is_err());
        let mut cut = tally(3, &fates);
        cut.close(true).unwrap();
        assert_eq!((cut.attempted, cut.cut_off), (1, 2));
    }
}
