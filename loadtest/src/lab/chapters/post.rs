#![doc = include_str!("post.md")]

use anyhow::Result;

use crate::environment::cores;
use crate::kernel::affinity;
use crate::lab::chapter::{Findings, judged};
use crate::lab::context::Context;
use crate::lab::criterion::{Limit, estimated, words};
use crate::lab::interleaved::{Interleaved, Subject, WrkSample};
use crate::lab::samples::Samples;
use crate::report::model::{Picture, Table, Unit};
use crate::report::post;
use crate::statistics::estimate::Estimate;

/// The experiment's page.
const PAGE: &str = include_str!("post.md");

/// Everybody is compared with this one.
const BASELINE: &str = "shared";

/// The kernel's hash; a Mac on Linux; single servers on one port.
const HASH: &str = "own";
const FIRST: &str = "own, one gets all";
const JOINED: &str = "own, joined";

/// What Sanic takes for a request, and a handler that is cheaper.
const SANIC: &str = "70us";
const CHEAP: &str = "20us";

/// Cores that the post's machine had at least.
const FEW_CORES: usize = 2;

/// One way to run them: what it is called, the handler's cost, and on which cores.
struct Setting {
    part: &'static str,
    cost: &'static str,
    cores: Vec<usize>,
}

/// A setting and what was sampled in it.
struct Found {
    cost: &'static str,
    words: String,
    samples: Samples<WrkSample>,
}

/// Runs the experiment.
pub fn run(context: &mut Context) -> Result<Findings> {
    let rounds = context.choose(12, 6);
    let (_, mut missing) = context.policies(&["shared/least-conn", "reuseport/least-conn"]);
    let with_least = missing.is_empty() && !context.quick;
    let mut found = Vec::new();
    for Setting { part, cost, cores } in settings(context.quick)? {
        let is_main = part == "confined";
        let mut subjects = subjects(cost, with_least);
        subjects.retain(|(name, _)| is_main || [BASELINE, HASH, FIRST].contains(&name.as_str()));
        let rounds = if is_main { rounds } else { rounds.min(8) };
        let words = format!("handler {cost}, {} cores", cores.len());
        let cores = (part != "unconfined").then_some(cores);
        let wrk = [12, 100];
        let course = Interleaved { part, wrk, keep_alive: true, rounds, warm_up: true, cores };
        found.push(Found { cost, words, samples: course.run(context, &subjects)? });
    }
    if cores() <= FEW_CORES {
        missing.push(format!(
            "with as many cores as this machine has, {}, confined and unconfined are the same",
            cores()
        ));
    }
    Ok(findings(&found, missing))
}

fn settings(quick: bool) -> Result<Vec<Setting>> {
    let own = affinity::own()?;
    let few: Vec<usize> = own.iter().copied().take(FEW_CORES).collect();
    let mut settings = vec![Setting { part: "confined", cost: SANIC, cores: few.clone() }];
    if own.len() > FEW_CORES {
        settings.push(Setting { part: "unconfined", cost: SANIC, cores: own });
    }
    if !quick {
        settings.push(Setting { part: "cheap", cost: CHEAP, cores: few });
    }
    Ok(settings)
}

fn subjects(cost: &str, with_least: bool) -> Vec<Subject> {
    let all = [
        (BASELINE, "shared", 1),
        (HASH, "reuseport", 1),
        (FIRST, "reuseport --steer first", 1),
        (JOINED, "reuseport --workers 1", 4),
        ("shared, least-conn", "shared --accept least-conn", 1),
        ("own, least-conn", "reuseport --steer least-conn", 1),
    ];
    let subject = |&(name, server, times): &(&str, &str, usize)| {
        (name.to_owned(), vec![format!("{server} --handler-cost {cost}"); times])
    };
    all[..if with_least { 6 } else { 4 }].iter().map(subject).collect()
}

/// What the post measured, requests/s: own sockets, and a shared one.
fn posts() -> [u64; 2] {
    [post::REUSEPORT, post::SHARED].map(|quotation| quotation.requests_per_second)
}

fn posts_ratio() -> f64 {
    let [own, shared] = posts();
    own as f64 / shared as f64
}

impl Found {
    /// Requests/s over those of the shared socket.
    fn of_shared(&self, name: &str) -> Estimate {
        self.samples.ratio(name, BASELINE, |slice| slice.requests_per_second)
    }
}

fn findings(found: &[Found], missing: Vec<String>) -> Findings {
    let main = &found[0];
    // Half the way from the post's ratio to none.
    let slow = Limit::Below((posts_ratio() + 1.0) / 2.0);
    let is_slow = |name| estimated("{}", main.of_shared(name)).digits(3).must_be(slow);
    let [hash, joined, first] = [HASH, JOINED, FIRST].map(is_slow);
    let explained = hash.met() == Some(false) && first.met() == Some(true);
    let advice = "On Linux choose by what follows, not by the post; on macOS, share the socket. (One worker \
                  of four does not mean a quarter, since workers and wrk share two cores here: four workers \
                  never had four.)";
    let mut picture =
        main.samples.bars("Requests/s, of those over a shared socket", Unit::Ratio, |name| {
            main.of_shared(name)
        });
    if let Picture::Bars { bars, reference, .. } = &mut picture {
        bars.retain(|bar| bar.name != BASELINE);
        *reference = Some((posts_ratio(), "the post".into()));
    }
    Findings {
        answer: answer(found, explained),
        claims: judged(PAGE, &[(&hash, ""), (&joined, ""), (&first, "")]),
        advice: if explained { advice.into() } else { String::new() },
        picture: Some(picture),
        tables: found.iter().map(table).collect(),
        evidence: vec![evidence(&main.samples)],
        missing,
    }
}

/// The question's answer. With the cheaper handler the ratio is nearer to the post's: a worker that is
/// alone leaves the other core to wrk, and the more wrk has to do for a request, the less that costs.
fn answer(found: &[Found], explained: bool) -> String {
    let main = &found[0];
    let [hash, first] = [HASH, FIRST].map(|name| words(main.of_shared(name), 3));
    let cheap = found.iter().find(|found| found.cost == CHEAP).map(|found| {
        format!(", and {} with a handler of {}", words(found.of_shared(FIRST), 3), found.cost)
    });
    let cheap = cheap.unwrap_or_default();
    let load = format!("under the post's load, with a handler of {}", main.cost);
    let post = posts_ratio();
    match explained {
        true => format!(
            "Most likely because macOS gives every connection to one of the sockets (others measured that, \
             nothing here ran on macOS), so that four workers were compared with one: with Linux made to do \
             the same (--steer first), own sockets serve {first} of what a shared one does {load}{cheap}, and \
             the post had {post:.3}. The hash that it suspects is not the cause: with that, own sockets \
             serve {hash}."
        ),
        false => format!(
            "Own sockets serve {hash} of what a shared one does here {load}, and {first} when one of \
             them gets all connections{cheap}; the post had {post:.3}."
        ),
    }
}

fn table(found: &Found) -> Table {
    found
        .samples
        .table(format!("Requests/s, {}", found.words))
        .medians("requests/s", Unit::PerSecond, |slice| slice.requests_per_second)
        .estimates("of shared", Unit::Ratio, |name| found.of_shared(name))
        .middles("CPU per request", Unit::Microseconds, WrkSample::cpu_us)
        .note("")
}

/// Who accepted and who left the CPU, from the scoreboard and from /proc.
fn evidence(samples: &Samples<WrkSample>) -> Table {
    // wrk opens one connection before its load; whoever answers requests has more than that.
    let busy = |slice: &WrkSample| slice.served.iter().filter(|&&requests| requests > 1).count();
    samples
        .table("What the kernel saw")
        .means("workers that got connections", Unit::Mean, |slice| busy(slice) as f64)
        .middles("busiest / average worker", Unit::Ratio, WrkSample::unevenness)
        .middles("switches per request", Unit::Ratio, WrkSample::switches_each)
        .note("medians over the slices; of the workers the mean; of each server all processes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::chapter::Verdict::{NotDecidable, NotReproduced, Reproduced};
    use crate::lab::interleaved::tests::slice;

    fn found(hash: f64, first: f64, spread: f64) -> Findings {
        let even = [500; 4];
        let rounds = |ratio: f64, spread: f64, served: &[u64]| {
            let jitter = |round| if round % 2 == 0 { 1.0 + spread } else { 1.0 - spread };
            (0..12).map(|round| slice(20_000.0 * ratio * jitter(round), served)).collect()
        };
        let groups = vec![
            (BASELINE.into(), rounds(1.0, 0.0, &even)),
            (HASH.into(), rounds(hash, spread, &even)),
            (FIRST.into(), rounds(first, spread, &[2000, 0, 0, 0])),
            (JOINED.into(), rounds(hash, spread, &even)),
        ];
        let words = "handler 70us, 2 cores".into();
        findings(&[Found { cost: SANIC, words, samples: Samples { groups, seed: 1 } }], vec![])
    }

    #[test]
    fn the_hash_is_not_the_cause_where_only_one_worker_of_four_is_slow() {
        let verdicts = found(0.97, 0.6, 0.02).claims.into_iter().map(|claim| claim.verdict);
        assert_eq!(verdicts.collect::<Vec<_>>(), [NotReproduced, NotReproduced, Reproduced]);
        let posts = posts().map(crate::report::format::count);
        let theirs = format!("{:.3} ({} of {} requests/s)", posts_ratio(), posts[0], posts[1]);
        assert_eq!(found(1.0, 1.0, 0.0).claims[0].theirs, theirs);
        let answer = found(0.97, 0.6, 0.0).answer;
        assert!(answer.contains("four workers were compared with one:"), "{answer}");
        assert!(answer.contains("own sockets serve 0.600 (0.600 to 0.600) of"), "{answer}");
    }

    #[test]
    fn a_hash_that_is_slow_is_found_and_too_much_noise_decides_nothing() {
        let slow = found(0.65, 0.6, 0.02);
        assert_eq!(slow.claims[0].verdict, Reproduced);
        assert!(slow.answer.starts_with("Own sockets serve 0.65"), "{}", slow.answer);
        assert!(matches!(found(0.84, 0.80, 0.5).claims[0].verdict, NotDecidable(_)));
    }

    #[test]
    fn evidence_names_how_many_workers_had_anything_to_do() {
        let table = found(1.0, 0.6, 0.0).evidence.remove(0);
        let workers = |row: usize| table.rows[row].cells[0].value;
        assert_eq!((workers(1), workers(2)), (Some(4.0), Some(1.0)));
    }
}
