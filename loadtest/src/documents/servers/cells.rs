//! Common parts of the tables of servers.

use crate::report::model::{Cell, Column, Unit};
use crate::servers::columns::{COLUMNS, START};
use crate::servers::record::Row;

/// A cell of a column that may have failed.
pub fn or_failed(row: &Row, column: usize, cell: Option<Cell>) -> Cell {
    let is_it = |name: &str| name == START || name == COLUMNS[column];
    let failed = row.failed.iter().any(|(name, _)| is_it(name));
    cell.unwrap_or_else(|| if failed { "failed".into() } else { Cell::default() })
}

/// A column of a group, which may be empty.
pub fn column(group: &str, name: &str, unit: Unit) -> Column {
    Column { name: name.into(), unit, group: group.into(), heat: None }
}
