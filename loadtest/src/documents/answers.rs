//! The answers with which the README and the lab's book begin: why the post saw 0.648, when each way to listen
//! loses, what mends that, and what it costs. Markdown, with the figures of the record.

use crate::documents::cases::{EPOLL, HASH, MANY, OWN, SHARED, uneven};
use crate::documents::lab::answer as posts_answer;
use crate::documents::trade::{Trade, not_measured};
use crate::documents::{list, range};
use crate::lab::chapter::Claim;
use crate::lab::chapters::post::SANIC;
use crate::lab::record::Lab;
use crate::matrix::record::{AtLoad, Column, Kind, Matrix};
use crate::report::format::{cell, number};
use crate::report::model::{Unit, escaped};

/// In how many workloads improvements and costs are named; RESULTS.md has all.
const FEW: usize = 2;

/// The policies whose latencies are compared if all handlers block.
const COMPARED: [&str; 4] = [EPOLL, HASH, SHARED, OWN];

/// The source about macOS.
pub const MACOS: &str =
    "https://github.com/kaappi/kaappi-net/tree/main/research/reuseport-accept-distribution";

/// An answer, perhaps with a list of parts.
pub struct Answer {
    /// Its subject, in a few words.
    pub about: String,
    /// The answer.
    pub words: String,
    /// Its parts; may be empty.
    pub parts: Vec<String>,
}

impl Answer {
    fn of(about: &str, words: impl Into<String>) -> Self {
        Self { about: about.into(), words: words.into(), parts: Vec::new() }
    }

    /// The answer as a paragraph, with a list below it.
    pub fn markdown(&self) -> String {
        let parts = self.parts.iter().map(|part| format!("\n- {part}"));
        format!("**{}** {}\n{}", self.about, self.words, parts.collect::<String>())
    }
}

/// All answers, as far as they were measured.
pub fn answers(lab: &Lab) -> Vec<Answer> {
    let mut all = vec![post(lab)];
    match lab.body.whole_matrix() {
        Some(matrix) => all.extend([shared(&matrix), own(&matrix), price(lab, &matrix)]),
        None => all.push(Answer::of("When each loses.", "That was not measured yet.")),
    }
    all
}

/// Why the post saw 0.648, if the experiment's verdicts agree with this explanation.
fn post(lab: &Lab) -> Answer {
    const ABOUT: &str = "Why the post saw 0.648.";
    let claims = lab.body.chapter("post").map_or(&[][..], |post| &post.findings.claims);
    let met = |claim: &Claim| claim.verdict.met();
    match claims {
        [hash, _, first] if met(hash) == Some(false) && met(first) == Some(true) => {
            let words = format!(
                "The post ran on macOS, where one of the sockets on a port gets every new connection \
                 ([measured by others]({MACOS}); nothing here ran on macOS). So it most likely compared \
                 four busy workers with one. One serves more than a quarter of what four do, since wrk takes \
                 part of the cores. If Linux does the same (`--steer first`), with {} of CPU \
                 time per request, as Sanic takes, own sockets serve {} of the requests/s \
                 of a shared socket (95 % interval). With the same work and Linux's own hash, \
                 in which the post suspects the cause, they serve {}.{}",
                SANIC.replace("us", " us"),
                first.ours,
                hash.ours,
                own_programs(lab).unwrap_or_default()
            );
            Answer::of(ABOUT, words)
        }
        _ => match posts_answer(lab) {
            Some((question, answer)) => Answer::of(question, escaped(answer)),
            None => Answer::of(ABOUT, "That was not measured yet."),
        },
    }
}

/// The ratios of the post's own programs here, if they were measured.
fn own_programs(lab: &Lab) -> Option<String> {
    let [by_hash, to_one] = lab.body.servers.as_ref()?.post.as_ref()?.of_shared();
    Some(format!(
        " The post's own programs here: own sockets serve {} of the shared one's requests/s, and {} if \
         all are steered to one.",
        by_hash?, to_one?
    ))
}

/// When a shared socket loses.
fn shared(matrix: &Matrix) -> Answer {
    let words = format!(
        "By default each new connection wakes all idle workers (the *thundering herd*): {} of the \
         best policy's requests/s with 64 workers, {} with 256. Kept connections gather at few workers \
         (the busiest of four had {} times the average under the post's load): where 0.5 % of their \
         requests block, {} of the best; own sockets {}.",
        of_best(matrix, "close, 64 workers", EPOLL),
        of_best(matrix, MANY, EPOLL),
        uneven(matrix, EPOLL),
        of_best(matrix, "mixed keep", EPOLL),
        of_best(matrix, "mixed keep", HASH)
    );
    Answer::of("When a shared socket loses.", words)
}

/// When own sockets lose.
fn own(matrix: &Matrix) -> Answer {
    let words = format!(
        "By default the kernel picks a queue regardless of the load of its worker, and a connection \
         never changes its queue: it waits while that worker blocks or is stopped, although others are \
         idle. Where 0.5 % of requests on new connections block: {} of the best requests/s; short requests with 64 \
         and 256 workers: {} and {}. With one of four workers stopped, 32 clients that wait for their answers soon all \
         wait for it. Where all handlers block, p99 is {} times that of the *ideal*, one queue \
         for all workers without overhead.",
        of_best(matrix, "mixed close", HASH),
        of_best(matrix, "close, 64 workers", HASH),
        of_best(matrix, MANY, HASH),
        blocking(matrix, HASH).unwrap_or_else(|| "(not measured)".into())
    );
    Answer::of("When own sockets lose.", words)
}

/// What mends each, and what that costs.
fn price(lab: &Lab, matrix: &Matrix) -> Answer {
    let socket = |title, option, rights, trade: Trade, policies| {
        let (improves, costs) = (trade.improves(FEW), trade.costs(FEW));
        let lost = lost(lab, policies).unwrap_or_default();
        format!("*{title}* (`{option}`) improves {improves}. Cost: {rights}{costs}{lost}.")
    };
    let words = format!(
        "The policy `least-conn` considers the load of each worker. On busy cores its workers do not \
         preempt others (SCHED_BATCH), so a request may wait some milliseconds.{} At worst it serves {} of the best \
         policy's requests/s in a workload:",
        not_measured(matrix),
        list(&[SHARED, OWN].map(|policy| worst(matrix, policy)))
    );
    let own = "the capabilities CAP_BPF and CAP_PERFMON, Linux 5.14, no upgrade by SIGUSR2; ";
    let parts = vec![
        socket("Shared", "--accept least-conn", "", Trade::shared(matrix), [EPOLL, SHARED]),
        socket("Own", "--steer least-conn", own, Trade::own(matrix), [HASH, OWN]),
    ];
    Answer { parts, ..Answer::of("What improves each, and at what cost.", words) }
}

/// What the death of a worker costs with one policy and with another, as the experiment *crash* has measured.
fn lost(lab: &Lab, policies: [&str; 2]) -> Option<String> {
    let requests_lost = lab.body.chapter("crash")?.findings.tables.first()?;
    let [from, to] = policies.map(|policy| {
        let row = requests_lost.rows.iter().find(|row| row.name.starts_with(policy))?;
        Some(cell(row.cells.first()?, Unit::Mean))
    });
    Some(format!("; a killed worker loses {} requests instead of {}", to?, from?))
}

/// The workload in which a policy has the least part of the best policy's requests/s.
fn worst(matrix: &Matrix, policy: &str) -> String {
    let parts = matrix.columns.iter().filter_map(|column| {
        let part = matrix.figure(&column.name, policy)?.of_best?.value;
        Some((part, &column.name))
    });
    let least = parts.min_by(|(one, _), (other, _)| one.total_cmp(other));
    let socket = if policy == OWN { "own" } else { "shared" };
    least.map_or_else(String::new, |(part, name)| {
        format!("{} ({socket}, *{name}*)", number(part, Unit::Times))
    })
}

/// Requests/s over those of the best policy, with the interval.
fn of_best(matrix: &Matrix, workload: &str, policy: &str) -> String {
    let part = matrix.figure(workload, policy).and_then(|figure| figure.of_best);
    cell(&part.into(), Unit::Times)
}

/// Requests/s of a policy in a workload, over those of the best policy.
pub fn rate(matrix: &Matrix, workload: &str, policy: &str) -> String {
    let part = matrix.figure(workload, policy).map_or(f64::NAN, |figure| figure.part());
    number(part, Unit::Times)
}

/// If all handlers block: p99 over the ideal, from the least to the greatest, at the rates at which all [`COMPARED`]
/// policies have one; with other rates, different loads would be compared.
pub fn blocking(matrix: &Matrix, policy: &str) -> Option<String> {
    let columns = matrix.columns.iter().filter(|column| column.kind == Kind::Blocking);
    of_ideal(columns, policy)
}

/// The same in some of these workloads.
pub fn of_ideal<'a>(columns: impl IntoIterator<Item = &'a Column>, policy: &str) -> Option<String> {
    let mut all = Vec::new();
    for column in columns {
        let at = |policy: &str| -> Vec<(u64, f64)> {
            let figures = column.cells.iter().filter(|figure| figure.policy == policy);
            let loads = figures.flat_map(|figure| &figure.latencies);
            let times = |at: &AtLoad| Some((at.rate, at.latencies.p99_of_ideal?.value));
            loads.filter_map(times).collect()
        };
        let compared = COMPARED.map(at);
        let is_compared =
            |rate| compared.iter().all(|others| others.iter().any(|(other, _)| *other == rate));
        all.extend(at(policy).into_iter().filter(|(rate, _)| is_compared(*rate)));
    }
    range(all.into_iter().map(|(_, times)| times))
}
