//! The number of connections of each worker, second by second.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use common::scoreboard::{Scoreboard, State};
use serde::{Deserialize, Serialize};

/// The time between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// The connections of all workers at a moment.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Held {
    /// When, from the start of the load.
    pub at_ms: u64,
    /// Connections of each worker that served then, in the order of their slots.
    pub connections: Vec<u64>,
}

impl Held {
    /// The connections of the busiest worker as a multiple of the average; `None` without connections.
    pub fn spread(&self) -> Option<f64> {
        let all: u64 = self.connections.iter().sum();
        let most = *self.connections.iter().max()?;
        (all > 0).then(|| most as f64 * self.connections.len() as f64 / all as f64)
    }
}

/// Looks once a second.
pub struct Spread {
    board: Scoreboard,
    held: Vec<Held>,
}

impl Spread {
    /// For the server with this pid, if it has a scoreboard.
    pub fn of(pid: Option<u32>) -> Option<Self> {
        Some(Self { board: Scoreboard::of_process(pid?).ok()?, held: Vec::new() })
    }

    /// Looks, if that is due at this time after the start of the load.
    pub fn look(&mut self, elapsed: Duration) {
        if elapsed < EVERY * (self.held.len() as u32 + 1) {
            return;
        }
        let workers = self.board.workers().filter(|(_, slot)| slot.state() == State::Serving);
        let connections = workers.map(|(_, slot)| slot.connections_open.load(Relaxed)).collect();
        self.held.push(Held { at_ms: elapsed.as_millis() as u64, connections });
    }

    /// All looks.
    pub fn into_held(self) -> Vec<Held> {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_the_busiest_worker_in_averages() {
        let spread =
            |connections: &[u64]| Held { at_ms: 0, connections: connections.to_vec() }.spread();
        assert_eq!(spread(&[47, 8, 5, 4]), Some(2.9375));
        assert_eq!(spread(&[16, 16]), Some(1.0));
        assert_eq!(spread(&[0, 0]), None);
        assert_eq!(spread(&[]), None);
    }
}
