//! What came of an experiment, in a form that every report can show: the terminal, Markdown, a page.

use serde::{Deserialize, Serialize};

pub use crate::lab::criterion::Verdict;
use crate::lab::criterion::judge;
use crate::lab::figure::{Figures, filled};
use crate::lab::page::{Page, items, said};
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
    /// It went wrong.
    Failed(String),
}

impl Status {
    /// What went wrong, if anything did.
    pub fn failure(&self) -> Option<&str> {
        match self {
            Self::Done => None,
            Self::Failed(reason) => Some(reason),
        }
    }
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
    /// Where they found it, if that is something that this machine is not: two machines, another
    /// system. If it is not found here either way, it is not refuted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub elsewhere: String,
}

impl Findings {
    /// What there is to see, and what a page says of it with these figures: the claims that it lists, each
    /// judged by its criterion, answer and advice, and notes below tables. `missing` says of the
    /// claims, in their order, why a figure of theirs may be missing.
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

    /// Fails unless claims have these verdicts (`+` reproduced, `-` not, `?` not decidable), and all
    /// these words are said.
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
