//! A matrix on a terminal, and as Markdown.

use crate::matrix::expectations::GOOD;
use crate::matrix::record::{Expectation, Matrix};
use crate::matrix::workloads::STOPPED;
use crate::report::compare::wrapped;
use crate::report::format::rounded;
use crate::report::markdown;
use crate::report::table::{Left, Right, table, text};
use crate::report::terminal::{BOLD, machine};

/// What the cells say.
const ABOUT: &str = "Each cell is requests/s over those of the best policy in that workload, a mean over the rounds.";

/// The whole report.
pub fn matrix(matrix: &Matrix) -> String {
    let mut report = format!(
        "{BOLD}Who is good in which workload?{BOLD:#}  {}\n\n",
        machine(&matrix.environment)
    );
    let (header, rows) = cells(matrix);
    let mut columns = vec![("", Left)];
    columns.extend(header.iter().map(|name| (name.as_str(), Right)));
    let mut grid = table(2, &columns);
    grid.add_rows(&rows);
    report += &text(&grid);
    report += &wrapped(&format!("{ABOUT} `!` is below {GOOD}; the post's load is not judged."), "");
    report += "\n";
    for (number, column) in matrix.columns.iter().enumerate() {
        report += &wrapped(&format!("{}  {}: {}", number + 1, column.name, column.words), "");
    }
    let grids = [absolute(matrix), switches(matrix), stopped(matrix)];
    for (title, header, rows) in grids.into_iter().flatten() {
        report += &format!("\n{BOLD}{title}{BOLD:#}\n");
        let mut columns = vec![("", Left)];
        columns.extend(header.iter().map(|name| (name.as_str(), Right)));
        let mut grid = table(2, &columns);
        grid.add_rows(&rows);
        report += &text(&grid);
    }
    report += &format!("\n{BOLD}What must come out{BOLD:#}\n");
    for expectation in &matrix.expectations {
        let line =
            format!("{:<13} {}: {}", word(expectation), expectation.text, expectation.figures);
        report += &wrapped(&line, "");
    }
    for missing in &matrix.missing {
        let line = format!("{} takes no part: {}", missing.policy, missing.reason);
        report += &wrapped(&line, "");
    }
    report
}

/// What became of a expectation.
pub fn word(expectation: &Expectation) -> &'static str {
    match expectation.met {
        Some(true) => "met",
        Some(false) => "NOT MET",
        None => "not told",
    }
}

/// Header and rows of the matrix; columns by number, or it would be wider than a terminal.
fn cells(matrix: &Matrix) -> (Vec<String>, Vec<Vec<String>>) {
    let header = (1..=matrix.columns.len()).map(|number| number.to_string()).collect();
    let rows = matrix.policies.iter().map(|policy| {
        let each = matrix.columns.iter().map(|column| {
            let figure = matrix.figure(&column.name, policy);
            figure.map_or_else(String::new, |figure| {
                let mark = if column.judged && figure.part() < GOOD { "!" } else { " " };
                format!("{:.2}{mark}", figure.part())
            })
        });
        std::iter::once(policy.clone()).chain(each).collect()
    });
    (header, rows.collect())
}

type Grid = (&'static str, Vec<String>, Vec<Vec<String>>);

/// The figures themselves.
fn absolute(matrix: &Matrix) -> Option<Grid> {
    let header = (1..=matrix.columns.len()).map(|number| number.to_string()).collect();
    let rows = matrix.policies.iter().map(|policy| {
        let figure = |name: &str| matrix.figure(name, policy);
        let each = matrix.columns.iter().map(|column| {
            let rate = figure(&column.name).map(|figure| figure.rate());
            rate.map_or_else(String::new, rounded)
        });
        std::iter::once(policy.clone()).chain(each).collect()
    });
    Some(("Requests/s, median", header, rows.collect()))
}

/// Why spreading thinly costs: each connection wakes somebody who slept.
fn switches(matrix: &Matrix) -> Option<Grid> {
    let header = (1..=matrix.columns.len()).map(|number| number.to_string()).collect();
    let rows = matrix.policies.iter().map(|policy| {
        let each = matrix.columns.iter().map(|column| {
            let found = matrix.figure(&column.name, policy);
            let switches = found.and_then(|figure| figure.switches_per_request);
            switches.map_or_else(String::new, |switches| format!("{switches:.2}"))
        });
        std::iter::once(policy.clone()).chain(each).collect()
    });
    Some(("Context switches of the workers per request", header, rows.collect()))
}

/// Who got the connections, and what is served and lost without a worker.
fn stopped(matrix: &Matrix) -> Option<Grid> {
    let header = [
        "post:\nbusiest / average",
        "post:\nbusiest - idlest",
        "served while one is\nstopped, of before",
        "lost when it\nis killed",
    ];
    let rows = matrix.policies.iter().map(|policy| {
        let post = matrix.figure("post", policy);
        let stopped = matrix.figure(STOPPED, policy);
        let show = |found: Option<f64>, digits: usize| {
            found.map_or_else(String::new, |value| format!("{value:.digits$}"))
        };
        vec![
            policy.clone(),
            show(post.and_then(|figure| figure.connections_max_over_mean), 2),
            post.and_then(|figure| figure.connections_max_less_min)
                .map_or_else(String::new, |value| value.to_string()),
            show(stopped.and_then(|figure| figure.while_stopped), 2),
            show(stopped.and_then(|figure| figure.lost_when_killed), 1),
        ]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let is_known = rows.iter().any(|row| row[1..].iter().any(|cell| !cell.is_empty()));
    is_known.then(|| ("Connections, and a worker lost", header.map(String::from).to_vec(), rows))
}

/// The matrix itself as Markdown, with what its cells say.
pub fn overview(matrix: &Matrix) -> String {
    let (_, rows) = cells(matrix);
    let names = matrix.columns.iter().map(|column| column.name.clone());
    let header: Vec<String> = std::iter::once(String::new()).chain(names).collect();
    // The blank that keeps columns of figures even on a terminal.
    let rows = rows.into_iter().map(|row| row.iter().map(|cell| cell.trim_end().into()).collect());
    let table = markdown::table(&header, rows);
    format!("{table}\n{ABOUT} `!` is below {GOOD}; the post's load is not judged.\n")
}

/// The whole report as Markdown.
pub fn markdown(matrix: &Matrix) -> String {
    let mut text = overview(matrix);
    let grids = [absolute(matrix), switches(matrix), stopped(matrix)];
    for (title, mut header, rows) in grids.into_iter().flatten() {
        if header.first().is_some_and(|name| name == "1") {
            header = matrix.columns.iter().map(|column| column.name.clone()).collect();
        }
        header.insert(0, title.into());
        header.iter_mut().for_each(|name| *name = name.replace('\n', " "));
        text += &format!("\n{}", markdown::table(&header, rows.into_iter()));
    }
    let header = ["", "what must come out", "found"].map(String::from);
    let rows = matrix.expectations.iter().map(|expectation| {
        vec![word(expectation).into(), expectation.text.clone(), expectation.figures.clone()]
    });
    text += &format!("\n{}\n{}.\n", markdown::table(&header, rows), machine(&matrix.environment));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::expectations::tests::matrix as example;

    fn plain(report: &str) -> String {
        anstream::adapter::strip_str(report).to_string()
    }

    #[test]
    fn it_fits_into_100_columns_and_marks_what_is_not_good() {
        let report = plain(&matrix(&example()));
        for line in report.lines() {
            assert!(line.chars().count() <= 100, "{}: {line}", line.chars().count());
        }
        let row = report.lines().find(|line| line.starts_with("shared/blocking")).unwrap();
        assert_eq!(row.matches('!').count(), 1, "{row}");
        assert!(report.contains("met           shared/least-conn is at least 0.95"), "{report}");
    }

    #[test]
    fn who_took_no_part_is_named_with_the_reason() {
        let mut example = example();
        let (policy, reason) = ("reuseport/least-conn".into(), "CAP_BPF".into());
        example.missing.push(crate::matrix::record::Missing { policy, reason });
        assert!(plain(&matrix(&example)).contains("reuseport/least-conn takes no part: CAP_BPF"));
    }

    #[test]
    fn markdown_names_the_workloads() {
        let text = markdown(&example());
        assert!(text.starts_with("|  | post | keep | close |"), "{text}");
    }
}
