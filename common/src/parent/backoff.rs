//! When a worker that died is started again: at once, unless workers die young again and again.
//!
//! A worker that has served for a second was healthy when it started, so its successor will be: whatever
//! killed it, a pause would only reduce capacity. The pauses are for workers that die young: starting these
//! at once, again and again, would use up the CPU.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A worker that has served for this long does not die young.
const GROWN: Duration = Duration::from_secs(1);
/// More deaths than these ...
const DEATHS: usize = 5;
/// ... within this time are too many. systemd's default is the same, and it gives up then.
const WINDOW: Duration = Duration::from_secs(10);
/// The first pause, and the longest one while no worker serves although workers can; each further death
/// doubles the pause ...
const SHORTEST: Duration = Duration::from_millis(100);
/// ... up to this.
const LONGEST: Duration = Duration::from_secs(5);

/// Remembers deaths, and tells how long to wait.
#[derive(Debug, Default)]
pub struct Backoff {
    deaths: VecDeque<Instant>,
    pause: Option<Duration>,
    not_before: Option<Instant>,
    /// How many starts need not wait: replacements of workers that did not die young.
    at_once: usize,
}

impl Backoff {
    /// Notes the death of a worker that had served for this long, or a failed start (`None`). Returns the pause
    /// that follows, if there is one.
    ///
    /// If `nobody` is left to serve, and this worker did serve, the port must not be without a worker for long.
    pub fn died(
        &mut self,
        served: Option<Duration>,
        nobody: bool,
        now: Instant,
    ) -> Option<Duration> {
        if served.is_some_and(|served| served >= GROWN) {
            self.at_once += usize::from(self.not_before(now).is_some());
            return None;
        }
        self.note(now);
        if nobody && served.is_some() {
            self.not_before = self.not_before(now).map(|time| time.min(now + SHORTEST));
        }
        self.not_before(now).map(|time| time - now)
    }

    fn note(&mut self, now: Instant) {
        // After a pause, too, a worker may live for the whole window before it has shown that all is well.
        let quiet = self.pause.unwrap_or_default() + WINDOW;
        if self.deaths.back().is_none_or(|&last| now - last >= quiet) {
            self.pause = None;
        }
        self.deaths.push_back(now);
        while self.deaths.front().is_some_and(|&death| now - death >= WINDOW) {
            self.deaths.pop_front();
        }
        self.pause = match self.pause {
            Some(pause) => Some((2 * pause).min(LONGEST)),
            None => (self.deaths.len() > DEATHS).then_some(SHORTEST),
        };
        self.not_before = self.pause.map(|pause| now + pause);
    }

    /// Whether a worker may be started now. The caller then starts one.
    pub fn may_start(&mut self, now: Instant) -> bool {
        if self.not_before(now).is_none() {
            return true;
        }
        let may = self.at_once > 0;
        self.at_once -= usize::from(may);
        may
    }

    /// When the next worker may be started, if starts are delayed; may be in the past.
    pub fn next_start(&self) -> Option<Instant> {
        self.not_before
    }

    /// The time before which no worker may be started, if it is in the future.
    pub fn not_before(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|&time| time > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YOUNG: Option<Duration> = Some(Duration::from_millis(999));

    #[test]
    fn five_young_deaths_in_ten_seconds_are_borne_and_the_sixth_makes_it_wait() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        for _ in 0..5 {
            assert_eq!(backoff.died(YOUNG, false, now), None);
            assert_eq!(backoff.not_before(now), None);
        }
        assert_eq!(backoff.died(None, false, now), Some(SHORTEST));
        assert_eq!(backoff.not_before(now), Some(now + SHORTEST));
        assert_eq!(backoff.not_before(now + SHORTEST), None);
    }

    #[test]
    fn the_pause_doubles_up_to_its_limit_and_is_forgotten_after_a_quiet_time() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        let pauses: Vec<u128> = (0..14)
            .filter_map(|_| backoff.died(YOUNG, false, now))
            .map(|pause| pause.as_millis())
            .collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        // Pauses alone do not end it, and a quiet time does.
        let later = now + WINDOW;
        assert_eq!(backoff.died(YOUNG, false, later), Some(LONGEST));
        assert_eq!(backoff.died(YOUNG, false, later + LONGEST + WINDOW), None);
    }

    #[test]
    fn a_worker_that_had_served_for_a_second_is_replaced_at_once() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        for _ in 0..100 {
            assert_eq!(backoff.died(Some(GROWN), true, now), None);
        }
        (0..6).for_each(|_| _ = backoff.died(YOUNG, false, now));
        assert!(!backoff.may_start(now));
        assert_eq!(backoff.died(Some(GROWN), false, now), None);
        assert_eq!([backoff.may_start(now), backoff.may_start(now)], [true, false], "one for one");
    }

    #[test]
    fn the_last_worker_waits_for_100_ms_at_most_unless_none_could_serve() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        (0..20).for_each(|_| _ = backoff.died(YOUNG, false, now));
        assert_eq!(backoff.died(None, true, now), Some(LONGEST));
        assert_eq!(backoff.died(YOUNG, true, now), Some(SHORTEST));
        assert_eq!(backoff.not_before(now), Some(now + SHORTEST));
    }
}
