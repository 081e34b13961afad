//! The limit that no policy can beat: one queue before all servers, and no overhead.
//!
//! The server that is free first serves the next request, in the order of arrival, for a known time. This
//! is a simulation, not a formula: it gives the ideal for the very arrivals that were sent, not an average
//! over all possible arrivals.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::server::{Kind, Spec};
use crate::statistics::latency;

/// The service of requests, if it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// How many requests are served at a time.
    pub servers: usize,
    /// The service time.
    pub time: Duration,
}

impl Service {
    /// The service of one of our servers, with this many workers and CPUs, at `path`. A blocked worker uses no CPU,
    /// so as many requests block at a time as there are workers; requests that burn CPU time need a CPU each.
    pub fn of(
        spec: &Spec,
        extra: &[String],
        path: &str,
        workers: usize,
        cpus: usize,
    ) -> Option<Self> {
        let Kind::Ours { options, .. } = &spec.kind else { return None };
        let busy = workers.min(cpus);
        let micros = |text: &str| text.parse().ok().map(Duration::from_micros);
        let (servers, time) = match path.strip_prefix('/')?.split_once('/') {
            Some(("block", text)) => (workers, micros(text)?),
            Some(("spin", text)) => (busy, micros(text)?),
            None if path == "/" => (busy, handler_cost(extra.iter().chain(options))?),
            _ => return None,
        };
        (servers > 0 && !time.is_zero()).then_some(Self { servers, time })
    }

    /// The latencies, in microseconds, of one queue with these arrivals, which are in rising order, without those before
    /// `lead_in`. Assumes at least one server.
    pub fn ideal(&self, arrivals: &[Duration], lead_in: Duration) -> Histogram<u64> {
        let mut latencies = latency::empty();
        let mut free_at: BinaryHeap<_> = vec![Reverse(Duration::ZERO); self.servers.max(1)].into();
        for &arrival in arrivals {
            // The heap is never empty: as many are pushed as popped.
            let Some(Reverse(free)) = free_at.pop() else { break };
            let done = free.max(arrival) + self.time;
            free_at.push(Reverse(done));
            if arrival >= lead_in {
                latency::record(&mut latencies, done - arrival);
            }
        }
        latencies
    }
}

/// The value of the last `--handler-cost`, which wins.
fn handler_cost<'a>(options: impl Iterator<Item = &'a String>) -> Option<Duration> {
    let mut words = options.flat_map(|word| word.splitn(2, '='));
    let mut found = None;
    while let Some(word) = words.next() {
        if word == "--handler-cost" {
            found = words.next();
        }
    }
    humantime::parse_duration(found?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The latencies in rising order, for arrivals in milliseconds and a service time of 10 ms.
    fn latencies(arrivals_ms: &[u64], servers: usize) -> Vec<u64> {
        latencies_from(0, arrivals_ms, servers)
    }

    fn latencies_from(lead_in_ms: u64, arrivals_ms: &[u64], servers: usize) -> Vec<u64> {
        let arrivals: Vec<_> = arrivals_ms.iter().map(|&ms| Duration::from_millis(ms)).collect();
        let service = Service { servers, time: Duration::from_millis(10) };
        let all = service.ideal(&arrivals, Duration::from_millis(lead_in_ms));
        all.iter_recorded()
            .flat_map(|step| {
                // The histogram keeps three digits.
                let ms = (step.value_iterated_to() as f64 / 1000.0).round() as u64;
                vec![ms; step.count_at_value() as usize]
            })
            .collect()
    }

    #[test]
    fn the_service_time_is_read_from_the_path_or_the_servers_options() {
        let service =
            |servers, micros| Some(Service { servers, time: Duration::from_micros(micros) });
        for (server, path, expected) in [
            ("shared", "/block/10000", service(8, 10_000)),
            ("reuseport", "/spin/70", service(2, 70)),
            ("shared --handler-cost 1ms", "/", service(2, 1000)),
            ("shared --handler-cost=1ms --handler-cost 70us", "/", service(2, 70)),
            ("shared --handler-cost 1ms", "/block/20", service(8, 20)),
            ("shared", "/", None),
            ("shared", "/block/x", None),
            ("shared", "/block/0", None),
            ("shared", "/other", None),
            ("cmd:serve {port}", "/block/10000", None),
        ] {
            let spec = Spec::parse(server).unwrap();
            assert_eq!(Service::of(&spec, &[], path, 8, 2), expected, "{server} {path}");
        }
        let (spec, extra) = (Spec::parse("shared").unwrap(), ["--handler-cost=1ms".to_owned()]);
        assert_eq!(Service::of(&spec, &extra, "/", 1, 2), service(1, 1000));
    }

    #[test]
    fn it_agrees_with_cases_computed_by_hand() {
        for (what, arrivals, servers, expected) in [
            ("nobody waits for one server", &[0, 10, 25][..], 1, &[10, 10, 10][..]),
            ("one server: the second waits 6 ms, the third 12", &[0, 4, 8], 1, &[10, 16, 22]),
            ("one server that falls idle between", &[0, 5, 40, 41], 1, &[10, 10, 15, 19]),
            ("all at once before one server", &[7, 7, 7], 1, &[10, 20, 30]),
            ("all at once before two", &[0, 0, 0, 0, 0], 2, &[10, 10, 20, 20, 30]),
            ("as many servers as requests", &[0, 0, 0], 3, &[10, 10, 10]),
            ("the third takes the server that is free first", &[0, 3, 4], 2, &[10, 10, 16]),
            ("no request", &[], 4, &[]),
        ] {
            assert_eq!(latencies(arrivals, servers), expected, "{what}");
        }
    }

    #[test]
    fn requests_before_the_lead_in_ends_occupy_the_servers_but_do_not_count() {
        assert_eq!(latencies_from(7, &[0, 4, 8], 1), [22]);
    }
}
