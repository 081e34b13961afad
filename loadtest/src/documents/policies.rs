//! The parts of the matrix in the document about the policies: the workloads in which they differ most.

use crate::documents::{machine, matrix as matrices};
use crate::lab::record::Lab;
use crate::matrix::record::{Column, Kind, MatrixBody};
use crate::report::markdown;
use crate::report::model::Block;

/// The workloads in which all handlers block, as Markdown.
pub fn blocking(lab: &Lab) -> String {
    part(lab, |column| column.kind == Kind::Blocking)
}

/// The workloads with many workers and short requests.
const MANY: [&str; 2] = ["close, 64 workers", "close, 256 workers"];

/// The workloads with many workers and short requests, as Markdown.
pub fn many_workers(lab: &Lab) -> String {
    part(lab, |column| MANY.contains(&&*column.name))
}

/// These workloads of the last run that has them, for the policies with measured latencies.
fn part(lab: &Lab, is_meant: fn(&Column) -> bool) -> String {
    let last = lab.body.matrices().filter(|run| run.columns.iter().any(is_meant)).last();
    let Some(mut run) = last.cloned() else { return "Not measured yet.\n".into() };
    run.body.columns.retain(is_meant);
    let MatrixBody { columns, policies, .. } = &mut run.body;
    let figures = || columns.iter().flat_map(|column| &column.cells);
    policies.retain(|policy| {
        figures().any(|figure| figure.policy == *policy && !figure.latencies.is_empty())
    });
    let made = format!("Measured {}: {}.", run.environment.when(), machine(&run.environment));
    let table = Block::Table(matrices::overview(&run));
    markdown::blocks(&[table, Block::Facts(matrices::workloads(&run)), Block::Text(made)], 3)
}
