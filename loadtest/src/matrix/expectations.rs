//! What must come out of the matrix, and whether it did. The limits stand here, before any run.

use crate::matrix::record::{Expectation, Figure, Matrix};
use crate::matrix::workloads::{LOAD_AWARE, STOPPED};

/// A load-aware policy reaches this part of the best in every workload.
pub const GOOD: f64 = 0.95;

/// With a worker stopped, the others serve this part of what all served.
const WHILE_STOPPED: f64 = 0.90;

/// The busiest worker's connections over the average's: `shared least-conn`, the post's load.
const EVEN: f64 = 1.2;

/// Connections of the busiest worker less those of the idlest: `reuseport least-conn`, the same.
const MOST_APART: u64 = 1;

/// At 256 workers, of the rate at 4: the herd takes more than that away, and nothing else does.
const WITH_HERD: f64 = 0.3;
const WITHOUT_HERD: f64 = 0.7;

/// Judges what there is.
pub fn judge(matrix: &Matrix) -> Vec<Expectation> {
    let mut expectations = Vec::new();
    for policy in LOAD_AWARE {
        expectations.push(good_everywhere(matrix, policy));
    }
    expectations.push(nobody_else(matrix));
    let shared = matrix.figure("post", LOAD_AWARE[0]).and_then(|f| f.connections_max_over_mean);
    expectations.push(expectation(
        format!(
            "{} spreads the post's connections: busiest / average at most {EVEN}",
            LOAD_AWARE[0]
        ),
        shared.map(|found| (found <= EVEN, format!("{found:.2}"))),
    ));
    let own = matrix.figure("post", LOAD_AWARE[1]).and_then(|f| f.connections_max_less_min);
    expectations.push(expectation(
        format!("{}: busiest less idlest at most {MOST_APART}", LOAD_AWARE[1]),
        own.map(|found| (found <= MOST_APART, found.to_string())),
    ));
    for policy in LOAD_AWARE {
        let found = matrix.figure(STOPPED, policy).and_then(|figure| figure.while_stopped);
        expectations.push(expectation(
            format!(
                "{policy} with a worker stopped: at least {WHILE_STOPPED:.2} of the rate before"
            ),
            found.map(|found| (found >= WHILE_STOPPED, format!("{found:.2}"))),
        ));
    }
    let herd = [("shared/epoll", false), ("shared/exclusive", true)].into_iter();
    for (policy, stays) in herd.chain(LOAD_AWARE.map(|policy| (policy, true))) {
        let rate = |column| Some(matrix.figure(column, policy)?.rate());
        let found = rate("close, 256 workers").zip(rate("close")).map(|(many, few)| many / few);
        let text = match stays {
            true => format!("{policy} at 256 workers: above {WITHOUT_HERD} of its rate at 4"),
            false => {
                format!("{policy} at 256 workers: below {WITH_HERD} of its rate at 4 (the herd)")
            }
        };
        let met = |found| if stays { found > WITHOUT_HERD } else { found < WITH_HERD };
        expectations
            .push(expectation(text, found.map(|found| (met(found), format!("{found:.2}")))));
    }
    expectations
}

fn expectation(text: String, found: Option<(bool, String)>) -> Expectation {
    let (met, figures) = match found {
        Some((met, figures)) => (Some(met), figures),
        None => (None, "not measured".into()),
    };
    Expectation { text, met, figures }
}

/// Every figure of a policy that it is judged by, with its workload.
fn figures<'a>(matrix: &'a Matrix, policy: &'a str) -> impl Iterator<Item = (&'a str, &'a Figure)> {
    let columns = matrix.columns.iter().filter(|column| column.judged);
    columns.filter_map(move |column| Some((&*column.name, matrix.figure(&column.name, policy)?)))
}

fn good_everywhere(matrix: &Matrix, policy: &str) -> Expectation {
    let text = format!("{policy} is at least {GOOD} of the best policy in every workload");
    let worst = figures(matrix, policy).min_by(|(_, a), (_, b)| a.part().total_cmp(&b.part()));
    let found = worst.map(|(name, figure)| {
        (figure.part() >= GOOD, format!("its worst is {:.2} ({name})", figure.part()))
    });
    expectation(text, found)
}

/// Every policy that is blind to load, with its worst workload and what it reaches there.
pub fn others_at_their_worst(matrix: &Matrix) -> impl Iterator<Item = (&str, &str, f64)> {
    let others = matrix.policies.iter().filter(|policy| !LOAD_AWARE.contains(&policy.as_str()));
    others.filter_map(|policy| {
        let each = figures(matrix, policy);
        let (name, figure) = each.min_by(|(_, a), (_, b)| a.part().total_cmp(&b.part()))?;
        Some((policy.as_str(), name, figure.part()))
    })
}

fn nobody_else(matrix: &Matrix) -> Expectation {
    let best = others_at_their_worst(matrix).max_by(|(.., a), (.., b)| a.total_cmp(b));
    expectation(
        format!("no other policy is at least {GOOD} of the best in every workload"),
        best.map(|(policy, name, of_best)| {
            (of_best < GOOD, format!("the best of the others is {policy}: {of_best:.2} ({name})"))
        }),
    )
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::matrix::record::{Column, Kind, MatrixBody};
    use crate::matrix::workloads::{CELLS, POLICIES};
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
            let herd = policy == "shared/epoll" && column == "close, 256 workers";
            let stopped = column == STOPPED;
            Figure {
                policy: policy.into(),
                requests_per_second: sure(if herd { 2000.0 } else { 20_000.0 * of_best }),
                of_best: sure(of_best),
                switches_per_request: (!stopped).then_some(0.5),
                connections_max_over_mean: (!stopped).then_some(1.1),
                connections_max_less_min: (!stopped).then_some(if aware { 1 } else { 9 }),
                while_stopped: stopped.then_some(if aware { 1.02 } else { 0.02 }),
                lost_when_killed: stopped.then_some(if aware { 3.0 } else { 32.0 }),
                ..Figure::default()
            }
        };
        let names = CELLS.iter().map(|cell| cell.name).chain([STOPPED]);
        let policies: Vec<String> = POLICIES.iter().map(|(name, _)| (*name).into()).collect();
        let body = MatrixBody {
            quick: false,
            columns: names
                .map(|name| Column {
                    name: name.into(),
                    words: "4 workers".into(),
                    kind: if name == STOPPED { Kind::Stopped } else { Kind::Throughput },
                    judged: name != "post",
                    slices: "x.json".into(),
                    cells: policies.iter().map(|policy| figure(policy, name)).collect(),
                })
                .collect(),
            policies,
            missing: vec![],
            expectations: vec![],
        };
        let environment = crate::measure::bench::tests::record(&[1]).environment.clone();
        let mut matrix = Matrix::new(vec!["matrix".into()], environment, body);
        matrix.expectations = judge(&matrix);
        matrix
    }

    fn met(matrix: &Matrix) -> Vec<Option<bool>> {
        judge(matrix).iter().map(|expectation| expectation.met).collect()
    }

    #[test]
    fn all_demands_are_met_where_the_load_aware_win_everything() {
        assert!(met(&matrix()).iter().all(|&met| met == Some(true)), "{:#?}", judge(&matrix()));
    }

    #[test]
    fn each_demand_can_fail() {
        fn figure<'a>(matrix: &'a mut Matrix, column: &str, policy: &str) -> &'a mut Figure {
            let column = matrix.columns.iter_mut().find(|c| c.name == column).unwrap();
            column.cells.iter_mut().find(|figure| figure.policy == policy).unwrap()
        }
        type Spoil = fn(&mut Matrix);
        let spoilt: [(usize, Spoil); 11] = [
            (0, |m| figure(m, "keep", LOAD_AWARE[0]).of_best = sure(0.94)),
            (1, |m| figure(m, STOPPED, LOAD_AWARE[1]).of_best = sure(0.5)),
            (2, |m| figure(m, "mixed close", "shared/blocking").of_best = sure(0.96)),
            (3, |m| figure(m, "post", LOAD_AWARE[0]).connections_max_over_mean = Some(1.3)),
            (4, |m| figure(m, "post", LOAD_AWARE[1]).connections_max_less_min = Some(2)),
            (5, |m| figure(m, STOPPED, LOAD_AWARE[0]).while_stopped = Some(0.8)),
            (6, |m| figure(m, STOPPED, LOAD_AWARE[1]).while_stopped = Some(0.8)),
            (7, |m| {
                figure(m, "close, 256 workers", "shared/epoll").requests_per_second = sure(9e3)
            }),
            (8, |m| {
                figure(m, "close, 256 workers", "shared/exclusive").requests_per_second = sure(9e3)
            }),
            (9, |m| figure(m, "close, 256 workers", LOAD_AWARE[0]).requests_per_second = sure(9e3)),
            (10, |m| {
                figure(m, "close, 256 workers", LOAD_AWARE[1]).requests_per_second = sure(9e3)
            }),
        ];
        for (place, spoil) in spoilt {
            let mut matrix = matrix();
            spoil(&mut matrix);
            let met = met(&matrix);
            assert_eq!(met.len(), 11);
            assert_eq!(met[place], Some(false), "expectation {place}");
            assert_eq!(
                met.iter().filter(|&&met| met == Some(false)).count(),
                1,
                "expectation {place}"
            );
        }
    }

    #[test]
    fn what_was_not_measured_is_neither_met_nor_failed() {
        let mut matrix = matrix();
        matrix.columns.clear();
        assert!(met(&matrix).iter().all(Option::is_none));
    }
}
