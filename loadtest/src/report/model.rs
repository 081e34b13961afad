//! The document model: the form of every command's result, and all that a renderer knows.
//!
//! Figures are numbers with a unit and, if they are compared, an interval. A renderer (terminal, Markdown,
//! HTML) decides how they look, and does not know which command it shows.

use std::ops::Range;

use serde::{Deserialize, Serialize};

pub use crate::report::picture::{Axis, Bar, Picture, Series};
pub use crate::report::unit::Unit;
use crate::statistics::estimate::Estimate;
use crate::statistics::verdict::Ratio;

/// A command's report, the same for all renderers.
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
    /// What to see in the picture above it, in a sentence; where there is the picture.
    Caption(String),
    /// What not everyone wants to read: folded in HTML, below its title elsewhere.
    Details(String, Vec<Block>),
    /// Warnings: on stderr if the rest goes to a terminal.
    Warnings(Vec<String>),
    /// Commands that reproduce the result.
    Reproduce(Vec<String>),
}

/// The judgement of a figure.
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

/// A table. The first column has the rows' names.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Table {
    /// The title.
    pub title: String,
    /// The columns, except the first.
    pub columns: Vec<Column>,
    /// The rows.
    pub rows: Vec<Row>,
    /// A note for the reader, with code between backticks; may be empty.
    pub note: String,
    /// Whether HTML shows it as a heat map.
    #[serde(default)]
    pub heat: bool,
}

/// A column of a table.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Column {
    /// Its heading.
    pub name: String,
    /// Its unit.
    pub unit: Unit,
    /// The common heading of neighbouring columns with the same group; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// In a heat map: the values with the worst and the best colour.
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

/// A cell: a number, perhaps with its 95 % interval, or words, or both, or nothing.
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
    /// The unit, if it is not that of the column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
    /// Its judgement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<Mark>,
    /// The target of a link, on the web.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// A column of a table of records: its name, its unit, and the cell of a record.
pub type Field<T> = (&'static str, Unit, fn(&T) -> Cell);

impl Block {
    /// Whether there is nothing to show.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Heading(_) => false,
            Self::Text(text) | Self::Verdict(text) | Self::Caption(text) => text.is_empty(),
            Self::Facts(facts) => facts.is_empty(),
            Self::Table(table) => table.rows.is_empty() || table.columns.is_empty(),
            Self::Picture(Picture::Bars { bars, .. }) => bars.is_empty(),
            Self::Picture(Picture::Lines { series, .. }) => series.is_empty(),
            Self::Picture(Picture::Shares { rows, .. }) => rows.is_empty(),
            Self::Picture(Picture::Turns { rows, .. }) => rows.is_empty(),
            Self::Details(_, inner) => inner.iter().all(Self::is_empty),
            Self::Warnings(lines) | Self::Reproduce(lines) => lines.is_empty(),
        }
    }
}

/// The blocks that a renderer shows, which may omit some kinds; headings with nothing below them are omitted, too.
pub fn shown(blocks: &[Block], has: fn(&Block) -> bool) -> Vec<&Block> {
    let is_heading = |block: &&Block| matches!(block, Block::Heading(_));
    let has_heading = |block: &&Block| matches!(block, Block::Heading(_) | Block::Warnings(_));
    let mut shown: Vec<&Block> = Vec::new();
    for block in blocks.iter().filter(|block| has(block) && !block.is_empty()) {
        if has_heading(&block) {
            shown.pop_if(|last| is_heading(last));
        }
        shown.push(block);
    }
    shown.pop_if(|last| is_heading(last));
    shown
}

impl Mark {
    /// The sign after a figure that is not good.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Good => "",
            Self::Bad => "!",
            Self::Undecided => "?",
        }
    }
}

impl Column {
    /// Its name with its group.
    pub fn full_name(&self) -> String {
        format!("{} {}", self.group, self.name).trim().into()
    }
}

impl Table {
    /// A table without rows.
    pub fn new(title: &str, columns: &[(&str, Unit)]) -> Self {
        let column =
            |&(name, unit): &(&str, Unit)| Column { name: name.into(), unit, ..Column::default() };
        let columns = columns.iter().map(column).collect();
        Self { title: title.into(), columns, ..Self::default() }
    }

    /// A table with a row for each name, without columns.
    pub fn of<N: Into<String>>(title: &str, names: impl IntoIterator<Item = N>) -> Self {
        let rows = names.into_iter().map(|name| Row { name: name.into(), cells: Vec::new() });
        Self { title: title.into(), rows: rows.collect(), ..Self::default() }
    }

    /// Adds columns, with a record for each row.
    pub fn with<'a, T: 'a>(
        mut self,
        group: &str,
        fields: &[Field<T>],
        records: impl IntoIterator<Item: Into<Option<&'a T>>>,
    ) -> Self {
        let records: Vec<Option<&T>> = records.into_iter().map(Into::into).collect();
        for &(name, unit, cell) in fields {
            let column = Column { name: name.into(), unit, group: group.into(), heat: None };
            self.column(column, records.iter().map(|record| record.map(cell).into()));
        }
        self
    }

    /// Adds a column, with a cell for each row.
    pub fn column(&mut self, column: Column, cells: impl IntoIterator<Item = Cell>) {
        self.columns.push(column);
        self.rows.iter_mut().zip(cells).for_each(|(row, cell)| row.cells.push(cell));
    }

    /// The transposed table.
    pub fn turned(self) -> Self {
        let row = |(place, column): (usize, &Column)| Row {
            name: column.full_name(),
            cells: (self.rows.iter())
                .map(|row| row.cells[place].clone())
                .map(|cell| Cell { unit: cell.unit.or(Some(column.unit)), ..cell })
                .collect(),
        };
        let rows = self.columns.iter().enumerate().map(row).collect();
        let column = |row: &Row| Column {
            name: row.name.clone(),
            unit: Unit::Count, // each cell has its own unit
            ..Column::default()
        };
        Self { columns: self.rows.iter().map(column).collect(), rows, ..self }
    }

    /// Whether it is a table of words, which may use the whole width.
    pub fn is_of_words(&self) -> bool {
        self.columns.len() > 2 && self.columns.iter().all(|column| column.unit == Unit::Text)
    }

    /// The places of neighbouring columns of the same group.
    pub fn groups(&self) -> Vec<Range<usize>> {
        let together = |a: &Column, b: &Column| !a.group.is_empty() && a.group == b.group;
        let groups = self.columns.chunk_by(together).map(<[Column]>::len);
        groups
            .scan(0, |end, length| {
                *end += length;
                Some(*end - length..*end)
            })
            .collect()
    }

    /// The table without columns that have no value: what cannot be known is not shown.
    pub fn known_columns(mut self) -> Self {
        let is_empty =
            |cell: &Cell| cell.value.is_none() && cell.text.as_deref().unwrap_or("").is_empty();
        for place in (0..self.columns.len()).rev() {
            if self.rows.iter().all(|row| is_empty(&row.cells[place])) {
                self.columns.remove(place);
                self.rows.iter_mut().for_each(|row| drop(row.cells.remove(place)));
            }
        }
        self
    }

    /// Adds a row.
    pub fn row(&mut self, name: impl Into<String>, cells: impl IntoIterator<Item = Cell>) {
        let cells: Vec<Cell> = cells.into_iter().collect();
        debug_assert_eq!(cells.len(), self.columns.len(), "a cell for each column");
        self.rows.push(Row { name: name.into(), cells });
    }
}

/// Conversions into cells.
macro_rules! cells {
    ($($of:ty: $value:ident => $cell:expr),* $(,)?) => {
        $(impl From<$of> for Cell {
            fn from($value: $of) -> Self {
                $cell
            }
        })*
    };
}

cells! {
    f64: value => Self { value: Some(value), ..Self::default() },
    u64: value => (value as f64).into(),
    u32: value => f64::from(value).into(),
    usize: value => (value as f64).into(),
    Estimate: found => Self { interval: found.interval, ..found.value.into() },
    &Ratio: found => Self { interval: Some(found.interval), ..found.ratio.into() },
    String: text => Self { text: Some(text), ..Self::default() },
    &String: text => text.clone().into(),
    &str: text => text.to_owned().into(),
}

/// `None` is shown as a dash.
impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(known: Option<T>) -> Self {
        known.map_or_else(Self::default, T::into)
    }
}

impl Cell {
    /// Sets a unit that differs from the column's.
    pub fn of(self, unit: Unit) -> Self {
        Self { unit: Some(unit), ..self }
    }

    /// Adds words after the number.
    pub fn note(self, text: impl Into<Option<String>>) -> Self {
        Self { text: text.into(), ..self }
    }

    /// Sets the judgement.
    pub fn mark(self, mark: impl Into<Option<Mark>>) -> Self {
        Self { mark: mark.into(), ..self }
    }

    /// Makes it a link.
    pub fn link(self, url: Option<&str>) -> Self {
        Self { link: url.map(str::to_owned), ..self }
    }
}

/// A name for a [`Block::Text`], with Markdown's characters escaped.
pub fn escaped(name: &str) -> String {
    let is_special = |letter: char| "\\`*_[]<>#|&".contains(letter);
    let escape = |letter| is_special(letter).then_some('\\').into_iter().chain([letter]);
    name.chars().flat_map(escape).collect()
}

/// A note as Markdown: plain text, except for code between backticks.
pub fn with_code(note: &str) -> String {
    let parts = note.split('`').enumerate();
    let part = |(place, part): (usize, &str)| match place % 2 {
        0 => escaped(part),
        _ => format!("`{part}`"),
    };
    parts.map(part).collect()
}
