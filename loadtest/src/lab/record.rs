//! The record of one run of `lab`. Its samples are in a file beside it.

use serde::{Deserialize, Serialize};

use crate::lab::chapter::Chapter;
use crate::matrix::record::Matrix;
use crate::record::{Body, Record};
use crate::servers::record::Servers;

/// The record that is saved and shown.
pub type Lab = Record<LabBody>;

/// The results of a lab.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct LabBody {
    /// Whether it was the short form, whose intervals are wide.
    pub quick: bool,
    /// The seed of every order of turns and of every bootstrap.
    pub seed: u64,
    /// The results of the experiments, in the order of the book.
    pub chapters: Vec<Chapter>,
    /// The result of `matrix` on this machine, if it was run; copied, not measured again.
    pub matrix: Option<Matrix>,
    /// More runs of `matrix`: the same workloads again, or workloads that the first run does not have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more_matrices: Vec<Matrix>,
    /// The result of `servers`, if it was published; copied as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub servers: Option<Servers>,
}

impl Body for LabBody {
    const SCHEMA: &'static str = "loadtest-lab/3";
    const COMMAND: &'static str = "lab";
}

impl LabBody {
    /// The chapter of an experiment, if there is one.
    pub fn chapter(&self, name: &str) -> Option<&Chapter> {
        self.chapters.iter().find(|chapter| chapter.name == name)
    }

    /// All runs of `matrix`, the first one first.
    pub fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        self.matrix.iter().chain(&self.more_matrices)
    }

    /// All runs in one. If several have a workload, the figures are those of the last, which has the newest
    /// code. Figures of later runs name their run. All of it is judged anew, by the limits of this version.
    pub fn whole_matrix(&self) -> Option<Matrix> {
        let mut whole = self.matrix.clone()?;
        for more in &self.more_matrices {
            for column in &more.columns {
                let mut column = column.clone();
                column.words += &format!("; measured in another run, {}", more.environment.when());
                match whole.columns.iter().position(|known| known.name == column.name) {
                    Some(place) => whole.body.columns[place] = column,
                    None => whole.body.columns.push(column),
                }
            }
        }
        whole.body.judge();
        Some(whole)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A lab with a chapter of each kind of picture, and two that failed.
    pub fn lab() -> Lab {
        let chapters = serde_json::from_str(include_str!("fixture.json")).unwrap();
        let matrix = Some(crate::matrix::expectations::tests::matrix());
        let environment = crate::measure::fixture::environment();
        let body = LabBody {
            quick: true,
            seed: 1,
            chapters,
            matrix,
            more_matrices: vec![],
            servers: None,
        };
        let arguments = vec!["lab".into(), "--quick".into()];
        Lab { warnings: vec!["a debug build".into()], ..Lab::new(arguments, environment, body) }
    }

    #[test]
    fn what_is_saved_reads_back() {
        let json = serde_json::to_string(&lab()).unwrap();
        assert_eq!(serde_json::from_str::<Lab>(&json).unwrap(), lab());
    }

    #[test]
    fn a_later_run_s_figures_replace_those_of_the_same_workloads_and_others_stay() {
        let mut lab = lab();
        let mut later = lab.body.matrix.clone().unwrap();
        later.environment.commit = Some("0123456789ab".into());
        later.body.columns.retain(|column| column.name == "post" || column.name == "keep");
        for column in &mut later.body.columns {
            column.cells[0].requests_per_second = None;
        }
        later.body.judge();
        let first = lab.body.matrix.as_mut().unwrap();
        first.body.columns.retain(|column| column.name != "post");
        let before = first.columns.clone();
        lab.body.more_matrices = vec![later];
        let whole = lab.body.whole_matrix().unwrap();
        let names: Vec<&str> = whole.columns.iter().map(|column| &*column.name).collect();
        assert_eq!((names[0], names.last()), ("keep", Some(&"post")));
        for column in [&whole.columns[0], whole.columns.last().unwrap()] {
            assert!(column.cells[0].requests_per_second.is_none());
            assert!(column.words.contains("commit 0123456789ab"));
        }
        assert_eq!(whole.columns[1..before.len()], before[1..]);
        let mut judged = whole.body.clone();
        judged.judge();
        assert_eq!(judged.expectations, whole.expectations, "of all, not of the first run alone");
    }
}
