//! What came of an experiment, in a form that every report can show: the terminal, Markdown, a page.

use serde::{Deserialize, Serialize};

use crate::lab::criterion::Criterion;
pub use crate::lab::criterion::Verdict;
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

/// The claims that a page lists, each judged by its criterion. The word beside a criterion says why
/// a figure of it may be missing; it may be empty.
///
/// A page lists its claims in the last section, an item each: who claims it, where it can be read (or
/// nothing), what, and their figure.
pub fn judged(page: &str, by: &[(&Criterion, &str)]) -> Vec<Claim> {
    let listed = page.split("\n# Claims\n").nth(1).unwrap_or_default();
    let items = listed.trim().trim_start_matches("- ").split("\n- ");
    debug_assert_eq!(items.clone().count(), by.len(), "a criterion for each claim");
    let claim = |(item, (criterion, missing)): (&str, &(&Criterion, &str))| {
        let words = item.split_whitespace().collect::<Vec<_>>().join(" ") + " ";
        let mut fields = words.split("| ").map(|field| field.trim().to_owned());
        let mut next = || fields.next().unwrap_or_default();
        Claim {
            source: next(),
            url: Some(next()).filter(|url| !url.is_empty()),
            claim: next(),
            theirs: next(),
            ours: criterion.figures(),
            limit: criterion.limits(),
            verdict: criterion.verdict(missing),
        }
    };
    items.zip(by).map(claim).collect()
}
