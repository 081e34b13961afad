#![doc = include_str!("stall.md")]

use super::*;
use crate::probe::timeline::BUCKET;
use crate::statistics::mean;

/// Clients while a worker is stopped, and clients whose requests each block a worker for 100 ms.
const CLIENTS: u64 = 32;
const BLOCKED_CLIENTS: u64 = 12;
const BLOCK: &str = "/block/100000";

struct Seen {
    /// When the worker is stopped, when it goes on, and when the load ends; in milliseconds.
    times: [u64; 3],
    stopped: Samples<Disturbed>,
    blocked: Samples<Served>,
}

/// Runs the experiment.
pub fn run(context: &mut Context) -> Result<Findings> {
    let present = context.policies(&QUICK_POLICIES);
    let (rounds, times) = context.choose((3, [1000, 2200, 3000]), (2, [500, 1000, 1300]));
    let [stop, go_on, end] = times;
    let faults = [format!("stop-worker@{stop}ms"), format!("continue-worker@{go_on}ms")];
    let seconds = end as f64 / 1e3;
    let asked = Load { connections: CLIENTS, seconds, timeout_ms: 5000, ..asking("/") };
    let look_for = Duration::from_millis(go_on - stop);
    let stopped = context.in_turns("stopped", rounds, &present, |server| {
        disturbed(&format!("{server} --workers 4"), &asked, &faults, look_for)
    })?;
    // The short form measures blocking handlers with two policies only.
    let some = context.policies(context.choose(&QUICK_POLICIES, &[EPOLL, HASH]));
    let (connections, seconds) = (BLOCKED_CLIENTS, context.choose(1.5, 1.0));
    let asked = Load { connections, seconds, timeout_ms: 10_000, ..asking(BLOCK) };
    let blocked = context.in_turns("blocked", rounds, &some, |server| {
        served(&format!("{server} --workers 4 --lab --max-connections 1"), &asked)
    })?;
    Ok(findings(&Seen { times, stopped, blocked }))
}

/// Answers per second before a worker was stopped, and until it went on.
const BEFORE: fn(&Disturbed) -> Option<f64> = |round| round.found.faults[0].rate_before;
const DURING: fn(&Disturbed) -> Option<f64> = |round| round.found.faults[0].rate_after;

impl Seen {
    /// Answers/s while a worker was stopped, over answers/s before.
    fn while_stopped(&self, policy: &str) -> Estimate {
        self.stopped.mean(policy, |round| Some(DURING(round)? / BEFORE(round)?))
    }

    /// p90 over the p90 of a shared socket, round by round.
    fn p90_ratio(&self, policy: &str) -> Estimate {
        self.blocked.ratio(policy, EPOLL, |round| round.latency.p90 as f64)
    }
}

fn findings(seen: &Seen) -> Findings {
    let figures = [
        ("own", seen.while_stopped(HASH).into()),
        ("shared", seen.while_stopped(EPOLL).into()),
        ("own_least", seen.while_stopped(OWN_LEAST).into()),
        ("shared_least", seen.while_stopped(SHARED_LEAST).into()),
        ("longer", seen.p90_ratio(HASH).into()),
        ("least_longer", seen.p90_ratio(OWN_LEAST).into()),
    ];
    let queued = |place: usize| move |round: &Disturbed| round.queued.map(|q| f64::from(q[place]));
    let queues = (seen.stopped)
        .table("Accept queues while a worker was stopped")
        .means("waiting on its socket", queued(0))
        .means("on the others", queued(1))
        .cells("clients", Unit::Count, |_, _| Cell::from(CLIENTS));
    let tables = [stopped_table(seen), blocked_table(seen)];
    let page = include_str!("stall.md");
    Findings::of(page, &figures, &[], picture(seen), tables, [queues.table])
}

fn picture(seen: &Seen) -> Picture {
    let bucket = BUCKET.as_secs_f64();
    let [stop, go_on, end] = seen.times.map(|ms| ms as f64 / 1000.0);
    let line = |name: &str| {
        let point = |place: usize| {
            let found = seen.stopped.each(name, |r| Some(r.found.timeline.get(place)?.ok as f64));
            Some(((place as f64 + 0.5) * bucket, mean(&found)? / bucket))
        };
        // Answers after the end belong to requests that began before it.
        let points = (0..(end / bucket) as usize).filter_map(point).collect();
        Series { name: name.into(), points }
    };
    let axis = |name: &str, unit| Axis { name: name.into(), unit, logarithmic: false };
    Picture::Lines {
        title: "Answers/s while one worker of four is stopped".into(),
        x: axis("seconds", Unit::Mean),
        y: axis("answers/s", Unit::PerSecond),
        series: seen.stopped.names().map(line).collect(),
        spans: vec![(stop, go_on, "one worker stopped".into())],
    }
}

fn stopped_table(seen: &Seen) -> Table {
    let each = |figure: fn(&Disturbed) -> Option<f64>| {
        move |name: &str| Estimate::exact(seen.stopped.mean(name, figure).value)
    };
    // `full_strength_after_ms` is the beginning of the 100 ms in which the rate was back.
    let back = |round: &Disturbed| {
        let back = round.found.faults.last()?.full_strength_after_ms?;
        Some((Duration::from_millis(back) + BUCKET).as_micros() as f64)
    };
    seen.stopped
        .table(&format!("One worker stopped, {CLIENTS} clients"))
        .estimates("answers/s before", Unit::PerSecond, each(BEFORE))
        .estimates("while stopped", Unit::PerSecond, each(DURING))
        .estimates("of before", Unit::Ratio, |name| seen.while_stopped(name))
        .middles("back within", Unit::Microseconds, back)
        .sums("requests lost", |round| round.found.outcomes.lost())
        .table
}

fn blocked_table(seen: &Seen) -> Table {
    let longest = |_: &str, rounds: &[Served]| {
        Cell::from(rounds.iter().map(|round| round.latency.max as f64).max_by(f64::total_cmp))
    };
    let mean = |name: &str| seen.blocked.mean(name, |round| round.per_second);
    seen.blocked
        .table(&format!("Every request blocks its worker for 100 ms, {BLOCKED_CLIENTS} clients"))
        .estimates("answers/s", Unit::PerSecond, |name| Estimate::exact(mean(name).value))
        .medians("p50", Unit::Microseconds, |round| round.latency.p50 as f64)
        .medians("p90", Unit::Microseconds, |round| round.latency.p90 as f64)
        .cells("longest", Unit::Microseconds, longest)
        .estimates("p90 of shared", Unit::Ratio, |name| seen.p90_ratio(name))
        .table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::probing::tests::{disturbed, served};
    use crate::probe::fault::FaultRecord;
    use crate::probe::record::ProbeBody;
    use crate::probe::timeline::Bucket;

    #[test]
    fn starved_and_serving_and_a_longer_p90_are_told_or_undecided() {
        const SERVES: &str = "own sockets serve 98 %";
        let starves = ["own sockets serve 3 % of what they did", "p90 2.6 times as long", SERVES];
        // The part that the hash and a shared socket served, the ratio of p90, and the spread.
        for (hash, shared, p90, spread, verdicts, words) in [
            (0.03, 1.02, 2.6, 0.02, "++", &starves[..]),
            (0.8, 1.0, 1.1, 0.02, "--", &["less than at PostHog"]),
            (0.03, 0.4, 2.0, 0.02, "-+", &[]),
            (0.5, 1.0, 1.5, 0.3, "??", &["crosses the limit"]),
        ] {
            let rounds = || [1.0 + spread, 1.0 - spread, 1.0 + spread, 1.0 - spread].into_iter();
            let stopped = |part: f64| {
                let round = |jitter: f64| {
                    let stop = FaultRecord {
                        rate_before: Some(1000.0),
                        rate_after: Some(1000.0 * part * jitter),
                        ..FaultRecord::default()
                    };
                    let full_strength_after_ms = Some(100);
                    let go_on = FaultRecord { full_strength_after_ms, ..FaultRecord::default() };
                    let faults = vec![stop, go_on];
                    let timeline = vec![Bucket { ok: 100, ..Bucket::default() }; 30];
                    disturbed(ProbeBody { faults, timeline, ..ProbeBody::default() })
                };
                rounds().map(round).collect()
            };
            let blocked = |times: f64| {
                let mut served = served(0.0);
                served.latency.p90 = (300e3 * times) as u64;
                served
            };
            let longer = rounds().map(|jitter| blocked(p90 * jitter)).collect();
            let parts = [(EPOLL, shared), (HASH, hash), (OWN_LEAST, 0.98)];
            let stopped = samples_of(parts.map(|(name, part)| (name, stopped(part))));
            let blocked = samples_of([(EPOLL, vec![blocked(1.0); 4]), (HASH, longer)]);
            let found = findings(&Seen { times: [1000, 2200, 3000], stopped, blocked });
            found.expect(verdicts, words);
            let Some(Picture::Lines { series, spans, .. }) = found.picture else { panic!() };
            assert_eq!((series.len(), series[0].points.len()), (3, 30));
            assert_eq!((series[0].points[0].1, spans[0].0, spans[0].1), (1000.0, 1.0, 2.2));
        }
    }
}
