#![doc = include_str!("tail.md")]

use std::collections::BTreeMap;

use super::*;
use crate::environment::cores;
use crate::probe::arrivals::Arrivals;

/// The policies; the short form has the first three. EXCLUSIVE is the shared socket that nginx had: a
/// worker that is woken accepts one connection, and no more.
const POLICIES: [&str; 5] = [EPOLL, HASH, EXCLUSIVE, SHARED_LEAST, OWN_LEAST];

/// A heavy request (2 ms of CPU time), clients for each worker, the rate of the open loop as a part of
/// the closed loop's requests/s, and the rounds.
const HEAVY: &str = "/spin/2000";
const CLIENTS: u64 = 16;
const OPEN: f64 = 0.7;
const ROUNDS: u32 = 6;

/// Runs the experiment.
pub fn run(context: &mut Context) -> Result<Findings> {
    let policies = context.policies(context.choose(&POLICIES[..], &POLICIES[..3]));
    let subjects = policies.iter().map(|&(name, server)| (name, vec![server.into()]));
    let mut subjects: Vec<Subject> = subjects.collect();
    subjects.retain(|(name, _)| !context.quick || [EPOLL, HASH].contains(name));
    let rounds = context.choose(ROUNDS + 2, ROUNDS);
    let short = Interleaved { part: "short", rounds, ..WRK }.run(context, &subjects)?;
    let closed = heavy(context, "closed", &policies, None)?;
    let served = closed.median(EPOLL, |served| served.per_second).value;
    let rate = (served * OPEN).max(1.0) as u64;
    let open = heavy(context, "open", &policies, Some(rate))?;
    Ok(findings(&short, &closed, &open, rate))
}

fn heavy(
    context: &mut Context,
    part: &str,
    policies: &[Policy],
    rate: Option<u64>,
) -> Result<Samples<Served>> {
    let workers = cores() as u64;
    let asked = Load {
        connections: if rate.is_some() { 10_000 } else { CLIENTS * workers },
        rate,
        arrivals: rate.map(|_| Arrivals::Poisson),
        seconds: context.choose(1.5, 0.3),
        timeout_ms: 10_000,
        ..asking(HEAVY)
    };
    // The same arrivals for all policies of a round.
    let mut seeds: BTreeMap<String, u64> = BTreeMap::new();
    context.in_turns(part, ROUNDS, policies, |server| {
        let seed = seeds.entry((*server).to_string()).or_default();
        *seed += 1;
        let asked = Load { seed: *seed, ..asked.clone() };
        served(&format!("{server} --lab --workers {workers}"), &asked)
    })
}

fn findings(
    slices: &Samples<Slice>,
    closed: &Samples<Served>,
    open: &Samples<Served>,
    rate: u64,
) -> Findings {
    let short = &slices.map(Served::of_slice);
    let wider =
        |all: &Samples<Served>, than| all.ratio(HASH, than, |served| served.latency.stdev).into();
    let worst = |name: &str| open.median(name, |served| served.latency.p99 as f64);
    let milliseconds = |name: &str| match worst(name).value {
        unknown if unknown.is_nan() => String::new(),
        worst => format!("{:.0} ms", worst / 1e3),
    };
    // The policy with the lowest p99, whichever it is: load-aware policies are not presumed to be best.
    let least = open.names().min_by(|a, b| worst(a).value.total_cmp(&worst(b).value));
    let least = least.map(|name| format!("{name}: {}", milliseconds(name)));
    let figures = [
        ("short", wider(short, EPOLL)),
        ("one_by_one", wider(closed, EXCLUSIVE)),
        ("all_found", wider(closed, EPOLL)),
        ("open", wider(open, EXCLUSIVE)),
        ("own_p99", milliseconds(HASH).into()),
        ("one_by_one_p99", milliseconds(EXCLUSIVE).into()),
        ("shared_p99", milliseconds(EPOLL).into()),
        ("shortest", least.into()),
    ];
    let title = format!("Slowest hundredth (p99) of heavy requests, {rate} requests/s");
    let open_title = format!("Heavy requests, open loop, {rate} requests/s");
    let tables = [
        table(short, "Short requests, kept connections (wrk)"),
        table(closed, "Heavy requests, closed loop"),
        table(open, &open_title),
    ];
    let seen = evidence(slices, "Short requests").table;
    let page = include_str!("tail.md");
    Findings::of(
        page,
        &figures,
        &[],
        open.bars(title, Unit::Microseconds, None, worst),
        tables,
        [seen],
    )
}

/// Requests/s and latencies; the standard deviation has its interval, since the verdicts are about it.
fn table(all: &Samples<Served>, title: &str) -> Table {
    all.table(title)
        .middles("requests/s", Unit::PerSecond, |one| one.per_second)
        .middles("mean", Unit::Microseconds, |one| one.latency.mean)
        .middles("p50", Unit::Microseconds, |one| one.latency.p50 as f64)
        .medians("stdev", Unit::Microseconds, |one| one.latency.stdev)
        .middles("p99", Unit::Microseconds, |one| one.latency.p99 as f64)
        .middles("max", Unit::Microseconds, |one| one.latency.max as f64)
        .table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::probing::tests::served;
    use crate::measure::fixture::slice;
    use crate::statistics::latency::Distribution;

    #[test]
    fn both_claims_hold_where_short_requests_narrow_and_heavy_ones_widen() {
        let holds =
            ["Own sockets have 0.20 (0.20 to 0.20) times", "9.00 (9.00 to 9.00) times that of"];
        for (short, heavy, verdicts, words) in
            [(0.2, 9.0, "++++", &holds[..]), (0.9, 1.1, "----", &["shared/epoll: 50 ms."])]
        {
            let slices = |stdev: f64| {
                let both = [(1000, 50), (1000 + (stdev * 2.0) as u64, 50)];
                let latencies = Distribution::of(&both);
                vec![Slice { latencies, ..slice(0, 50_000, &[100; 4]) }; 8]
            };
            let rounds = |times: f64| {
                let stdev = |round| 2000.0 * times * (1.0 + 0.01 * f64::from(round));
                (0..6).map(|round| served(stdev(round))).collect::<Vec<Served>>()
            };
            let all = [(EPOLL, 1.0), (HASH, heavy), (EXCLUSIVE, 1.0)];
            let heavy = samples_of(all.map(|(name, times)| (name, rounds(times))));
            let slices = samples_of([(EPOLL, slices(900.0)), (HASH, slices(900.0 * short))]);
            findings(&slices, &heavy, &heavy, 700).expect(verdicts, words);
        }
    }
}
