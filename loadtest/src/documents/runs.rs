//! Several runs of the matrix, and the ranges of their figures, which show how much a figure of one run varies.

use crate::documents::{machine, range};
use crate::lab::record::Lab;
use crate::matrix::record::{self as matrix, Figure, Kind, Matrix};
use crate::report::format::plural;
use crate::report::model::{Block, Cell, Column, Table};
use crate::statistics::estimate::Estimate;

/// A figure of a policy in a workload.
type Of = fn(&matrix::Column, &Figure) -> Option<Estimate>;

/// The compared figures with their names.
const COMPARED: [(&str, Of); 2] =
    [("requests/s", |_, figure| figure.of_best), ("p99", matrix::Column::p99)];

/// A note about runs of different commits.
const ABOUT_COMMITS: &str =
    "Policies may have changed between two commits. Compare figures of one run.";

/// The time and machine of each run, and the ranges of the figures that several runs have.
pub fn blocks(lab: &Lab) -> Vec<Block> {
    let runs: Vec<&Matrix> = lab.body.matrices().collect();
    let each = runs.iter().enumerate().map(|(place, run)| {
        let only =
            (place > 0).then(|| format!("; {}", plural(run.columns.len() as u64, "workload")));
        let words = format!(
            "{} ({}), `loadtest {}`{}",
            run.environment.when(),
            machine(&run.environment),
            run.arguments.join(" "),
            only.unwrap_or_default()
        );
        (format!("run {} of the matrix", place + 1), words)
    });
    let same = |run: &&Matrix| run.environment.commit == runs[0].environment.commit;
    let about = if runs.iter().all(same) { "" } else { ABOUT_COMMITS };
    vec![Block::Facts(each.collect()), Block::Text(about.into()), Block::Table(ranges(&runs))]
}

/// The ranges, for workloads that at least two runs have.
fn ranges(runs: &[&Matrix]) -> Table {
    let Some(first) = runs.first() else { return Table::default() };
    let mut table = Table::of("Range over the runs", &first.policies);
    for workload in first.columns.iter().filter(|column| column.kind != Kind::Stopped) {
        for (name, of) in COMPARED {
            let cell = |policy: &String| {
                let figures = runs.iter().filter_map(|run| {
                    of(run.column(&workload.name)?, run.figure(&workload.name, policy)?)
                });
                Cell::from(range(figures.map(|figure| figure.value)))
            };
            let (name, group) = (name.into(), workload.name.clone());
            let column = Column { name, group, ..Column::default() };
            table.column(column, first.policies.iter().map(cell));
        }
    }
    table.note =
        "Requests/s over those of the best policy; p99 over the lowest one, at the rate at which \
         most could be measured in each run, or, where handlers block, over that of one ideal queue."
            .into();
    table.known_columns()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::record::tests::lab;

    #[test]
    fn two_runs_give_a_range_and_one_run_gives_none() {
        let mut lab = lab();
        let words = |lab: &Lab| format!("{:?}", blocks(lab));
        let table = |lab: &Lab| match blocks(lab).pop() {
            Some(Block::Table(table)) => table,
            other => panic!("{other:?}"),
        };
        assert!(table(&lab).columns.is_empty());
        let mut again = lab.body.matrix.clone().unwrap();
        again.body.columns.retain(|column| column.name == "keep");
        again.body.columns[0].cells[0].of_best = Some(Estimate::exact(0.5));
        lab.body.more_matrices.push(again);
        assert!(!words(&lab).contains(ABOUT_COMMITS));
        lab.body.more_matrices[0].environment.commit = Some("0123456789ab".into());
        assert!(words(&lab).contains(ABOUT_COMMITS));
        let table = table(&lab);
        assert_eq!(table.columns.len(), 1, "{table:?}");
        assert_eq!(table.rows[0].cells[0].text.as_deref(), Some("0.50 to 1.00"));
    }
}
