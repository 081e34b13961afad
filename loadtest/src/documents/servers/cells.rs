//! Common parts of the tables of servers.

use crate::report::model::{Cell, Field, Table};
use crate::servers::columns::{COLUMNS, START};
use crate::servers::record::{Reload, Replaced, Row};

/// A table of servers. Columns come with their groups, which may be empty.
pub fn table(title: &str, rows: &[Row], columns: &[(&str, Field<Row>)]) -> Table {
    let table = Table::of(title, rows.iter().map(|row| &row.name));
    columns.iter().fold(table, |table, &(group, field)| table.with(group, &[field], rows))
}

/// A cell of a column that may have failed.
pub fn or_failed<T: Into<Cell>>(row: &Row, column: usize, figure: Option<T>) -> Cell {
    let is_it = |name: &str| name == START || name == COLUMNS[column];
    let failed = row.failed.iter().any(|(name, _)| is_it(name));
    figure.map_or_else(|| if failed { "failed".into() } else { Cell::default() }, T::into)
}

/// The reloads of a server that has one.
pub fn reloads(row: &Row) -> Option<&Replaced> {
    match &row.reload {
        Some(Reload::Done(found)) => Some(found),
        _ => None,
    }
}
