//! What the README has of the results: the answer to the post, and what to use in which situation. All of
//! it is Markdown with the figures of the record, in lines that fit.

use std::collections::BTreeSet;

use crate::documents::answers::{MACOS, answers, blocking, rate, uneven};
use crate::documents::cases::{EPOLL, HASH, MANY, OWN, SHARED};
use crate::documents::matrix as matrices;
use crate::lab::record::Lab;
use crate::matrix::record::Matrix;
use crate::matrix::workloads::STOPPED;
use crate::report::model::Table;
use crate::report::svg;
use crate::report::wrap::hanging;

/// Columns of a line of the README.
const WIDTH: usize = 100;

/// The title of the README's picture.
const TITLE: &str = "Every policy in every workload: requests/s and p99 over those of the best";

/// How to read it.
const ABOUT_PICTURE: &str = "Requests/s over those of the policy with the highest median in the row. p99 at the \
    highest common rate over the lowest p99 or, where handlers block, over that of one ideal queue: 1 \
    is best. A frame: not good; a dashed one: undecided, since the 95 % interval crosses a limit.";

/// The README's picture.
pub fn picture(matrix: &Matrix) -> String {
    let table = Table { note: ABOUT_PICTURE.into(), ..matrices::overview(matrix) };
    svg::heat(&table, TITLE)
}

/// The answer to the post, in bullets.
pub fn answer(lab: &Lab) -> String {
    let mut text = String::new();
    for answer in answers(lab) {
        // A line has no room for the whole address, which stands at the end of the file.
        let words = answer.words.replace(&format!("]({MACOS})"), "][macos]");
        text += &hanging("- ", &format!("**{}** {words}", answer.about), WIDTH);
        text.extend(answer.parts.iter().map(|part| hanging("  - ", part, WIDTH)));
    }
    text + &hanging("- ", &scope(lab), WIDTH)
}

/// Of what all of this is true.
fn scope(lab: &Lab) -> String {
    let cores = lab.environment.cores;
    let mut runs = vec![&lab.environment];
    runs.extend(lab.body.matrices().map(|run| &run.environment));
    runs.extend(lab.body.servers.iter().map(|it| &it.environment));
    let machines: BTreeSet<_> = runs.iter().map(|at| (&at.kernel, &at.cpu)).collect();
    let cpus: BTreeSet<_> = runs.iter().filter_map(|at| at.cpu.as_deref()).collect();
    let commits: BTreeSet<_> = runs.iter().map(|at| &at.commit).collect();
    let cpus: Vec<_> = cpus.into_iter().collect();
    let machines = match machines.len() {
        1 => "One machine".to_owned(),
        several => format!("{several} machines"),
    };
    format!(
        "**Scope.** {machines} of {cores} cores ({}), load from the same machine, at most \
         200 connections. {}{} All figures, with the commits: [RESULTS.md](loadtest/RESULTS.md).",
        cpus.join(", "),
        if commits.len() == 1 {
            "All runs are of one commit."
        } else {
            "The runs are of several commits."
        },
        if lab.body.quick { " The lab ran in its short form." } else { "" }
    )
}

/// What to use in which situation, at most eight of them.
pub fn advice(lab: &Lab) -> String {
    let mut table = String::from("| your situation | use | measured here |\n|---|---|---|\n");
    match lab.body.whole_matrix() {
        Some(matrix) => {
            for [situation, choice, figures] in situations(lab, &matrix) {
                table += &format!("| {situation} | {choice} | {figures} |\n");
            }
        }
        None => table += "| any | | not measured yet |\n",
    }
    table
}

fn situations(lab: &Lab, matrix: &Matrix) -> [[String; 3]; 8] {
    let of_ideal =
        |policies: &[&str]| blocking(matrix, policies).unwrap_or_else(|| "not measured".into());
    let row = |situation: &str, choice: &str, figures: String| {
        [situation.to_owned(), choice.to_owned(), figures]
    };
    let rates = |names: [&str; 2], policy| names.map(|name| rate(matrix, name, policy)).join(", ");
    let many = ["close, 64 workers", MANY];
    let claim = |place: usize| {
        let claims = lab.body.chapter("reload").map_or(&[][..], |reload| &reload.findings.claims);
        let ours = claims.get(place).map(|claim| claim.ours.trim()).filter(|ours| !ours.is_empty());
        // Numbers alone: what they count is said beside them.
        let number = ours.map(|ours| ours.split([' ', '(']).next().unwrap_or_default());
        number.unwrap_or("not measured").to_owned()
    };
    [
        row(
            "handlers block: p99/ideal",
            "`least-conn`",
            format!(
                "{}, own {}; `hash` {}",
                of_ideal(&[SHARED]),
                of_ideal(&[OWN]),
                of_ideal(&[HASH])
            ),
        ),
        row(
            "the same, without `least-conn`",
            "`--accept exclusive`",
            format!("{}; `epoll` {}", of_ideal(&["shared/exclusive"]), of_ideal(&[EPOLL])),
        ),
        row(
            "a few requests block",
            "shared `least-conn`",
            format!(
                "new: {}, `hash` {}; kept: {}, `epoll` {}",
                rate(matrix, "mixed close", SHARED),
                rate(matrix, "mixed close", HASH),
                rate(matrix, "mixed keep", SHARED),
                rate(matrix, "mixed keep", EPOLL)
            ),
        ),
        row(
            "short, 64/256 workers",
            "shared `least-conn`",
            format!("{}; own {}{}", rates(many, SHARED), rates(many, OWN), p99_of_best(matrix)),
        ),
        row(
            "short, few workers",
            "`least-conn`",
            format!(
                "shared {}, own {}; `hash` {}",
                rates(["keep", "close"], SHARED),
                rates(["keep", "close"], OWN),
                rates(["keep", "close"], HASH)
            ),
        ),
        row(
            "kept for long",
            "`least-conn`",
            format!(
                "busiest/mean {} ({}); `epoll` {} ({}), `hash` {}",
                uneven(matrix, SHARED),
                rate(matrix, "post", SHARED),
                uneven(matrix, EPOLL),
                rate(matrix, "post", EPOLL),
                uneven(matrix, HASH)
            ),
        ),
        row(
            "a worker may hang",
            "shared, or own `least-conn`",
            format!(
                "32 clients: {}, {}; `hash` {}",
                rate(matrix, STOPPED, EPOLL),
                rate(matrix, STOPPED, OWN),
                rate(matrix, STOPPED, HASH)
            ),
        ),
        row(
            "a reload must lose nothing",
            "either, sockets handed over",
            format!("{} lost; if closed, {} (32 clients)", claim(3), claim(0)),
        ),
    ]
}

/// p99 of short requests to many workers with own sockets, over the lowest.
fn p99_of_best(matrix: &Matrix) -> String {
    let name = "close, 64 workers";
    let p99 = matrix
        .column(name)
        .zip(matrix.figure(name, OWN))
        .and_then(|(column, figure)| column.p99(figure));
    p99.map_or_else(String::new, |times| format!(", p99 {:.2} times lowest", times.value))
}
