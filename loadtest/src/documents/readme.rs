//! The generated parts of the README: the answer to the post, and the advice. Markdown with the figures of the
//! record, in lines that fit.

use std::collections::BTreeSet;

use crate::documents::answers::{self, MACOS, answers, rate};
use crate::documents::cases::{EPOLL, HASH, MANY, OWN, SHARED};
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
    let mut table = String::from(
        "| requests, connections | use | requests/s | p99 | the default instead |\n|---|---|---|---|---|\n",
    );
    match lab.body.whole_matrix() {
        Some(matrix) => {
            for cells in situations(lab, &matrix) {
                table += &format!("| {} |\n", cells.join(" | "));
            }
        }
        None => table += "| any | | not measured yet | | |\n",
    }
    table + "\n" + &elsewhere(lab)
}

/// Each situation with its choice, the figures of that, and those of the default.
fn situations(lab: &Lab, matrix: &Matrix) -> [[String; 5]; 8] {
    let known = |figure: Option<String>| figure.unwrap_or_else(|| "not measured".into());
    let blocking = |name, policy| known(answers::of_ideal(matrix.column(name), policy));
    let rate = |name: &str, policy| rate(matrix, name, policy);
    let p99 = |name: &str, policy| p99(matrix, name, policy);
    let both = |name, policy| format!("{}, p99 {}", rate(name, policy), p99(name, policy));
    let claim = |place: usize| {
        let claims = lab.body.chapter("reload").map_or(&[][..], |reload| &reload.findings.claims);
        let ours = claims.get(place).map(|claim| claim.ours.trim()).filter(|ours| !ours.is_empty());
        // Only numbers: the text beside them says what they count.
        known(ours.map(|ours| ours.split([' ', '(']).next().unwrap_or_default().to_owned()))
    };
    let all_block = |situation: &str, name| {
        [
            situation.into(),
            "either `least-conn`".into(),
            String::new(),
            format!("{} ({})", blocking(name, SHARED), blocking(name, OWN)).replace(" to ", "–"),
            format!("`epoll` {}", blocking(name, EPOLL)),
        ]
    };
    let short = ["close", "close, 64 workers", MANY];
    let of_short = |of: &dyn Fn(&str) -> String| short.map(of).join(", ");
    [
        all_block("all block, new", "blocking, new connections"),
        all_block("all block, kept", "blocking, kept"),
        [
            "0.5 % block, new".into(),
            "`least-conn`".into(),
            rate("mixed close", SHARED),
            p99("mixed close", SHARED),
            format!("`hash` {}", both("mixed close", HASH)),
        ],
        [
            "4, 64, 256 workers".into(),
            "`least-conn`".into(),
            of_short(&|name| rate(name, SHARED)),
            of_short(&|name| p99(name, SHARED)),
            format!("`epoll` {}", of_short(&|name| rate(name, EPOLL))),
        ],
        [
            "4 workers, kept".into(),
            "`epoll`".into(),
            rate("keep", EPOLL),
            p99("keep", EPOLL),
            format!("(`least-conn` {})", both("keep", SHARED)),
        ],
        [
            "0.5 % block, kept".into(),
            "either `least-conn`".into(),
            format!("{} ({})", rate("mixed keep", SHARED), rate("mixed keep", OWN)),
            format!("{} ({})", p99("mixed keep", SHARED), p99("mixed keep", OWN)),
            format!("`epoll` {}", both("mixed keep", EPOLL)),
        ],
        [
            "a worker may hang".into(),
            "shared, or own `least-conn`".into(),
            format!("{} ({})", rate(STOPPED, EPOLL), rate(STOPPED, OWN)),
            String::new(),
            format!("`hash` {}", rate(STOPPED, HASH)),
        ],
        [
            "a reload must lose nothing".into(),
            "either, sockets handed over".into(),
            format!("{} lost", claim(3)),
            String::new(),
            format!("sockets closed: {} lost", claim(0)),
        ],
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
