//! Results for tests.

use crate::environment::Environment;
use crate::kernel::procfs::{ContextSwitches, CpuSeconds};
use crate::load::Share;
use crate::load::tests::load;
use crate::measure::comparison::{
    AtRate, CompareBody, Comparison, FixedRate, Plan, RateSlice, Slice, Subject, Worker,
};
use crate::server::telemetry::WorkerUsage;
use crate::statistics::latency::Distribution;

/// A machine.
pub fn environment() -> Environment {
    Environment {
        kernel: "Linux 6.18".into(),
        cpu: Some("A CPU".into()),
        cores: 2,
        memory_bytes: Some(8 << 30),
        wrk: Some("wrk 4.1.0".into()),
        rustc: "rustc 1.95.0".into(),
        programs: None,
        commit: None,
        started_at: "2026-01-01T00:00:00Z".into(),
    }
}

/// A worker that answered this many requests.
pub fn worker(index: usize, requests: u64) -> WorkerUsage {
    WorkerUsage {
        index,
        pid: 1000 + index as u32,
        socket_inode: Some(4242),
        connections: Some(25),
        requests: Some(requests),
        cpu_seconds: CpuSeconds { user: 0.5, system: 1.0 },
        run_queue_wait_seconds: Some(0.25),
        context_switches: ContextSwitches { voluntary: 3, involuntary: 4 },
        wakeups_without_connection: Some(7),
        steered: Some(0),
        migrated: Some(0),
        gated: Some(0),
        ..WorkerUsage::default()
    }
}

/// A slice with these requests/s of one second, shared out among workers like this.
pub fn slice(round: u32, rate: u64, parts: &[u64]) -> Slice {
    let sum: u64 = parts.iter().sum();
    let workers = parts.iter().enumerate().map(|(index, part)| Worker {
        index,
        connections: Some(part * 96 / sum),
        requests: Some(rate * part / sum),
    });
    Slice {
        round,
        at_seconds: f64::from(round) * 2.5,
        seconds: 1.0,
        requests: rate,
        requests_per_second: rate as f64,
        server_cpu_seconds: Some(1.25),
        server_wait_seconds: Some(0.5),
        server_switches: Some(20_000),
        wrk_cpu_seconds: 0.75,
        wrk_wait_seconds: 4.0,
        own_cpu_seconds: 0.003,
        latencies: Distribution::of(&[(900, rate * 6 / 10), (1500, rate * 3 / 10), (9000, 40)]),
        workers: workers.collect(),
        ..Slice::default()
    }
}

/// Two subjects, the second of which answers `ratio` of what the first does; noisy, but alike
/// in each.
pub fn comparison(rounds: u32, ratio: f64) -> Comparison {
    let noise = |round: u32| u64::from(round * 7 % 11) * 700;
    let subject = |name: &str, ratio: f64, parts: &dyn Fn(u32) -> [u64; 4]| Subject {
        warm_up: Some(50_000.0),
        workers: Some(4),
        closed_loop: Some(60_000.0),
        slices: (0..rounds)
            .map(|r| slice(r, ((80_000 + noise(r)) as f64 * ratio) as u64, &parts(r)))
            .collect(),
        ..Subject::new(name, name, "/", true)
    };
    // The second answers as much later as it answers less.
    let at_rate = |name: &str, ratio: f64| {
        let slice = |round| RateSlice {
            round,
            due: 15_000,
            ok: 14_999,
            not_sent: 0,
            lost: 1,
            lateness_p99_us: 90,
            client_late: false,
            latencies: Distribution::of(&[
                ((800.0 / ratio) as u64 + u64::from(round), 90),
                ((4000.0 / ratio) as u64, 10),
            ]),
            ideal_us: None,
        };
        AtRate::new(name, (0..6).map(slice).collect())
    };
    let body = CompareBody {
        plan: Plan {
            fixed_rate_shares: vec![0.5, 0.8],
            fixed_rate_seconds: 3.0,
            ..Plan::new(load(12, 100, 1), rounds, 1, vec![Share::only("/")], "shared")
        },
        complete: true,
        subjects: vec![
            subject("shared", 1.0, &|round| match round % 3 {
                0 => [90, 6, 0, 0],
                1 => [20, 30, 26, 20],
                _ => [0, 50, 46, 0],
            }),
            subject("reuseport", ratio, &|round| [20 + u64::from(round % 5), 24, 26, 26]),
        ],
        fixed_rates: [0.5, 0.8]
            .map(|share| FixedRate {
                share: Some(share),
                rate: (share * 60_000.0) as u64,
                results: vec![at_rate("shared", 1.0), at_rate("reuseport", ratio)],
                pairs: vec![],
            })
            .to_vec(),
        ..CompareBody::default()
    };
    let arguments = ["compare", "shared", "reuseport"].map(String::from).to_vec();
    let mut comparison = Comparison::new(arguments, environment(), body);
    comparison.warnings = vec!["client and server share 2 cores".into()];
    comparison.summarize();
    comparison
}
