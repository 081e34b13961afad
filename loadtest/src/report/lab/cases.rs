//! What the README says of each case: what to use in it and what not, with the matrix's figures.

use crate::matrix::cells::{LOAD_AWARE, STOPPED};
use crate::matrix::demands::{GOOD, others_at_their_worst};
use crate::matrix::record::{Figure, Matrix};

const SHARED: &str = LOAD_AWARE[0];
const OWN: &str = LOAD_AWARE[1];

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
            .filter(|(_, figure)| figure.of_best < GOOD)
            .map(|(name, figure)| format!("*{name}* ({:.2})", figure.of_best))
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
        let rate = |column| Some(matrix.figure(column, policy)?.requests_per_second);
        let part = rate("close, 256 workers").zip(rate("close")).map(|(many, few)| many / few);
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
    let of = |column: &str, policy: &str| number(figure(column, policy).map(|f| f.of_best));
    let both = |column: &str| {
        format!("`least-conn`: shared {}, own {}", of(column, SHARED), of(column, OWN))
    };
    let stopped = |policy: &str| number(figure(STOPPED, policy).and_then(|f| f.while_stopped));
    let lost = |policy: &str| one(figure(STOPPED, policy).and_then(|f| f.lost_when_killed));
    let uneven = |policy| number(figure("post", policy).and_then(|f| f.connections_max_over_mean));
    let shared = |of: fn(&Figure) -> Option<f64>| -> Vec<f64> {
        let is_shared = |policy: &&String| policy.starts_with("shared/");
        let figures = matrix.policies.iter().filter(is_shared).filter_map(|p| figure(STOPPED, p));
        figures.filter_map(of).collect()
    };
    let [few, many] = ["close, 64 workers", "close, 256 workers"];
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
        [
            "some requests block, connections are kept".into(),
            format!("{}; own `hash` {}", both("mixed keep"), of("mixed keep", "reuseport/hash")),
            format!(
                "shared `epoll` {}, own `cpu` {}",
                of("mixed keep", "shared/epoll"),
                of("mixed keep", "reuseport/cpu")
            ),
        ],
        [
            "some requests block, connections are new".into(),
            both("mixed close"),
            format!(
                "own `hash` {}; shared `epoll` {}",
                of("mixed close", "reuseport/hash"),
                of("mixed close", "shared/epoll")
            ),
        ],
        [
            "many more workers than cores (64, 256)".into(),
            format!(
                "`least-conn`: shared {} and {}, own {} and {}",
                of(few, SHARED),
                of(many, SHARED),
                of(few, OWN),
                of(many, OWN)
            ),
            format!(
                "shared `epoll` {} and {}, own `hash` {} and {}",
                of(few, "shared/epoll"),
                of(many, "shared/epoll"),
                of(few, "reuseport/hash"),
                of(many, "reuseport/hash")
            ),
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
            "short requests, all alike, kept connections".into(),
            format!("own `cpu` {}; {}", of("keep", "reuseport/cpu"), both("keep")),
            format!(
                "shared `epoll` {}, own `hash` {}, `first` {}",
                of("keep", "shared/epoll"),
                of("keep", "reuseport/hash"),
                of("keep", "reuseport/first")
            ),
        ],
        [
            "short requests, all alike, new connections".into(),
            format!("{}; own `cpu` {}", both("close"), of("close", "reuseport/cpu")),
            format!(
                "shared `epoll` {}, own `hash` {}",
                of("close", "shared/epoll"),
                of("close", "reuseport/hash")
            ),
        ],
        [
            "a reload must lose nothing".into(),
            "either, if sockets are [handed over](loadtest/RESULTS.md#reload), as both servers do"
                .into(),
            "closing a socket of one's own, as most servers do".into(),
        ],
    ];
    let rows = rows.map(|cells: [String; 3]| format!("| {} |\n", cells.join(" | ")));
    format!("| your case | good | bad |\n|---|---|---|\n{}", rows.concat())
}

/// As one says it: a, b and c.
fn list(words: &[String]) -> String {
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
    use crate::matrix::demands::tests::matrix;

    #[test]
    fn every_figure_is_the_matrixs() {
        let mut matrix = matrix();
        let keep = matrix.columns.iter_mut().find(|column| column.name == "keep").unwrap();
        keep.cells.iter_mut().find(|f| f.policy == SHARED).unwrap().of_best = 0.8;
        let text = cases(Some(&matrix));
        for words in [
            "`shared/least-conn` in every workload but *keep* (0.80), and `reuseport/least-conn` in \
             every workload.",
            "with 0.40 in its worst (*mixed close*)",
            "`shared/epoll` 0.10, `shared/exclusive` 1.00",
            "a shared socket: 0.02 to 1.02 of the rate before, one of four stopped; own `least-conn` 1.02",
            "| own `cpu` 1.00; `least-conn`: shared 0.80, own 0.99 |",
            "loses 3.0 to 32.0 requests",
        ] {
            assert!(text.contains(words), "{words} is not in\n{text}");
        }
        let table = text.lines().filter(|line| line.starts_with('|'));
        assert!(table.map(|row| row.matches(" | ").count()).skip(2).all(|cells| cells == 2));
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
