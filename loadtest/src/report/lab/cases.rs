//! What the README says of each case: what to use in it and what not, with the matrix's figures.

use crate::matrix::expectations::{GOOD, others_at_their_worst};
use crate::matrix::record::{Figure, Matrix};
use crate::matrix::workloads::{LOAD_AWARE, STOPPED};

const SHARED: &str = LOAD_AWARE[0];
const OWN: &str = LOAD_AWARE[1];
const MANY: &str = "close, 256 workers";

/// What is between its marks in the README.
pub fn cases(matrix: Option<&Matrix>) -> String {
    let Some(matrix) = matrix else { return "\nThis was not measured yet.\n\n".into() };
    format!(
        "\n{}\n\n{}\n\nThe cases in detail:\n\n{}\n",
        in_how_many(matrix),
        with_many(matrix),
        table(matrix)
    )
}

/// Where each load-aware policy is good, and who is the best of the others.
fn in_how_many(matrix: &Matrix) -> String {
    let each = LOAD_AWARE.map(|policy| {
        let judged = matrix.columns.iter().filter(|column| column.judged);
        let figures = judged.filter_map(|c| Some((&c.name, matrix.figure(&c.name, policy)?)));
        let short: Vec<String> = figures
            .filter(|(_, figure)| figure.part() < GOOD)
            .map(|(name, figure)| format!("*{name}* ({:.2})", figure.part()))
            .collect();
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
    format!("At least {GOOD} of what the best serves has {}.{others}", each.join(", and "))
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
    let rows = [
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
        served(matrix, "some requests block, connections are kept", &["mixed keep"]),
        served(matrix, "some requests block, connections are new", &["mixed close"]),
        served(matrix, "many more workers than cores (64, 256)", &["close, 64 workers", MANY]),
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
        served(matrix, "short requests, all alike, kept connections", &["keep"]),
        served(matrix, "short requests, all alike, new connections", &["close"]),
        [
            "a reload must lose nothing".into(),
            "either, if sockets are [handed over](loadtest/RESULTS.md#reload), as both servers do"
                .into(),
            "closing a socket of one's own, as most servers do".into(),
        ],
    ];
    let rows = rows.map(|cells: [String; 3]| format!("| {} |\n", cells.join(" | ")));
    format!("| your case | good | worse |\n|---|---|---|\n{}", rows.concat())
}

/// The row of a case that these workloads are: which policies are good in all of them, and which are not.
fn served(matrix: &Matrix, case: &str, workloads: &[&str]) -> [String; 3] {
    let figures = |policy: &String| -> Option<(String, Vec<f64>)> {
        let of = |workload: &&str| Some(matrix.figure(workload, policy)?.part());
        Some((policy.clone(), workloads.iter().map(of).collect::<Option<_>>()?))
    };
    let worst = |of_best: &[f64]| of_best.iter().copied().fold(f64::INFINITY, f64::min);
    let mut all: Vec<(String, Vec<f64>)> = matrix.policies.iter().filter_map(figures).collect();
    all.sort_by(|(_, a), (_, b)| worst(b).total_cmp(&worst(a)));
    let (good, bad): (Vec<_>, Vec<_>) = all.iter().partition(|(_, of_best)| worst(of_best) >= GOOD);
    let said = |policies: Vec<&(String, Vec<f64>)>| -> String {
        let said = policies.into_iter().map(|(policy, of_best)| {
            let numbers: Vec<String> = of_best.iter().map(|&part| number(Some(part))).collect();
            format!("`{policy}` {}", list(&numbers))
        });
        said.collect::<Vec<_>>().join(", ")
    };
    [case.into(), said(good), said(bad)]
}

/// As one says it: a, b and c.
pub fn list(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// A part, to two places; a dash where there is none.
fn number(value: Option<f64>) -> String {
    value.map_or("–".into(), |value| format!("{value:.2}"))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::expectations::tests::matrix;
    use crate::statistics::estimate::Estimate;

    #[test]
    fn every_figure_is_the_matrixs() {
        let mut matrix = matrix();
        let keep = matrix.columns.iter_mut().find(|column| column.name == "keep").unwrap();
        keep.cells.iter_mut().find(|f| f.policy == SHARED).unwrap().of_best =
            Some(Estimate::exact(0.8));
        let text = cases(Some(&matrix));
        for words in [
            "`shared/least-conn` in every workload but *keep* (0.80), and `reuseport/least-conn` in \
             every workload.",
            "with 0.40 in its worst (*mixed close*)",
            "`shared/epoll` 0.10, `shared/exclusive` 1.00",
            "a shared socket: 0.02 to 1.02 of the rate before, one of four stopped; own `least-conn` 1.02",
            "loses 3.0 to 32.0 requests",
        ] {
            assert!(text.contains(words), "{words} is not in\n{text}");
        }
        let table = text.lines().filter(|line| line.starts_with('|'));
        assert!(table.map(|row| row.matches(" | ").count()).skip(2).all(|cells| cells == 2));
    }

    #[test]
    fn who_is_good_and_who_is_not_is_what_the_figures_say_the_best_first() {
        let mut matrix = matrix();
        let of_best = [(SHARED, 0.9), (OWN, GOOD), ("shared/epoll", 1.0), ("reuseport/hash", 0.3)];
        matrix.policies = of_best.map(|(policy, _)| policy.into()).into();
        for column in &mut matrix.columns {
            for (policy, part) in of_best {
                if let Some(figure) = column.cells.iter_mut().find(|it| it.policy == policy) {
                    figure.of_best =
                        Some(Estimate::exact(if column.name == MANY { part / 2.0 } else { part }));
                }
            }
        }
        let text = cases(Some(&matrix));
        for row in [
            "| short requests, all alike, kept connections | `shared/epoll` 1.00, \
             `reuseport/least-conn` 0.95 | `shared/least-conn` 0.90, `reuseport/hash` 0.30 |",
            "(64, 256) |  | `shared/epoll` 1.00 and 0.50, `reuseport/least-conn` 0.95 and 0.47, \
             `shared/least-conn` 0.90 and 0.45, `reuseport/hash` 0.30 and 0.15 |",
        ] {
            assert!(text.contains(row), "{row} is not in\n{text}");
        }
    }

    #[test]
    fn what_was_not_measured_is_a_dash_or_said() {
        let mut matrix = matrix();
        matrix.policies.retain(|policy| policy != OWN);
        matrix.columns.iter_mut().for_each(|c| c.cells.retain(|figure| figure.policy != OWN));
        assert!(cases(Some(&matrix)).contains("own `least-conn` – "));
        assert!(cases(None).contains("not measured yet"));
    }
}
