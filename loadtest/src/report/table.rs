//! Tables as all reports have them: no boxes, a rule under the header, numbers to the right.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table};

/// Which way a column leans.
pub use comfy_table::CellAlignment::{Left, Right};

/// An empty table with these columns and so many blanks between them, at least one. A header may
/// have several lines.
pub fn table(gap: u16, columns: &[(&str, CellAlignment)]) -> Table {
    let mut table = Table::new();
    let rule = LineStyle::none().fill('─').junction('─');
    table
        .load_style(NOTHING.header_separator(rule))
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(columns.iter().map(|(name, _)| name));
    for (index, (_, alignment)) in columns.iter().enumerate() {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(*alignment);
            column.set_padding((0, gap.saturating_sub(1)));
        }
    }
    table
}

/// The table as text, without the blanks that fill its last column.
pub fn text(table: &Table) -> String {
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}
