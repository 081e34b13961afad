//! When a worker that died is started again: at once, unless it happens too often.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// More deaths than these ...
const DEATHS: usize = 5;
/// ... within this time are too many. systemd's default is the same, and it gives up then.
const WINDOW: Duration = Duration::from_secs(10);
/// The first pause; each further death doubles it ...
const SHORTEST: Duration = Duration::from_millis(100);
/// ... up to this.
const LONGEST: Duration = Duration::from_secs(5);

/// Remembers deaths, and says how long to wait.
#[derive(Debug, Default)]
pub struct Restarts {
    deaths: VecDeque<Instant>,
    pause: Option<Duration>,
    not_before: Option<Instant>,
}

impl Restarts {
    /// Notes a death; gives the pause that follows if there were too many.
    pub fn died(&mut self, now: Instant) -> Option<Duration> {
        self.deaths.push_back(now);
        while self.deaths.front().is_some_and(|&death| now - death >= WINDOW) {
            self.deaths.pop_front();
        }
        self.pause = (self.deaths.len() > DEATHS)
            .then(|| self.pause.map_or(SHORTEST, |pause| (2 * pause).min(LONGEST)));
        self.not_before = self.pause.map(|pause| now + pause);
        self.pause
    }

    /// The time before which no worker is to be started, if there is one and it is to come.
    pub fn not_before(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|&time| time > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_deaths_in_ten_seconds_are_borne_and_the_sixth_makes_it_wait() {
        let (mut restarts, now) = (Restarts::default(), Instant::now());
        for _ in 0..5 {
            assert_eq!(restarts.died(now), None);
            assert_eq!(restarts.not_before(now), None);
        }
        assert_eq!(restarts.died(now), Some(SHORTEST));
        assert_eq!(restarts.not_before(now), Some(now + SHORTEST));
        assert_eq!(restarts.not_before(now + SHORTEST), None);
    }

    #[test]
    fn the_pause_doubles_up_to_its_limit_and_is_forgotten_after_a_quiet_time() {
        let (mut restarts, now) = (Restarts::default(), Instant::now());
        let pauses: Vec<u128> =
            (0..14).filter_map(|_| restarts.died(now)).map(|pause| pause.as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        assert_eq!(restarts.died(now + WINDOW), None);
    }
}
