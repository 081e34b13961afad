#![doc = include_str!("post.md")]

use super::*;
use crate::environment::cores;
use crate::kernel::affinity;
use crate::report::post;

/// The baseline, and what is compared with it: the kernel's hash; one socket that gets every connection,
/// as on a Mac; single servers on one port.
const BASELINE: &str = "shared";
const KERNELS: &str = "own";
const FIRST: &str = "own, one gets all";
const JOINED: &str = "own, joined";

/// Sanic's CPU time for a request, a cheaper handler, and the cores of the confined run: the post's
/// machine had at least as many.
pub const SANIC: &str = "70us";
const CHEAP: &str = "20us";
const FEW_CORES: usize = 2;

struct Found {
    cost: &'static str,
    words: String,
    samples: Samples<Slice>,
}

/// Runs the experiment.
pub fn run(context: &mut Context) -> Result<Findings> {
    let rounds = context.choose(12, 6);
    let with_least = context.policies(&[SHARED_LEAST, OWN_LEAST]).len() == 2 && !context.quick;
    let own = affinity::own()?;
    let few: Vec<usize> = own.iter().copied().take(FEW_CORES).collect();
    let settings = [
        (true, "confined", SANIC, few.clone()),
        (own.len() > FEW_CORES, "unconfined", SANIC, own),
        (!context.quick, "cheap", CHEAP, few),
    ];
    let mut found = Vec::new();
    for (_, part, cost, cores) in settings.into_iter().filter(|(wanted, ..)| *wanted) {
        let is_main = part == "confined";
        let mut subjects = subjects(cost, with_least);
        subjects.retain(|(name, _)| is_main || [BASELINE, KERNELS, FIRST].contains(name));
        let rounds = if is_main { rounds } else { rounds.min(8) };
        let words = format!("handler {cost}, {} cores", cores.len());
        let cores = (part != "unconfined").then_some(cores);
        let course = Interleaved { part, rounds, warm_up: true, cores, ..WRK };
        found.push(Found { cost, words, samples: course.run(context, &subjects)? });
    }
    if cores() <= FEW_CORES {
        context.missing.push(format!(
            "a run on more cores than {}, which is all that this machine has",
            cores()
        ));
    }
    Ok(findings(&found))
}

fn subjects(cost: &str, with_least: bool) -> Vec<Subject> {
    let all = [
        (BASELINE, "shared", 1),
        (KERNELS, "reuseport", 1),
        (FIRST, "reuseport --steer first", 1),
        (JOINED, "reuseport --workers 1", 4),
        ("shared, least-conn", "shared --accept least-conn", 1),
        ("own, least-conn", "reuseport --steer least-conn", 1),
    ];
    let subject = |&(name, server, times): &(&'static str, &str, usize)| {
        (name, vec![format!("{server} --handler-cost {cost}"); times])
    };
    all[..if with_least { 6 } else { 4 }].iter().map(subject).collect()
}

impl Found {
    /// Requests/s over those of the shared socket.
    fn of_shared(&self, name: &str) -> Estimate {
        self.samples.ratio(name, BASELINE, |slice| slice.requests_per_second)
    }
}

fn findings(found: &[Found]) -> Findings {
    let main = &found[0];
    let of_shared = |name: &str| main.of_shared(name);
    // With the cheaper handler the ratio is nearer to the post's: a single busy worker leaves the
    // other core to wrk, and the larger wrk's part of a request's cost, the less is lost by that.
    let cheap = found.iter().find(|found| found.cost == CHEAP);
    let cheap = cheap.map_or(Estimate::exact(f64::NAN), |cheap| cheap.of_shared(FIRST));
    let figures = [
        ("hash", of_shared(KERNELS).into()),
        ("joined", of_shared(JOINED).into()),
        ("first", of_shared(FIRST).into()),
        ("cost", main.cost.into()),
        ("cheap", cheap.into()),
        ("post", post::ratio().into()),
        // Half-way from the post's ratio to 1.
        ("slow", ((post::ratio() + 1.0) / 2.0).into()),
    ];
    let reference = Some((post::ratio(), "the post"));
    let title = "Requests/s, of those over a shared socket";
    let mut picture = main.samples.bars(title, Unit::Ratio, reference, of_shared);
    if let Picture::Bars { bars, .. } = &mut picture {
        bars.retain(|bar| bar.name != BASELINE);
    }
    // wrk opens one connection before its load; a worker under load answers more than one request.
    let busy = |slice: &Slice| {
        slice.workers.iter().filter(|worker| worker.requests.unwrap_or(0) > 1).count() as f64
    };
    let evidence = evidence(&main.samples, "What the kernel saw")
        .means("workers that got connections", busy)
        .table;
    let tables: Vec<Table> = found.iter().map(table).collect();
    let page = include_str!("post.md");
    Findings::of(page, &figures, &[], picture, tables, [evidence])
}

fn table(found: &Found) -> Table {
    found
        .samples
        .table(&format!("Requests/s, {}", found.words))
        .medians("requests/s", Unit::PerSecond, |slice| slice.requests_per_second)
        .estimates("of shared", Unit::Ratio, |name| found.of_shared(name))
        .middles("CPU per request", Unit::Microseconds, Slice::cpu_us)
        .table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::fixture::slice;

    #[test]
    fn the_hash_one_that_gets_all_or_too_much_noise_is_told() {
        let mac =
            ["four workers were compared with one:", "own sockets serve 0.600 (0.600 to 0.600) of"];
        for (hash, first, spread, verdicts, words) in [
            (0.97, 0.6, 0.0, "--+", &mac[..]),
            (0.97, 0.6, 0.02, "--+", &["The hash that it suspects is not the cause"]),
            (0.65, 0.6, 0.02, "+++", &["Own sockets serve 0.65"]),
            (0.84, 0.80, 0.5, "???", &[]),
        ] {
            let rounds = |ratio: f64, spread: f64, served: &[u64]| {
                let jitter = |round| if round % 2 == 0 { 1.0 + spread } else { 1.0 - spread };
                let rate = |round| (20_000.0 * ratio * jitter(round)).round() as u64;
                (0..12).map(|round| slice(round, rate(round), served)).collect()
            };
            let samples = samples_of([
                (BASELINE, rounds(1.0, 0.0, &[1; 4])),
                (KERNELS, rounds(hash, spread, &[1; 4])),
                (FIRST, rounds(first, spread, &[1, 0, 0, 0])),
                (JOINED, rounds(hash, spread, &[1; 4])),
            ]);
            let words_of_it = "handler 70us, 2 cores".into();
            let found = findings(&[Found { cost: SANIC, words: words_of_it, samples }]);
            found.expect(verdicts, words);
            let posts = [post::REUSEPORT, post::SHARED].map(|post| post.requests_per_second);
            let [own, shared] = posts.map(crate::report::format::count);
            let theirs = format!("{:.3} ({own} of {shared} requests/s)", post::ratio());
            assert_eq!(found.claims[0].theirs, theirs);
            let busy = |row: usize| found.evidence[0].rows[row].cells[2].value;
            assert_eq!((busy(1), busy(2)), (Some(4.0), Some(1.0)));
        }
    }
}
