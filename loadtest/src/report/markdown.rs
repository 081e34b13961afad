//! A document as Markdown, for a pull request or a file of results.

use crate::report::format;
use crate::report::model::{Block, Cell, Document, Table, Unit, escaped, with_code};

/// The whole text.
pub fn render(document: &Document) -> String {
    let title = match document.title.is_empty() {
        true => String::new(),
        false => format!("# {}\n\n", escaped(&document.title)),
    };
    title + &blocks(&document.blocks, 2)
}

/// The blocks alone, with headings of this level: for a part of another file.
pub fn blocks(blocks: &[Block], level: usize) -> String {
    let (mut shown, mut heading) = (Vec::new(), None);
    for one in blocks.iter().filter(|one| !one.is_empty()) {
        let text = block(one, level);
        match one {
            // A heading with nothing to show below it, such as a picture, is left out.
            Block::Heading(_) => heading = Some(text),
            _ if text.is_empty() => {}
            _ => shown.extend(heading.take().into_iter().chain([text])),
        }
    }
    shown.join("\n")
}

fn block(block: &Block, level: usize) -> String {
    let list = |items: &mut dyn Iterator<Item = String>| -> String {
        items.map(|item| format!("- {item}\n")).collect()
    };
    match block {
        Block::Heading(text) => format!("{} {}\n", "#".repeat(level), escaped(text)),
        Block::Text(text) => format!("{}\n", text.trim_end()),
        Block::Verdict(text) => format!("**{}**\n", escaped(text)),
        Block::Facts(facts) => list(
            &mut facts.iter().map(|(name, what)| format!("{}: {}", escaped(name), escaped(what))),
        ),
        Block::Table(of) => table(of),
        Block::Picture(_) => String::new(),
        Block::Details(title, inner) => {
            let heading = format!("{} {}\n", "#".repeat(level + 1), escaped(title));
            format!("{heading}\n{}", blocks(inner, level + 2))
        }
        Block::Warnings(warnings) => {
            list(&mut warnings.iter().map(|warning| format!("warning: {}", escaped(warning))))
        }
        Block::Reproduce(commands) => {
            format!("Reproduce:\n\n```sh\n{}\n```\n", commands.join("\n"))
        }
    }
}

/// A table: words to the left, figures to the right.
fn table(of: &Table) -> String {
    let names = of
        .columns
        .iter()
        .map(|column| escaped([column.group.as_str(), &column.name].join(" ").trim()));
    let mut text = line(std::iter::once(escaped(&of.title)).chain(names));
    let side = |unit| if unit == Unit::Text { "---|" } else { "---:|" };
    text += &format!("|---|{}\n", of.columns.iter().map(|one| side(one.unit)).collect::<String>());
    for row in &of.rows {
        let cells = row.cells.iter().zip(&of.columns).map(|(one, column)| cell(one, column.unit));
        text += &line(std::iter::once(escaped(&row.name)).chain(cells));
    }
    match of.note.is_empty() {
        true => text,
        false => format!("{text}\n{}\n", with_code(&of.note)),
    }
}

fn line(cells: impl Iterator<Item = String>) -> String {
    let cells: Vec<String> = cells.map(|cell| cell.replace('\n', " ")).collect();
    format!("| {} |\n", cells.join(" | "))
}

fn cell(cell: &Cell, unit: Unit) -> String {
    let text = escaped(&format::cell(cell, unit));
    match &cell.link {
        Some(url) => format!("[{text}]({})", url.replace(')', "%29").replace('|', "%7C")),
        None if cell.value.is_none() && cell.mark.is_some() => format!("**{text}**"),
        None => text,
    }
}
