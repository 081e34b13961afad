//! What the README has of the results: the answer, every claim, the matrix; and what to use in which
//! case. All of it is Markdown, with the figures of the record.

use crate::documents::lab::{ABOUT_INTERVALS, ABOUT_QUICK, answer as posts_answer, claims};
use crate::documents::{list, machine, matrix as matrices};
use crate::environment::Environment;
use crate::lab::record::Lab;
use crate::matrix::expectations::{GOOD, others_at_their_worst};
use crate::matrix::record::{Figure, Matrix, Verdict};
use crate::matrix::workloads::{LOAD_AWARE, STOPPED};
use crate::report::markdown;
use crate::report::model::{Block, Table, escaped};
use crate::report::svg;

const SHARED: &str = LOAD_AWARE[0];
const OWN: &str = LOAD_AWARE[1];
const MANY: &str = "close, 256 workers";

/// From here on a figure of one policy differs from that of another by enough to speak of.
const DIFFERS: f64 = 0.05;

/// The title of the README's picture.
const TITLE: &str = "Every policy in every workload: requests/s and p99 over those of the best";

/// The README's picture.
pub fn picture(matrix: &Matrix) -> String {
    svg::heat(&matrices::overview(matrix), TITLE)
}

/// What the README opens with, between its marks.
pub fn answer(lab: &Lab) -> String {
    let answer = posts_answer(lab).map_or_else(
        || "**Why did the post see what it saw?** It was not measured yet.".into(),
        |(question, answer)| format!("**{question}** {}", escaped(answer)),
    );
    let mut text = format!("\n## The answer\n\n{answer}\n\n");
    text += &lab.body.matrix.as_ref().map(in_short).unwrap_or_default();
    let mut claims = markdown::blocks(&[Block::Table(claims(lab))], 2);
    for chapter in &lab.body.chapters {
        let name = &chapter.name;
        let link = format!("\n| [{name}](loadtest/RESULTS.md#{name}) | ");
        claims = claims.replace(&format!("\n| {name} | "), &link);
    }
    text += &format!(
        "What others say of the two, and what was found here:\n\n{claims}\n{ABOUT_INTERVALS}\n\n\
         Every [policy](#run-the-servers) of who gets the next connection, in every workload:\n\n"
    );
    text += &match &lab.body.matrix {
        Some(matrix) => format!(
            "![{TITLE}](loadtest/results.svg)\n\n{}\n{}",
            markdown::blocks(&[Block::Table(in_brief(matrix))], 2),
            legend(matrix)
        ),
        None => "it was not measured yet.\n".into(),
    };
    let date = |environment: &Environment| -> String {
        environment.started_at.chars().take_while(|&c| c != 'T').collect()
    };
    let matrix = lab.body.matrix.as_ref().map(|matrix| date(&matrix.environment));
    let matrix = matrix.map(|date| format!(", the matrix by `make matrix` on {date}"));
    text += &format!(
        "\nMeasured by `make lab` on {}{} ({}); everything else it found is in \
         [RESULTS.md](loadtest/RESULTS.md).{}{}\n\n",
        date(&lab.environment),
        matrix.unwrap_or_default(),
        escaped(&machine(&lab.environment)),
        if lab.body.quick { format!(" {ABOUT_QUICK}") } else { String::new() },
        if lab.warnings.is_empty() { "" } else { " Its warnings stand there, too." }
    );
    text
}

/// What the names mean; where each socket loses as it comes, what looking at the load improves and
/// what it costs, and where it is not good even then.
fn in_short(matrix: &Matrix) -> String {
    let rows = [
        ("A shared socket", "shared/epoll", "--accept", SHARED, ""),
        ("Own sockets", "reuseport/hash", "--steer", OWN, " (needs CAP_BPF and CAP_PERFMON)"),
    ];
    let mut text = String::from(
        "In short. `epoll` wakes all workers, and the fastest gets the connection; `hash` is the \
         kernel's choice, blind to load; `least-conn` looks at how many connections each worker has. \
         *keep*: connections are kept; *close*: each request has a new one; *mixed*: some requests \
         block their worker. Figures are parts of the requests/s of the best policy:\n\n",
    );
    for (socket, plain, option, aware, needs) in rows {
        let judged = matrix.columns.iter().filter(|column| column.judged);
        let pairs = judged.filter_map(|column| {
            let [plain, aware] = [plain, aware].map(|policy| matrix.figure(&column.name, policy));
            let [plain, aware] = [plain?.part(), aware?.part()];
            (plain.is_finite() && aware.is_finite()).then_some((&*column.name, plain, aware))
        });
        let (mut better, mut worse) = (Vec::new(), Vec::new());
        for pair @ (_, plain, aware) in pairs {
            match aware - plain {
                change if change <= -DIFFERS => worse.push(pair),
                change if change >= DIFFERS && plain < GOOD => better.push(pair),
                _ => {}
            }
        }
        better.sort_by(|a, b| a.1.total_cmp(&b.1));
        let each = |pairs: &[(&str, f64, f64)]| {
            let pair = |(name, plain, aware): &(&str, f64, f64)| {
                format!("*{name}* {plain:.2} to {aware:.2}")
            };
            let pairs: Vec<_> = pairs.iter().map(pair).collect();
            if pairs.is_empty() { "nothing".into() } else { pairs.join(", ") }
        };
        let short = not_good(matrix, aware);
        text += &format!(
            "- **{socket}** (`{plain}`): `{option} least-conn`{needs} improves {}, and costs {}. It is \
             not good {}.\n",
            each(&better),
            each(&worse),
            if short.is_empty() { "nowhere".into() } else { format!("in {}", list(&short)) }
        );
    }
    text = text.replace("It is not good nowhere", "It is good everywhere");
    text + "- What to use, and why: [Which should I use?](#which-should-i-use)\n\n"
}

/// Where a policy is not good, with its figures.
fn not_good(matrix: &Matrix, policy: &str) -> Vec<String> {
    let judged = matrix.columns.iter().filter(|column| column.judged);
    let figures = judged.filter_map(|one| Some((&one.name, matrix.figure(&one.name, policy)?)));
    let short = figures.filter(|(_, figure)| !matrices::is_good(figure));
    short.map(|(name, figure)| format!("*{name}* ({})", said(figure))).collect()
}

/// A policy's figures in a workload: requests/s of the best, and p99.
fn said(figure: &Figure) -> String {
    let last = figure.latencies.last();
    let ideal = last.and_then(|at| at.latencies.p99_of_ideal);
    let p99 = last.and_then(|at| at.p99_of_best);
    let undecided = (figure.verdict == Some(Verdict::Undecided)).then(|| "undecided".to_owned());
    let parts = [
        figure.of_best.map(|part| format!("{:.2}", part.value)),
        match ideal {
            Some(times) => Some(format!("p99 {:.1} times the ideal", times.value)),
            None => p99.map(|times| format!("p99 {:.2}", times.value)),
        },
        undecided,
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The map without intervals and absolute figures, which RESULTS.md has.
fn in_brief(matrix: &Matrix) -> Table {
    let mut table = matrices::overview(matrix);
    for cell in table.rows.iter_mut().flat_map(|row| &mut row.cells) {
        (cell.interval, cell.text) = (None, None);
    }
    table
}

/// What the workloads are.
fn legend(matrix: &Matrix) -> String {
    let each = matrix.columns.iter();
    each.map(|column| format!("- {}: {}\n", escaped(&column.name), escaped(&column.words)))
        .collect()
}

/// What the README says of each case, between its marks.
pub fn cases(matrix: Option<&Matrix>) -> String {
    let Some(matrix) = matrix else { return "\nThis was not measured yet.\n\n".into() };
    format!(
        "\n{}\n\n{}\n\nThe cases in detail, with requests/s of the best and p99 over the lowest:\n\n{}\n",
        in_how_many(matrix),
        with_many(matrix),
        table(matrix)
    )
}

/// Where each load-aware policy is good, and who is the best of the others.
fn in_how_many(matrix: &Matrix) -> String {
    let each = LOAD_AWARE.map(|policy| {
        let short = not_good(matrix, policy);
        match short.is_empty() {
            true => format!("`{policy}` in every workload"),
            false => format!("`{policy}` in every workload but {}", list(&short)),
        }
    });
    let others = others_at_their_worst(matrix).max_by(|(.., a), (.., b)| a.total_cmp(b));
    let others = others.map_or_else(String::new, |(policy, workload, worst)| {
        format!(
            " Of all others the best is `{policy}`, with {worst:.2} in its worst (*{workload}*)."
        )
    });
    format!("Good are {}.{others}", each.join(", and "))
}

/// What is left of a policy's rate with 4 workers when it has 256.
fn with_many(matrix: &Matrix) -> String {
    let part = |policy: &str| {
        let rate = |column| Some(matrix.figure(column, policy)?.rate());
        let part = rate(MANY).zip(rate("close")).map(|(many, few)| many / few);
        format!("`{policy}` {}", number(part))
    };
    let policies = ["shared/epoll", "shared/exclusive", SHARED, "reuseport/hash", OWN].map(part);
    format!(
        "Of what they serve with 4 workers, a new connection for each request, these serve with 256: {}.",
        list(&policies)
    )
}

fn table(matrix: &Matrix) -> String {
    let figure = |column: &str, policy: &str| matrix.figure(column, policy);
    let stopped = |policy: &str| number(figure(STOPPED, policy).and_then(|f| f.while_stopped));
    let lost = |policy: &str| one(figure(STOPPED, policy).and_then(|f| f.lost_when_killed));
    let uneven = |policy| number(figure("post", policy).and_then(|f| f.connections_max_over_mean));
    let shared = |of: fn(&Figure) -> Option<f64>| -> Vec<f64> {
        let is_shared = |policy: &&String| policy.starts_with("shared/");
        let figures = matrix.policies.iter().filter(is_shared).filter_map(|p| figure(STOPPED, p));
        figures.filter_map(of).collect()
    };
    let by_hand = [
        [
            "a worker may hang or stop".into(),
            format!(
                "a shared socket: {} of the rate before, one of four stopped; own `least-conn` {}",
                range(&shared(|figure| figure.while_stopped), number),
                stopped(OWN)
            ),
            format!(
                "own `hash` {}, since each of the 32 clients waits for its answer, and so soon for \
                 that worker; of clients that do not wait, about every fourth connection would (not \
                 measured)",
                stopped("reuseport/hash")
            ),
        ],
        [
            "a worker hangs and is then killed".into(),
            format!(
                "a shared socket loses {} requests, own `least-conn` {} (or `tcp_migrate_req=1`, see \
                 [crash](loadtest/RESULTS.md#crash))",
                range(&shared(|figure| figure.lost_when_killed), one),
                lost(OWN)
            ),
            format!("own `hash` {}: all clients who wait for it", lost("reuseport/hash")),
        ],
        [
            "connections that are kept for long".into(),
            format!(
                "`least-conn`: the busiest worker has {} (shared) or {} times (own) the average's \
                 connections",
                uneven(SHARED),
                uneven(OWN)
            ),
            format!(
                "shared `epoll` {} times, own `hash` {}",
                uneven("shared/epoll"),
                uneven("reuseport/hash")
            ),
        ],
        [
            "a reload must lose nothing".into(),
            "either, if sockets are [handed over](loadtest/RESULTS.md#reload), as both servers do"
                .into(),
            "closing a socket of one's own, as most servers do".into(),
        ],
    ];
    let measured = [
        ("all requests block, connections are new", &["blocking, new connections"][..]),
        ("all requests block, connections are kept", &["blocking, kept"]),
        ("some requests block, connections are kept", &["mixed keep"]),
        ("some requests block, connections are new", &["mixed close"]),
        ("requests that take CPU time", &["heavy"]),
        ("many more workers than cores (64, 256)", &["close, 64 workers", MANY]),
        ("fewer connections than workers", &["few connections"]),
        ("short requests, all alike, kept connections", &["keep"]),
        ("short requests, all alike, new connections", &["close"]),
        (
            "the same, clients on other machines",
            &["keep, client elsewhere", "close, client elsewhere"],
        ),
    ];
    let measured = measured.into_iter().filter_map(|(case, names)| served(matrix, case, names));
    let rows: String =
        measured.chain(by_hand).map(|row| format!("| {} |\n", row.join(" | "))).collect();
    format!("| your case | good | worse |\n|---|---|---|\n{rows}")
}

/// The row of a case that these workloads are: which policies are good in all of them, and which are
/// not, the best first. A workload's name may go on: "keep" is not "keep, pinned", but "few" is all of
/// those that begin with it if there is none of that name.
fn served(matrix: &Matrix, case: &str, names: &[&str]) -> Option<[String; 3]> {
    let known = |name: &&str| matrix.columns.iter().any(|column| column.name == **name);
    let names: Vec<&str> = match names.iter().all(|name| known(&name)) {
        true => names.to_vec(),
        false => {
            let begins = |column: &&str| names.iter().any(|name| column.starts_with(name));
            matrix.columns.iter().map(|column| &*column.name).filter(begins).collect()
        }
    };
    if names.is_empty() {
        return None;
    }
    let figures = |policy: &String| -> Option<(String, Vec<&Figure>)> {
        let all: Option<Vec<_>> = names.iter().map(|name| matrix.figure(name, policy)).collect();
        Some((policy.clone(), all?))
    };
    // By requests/s or, where handlers block, by p99.
    let worst = |figures: &[&Figure]| {
        let value = |figure: &&Figure| {
            let times = figure.latencies.last().and_then(|at| at.latencies.p99_of_ideal);
            times.map_or(figure.part(), |times| 1.0 / times.value)
        };
        figures.iter().map(value).fold(f64::INFINITY, f64::min)
    };
    let mut all: Vec<(String, Vec<&Figure>)> = matrix.policies.iter().filter_map(figures).collect();
    all.sort_by(|(_, a), (_, b)| worst(b).total_cmp(&worst(a)));
    let is_good = |figures: &[&Figure]| figures.iter().all(|f| matrices::is_good(f));
    let (good, bad): (Vec<_>, Vec<_>) = all.iter().partition(|(_, figures)| is_good(figures));
    let row = |policies: Vec<&(String, Vec<&Figure>)>| -> String {
        let policies = policies.into_iter().map(|(policy, figures)| {
            let each: Vec<String> = figures.iter().map(|figure| said(figure)).collect();
            format!("`{policy}` {}", list(&each))
        });
        policies.collect::<Vec<_>>().join("; ")
    };
    Some([case.into(), row(good), row(bad)])
}

/// A part, to two places; a dash where there is none.
fn number(value: Option<f64>) -> String {
    value.filter(|value| value.is_finite()).map_or("–".into(), |value| format!("{value:.2}"))
}

/// A count that is an average.
fn one(value: Option<f64>) -> String {
    value.map_or("–".into(), |value| format!("{value:.1}"))
}

fn range(values: &[f64], show: fn(Option<f64>) -> String) -> String {
    let least = values.iter().copied().reduce(f64::min);
    let most = values.iter().copied().reduce(f64::max);
    format!("{} to {}", show(least), show(most))
}
