//! A document as Markdown, for a pull request or a file of results.

use crate::report::format;
use crate::report::model::{Block, Cell, Column, Document, Table, Unit, escaped, shown, with_code};

/// The whole text.
pub fn render(document: &Document) -> String {
    let title = match document.title.is_empty() {
        true => String::new(),
        false => format!("# {}\n\n", escaped(&document.title)),
    };
    title + &blocks(&document.blocks, 2)
}

/// Only the blocks, with headings of this level, for a part of another file.
pub fn blocks(blocks: &[Block], level: usize) -> String {
    let shown = shown(blocks, |block| !matches!(block, Block::Picture(_) | Block::Caption(_)));
    shown.into_iter().map(|one| block(one, level)).collect::<Vec<_>>().join("\n")
}

fn block(block: &Block, level: usize) -> String {
    let heading = |text, level| format!("{} {}\n", "#".repeat(level), escaped(text));
    match block {
        Block::Heading(text) => heading(text, level),
        Block::Text(text) => format!("{}\n", text.trim_end()),
        Block::Verdict(text) => format!("**{}**\n", escaped(text)),
        Block::Facts(facts) => {
            let items = facts.iter();
            items.map(|(name, what)| format!("- {}: {}\n", escaped(name), escaped(what))).collect()
        }
        Block::Table(of) => table(of),
        Block::Picture(_) | Block::Caption(_) => String::new(),
        Block::Details(title, inner) => {
            format!("{}\n{}", heading(title, level + 1), blocks(inner, level + 2))
        }
        Block::Warnings(warnings) => {
            warnings.iter().map(|warning| format!("- warning: {}\n", escaped(warning))).collect()
        }
        Block::Reproduce(commands) => {
            format!("Reproduce:\n\n```sh\n{}\n```\n", commands.join("\n"))
        }
    }
}

/// A table: words to the left, figures to the right.
fn table(of: &Table) -> String {
    let side = |column: &Column| if column.unit == Unit::Text { "---|" } else { "---:|" };
    let names = of.columns.iter().map(|column| escaped(&column.full_name()));
    let mut text = line(&of.title, names);
    text += &format!("|---|{}\n", of.columns.iter().map(side).collect::<String>());
    for row in &of.rows {
        text += &line(&row.name, row.cells.iter().zip(&of.columns).map(cell));
    }
    match of.note.is_empty() {
        true => text,
        false => format!("{text}\n{}\n", with_code(&of.note)),
    }
}

fn line(name: &str, cells: impl Iterator<Item = String>) -> String {
    let cells: Vec<String> = std::iter::once(escaped(name)).chain(cells).collect();
    format!("| {} |\n", cells.join(" | ").replace('\n', " "))
}

fn cell((cell, column): (&Cell, &Column)) -> String {
    let text = escaped(&format::cell(cell, column.unit));
    match &cell.link {
        Some(url) => format!("[{text}]({})", url.replace(')', "%29").replace('|', "%7C")),
        None if cell.value.is_none() && cell.mark.is_some() => format!("**{text}**"),
        None => text,
    }
}
