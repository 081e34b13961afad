//! What came of an experiment, in a form that every report can show: the terminal, Markdown, a page.

use serde::{Deserialize, Serialize};

use crate::lab::page::Page;

/// One experiment, done or not.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Chapter {
    /// As the command line names the experiment.
    pub name: String,
    /// Its page of the book.
    pub page: Page,
    /// How far it came.
    pub outcome: Outcome,
    /// How long it took, in seconds, without what was taken over from an earlier run.
    pub seconds: f64,
    /// What it found; empty where it was not done.
    pub findings: Findings,
}

/// How far an experiment came.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "reason")]
pub enum Outcome {
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

/// What a number counts or measures.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// How many; shown without a fraction.
    Count,
    /// How many on average; shown with one digit of the fraction.
    Mean,
    /// Per second.
    PerSecond,
    /// Microseconds, shown in the unit that fits.
    Microseconds,
    /// One over another; 1 is equal.
    Ratio,
    /// A part of the whole, 0 to 1; shown in percent.
    Part,
    /// A probability.
    Probability,
    /// Words.
    Text,
}

/// A table. The first column has the rows' names.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// What stands in each column but the first.
    pub columns: Vec<Column>,
    /// The rows.
    pub rows: Vec<Row>,
    /// What to know to read it; may be empty.
    pub note: String,
}

/// A column of a table.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[allow(missing_docs)] // the names say it
pub struct Column {
    pub name: String,
    pub unit: Unit,
}

/// A row of a table.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[allow(missing_docs)] // the names say it
pub struct Row {
    pub name: String,
    pub cells: Vec<Cell>,
}

/// What stands in a table: a number, perhaps with its 95 % interval, or words, or nothing.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Cell {
    /// The number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Its 95 % interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
    /// The words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl Table {
    /// A table without rows yet.
    pub fn new(title: &str, columns: &[(&str, Unit)]) -> Self {
        let column = |&(name, unit): &(&str, Unit)| Column { name: name.into(), unit };
        let columns = columns.iter().map(column).collect();
        Self { title: title.into(), columns, ..Self::default() }
    }

    /// Adds a row.
    pub fn row(&mut self, name: impl Into<String>, cells: impl IntoIterator<Item = Cell>) {
        let cells: Vec<Cell> = cells.into_iter().collect();
        debug_assert_eq!(cells.len(), self.columns.len(), "a cell for each column");
        self.rows.push(Row { name: name.into(), cells });
    }
}

impl Cell {
    /// Nothing, shown as a dash.
    pub fn none() -> Self {
        Self::default()
    }

    /// A number.
    pub fn number(value: impl Into<f64>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }

    /// A whole number.
    pub fn count(value: u64) -> Self {
        Self::number(value as f64)
    }

    /// A number with its 95 % interval.
    pub fn sure(value: f64, interval: Option<[f64; 2]>) -> Self {
        Self { value: Some(value), interval, text: None }
    }

    /// A number, if there is one.
    pub fn maybe(value: Option<f64>) -> Self {
        Self { value, ..Self::default() }
    }

    /// Words.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..Self::default() }
    }
}

/// A picture that answers a question at a glance.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Picture {
    /// A bar for each number.
    Bars {
        /// What is to be seen.
        title: String,
        /// Of all bars.
        unit: Unit,
        /// The bars.
        bars: Vec<Bar>,
        /// A line to compare them with, such as the post's figure, and its name.
        reference: Option<(f64, String)>,
    },
    /// Lines over a common axis: time, or a number of workers.
    Lines {
        /// What is to be seen.
        title: String,
        /// The axis along the page.
        x: Axis,
        /// The axis up the page.
        y: Axis,
        /// The lines.
        series: Vec<Series>,
        /// Parts of the x axis with a name, such as the time in which a worker was stopped.
        spans: Vec<(f64, f64, String)>,
    },
    /// How something was shared out: each row's parts, one for each worker, the greatest first.
    Shares {
        /// What is to be seen.
        title: String,
        /// Names and parts; the parts of a row add up to 1.
        rows: Vec<(String, Vec<f64>)>,
    },
    /// Who came when: each row has a worker's number for each turn.
    Turns {
        /// What is to be seen.
        title: String,
        /// Names and turns.
        rows: Vec<(String, Vec<usize>)>,
    },
}

/// A bar.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[allow(missing_docs)] // the names say it
pub struct Bar {
    pub name: String,
    pub value: f64,
    pub interval: Option<[f64; 2]>,
}

/// An axis.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Axis {
    /// What it measures.
    pub name: String,
    /// In what.
    pub unit: Unit,
    /// Whether equal distances are equal ratios.
    pub logarithmic: bool,
}

/// A line.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Series {
    /// Whose.
    pub name: String,
    /// Its points, along the page.
    pub points: Vec<(f64, f64)>,
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
