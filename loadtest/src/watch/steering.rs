//! Whether the steering program is still the server's own. The program that is attached to a group cannot be read
//! (getsockopt: ENOPROTOOPT), so a replaced one is recognised by what it does not count: workers accept connections
//! that it has not counted. The parent checks that, too, logs it, and attaches its program again.

use std::time::{Duration, Instant};

use crate::report::format::plural;
use crate::watch::reading::{Reading, Worker};

/// The least time between two looks: in a shorter time no connection may have arrived.
const LOOK_EVERY: Duration = Duration::from_millis(400);

/// This many looks in a row must find it. A single one may fall between the updates of two counters.
const LOOKS: u32 = 2;

/// The state between looks.
#[derive(Debug, Default)]
pub struct Steering {
    before: Option<(Instant, Counts)>,
    /// How many looks in a row found only connections that were not steered.
    not_steered: u32,
    /// How often the program was found to be replaced.
    times: u64,
}

/// The sums of all workers' counters.
#[derive(Clone, Copy, Debug)]
struct Counts {
    /// Connections that the program gave to them.
    steered: u64,
    /// Further connections that workers accepted.
    others: u64,
}

impl Steering {
    /// Takes a reading, and returns a message if there is one.
    pub fn take(&mut self, reading: &Reading) -> Option<String> {
        let last = self.before.map(|(at, _)| at);
        let is_due = last.is_none_or(|at| reading.at.saturating_duration_since(at) >= LOOK_EVERY);
        let now = Counts::of(&reading.workers);
        if is_due && now.steered > 0 {
            let before = self.before.replace((reading.at, now));
            self.compare(before.map_or(now, |(_, counts)| counts), now);
        }
        (self.times > 0).then(|| {
            let times = plural(self.times, "time");
            format!("warning: another program has replaced the steering program, {times} so far")
        })
    }

    fn compare(&mut self, before: Counts, now: Counts) {
        if now.steered != before.steered {
            self.not_steered = 0;
        } else if now.others > before.others {
            self.not_steered += 1;
            self.times += u64::from(self.not_steered == LOOKS);
        }
    }
}

impl Counts {
    /// Connections in a worker's queue are steered already. So only those accepted beyond the steered ones came another
    /// way.
    fn of(workers: &[Worker]) -> Self {
        let steered = |worker: &Worker| worker.steered + worker.migrated;
        let others = |worker: &Worker| worker.accepted.saturating_sub(steered(worker));
        Self {
            steered: workers.iter().map(steered).sum(),
            others: workers.iter().map(others).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::view::tests::{reading, worker};

    /// The messages of looks a second apart, at two workers: how many each accepted and was given.
    fn said(looks: &[[(u64, u64); 2]]) -> Vec<Option<String>> {
        let (mut steering, start) = (Steering::default(), Instant::now());
        let look =
            |(second, counts): (usize, &[(u64, u64); 2])| {
                let workers = counts.iter().enumerate().map(|(index, &(accepted, steered))| {
                    Worker { accepted, steered, ..worker(index, 0) }
                });
                let at = start + Duration::from_secs(second as u64);
                steering.take(&reading(at, workers.collect()))
            };
        looks.iter().enumerate().map(look).collect()
    }

    #[test]
    fn connections_that_come_and_are_not_steered_tell_that_another_program_is_there() {
        let all = said(&[
            [(5, 5), (5, 5)],
            [(9, 5), (5, 5)],
            [(14, 5), (5, 5)],
            [(20, 5), (5, 5)],
            [(21, 6), (6, 6)],
            [(25, 6), (6, 6)],
            [(30, 6), (6, 6)],
        ]);
        let is_told: Vec<bool> = all.iter().map(Option::is_some).collect();
        assert_eq!(is_told, [false, false, true, true, true, true, true]);
        assert!(all[5].as_ref().unwrap().ends_with("1 time so far"), "{all:?}");
        assert!(all[6].as_ref().unwrap().ends_with("2 times so far"), "{all:?}");
    }

    #[test]
    fn nothing_is_said_where_a_queue_is_worked_off_nothing_comes_or_nobody_steers() {
        let worked_off = [[(1, 90), (5, 5)], [(20, 90), (5, 5)], [(40, 90), (5, 5)]];
        let quiet = [[(9, 5), (5, 5)]; 5];
        let unsteered = [[(5, 0), (5, 0)], [(9, 0), (9, 0)], [(20, 0), (20, 0)]];
        let once = [[(5, 5), (5, 5)], [(6, 5), (5, 5)], [(7, 6), (6, 6)], [(8, 6), (6, 6)]];
        for looks in [&worked_off[..], &quiet, &unsteered, &once] {
            assert!(said(looks).iter().all(Option::is_none), "{looks:?}");
        }
    }
}
