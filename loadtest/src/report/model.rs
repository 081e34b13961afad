//! The document model: what every command's result is turned into, and all that a renderer knows.
//!
//! Figures are numbers with a unit and, where they are compared, an interval; a renderer (terminal,
//! Markdown, HTML) decides how they look, and none of them knows which command it shows.

use serde::{Deserialize, Serialize};

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
