//! What to use in which case: every policy in every kind of load, the good ones first.

use crate::documents::{list, matrix as matrices};
use crate::matrix::expectations::others_at_their_worst;
use crate::matrix::record::{Column, Figure, Matrix, Verdict};
use crate::matrix::workloads::{LOAD_AWARE, STOPPED};
use crate::report::format::number;
use crate::report::model::Unit;

pub const SHARED: &str = LOAD_AWARE[0];
pub const OWN: &str = LOAD_AWARE[1];
pub const EPOLL: &str = "shared/epoll";
pub const HASH: &str = "reuseport/hash";
pub const MANY: &str = "close, 256 workers";

/// The table of cases, as Markdown.
pub fn cases(matrix: &Matrix) -> String {
    format!("{}\n\n{ABOUT}\n\n{}", in_how_many(matrix), table(matrix))
}

/// How to read the table.
const ABOUT: &str = "Figures are requests/s over those of the best policy and, after *p99*, p99 over \
    the lowest one or, where all handlers block, over that of one ideal queue. A figure is the geometric \
    mean of the ratios of all rounds, for p99 of their middle half (so a stall of the machine does not decide), and the \
    best is the policy with the best such mean; as that is partly luck, the others look a little worse than they are. The middle half is of other rounds for each pair, so a p99 may come out \
    a little below the lowest. A policy \
    is undecided where an interval contains a limit, or rests on fewer than 6 rounds.";

/// In which workloads a policy is good, undecided and not good, with its figures.
pub fn verdicts(matrix: &Matrix, policy: &str) -> String {
    let columns = matrix.columns.iter();
    let figures: Vec<_> =
        columns.filter_map(|one| Some((one, matrix.figure(&one.name, policy)?))).collect();
    let of = |wanted: Verdict| -> Vec<String> {
        let those = figures.iter().filter(|(_, figure)| matrices::verdict(figure) == wanted);
        those
            .map(|(column, figure)| format!("*{}* ({})", column.name, said(column, figure)))
            .collect()
    };
    let mut text = format!("good in {} of {} workloads", of(Verdict::Good).len(), figures.len());
    for (verdict, words) in [(Verdict::Undecided, "undecided in"), (Verdict::Bad, "not good in")] {
        let those = of(verdict);
        if !those.is_empty() {
            text += &format!(", {words} {} ({})", those.len(), those.join("; "));
        }
    }
    text
}

/// A policy's figures in a workload: requests/s over the best policy's, and p99.
fn said(column: &Column, figure: &Figure) -> String {
    let last = figure.latencies.last();
    let ideal = last.and_then(|at| at.latencies.p99_of_ideal);
    let parts = [
        figure.of_best.map(|part| format!("{:.2}", part.value)),
        match ideal {
            Some(times) => Some(format!("p99 {:.1} times the ideal", times.value)),
            None => column.p99(figure).map(|times| format!("p99 {:.2}", times.value)),
        },
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// In which workloads each load-aware policy is good, and the best of the other policies.
fn in_how_many(matrix: &Matrix) -> String {
    let each = LOAD_AWARE.map(|policy| format!("`{policy}` is {}.", verdicts(matrix, policy)));
    let others = others_at_their_worst(matrix).max_by(|(.., a), (.., b)| a.total_cmp(b));
    let others = others.map_or_else(String::new, |(policy, workload, worst)| {
        format!(
            " The best of the others is `{policy}`, whose worst result is {worst:.2} \
             (*{workload}*)."
        )
    });
    each.join(" ") + &others
}

/// Cases that consist of one or several workloads.
const MEASURED: [(&str, &[&str]); 10] = [
    ("all requests block, connections are new", &["blocking, new connections"]),
    ("all requests block, connections are kept", &["blocking, kept"]),
    ("some requests block, connections are kept", &["mixed keep"]),
    ("some requests block, connections are new", &["mixed close"]),
    ("requests that take CPU time", &["heavy"]),
    ("many more workers than cores (64, 256)", &["close, 64 workers", MANY]),
    ("fewer connections than workers", &["2 connections", "3 connections"]),
    ("short requests, all alike, kept connections", &["keep"]),
    ("short requests, all alike, new connections", &["close"]),
    (
        "the same, the client on a core of its own",
        &["keep, client elsewhere", "close, client elsewhere"],
    ),
];

/// Cases with a description instead of figures of workloads.
fn in_words(matrix: &Matrix) -> [[String; 4]; 4] {
    let served = |whose| ends(matrix, whose, STOPPED, Unit::Times, |of| of.while_stopped);
    let lost = |whose| ends(matrix, whose, STOPPED, Unit::Mean, |of| of.lost_when_killed);
    let uneven = |policy| uneven(matrix, policy);
    let case = |name: &str, good, bad| [name.into(), good, String::new(), bad];
    [
        case(
            "a worker may hang or stop",
            format!(
                "a shared socket: {} of the rate before, one of four stopped; own `least-conn` {}",
                served("shared/"),
                served(OWN)
            ),
            format!(
                "own `hash` {}: each of the 32 clients waits for its answer, and so all soon wait \
                 for that worker (at a fixed rate: see [the servers](#how-widely-used-servers-behave))",
                served(HASH)
            ),
        ),
        case(
            "a worker hangs and is then killed",
            format!(
                "a shared socket loses {} requests, own `least-conn` {} (or `tcp_migrate_req=1`, see \
                 [crash](#crash))",
                lost("shared/"),
                lost(OWN)
            ),
            format!("own `hash` {}: all clients that wait for it", lost(HASH)),
        ),
        case(
            "connections that are kept for long",
            format!(
                "`least-conn`: the busiest worker has {} (shared) or {} times (own) the average \
                 number of connections",
                uneven(SHARED),
                uneven(OWN)
            ),
            format!("shared `epoll` {} times, own `hash` {}", uneven(EPOLL), uneven(HASH)),
        ),
        case(
            "a reload must lose nothing",
            "either, if sockets are [handed over](#reload), as both servers do".into(),
            "closing per-worker sockets, as most servers do".into(),
        ),
    ]
}

/// The busiest worker's kept connections over the average, under the post's load.
pub fn uneven(matrix: &Matrix, policy: &str) -> String {
    ends(matrix, policy, "post", Unit::Times, |figure| figure.connections_max_over_mean)
}

/// A figure of a policy or, from the least to the greatest, of all policies with this prefix.
fn ends(
    matrix: &Matrix,
    whose: &str,
    column: &str,
    unit: Unit,
    of: fn(&Figure) -> Option<f64>,
) -> String {
    let policies = matrix.policies.iter().filter(|policy| policy.starts_with(whose));
    let mut values: Vec<f64> =
        policies.filter_map(|policy| of(matrix.figure(column, policy)?)).collect();
    values.sort_by(f64::total_cmp);
    let [least, most] = [values.first(), values.last()]
        .map(|end| end.map_or("–".into(), |end| number(*end, unit)));
    if whose.ends_with('/') { format!("{least} to {most}") } else { least }
}

fn table(matrix: &Matrix) -> String {
    let measured = MEASURED.iter().filter_map(|(case, names)| served(matrix, case, names));
    let rows = measured.chain(in_words(matrix)).map(|row| format!("| {} |\n", row.join(" | ")));
    let head = "| your case | good | undecided | not good |\n|---|---|---|---|\n";
    format!("{head}{}", rows.collect::<String>())
}

/// The row of a case with these workloads, as far as they were run: the policies that are good in all of them, those
/// that may be, and the others, each the best first.
fn served(matrix: &Matrix, case: &str, names: &[&str]) -> Option<[String; 4]> {
    let columns: Vec<&Column> = names.iter().filter_map(|name| matrix.column(name)).collect();
    if columns.is_empty() {
        return None;
    }
    let figures = |policy: &String| -> Option<(String, Vec<&Figure>)> {
        let all: Option<Vec<_>> =
            columns.iter().map(|column| matrix.figure(&column.name, policy)).collect();
        Some((policy.clone(), all?))
    };
    // By requests/s or, with blocking handlers, by p99.
    let worst = |figures: &[&Figure]| {
        let value = |figure: &&Figure| {
            let times = figure.latencies.last().and_then(|at| at.latencies.p99_of_ideal);
            times.map_or(figure.part(), |times| 1.0 / times.value)
        };
        figures.iter().map(value).fold(f64::INFINITY, f64::min)
    };
    let mut all: Vec<(String, Vec<&Figure>)> = matrix.policies.iter().filter_map(figures).collect();
    all.sort_by(|(_, a), (_, b)| worst(b).total_cmp(&worst(a)));
    let row = |wanted: Verdict| -> String {
        let those = all.iter().filter(|(_, figures)| together(figures) == wanted);
        let policies = those.map(|(policy, figures)| {
            let each: Vec<String> =
                columns.iter().zip(figures).map(|(column, figure)| said(column, figure)).collect();
            format!("`{policy}` {}", list(&each))
        });
        policies.collect::<Vec<_>>().join("; ")
    };
    let [good, undecided, bad] = [Verdict::Good, Verdict::Undecided, Verdict::Bad].map(row);
    Some([case.into(), good, undecided, bad])
}

/// The verdict on several workloads: the worst of theirs.
fn together(figures: &[&Figure]) -> Verdict {
    let has = |wanted| figures.iter().any(|figure| matrices::verdict(figure) == wanted);
    match (has(Verdict::Bad), has(Verdict::Undecided)) {
        (true, _) => Verdict::Bad,
        (_, true) => Verdict::Undecided,
        _ => Verdict::Good,
    }
}
