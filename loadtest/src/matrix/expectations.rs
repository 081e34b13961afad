//! Expectations of the whole matrix, and whether they are met. The limits are fixed here and in [`verdict`],
//! before any run.

use crate::matrix::record::{Expectation, Figure, MatrixBody, Verdict};
use crate::matrix::verdict;
pub use crate::matrix::verdict::GOOD;
use crate::matrix::workloads::{LOAD_AWARE, STOPPED};
use crate::statistics::estimate::Estimate;

/// With a worker stopped, the others serve at least this part of what all served.
const WHILE_STOPPED: f64 = 0.90;

/// The busiest worker's connections over the average, at most: `shared/least-conn`, the post's load.
const EVEN: f64 = 1.2;

/// Connections of the busiest worker less those of the idlest, at most: `reuseport/least-conn`, the same load.
const MOST_APART: u64 = 1;

impl MatrixBody {
    /// Judges every cell, and the expectations.
    pub fn judge(&mut self) {
        for column in &mut self.columns {
            for cell in &mut column.cells {
                let (verdict, reason) = verdict::judge(column.kind, cell);
                (cell.verdict, cell.reason) = (Some(verdict), reason);
            }
        }
        self.expectations = judge(self);
    }
}

/// Judges the expectations.
fn judge(matrix: &MatrixBody) -> Vec<Expectation> {
    let [shared, own] = LOAD_AWARE;
    let post = |policy| matrix.figure("post", policy);
    let mut expectations = LOAD_AWARE.map(|policy| fast_everywhere(matrix, policy)).to_vec();
    expectations.push(nobody_else(matrix));
    expectations.push(limit(
        format!("{shared} spreads the post's connections: busiest / average at most {EVEN}"),
        post(shared).and_then(|figure| figure.connections_max_over_mean),
        |found| found <= EVEN,
    ));
    let apart = post(own).and_then(|figure| figure.connections_max_less_min);
    expectations.push(expectation(
        format!("{own}: busiest minus idlest at most {MOST_APART}"),
        apart.map(|found| (Some(found <= MOST_APART), found.to_string())),
    ));
    for policy in LOAD_AWARE {
        expectations.push(good_everywhere(matrix, policy));
        expectations.push(limit(
            format!(
                "{policy} with a worker stopped: at least {WHILE_STOPPED:.2} of the rate before"
            ),
            matrix.figure(STOPPED, policy).and_then(|figure| figure.while_stopped),
            |found| found >= WHILE_STOPPED,
        ));
    }
    expectations
}

fn limit(text: String, found: Option<f64>, met: impl Fn(f64) -> bool) -> Expectation {
    expectation(text, found.map(|found| (Some(met(found)), format!("{found:.2}"))))
}

/// An expectation that is met, not met or undecided by these figures; `None` if nothing was measured.
fn expectation(text: String, found: Option<(Option<bool>, String)>) -> Expectation {
    let (met, figures) = found.unwrap_or_else(|| (None, "not measured".into()));
    Expectation { text, met, figures }
}

/// Every figure of a policy, with its workload.
fn figures<'a>(
    matrix: &'a MatrixBody,
    policy: &'a str,
) -> impl Iterator<Item = (&'a str, &'a Figure)> {
    matrix
        .columns
        .iter()
        .filter_map(move |column| Some((&*column.name, matrix.figure(&column.name, policy)?)))
}

/// The workload in which a policy reaches the least part of the best policy's requests/s.
fn worst<'a>(matrix: &'a MatrixBody, policy: &'a str) -> Option<(&'a str, f64)> {
    let rates = figures(matrix, policy).filter(|(_, figure)| figure.of_best.is_some());
    rates.map(|(name, figure)| (name, figure.part())).min_by(|(_, a), (_, b)| a.total_cmp(b))
}

/// A policy is good everywhere by all figures: requests/s, p99, and losses.
fn good_everywhere(matrix: &MatrixBody, policy: &str) -> Expectation {
    let of = |wanted: Verdict| -> Vec<String> {
        let those = figures(matrix, policy).filter(|(_, f)| f.verdict == Some(wanted));
        those.map(|(name, figure)| format!("{name}: {}", figure.reason)).collect()
    };
    let (good, bad, open) = (of(Verdict::Good), of(Verdict::Bad), of(Verdict::Undecided));
    let found = if !bad.is_empty() {
        Some((Some(false), format!("bad in {}", bad.join("; "))))
    } else if !open.is_empty() {
        Some((None, format!("undecided in {}", open.join("; "))))
    } else {
        (!good.is_empty()).then(|| (Some(true), format!("in all {}", good.len())))
    };
    let text = format!("{policy} is good in every workload by requests/s, p99 and requests lost");
    expectation(text, found)
}

fn fast_everywhere(matrix: &MatrixBody, policy: &str) -> Expectation {
    let text = format!("{policy} is at least {GOOD} of the best policy in every workload");
    let parts: Vec<Estimate> = figures(matrix, policy).filter_map(|(_, f)| f.of_best).collect();
    let reached = |part: &Estimate| part.interval.and_then(|_| part.at_least(GOOD));
    let met = match () {
        () if parts.iter().any(|part| reached(part) == Some(false)) => Some(false),
        () if parts.iter().all(|part| reached(part) == Some(true)) => Some(true),
        () => None,
    };
    let found =
        worst(matrix, policy).map(|(name, part)| (met, format!("its worst is {part:.2} ({name})")));
    expectation(text, found)
}

/// Every policy that ignores the load, with its worst workload and what it reaches there.
pub fn others_at_their_worst(matrix: &MatrixBody) -> impl Iterator<Item = (&str, &str, f64)> {
    let others = matrix.policies.iter().filter(|policy| !LOAD_AWARE.contains(&policy.as_str()));
    others.filter_map(|policy| {
        let (name, part) = worst(matrix, policy)?;
        Some((policy.as_str(), name, part))
    })
}

fn nobody_else(matrix: &MatrixBody) -> Expectation {
    let best = others_at_their_worst(matrix).max_by(|(.., a), (.., b)| a.total_cmp(b));
    expectation(
        format!("no other policy is at least {GOOD} of the best in every workload"),
        best.map(|(policy, name, of_best)| {
            (
                Some(of_best < GOOD),
                format!("the best of the others is {policy}: {of_best:.2} ({name})"),
            )
        }),
    )
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::matrix::record::{Column, Kind, Matrix};
    use crate::matrix::workloads::{POLICIES, WORKLOADS};
    use crate::statistics::estimate::Estimate;

    fn sure(value: f64) -> Option<Estimate> {
        Some(Estimate { value, interval: Some([value * 0.99, value * 1.01]) })
    }

    /// A matrix in which the load-aware policies win everything and the others lose something.
    pub fn matrix() -> Matrix {
        let figure = |policy: &str, column: &str| {
            let aware = LOAD_AWARE.contains(&policy);
            let of_best = match (aware, column) {
                (true, _) => 0.99,
                (false, "mixed close") => 0.4,
                _ => 1.0,
            };
            let stopped = column == STOPPED;
            Figure {
                policy: policy.into(),
                requests_per_second: sure(20_000.0 * of_best),
                of_best: sure(of_best),
                switches_per_request: (!stopped).then_some(0.5),
                connections_max_over_mean: (!stopped).then_some(1.1),
                connections_max_less_min: (!stopped).then_some(if aware { 1 } else { 9 }),
                while_stopped: stopped.then_some(if aware { 1.02 } else { 0.02 }),
                lost_when_killed: stopped.then_some(if aware { 3.0 } else { 32.0 }),
                ..Figure::default()
            }
        };
        let names = WORKLOADS.iter().map(|workload| workload.name);
        let policies: Vec<String> = POLICIES.iter().map(|(name, _)| (*name).into()).collect();
        let body = MatrixBody {
            quick: false,
            columns: names
                .map(|name| Column {
                    name: name.into(),
                    words: "4 workers".into(),
                    kind: if name == STOPPED { Kind::Stopped } else { Kind::Throughput },
                    slices: "x.json".into(),
                    cells: policies.iter().map(|policy| figure(policy, name)).collect(),
                })
                .collect(),
            policies,
            missing: vec![],
            expectations: vec![],
        };
        let environment = crate::measure::fixture::environment();
        let mut matrix = Matrix::new(vec!["matrix".into()], environment, body);
        matrix.judge();
        matrix
    }

    fn met(matrix: &Matrix) -> Vec<Option<bool>> {
        let mut matrix = matrix.clone();
        matrix.judge();
        matrix.expectations.iter().map(|expectation| expectation.met).collect()
    }

    #[test]
    fn all_expectations_are_met_where_the_load_aware_win_everything() {
        let matrix = matrix();
        assert!(met(&matrix).iter().all(|&met| met == Some(true)), "{:#?}", matrix.expectations);
    }

    #[test]
    fn each_expectation_can_fail() {
        fn figure<'a>(matrix: &'a mut Matrix, column: &str, policy: &str) -> &'a mut Figure {
            let column = matrix.columns.iter_mut().find(|c| c.name == column).unwrap();
            column.cells.iter_mut().find(|figure| figure.policy == policy).unwrap()
        }
        type Spoil = fn(&mut Matrix);
        // With requests/s below the limit a cell is bad as well, which is an expectation of its own.
        let spoilt: [(&[usize], Spoil); 9] = [
            (&[0, 5], |m| figure(m, "keep", LOAD_AWARE[0]).of_best = sure(0.94)),
            (&[1, 7], |m| figure(m, STOPPED, LOAD_AWARE[1]).of_best = sure(0.5)),
            (&[2], |m| figure(m, "mixed close", "shared/blocking").of_best = sure(0.96)),
            (&[3], |m| figure(m, "post", LOAD_AWARE[0]).connections_max_over_mean = Some(1.3)),
            (&[4], |m| figure(m, "post", LOAD_AWARE[1]).connections_max_less_min = Some(2)),
            (&[5], |m| figure(m, "keep", LOAD_AWARE[0]).errors = 1),
            (&[6], |m| figure(m, STOPPED, LOAD_AWARE[0]).while_stopped = Some(0.8)),
            (&[7], |m| figure(m, "heavy", LOAD_AWARE[1]).errors = 1),
            (&[8], |m| figure(m, STOPPED, LOAD_AWARE[1]).while_stopped = Some(0.8)),
        ];
        for (expected, spoil) in spoilt {
            let mut matrix = matrix();
            spoil(&mut matrix);
            let met = met(&matrix);
            assert_eq!(met.len(), 9);
            let failed: Vec<usize> = (0..9).filter(|&i| met[i] == Some(false)).collect();
            assert_eq!(failed, expected, "{:#?}", matrix.expectations);
        }
    }

    #[test]
    fn a_cell_whose_interval_crosses_the_limit_leaves_the_whole_undecided() {
        let mut matrix = matrix();
        let wide = Some(Estimate { value: 0.96, interval: Some([0.93, 0.99]) });
        matrix.columns[1].cells[3].of_best = wide;
        let met = met(&matrix);
        assert_eq!((met[0], met[5]), (None, None));
    }

    #[test]
    fn what_was_not_measured_is_neither_met_nor_failed() {
        let mut matrix = matrix();
        matrix.columns.clear();
        assert!(met(&matrix).iter().all(Option::is_none));
    }
}
