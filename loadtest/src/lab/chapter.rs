//! What came of an experiment, in a form that every report can show: the terminal, Markdown, a page.

use serde::{Deserialize, Serialize};

use crate::lab::page::Page;
use crate::report::model::{Picture, Table};

/// One experiment, done or not.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Chapter {
    /// As the command line names the experiment.
    pub name: String,
    /// Its page of the book.
    pub page: Page,
    /// How far it came.
    #[serde(rename = "status")]
    pub outcome: Status,
    /// How long it took, in seconds, without what was taken over from an earlier run.
    pub seconds: f64,
    /// What it found; empty where it was not done.
    pub findings: Findings,
}

/// How far an experiment came.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "reason")]
pub enum Status {
    /// To its end.
    Done,
    /// Not begun, since something is missing here.
    Skipped(String),
    /// It went wrong.
    Failed(String),
}

/// What an experiment found.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Findings {
    /// The question's answer, in one to three sentences with figures.
    pub answer: String,
    /// What others say of it, and whether it is so here.
    pub claims: Vec<Claim>,
    /// What to do about it, in a sentence with figures; empty where there is nothing to mend.
    pub advice: String,
    /// The picture that answers at a glance.
    pub picture: Option<Picture>,
    /// The figures.
    pub tables: Vec<Table>,
    /// What the kernel saw meanwhile: sockets and their queues, its counters, context switches.
    pub evidence: Vec<Table>,
    /// Who or what took no part, and why, a sentence each.
    pub missing: Vec<String>,
}

/// What somebody says, and what was found here.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Claim {
    /// What is claimed, in a sentence.
    pub claim: String,
    /// Who claims it: a name that people know.
    pub source: String,
    /// Where it can be read.
    pub url: Option<String>,
    /// Their figure, with its unit; a quotation.
    pub theirs: String,
    /// The figure here, with its unit and interval.
    pub ours: String,
    /// What it must be for the claim to hold, in words with the criterion's numbers.
    pub limit: String,
    /// Whether it is so here.
    pub verdict: Verdict,
}

impl Claim {
    /// What somebody claims: who, where it can be read, what, and their figure.
    pub fn by(source: &str, url: Option<&str>, claim: &str, theirs: &str) -> Self {
        Self {
            claim: claim.into(),
            source: source.into(),
            url: url.map(str::to_owned),
            theirs: theirs.into(),
            ours: String::new(),
            limit: String::new(),
            verdict: Verdict::NotDecidable("it was not judged".into()),
        }
    }

    /// What was found here, what it must be for the claim to hold, and whether it is.
    pub fn found(
        self,
        ours: impl Into<String>,
        limit: impl Into<String>,
        verdict: Verdict,
    ) -> Self {
        Self { ours: ours.into(), limit: limit.into(), verdict, ..self }
    }
}

/// Whether a claim holds here.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict", content = "reason")]
pub enum Verdict {
    /// It does.
    Reproduced,
    /// It does not.
    NotReproduced,
    /// It cannot be told, for this reason.
    NotDecidable(String),
}

impl Verdict {
    /// From a criterion that may be met, failed, or neither.
    pub fn of(met: Option<bool>, why_not: &str) -> Self {
        match met {
            Some(true) => Self::Reproduced,
            Some(false) => Self::NotReproduced,
            None => Self::NotDecidable(why_not.into()),
        }
    }

    /// In words.
    pub fn words(&self) -> String {
        match self {
            Self::Reproduced => "reproduced".into(),
            Self::NotReproduced => "not reproduced".into(),
            Self::NotDecidable(reason) => format!("not decidable here: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_that_was_saved_reads_back_with_its_reason() {
        for verdict in [Verdict::Reproduced, Verdict::NotDecidable("one core".into())] {
            let json = serde_json::to_string(&verdict).unwrap();
            assert_eq!(serde_json::from_str::<Verdict>(&json).unwrap(), verdict, "{json}");
        }
    }

    #[test]
    fn neither_met_nor_failed_is_not_decidable_and_says_why() {
        assert_eq!(Verdict::of(None, "too few").words(), "not decidable here: too few");
        assert_eq!(Verdict::of(Some(true), "").words(), "reproduced");
        assert_eq!(Verdict::of(Some(false), "").words(), "not reproduced");
    }
}
