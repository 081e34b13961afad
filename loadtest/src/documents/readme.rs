//! What the README has of the results: the answer, every claim, the matrix; and what to use in which
//! case. All of it is Markdown, with the figures of the record.

use crate::documents::lab::{ABOUT_INTERVALS, ABOUT_QUICK, answer as posts_answer, claims};
use crate::documents::{list, machine, matrix as matrices};
use crate::environment::Environment;
use crate::lab::chapter::Chapter;
use crate::lab::record::Lab;
use crate::matrix::expectations::{GOOD, others_at_their_worst};
use crate::matrix::record::{Column, Figure, Matrix, Verdict};
use crate::matrix::workloads::{LOAD_AWARE, STOPPED};
use crate::report::format::number;
use crate::report::model::{Block, Table, Unit, escaped};
use crate::report::{markdown, svg};

const SHARED: &str = LOAD_AWARE[0];
const OWN: &str = LOAD_AWARE[1];
const EPOLL: &str = "shared/epoll";
const HASH: &str = "reuseport/hash";
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
    let matrix = lab.body.matrix.as_ref();
    let date = |environment: &Environment| -> String {
        environment.started_at.chars().take_while(|&c| c != 'T').collect()
    };
    let measured = format!(
        "Measured by `make lab` on {}{} ({}); everything else it found is in \
         [RESULTS.md](loadtest/RESULTS.md).{}{}\n",
        date(&lab.environment),
        matrix.map_or_else(String::new, |matrix| {
            format!(", the matrix by `make matrix` on {}", date(&matrix.environment))
        }),
        escaped(&machine(&lab.environment)),
        if lab.body.quick { format!(" {ABOUT_QUICK}") } else { String::new() },
        if lab.warnings.is_empty() { "" } else { " Its warnings stand there, too." }
    );
    let mut blocks = vec![
        Block::Heading("The answer".into()),
        Block::Text(answer),
        Block::Text(matrix.map(in_short).unwrap_or_default()),
        Block::Text("What others say of the two, and what was found here:".into()),
        Block::Table(claims(lab)),
        Block::Text(ABOUT_INTERVALS.into()),
        Block::Text(
            "Every [policy](#run-the-servers) of who gets the next connection, in every workload:"
                .into(),
        ),
    ];
    blocks.extend(match matrix {
        Some(matrix) => vec![
            Block::Text(format!("![{TITLE}](loadtest/results.svg)")),
            Block::Table(in_brief(matrix)),
            Block::Facts(matrices::workloads(matrix)),
        ],
        None => vec![Block::Text("it was not measured yet.".into())],
    });
    blocks.push(Block::Text(measured));
    let mut text = markdown::blocks(&blocks, 2);
    for Chapter { name, .. } in &lab.body.chapters {
        let link = format!("\n| [{name}](loadtest/RESULTS.md#{name}) | ");
        text = text.replace(&format!("\n| {name} | "), &link);
    }
    format!("\n{text}\n")
}

/// What the names mean; where each socket loses as it comes, what looking at the load improves and
/// what it costs, and where it is not good even then.
fn in_short(matrix: &Matrix) -> String {
    let socket = |name, plain, option, aware| {
        let parts = |column: &Column| {
            let part = |policy| Some(matrix.figure(&column.name, policy)?.part());
            let (plain, aware) = (part(plain)?, part(aware)?);
            (plain.is_finite() && aware.is_finite()).then(|| (column.name.clone(), plain, aware))
        };
        let judged = matrix.columns.iter().filter(|column| column.judged);
        let mut parts: Vec<(String, f64, f64)> = judged.filter_map(parts).collect();
        let listed = |parts: &[(String, f64, f64)], wanted: fn(f64, f64) -> bool| {
            let parts = parts.iter().filter(|(_, plain, aware)| wanted(*plain, aware - plain));
            let each =
                parts.map(|(name, plain, aware)| format!("*{name}* {plain:.2} to {aware:.2}"));
            let each: Vec<String> = each.collect();
            if each.is_empty() { "nothing".into() } else { each.join(", ") }
        };
        let worse = listed(&parts, |_, change| change <= -DIFFERS);
        parts.sort_by(|a, b| a.1.total_cmp(&b.1));
        let better = listed(&parts, |plain, change| change >= DIFFERS && plain < GOOD);
        let short = match &not_good(matrix, aware)[..] {
            [] => "It is good everywhere".into(),
            short => format!("It is not good in {}", list(short)),
        };
        format!(
            "- **{name}** (`{plain}`): `{option}` improves {better}, and costs {worse}. {short}.\n"
        )
    };
    format!(
        "In short. `epoll` wakes all workers, and the fastest gets the connection; `hash` is the \
         kernel's choice, blind to load; `least-conn` looks at how many connections each worker has. \
         *keep*: connections are kept; *close*: each request has a new one; *mixed*: some requests \
         block their worker. Figures are parts of the requests/s of the best policy:\n\n{}{}\
         - `--steer least-conn` needs CAP_BPF and CAP_PERFMON\n\
         - What to use, and why: [Which should I use?](#which-should-i-use)\n",
        socket("A shared socket", EPOLL, "--accept least-conn", SHARED),
        socket("Own sockets", HASH, "--steer least-conn", OWN)
    )
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
        let part = rate(MANY).zip(rate("close")).map_or(f64::NAN, |(many, few)| many / few);
        format!("`{policy}` {}", number(part, Unit::Times))
    };
    let policies = [EPOLL, "shared/exclusive", SHARED, HASH, OWN].map(part);
    format!(
        "Of what they serve with 4 workers, a new connection for each request, these serve with 256: {}.",
        list(&policies)
    )
}

/// Cases that are one or several workloads each.
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
    ("the same, clients on other machines", &["keep, client elsewhere", "close, client elsewhere"]),
];

/// Cases of which it takes words to say who is good and who is worse.
fn in_words(matrix: &Matrix) -> [[String; 3]; 4] {
    let served = |whose| ends(matrix, whose, STOPPED, Unit::Times, |of| of.while_stopped);
    let lost = |whose| ends(matrix, whose, STOPPED, Unit::Mean, |of| of.lost_when_killed);
    let uneven =
        |whose| ends(matrix, whose, "post", Unit::Times, |of| of.connections_max_over_mean);
    let case = |name: &str, good, bad| [name.into(), good, bad];
    [
        case(
            "a worker may hang or stop",
            format!(
                "a shared socket: {} of the rate before, one of four stopped; own `least-conn` {}",
                served("shared/"),
                served(OWN)
            ),
            format!(
                "own `hash` {}, since each of the 32 clients waits for its answer, and so soon for \
                 that worker; of clients that do not wait, about every fourth connection would (not \
                 measured)",
                served(HASH)
            ),
        ),
        case(
            "a worker hangs and is then killed",
            format!(
                "a shared socket loses {} requests, own `least-conn` {} (or `tcp_migrate_req=1`, see \
                 [crash](loadtest/RESULTS.md#crash))",
                lost("shared/"),
                lost(OWN)
            ),
            format!("own `hash` {}: all clients who wait for it", lost(HASH)),
        ),
        case(
            "connections that are kept for long",
            format!(
                "`least-conn`: the busiest worker has {} (shared) or {} times (own) the average's \
                 connections",
                uneven(SHARED),
                uneven(OWN)
            ),
            format!("shared `epoll` {} times, own `hash` {}", uneven(EPOLL), uneven(HASH)),
        ),
        case(
            "a reload must lose nothing",
            "either, if sockets are [handed over](loadtest/RESULTS.md#reload), as both servers do"
                .into(),
            "closing a socket of one's own, as most servers do".into(),
        ),
    ]
}

/// A figure of a policy or, from the least to the most, of all those whose names begin so.
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
    format!("| your case | good | worse |\n|---|---|---|\n{}", rows.collect::<String>())
}

/// The row of a case that these workloads are, as far as they were run: which policies are good in all
/// of them, and which are not, the best first.
fn served(matrix: &Matrix, case: &str, names: &[&str]) -> Option<[String; 3]> {
    let known = |name: &&&str| matrix.columns.iter().any(|column| column.name == ***name);
    let names: Vec<&&str> = names.iter().filter(known).collect();
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
