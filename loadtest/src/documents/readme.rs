//! The generated parts of the README: the answer to the post, and the advice. Markdown with the figures of the
//! record, in lines that fit.

use std::collections::BTreeSet;

use crate::documents::answers::{self, MACOS, answers, rate};
use crate::documents::cases::{EPOLL, HASH, MANY, OWN, SHARED, uneven};
use crate::documents::matrix as matrices;
use crate::lab::record::Lab;
use crate::matrix::record::Matrix;
use crate::matrix::workloads::STOPPED;
use crate::report::format::number;
use crate::report::model::{Table, Unit};
use crate::report::svg;
use crate::report::wrap::hanging;

/// The width of the README.
const WIDTH: usize = 100;

/// The title of the README's picture.
const TITLE: &str = "Every policy in every workload: requests/s and p99 over those of the best";

/// How to read it.
const ABOUT_PICTURE: &str = "Requests/s over those of the best policy in the row. p99 at the \
    rate named over the lowest p99 or, where handlers block, over that of one ideal queue: 1 \
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
        // A line has no room for the whole address, which is at the end of the file.
        let words = answer.words.replace(&format!("]({MACOS})"), "][macos]");
        text += &hanging("- ", &format!("**{}** {words}", answer.about), WIDTH);
        text.extend(answer.parts.iter().map(|part| hanging("  - ", part, WIDTH)));
    }
    text + &hanging("- ", &scope(lab), WIDTH)
}

/// The scope of the figures: machine, load, commits.
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

/// The advice for at most eight situations, and the settings of other servers.
pub fn advice(lab: &Lab) -> String {
    let mut table = String::from("| your situation | use | measured here |\n|---|---|---|\n");
    match lab.body.whole_matrix() {
        Some(matrix) => {
            for (situation, choice, figures) in situations(lab, &matrix) {
                table += &format!("| {situation} | {choice} | {figures} |\n");
            }
        }
        None => table += "| any | | not measured yet |\n",
    }
    table + "\n" + &elsewhere(lab)
}

/// Each situation with its choice and its figures.
fn situations(lab: &Lab, matrix: &Matrix) -> [(&'static str, &'static str, String); 8] {
    let known = |figure: Option<String>| figure.unwrap_or_else(|| "not measured".into());
    let new = |policy| known(answers::of_ideal(matrix.column("blocking, new connections"), policy));
    let kept = |policy| known(answers::of_ideal(matrix.column("blocking, kept"), policy));
    let rate = |name: &str, policy| rate(matrix, name, policy);
    let uneven = |policy| uneven(matrix, policy);
    let p99 = |name: &str, policy| p99(matrix, name, policy);
    let many = |policy| {
        let names = ["close, 64 workers", MANY];
        let [rates, p99s] = [names.map(|it| rate(it, policy)), names.map(|it| p99(it, policy))];
        format!("{}, p99 {}", rates.join(", "), p99s.join(", "))
    };
    let claim = |place: usize| {
        let claims = lab.body.chapter("reload").map_or(&[][..], |reload| &reload.findings.claims);
        let ours = claims.get(place).map(|claim| claim.ours.trim()).filter(|ours| !ours.is_empty());
        // Only numbers: the text beside them says what they count.
        known(ours.map(|ours| ours.split([' ', '(']).next().unwrap_or_default().to_owned()))
    };
    [
        (
            "blocking: p99/ideal",
            "`least-conn`",
            format!("{}, own {}; `exclusive` {}", new(SHARED), new(OWN), new("shared/exclusive")),
        ),
        (
            "the same, kept",
            "`least-conn`",
            format!("{}, own {}; `blocking` {}", kept(SHARED), kept(OWN), kept("shared/blocking")),
        ),
        (
            "a few requests block",
            "shared `least-conn`",
            format!(
                "new: {}, `hash` {}; kept: {}, `epoll` {}",
                rate("mixed close", SHARED),
                rate("mixed close", HASH),
                rate("mixed keep", SHARED),
                rate("mixed keep", EPOLL)
            ),
        ),
        ("64, 256 workers", "shared `least-conn`", format!("{}; own {}", many(SHARED), many(OWN))),
        (
            "4 workers: kept, new",
            "`epoll`, `least-conn`",
            format!(
                "`epoll` {}, {}; kept {}, {}; new {}, {}",
                rate("keep", EPOLL),
                p99("keep", EPOLL),
                rate("keep", SHARED),
                p99("keep", SHARED),
                rate("close", SHARED),
                p99("close", SHARED)
            ),
        ),
        (
            "kept long: max/mean",
            "`least-conn`",
            format!(
                "{}, own {}, `epoll` {}; requests/s {}, {}, {}",
                uneven(SHARED),
                uneven(OWN),
                uneven(EPOLL),
                rate("post", SHARED),
                rate("post", OWN),
                rate("post", EPOLL)
            ),
        ),
        (
            "a worker may hang",
            "shared, or own `least-conn`",
            format!(
                "`epoll` {}, own {}; `hash` {}",
                rate(STOPPED, EPOLL),
                rate(STOPPED, OWN),
                rate(STOPPED, HASH)
            ),
        ),
        (
            "a reload must lose nothing",
            "either, sockets handed over",
            format!("{} lost; if closed, {} (32 clients)", claim(3), claim(0)),
        ),
    ]
}

/// p99 over the lowest, in this workload.
fn p99(matrix: &Matrix, name: &str, policy: &str) -> String {
    let column = matrix.column(name);
    let times = column.and_then(|column| column.p99(matrix.figure(name, policy)?));
    times.map_or_else(|| "?".into(), |times| format!("{:.1}", times.value))
}

/// The settings of other servers for both ways to listen.
fn elsewhere(lab: &Lab) -> String {
    let times = |name: &str| {
        let rows = &lab.body.servers.as_ref()?.rows;
        let blocking = rows.iter().find(|row| row.name == name)?.blocking.as_ref()?;
        Some(number(blocking.of_ideal, Unit::Times))
    };
    let gunicorn = |option: &str| {
        let found = ["sync", "gthread"].map(|worker| times(&format!("gunicorn {worker}{option}")));
        found.map(|times| times.unwrap_or_else(|| "?".into())).join(", ")
    };
    format!(
        "| elsewhere | shared socket | own sockets |\n|---|---|---|\n\
         | nginx | the default, like `--accept exclusive`, but in turns | `listen 80 reuseport` |\n\
         | gunicorn `sync`, `gthread`: p99/ideal | the default: {} | `--reuse-port`: {} |\n\
         | puma | the default; `wait_for_less_busy_worker` is near `least-conn` | none |\n\
         | granian | none in version 2 | the default |\n\
         | node cluster | `SCHED_NONE`; by default the parent accepts | `reusePort: true` (from 22.12) |\n",
        gunicorn(""),
        gunicorn(" --reuse-port")
    )
}
