//! What a policy improves compared with another, and what it costs: requests/s and p99, workload by workload.
//! Improvements are never shown without costs.

use crate::documents::cases::{EPOLL, HASH, OWN, SHARED};
use crate::matrix::expectations::GOOD;
use crate::matrix::record::{Kind, Matrix};
use crate::statistics::estimate::Estimate;

/// The least ratio of two policies' requests/s that is reported.
const RATE_DIFFERS: f64 = 1.05;

/// The same for p99.
const P99_DIFFERS: f64 = 1.25;

/// A policy, and the one that it replaces.
pub struct Trade<'a> {
    matrix: &'a Matrix,
    plain: &'a str,
    aware: &'a str,
}

/// The change of a figure in one workload.
struct Change<'a> {
    workload: &'a str,
    words: String,
    /// How many times better the figure becomes.
    better: f64,
    /// Whether there was something to improve.
    was_bad: bool,
    /// Whether the two intervals do not overlap, so that the difference is not chance.
    is_certain: bool,
}

impl Change<'_> {
    /// Whether the figure becomes better or worse by at least this ratio.
    fn is_at_least(&self, ratio: f64) -> bool {
        self.better.max(1.0 / self.better) >= ratio
    }
}

impl<'a> Trade<'a> {
    /// The load-aware policy of a shared socket instead of the default.
    pub fn shared(matrix: &'a Matrix) -> Self {
        Self { matrix, plain: EPOLL, aware: SHARED }
    }

    /// The same for own sockets.
    pub fn own(matrix: &'a Matrix) -> Self {
        Self { matrix, plain: HASH, aware: OWN }
    }

    /// Certain improvements, the greatest first, in at most this many workloads.
    pub fn improves(&self, most: usize) -> String {
        let mut all = self.changes();
        all.retain(|change| change.was_bad && change.is_certain && change.better > 1.0);
        all.sort_by(|a, b| b.better.total_cmp(&a.better));
        said(all, most).unwrap_or_else(|| "nothing that was measured".into())
    }

    /// Costs, the greatest first, in at most this many workloads. Those that may be chance are included, and marked.
    pub fn costs(&self, most: usize) -> String {
        let mut all = self.changes();
        all.retain(|change| change.better < 1.0);
        all.sort_by(|a, b| b.is_certain.cmp(&a.is_certain).then(a.better.total_cmp(&b.better)));
        for change in all.iter_mut().filter(|change| !change.is_certain) {
            change.words += " (undecided)";
        }
        said(all, most)
            .unwrap_or_else(|| "no requests/s fell by 5 %, no measured p99 rose by 25 %".into())
    }

    /// The reported changes in all workloads.
    fn changes(&self) -> Vec<Change<'a>> {
        let changes = self.matrix.columns.iter().filter_map(|column| {
            let figure = |policy| self.matrix.figure(&column.name, policy);
            let (plain, aware) = (figure(self.plain)?, figure(self.aware)?);
            let change = |what, [from, to]: [Estimate; 2], of, better, was_bad| Change {
                workload: &column.name,
                words: format!("{what} from {:.2} to {:.2} {of}", from.value, to.value),
                better,
                was_bad,
                is_certain: are_apart(from, to),
            };
            let rate = plain.of_best.zip(aware.of_best).map(|(from, to)| {
                let better = to.value.max(0.01) / from.value.max(0.01);
                change("requests/s", [from, to], "of the best", better, from.value < GOOD)
            });
            let of = match column.kind {
                Kind::Blocking => "times the ideal",
                _ => "times the lowest",
            };
            let p99 = column.p99(plain).zip(column.p99(aware)).map(|(from, to)| {
                let better = from.value / to.value;
                change("p99", [from, to], of, better, from.value > P99_DIFFERS)
            });
            let rate = rate.filter(|change| change.is_at_least(RATE_DIFFERS));
            Some([rate, p99.filter(|change| change.is_at_least(P99_DIFFERS))])
        });
        changes.flatten().flatten().collect()
    }
}

/// Whether the intervals of two figures are known, and do not overlap.
fn are_apart(one: Estimate, other: Estimate) -> bool {
    one.interval
        .zip(other.interval)
        .is_some_and(|([low, high], [other_low, other_high])| high < other_low || other_high < low)
}

/// A sentence about costs that were not measured; empty if all were.
pub fn not_measured(matrix: &Matrix) -> &'static str {
    let columns = matrix.columns.iter().filter(|one| one.kind == Kind::Throughput);
    let mut cells = columns.flat_map(|column| column.cells.iter().map(move |cell| (column, cell)));
    match cells.any(|(column, figure)| column.p99(figure).is_some()) {
        true => "",
        false => " What it costs short requests in p99 was not measured in these runs.",
    }
}

/// The changes of the first workloads, and the number of further workloads.
fn said(all: Vec<Change>, most: usize) -> Option<String> {
    let mut workloads: Vec<(&str, Vec<String>)> = Vec::new();
    for change in all {
        match workloads.iter_mut().find(|(name, _)| *name == change.workload) {
            Some((_, words)) => words.push(change.words),
            None => workloads.push((change.workload, vec![change.words])),
        }
    }
    let left_out = workloads.len().saturating_sub(most);
    let mut each: Vec<String> = (workloads.into_iter().take(most))
        .map(|(name, words)| format!("*{name}*: {}", words.join(", ")))
        .collect();
    match left_out {
        0 => {}
        1 => each.push("one more workload".into()),
        several => each.push(format!("{several} more workloads")),
    }
    (!each.is_empty()).then(|| each.join("; "))
}

/// Both load-aware policies with all improvements and costs, as Markdown.
pub fn in_short(matrix: &Matrix) -> String {
    let socket = |title, option, needs, trade: Trade| {
        format!(
            "- **{title}**: `{option}` instead of `{}` improves: {}.\n\n  Cost: {}. {needs}.\n",
            trade.plain,
            trade.improves(usize::MAX),
            trade.costs(usize::MAX)
        )
    };
    format!(
        "`epoll` wakes all workers, and the fastest gets the connection. `hash` is the kernel's \
         default, which ignores the load. `least-conn` considers the load of each worker. Figures \
         are requests/s over those of the best policy in the workload.{}\n\n{}{}",
        not_measured(matrix),
        socket(
            "A shared socket",
            "--accept least-conn",
            "It needs no capabilities",
            Trade::shared(matrix)
        ),
        socket(
            "Own sockets",
            "--steer least-conn",
            "It needs CAP_BPF and CAP_PERFMON",
            Trade::own(matrix)
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::expectations::tests::matrix;
    use crate::matrix::record::{AtLoad, Figure};

    fn figure<'a>(matrix: &'a mut Matrix, column: &str, policy: &str) -> &'a mut Figure {
        let column = matrix.columns.iter_mut().find(|found| found.name == column).unwrap();
        column.cells.iter_mut().find(|figure| figure.policy == policy).unwrap()
    }

    /// This p99 at two rates; at the higher one without an interval.
    fn at(p99: f64) -> Vec<AtLoad> {
        let estimate = |interval| Some(Estimate { value: p99, interval });
        [Some([p99, p99]), None]
            .map(|interval| AtLoad { p99_of_best: estimate(interval), ..AtLoad::default() })
            .into()
    }

    #[test]
    fn a_gain_is_never_said_without_what_it_costs_in_requests_and_in_latency() {
        let mut matrix = matrix();
        figure(&mut matrix, "keep", SHARED).of_best =
            Some(Estimate { value: 0.80, interval: Some([0.79, 0.81]) });
        figure(&mut matrix, "close", EPOLL).latencies = at(1.0);
        figure(&mut matrix, "close", SHARED).latencies = at(3.1);
        figure(&mut matrix, "close", SHARED).latencies[1].p99_of_best = Some(Estimate::exact(99.0));
        let trade = Trade::shared(&matrix);
        assert_eq!(trade.improves(2), "*mixed close*: requests/s from 0.40 to 0.99 of the best");
        let both = "*close*: p99 from 1.00 to 3.10 times the lowest; \
                    *keep*: requests/s from 1.00 to 0.80 of the best";
        assert_eq!(trade.costs(2), both);
        assert_eq!(
            trade.costs(1),
            both.replace("*keep*: requests/s from 1.00 to 0.80 of the best", "one more workload")
        );
        assert!(in_short(&matrix).contains(both), "{}", in_short(&matrix));
    }

    #[test]
    fn without_latencies_it_is_said_that_they_were_not_measured() {
        let mut matrix = matrix();
        assert!(Trade::own(&matrix).costs(9).starts_with("no requests/s fell"));
        assert!(in_short(&matrix).contains("was not measured"));
        figure(&mut matrix, "close", EPOLL).latencies = at(1.0);
        assert_eq!(not_measured(&matrix), "");
    }
}
