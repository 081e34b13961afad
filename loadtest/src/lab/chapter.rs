//! The result of an experiment, in a form that every report can show: the terminal, Markdown, a page.

use serde::{Deserialize, Serialize};

pub use crate::lab::criterion::Verdict;
use crate::lab::criterion::judge;
use crate::lab::figure::{Figures, filled};
use crate::lab::page::{Page, items, said};
use crate::report::model::{Picture, Table};

/// One experiment, completed or failed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Chapter {
    /// The experiment's name on the command line.
    pub name: String,
    /// Its page of the book.
    pub page: Page,
    /// Whether it was completed.
    #[serde(rename = "status")]
    pub outcome: Status,
    /// Its duration in seconds, without the samples of an earlier run.
    pub seconds: f64,
    /// Its findings; empty if it failed.
    pub findings: Findings,
}

/// Whether an experiment was completed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "reason")]
pub enum Status {
    /// It ran to its end.
    Done,
    /// It failed, for this reason.
    Failed(String),
}

impl Status {
    /// The reason, if it failed.
    pub fn failure(&self) -> Option<&str> {
        match self {
            Self::Done => None,
            Self::Failed(reason) => Some(reason),
        }
    }
}

/// The findings of an experiment.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Findings {
    /// The answer to the question, in one to three sentences with figures.
    pub answer: String,
    /// Claims of others, and whether they hold here.
    pub claims: Vec<Claim>,
    /// Advice in a sentence with figures; empty if there is nothing to improve.
    pub advice: String,
    /// The picture that answers at a glance.
    pub picture: Option<Picture>,
    /// Tables of the figures.
    pub tables: Vec<Table>,
    /// What the kernel reported meanwhile: sockets and their queues, its counters, context switches.
    pub evidence: Vec<Table>,
    /// What was left out, and why, a sentence each.
    pub missing: Vec<String>,
}

/// A claim of others, and the result here.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Claim {
    /// The claim, in a sentence.
    pub claim: String,
    /// The source of the claim: a name that people know.
    pub source: String,
    /// Where it can be read.
    pub url: Option<String>,
    /// The source's figure, with its unit; a quotation.
    pub theirs: String,
    /// The figure here, with its unit and interval.
    pub ours: String,
    /// The limits within which the claim holds, in words with the criterion's numbers.
    pub limit: String,
    /// Whether the claim holds here.
    pub verdict: Verdict,
    /// The source's set-up, if it differs from this machine: two machines, another system. Then a claim
    /// that is not reproduced here is not refuted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub elsewhere: String,
}

impl Findings {
    /// The findings that follow from a page and these figures: the page's claims, each judged by its
    /// criterion, its answer and advice, and its notes below the tables. `missing` has for each claim, in
    /// the page's order, the reason why one of its figures may be missing.
    pub fn of(
        page: &str,
        figures: &Figures,
        missing: &[&str],
        picture: Picture,
        tables: impl Into<Vec<Table>>,
        evidence: impl Into<Vec<Table>>,
    ) -> Self {
        let (mut claims, mut met) = (Vec::new(), Vec::new());
        let (mut tables, mut evidence) = (tables.into(), evidence.into());
        for (place, item) in items(page, "Claims").concat().iter().enumerate() {
            let mut fields = item.split('|').map(|field| field.trim().to_owned());
            let mut next = || fields.next().unwrap_or_default();
            let (source, url, claim, theirs) = (next(), next(), next(), next());
            let url = Some(url).filter(|url| !url.is_empty());
            let why = missing.get(place).unwrap_or(&"");
            let (ours, limit, verdict) = judge(&next(), figures, why);
            met.push(verdict.met());
            let elsewhere = next();
            claims.push(Claim { claim, source, url, theirs, ours, limit, verdict, elsewhere });
        }
        for item in items(page, "Notes").concat() {
            let (titles, note) = item.split_once(" | ").unwrap_or_default();
            let (note, is_known) = filled(note, figures);
            for title in titles.split(" / ") {
                let tables = tables.iter_mut().chain(&mut evidence);
                let mut is_there = false;
                for table in tables.filter(|table| table.title.starts_with(title)) {
                    table.note = if is_known { note.clone() } else { String::new() };
                    is_there = true;
                }
                debug_assert!(is_there, "there is no table '{title}'");
            }
        }
        let [answer, advice] = ["Answer", "Advice"].map(|list| said(page, list, &met, figures));
        let (picture, missing) = (Some(picture), Vec::new());
        Self { answer, claims, advice, picture, tables, evidence, missing }
    }

    /// Fails unless the claims have these verdicts (`+` reproduced, `-` not, `?` not decidable), and the
    /// text contains all these words.
    #[cfg(test)]
    pub fn expect(&self, verdicts: &str, words: &[&str]) {
        let sign = |claim: &Claim| match claim.verdict {
            Verdict::Reproduced => '+',
            Verdict::NotReproduced => '-',
            Verdict::NotDecidable(_) => '?',
        };
        assert_eq!(self.claims.iter().map(sign).collect::<String>(), verdicts, "{self:#?}");
        let said = format!("{}\n{}\n{:?}", self.answer, self.advice, self.claims);
        words.iter().for_each(|words| assert!(said.contains(words), "{words} is not in {said}"));
    }
}
