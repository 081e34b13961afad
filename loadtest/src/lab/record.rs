//! The record of one `lab`. Its samples are in a file beside it.

use serde::{Deserialize, Serialize};

use crate::lab::chapter::Chapter;
use crate::matrix::record::Matrix;
use crate::record::{Body, Record};

/// What is saved and shown.
pub type Lab = Record<LabBody>;

/// What a lab found.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct LabBody {
    /// Whether it was the short form, whose intervals are wide.
    pub quick: bool,
    /// What every order of turns and every bootstrap begins with.
    pub seed: u64,
    /// What came of the experiments, in the order of the book.
    pub chapters: Vec<Chapter>,
    /// What `matrix` found on this machine, if it was run; taken over, not measured again.
    pub matrix: Option<Matrix>,
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
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A lab with a chapter of each kind of picture, and two that failed.
    pub fn lab() -> Lab {
        let chapters = serde_json::from_str(include_str!("fixture.json")).unwrap();
        let matrix = Some(crate::matrix::expectations::tests::matrix());
        let environment = crate::measure::bench::tests::record(&[1]).environment;
        let body = LabBody { quick: true, seed: 1, chapters, matrix };
        let arguments = vec!["lab".into(), "--quick".into()];
        Lab { warnings: vec!["a debug build".into()], ..Lab::new(arguments, environment, body) }
    }

    #[test]
    fn what_is_saved_reads_back() {
        let json = serde_json::to_string(&lab()).unwrap();
        assert_eq!(serde_json::from_str::<Lab>(&json).unwrap(), lab());
    }
}
