//! The document model: what every command's result is turned into, and all that a renderer knows.
//!
//! Figures are numbers with a unit and, where they are compared, an interval; a renderer (terminal,
//! Markdown, HTML) decides how they look, and none of them knows which command it shows.

use serde::{Deserialize, Serialize};

/// What a command has to say: the same for every form it is shown in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// What it is about, in a line.
    pub title: String,
    /// What it says, from the top.
    pub blocks: Vec<Block>,
}

/// A part of a document. Texts are plain unless it is said otherwise: renderers escape them.
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    /// Begins a section.
    Heading(String),
    /// Paragraphs of Markdown: `code`, **bold**, links and lists. Names must be [`escaped`].
    Text(String),
    /// A sentence that answers the question; its figures stand after the last ": ".
    Verdict(String),
    /// Names with what they stand for.
    Facts(Vec<(String, String)>),
    /// Figures.
    Table(Table),
    /// What answers at a glance; HTML alone draws it.
    Picture(Picture),
    /// What not everyone wants to read: folded in HTML, below its title elsewhere.
    Details(String, Vec<Block>),
    /// What to know before believing it: on stderr where the rest goes to a terminal.
    Warnings(Vec<String>),
    /// Commands with which it can be had again.
    Reproduce(Vec<String>),
}

/// How a figure is to be judged.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// As it should be.
    Good,
    /// Not as it should be: `!` in texts.
    Bad,
    /// Too uncertain to tell: `?` in texts.
    Undecided,
}

/// What a number counts or measures.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
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
    /// One over another; 1 is equal. Shown with three digits of the fraction.
    Ratio,
    /// How many times as much, where two digits of the fraction are enough.
    Times,
    /// Seconds of CPU time.
    Seconds,
    /// A number that is a name, such as a process id.
    Id,
    /// The part of all, in percent, that lies below: 50 is the median, 99.9 the slowest in 1000.
    Percentile,
    /// A part of the whole, 0 to 1; shown in percent.
    Part,
    /// A probability.
    Probability,
    /// Words.
    #[default]
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
    /// Whether HTML shows it as a heat map.
    #[serde(default)]
    pub heat: bool,
}

/// A column of a table.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Column {
    /// What stands in it.
    pub name: String,
    /// In what.
    pub unit: Unit,
    /// What it has in common with those beside it that have the same; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// In a heat map: the values that are as bad and as good as it gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heat: Option<[f64; 2]>,
}

/// A row of a table.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[allow(missing_docs)] // the names say it
pub struct Row {
    pub name: String,
    pub cells: Vec<Cell>,
}

/// What stands in a table: a number, perhaps with its 95 % interval, or words, or both, or nothing.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Cell {
    /// The number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Its 95 % interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
    /// Words; after the number if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The unit, where it is not that of the column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
    /// How it is to be judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<Mark>,
    /// Where the words lead to, on the web.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

impl Table {
    /// A table without rows yet.
    pub fn new(title: &str, columns: &[(&str, Unit)]) -> Self {
        let column =
            |&(name, unit): &(&str, Unit)| Column { name: name.into(), unit, ..Column::default() };
        let columns = columns.iter().map(column).collect();
        Self { title: title.into(), columns, ..Self::default() }
    }

    /// Takes away the columns in which nobody has anything: what cannot be known is left out.
    pub fn keep_known_columns(&mut self) {
        let is_empty =
            |cell: &Cell| cell.value.is_none() && cell.text.as_deref().unwrap_or("").is_empty();
        for place in (0..self.columns.len()).rev() {
            if self.rows.iter().all(|row| is_empty(&row.cells[place])) {
                self.columns.remove(place);
                self.rows.iter_mut().for_each(|row| drop(row.cells.remove(place)));
            }
        }
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
        Self { value: Some(value), interval, ..Self::default() }
    }

    /// A number, if there is one.
    pub fn maybe(value: Option<f64>) -> Self {
        Self { value, ..Self::default() }
    }

    /// Words.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..Self::default() }
    }

    /// The same in another unit than its column's.
    pub fn of(self, unit: Unit) -> Self {
        Self { unit: Some(unit), ..self }
    }

    /// The same with words after its number.
    pub fn note(self, text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..self }
    }

    /// The same, judged.
    pub fn mark(self, mark: impl Into<Option<Mark>>) -> Self {
        Self { mark: mark.into(), ..self }
    }

    /// The same as a link.
    pub fn link(self, url: Option<&str>) -> Self {
        Self { link: url.map(str::to_owned), ..self }
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
    /// Single measurements, round by round, a column for each subject.
    Points {
        /// What is to be seen.
        title: String,
        /// Of all points.
        unit: Unit,
        /// The subjects.
        columns: Vec<Points>,
        /// A line to compare them with, and its name.
        reference: Option<(f64, String)>,
    },
    /// Figures with their intervals around a value at which nothing differs.
    Intervals {
        /// What is to be seen.
        title: String,
        /// The figures.
        rows: Vec<Bar>,
        /// Where nothing differs.
        centre: f64,
        /// What is not worth calling a difference, on either side.
        noise: f64,
    },
    /// How the work was spread: a panel for each subject, its parts by rank.
    Ranks {
        /// What is to be seen.
        title: String,
        /// The subjects.
        panels: Vec<Ranks>,
    },
}

/// What one subject did, round by round.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Points {
    /// Whose.
    pub name: String,
    /// Rounds, counted from 1, and what was measured in them.
    pub points: Vec<(u32, f64)>,
    /// Their median.
    pub median: Option<f64>,
    /// Its 95 % interval.
    pub interval: Option<[f64; 2]>,
}

/// The parts that workers had of the work of a slice, averaged by rank, the busiest first.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Ranks {
    /// Whose.
    pub name: String,
    /// What to say above it.
    pub note: String,
    /// Parts of the requests; empty where they are not known.
    pub requests: Vec<f64>,
    /// Parts of the connections.
    pub connections: Vec<f64>,
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

/// A name for a [`Block::Text`]: what Markdown would take for itself is plain text.
pub fn escaped(name: &str) -> String {
    let is_special = |letter: char| "\\`*_[]<>#|&".contains(letter);
    let escape = |letter| is_special(letter).then_some('\\').into_iter().chain([letter]);
    name.chars().flat_map(escape).collect()
}
