//! A document as an HTML page: one file that loads nothing, not even a script.
//!
//! - [`table`], [`prose`]: figures and words;
//! - [`picture`]: rows of bars, points, strips and chips, and [`lines`];
//! - [`scale`], [`look`]: common parts of pictures.

mod lines;
mod look;
mod picture;
mod prose;
mod scale;
pub mod table;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::report::html::table::class;
use crate::report::model::{Block, Document, shown};

/// Colours and sizes, also for phones, dark mode and paper.
const STYLE: &str = include_str!("page.css");

/// Forbids the browser to load anything, in case a name is not escaped.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// A page with more sections than this begins with a table of contents.
const FEW_SECTIONS: usize = 9;

/// Characters of a file's name that have another meaning in a link.
const NOT_IN_A_LINK: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_').remove(b'~');

/// A heading and what is below it.
struct Section<'a> {
    heading: &'a str,
    id: String,
    blocks: &'a [&'a Block],
}

/// The page. `raw` is the file with the record, relative to the page, to be linked.
pub fn render(document: &Document, raw: Option<&str>) -> String {
    let all = shown(&document.blocks, |_| true);
    let first = all.iter().position(|block| matches!(block, Block::Heading(_)));
    let (opening, rest) = all.split_at(first.unwrap_or(all.len()));
    let mut sections: Vec<Section> = Vec::new();
    for blocks in rest.chunk_by(|_, next| !matches!(next, Block::Heading(_))) {
        let Block::Heading(heading) = blocks[0] else { continue };
        let id = id(heading, &sections);
        sections.push(Section { heading, id, blocks });
    }
    let verdicts = opening.iter().filter(|block| matches!(block, Block::Verdict(_))).count();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (document.title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (document.title) }
                    div.many[verdicts > 2] { @for one in opening { (block(one, true)) } }
                }
                main {
                    @if sections.len() > FEW_SECTIONS { (contents(&sections)) }
                    @for one in &sections {
                        section id=(one.id) { @for one in one.blocks { (block(one, false)) } }
                    }
                    @if let Some(raw) = raw { p { "Raw data, with every sample: " (link(raw)) } }
                }
            }
        }
    };
    page.into_string()
}

/// A link to a file beside the page.
fn link(file: &str) -> Markup {
    // The dot prevents that a name with a colon is taken for a scheme.
    html! { a href={ "./" (utf8_percent_encode(file, NOT_IN_A_LINK)) } { (file) } }
}

/// A unique id for a section: the heading's letters, and a number if another section has the same.
fn id(heading: &str, others: &[Section]) -> String {
    let letters = heading.chars().map(|letter| match letter {
        'a'..='z' | '0'..='9' => letter,
        'A'..='Z' => letter.to_ascii_lowercase(),
        _ => '-',
    });
    let id: String = letters.take(60).collect();
    match id.is_empty() || id == "top" || others.iter().any(|other| other.id == id) {
        true => format!("{id}-{}", others.len()),
        false => id,
    }
}

/// The table of contents, with the verdicts of each section.
fn contents(sections: &[Section]) -> Markup {
    html! {
        nav aria-label="Contents" {
            ol.contents {
                @for section in sections {
                    li {
                        a href={ "#" (section.id) } { (section.heading) }
                        @if let Some(question) = question(section) { ": " (question) }
                        span.badges {
                            @for (text, class, number) in judgements(section.blocks) {
                                span.badge.(class) { (text) @if number > 1 { " × " (number) } } " "
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The question that a section answers, if it begins with one, in bold letters.
fn question<'a>(section: &Section<'a>) -> Option<&'a str> {
    let Block::Text(text) = section.blocks.get(1)? else { return None };
    text.trim().strip_prefix("**")?.strip_suffix("**").filter(|text| !text.contains('*'))
}

/// The verdicts within a section, with their numbers.
fn judgements<'a>(section: &[&'a Block]) -> Vec<(&'a str, &'static str, usize)> {
    let mut found: Vec<(&str, &str, usize)> = Vec::new();
    for block in section {
        let Block::Table(table) = block else { continue };
        let cells = table.rows.iter().flat_map(|row| &row.cells);
        for cell in cells.filter(|cell| cell.value.is_none() && cell.mark.is_some()) {
            let text = cell.text.as_deref().unwrap_or_default();
            match found.iter_mut().find(|(known, ..)| *known == text) {
                Some((.., number)) => *number += 1,
                None => found.push((text, class(cell.mark), 1)),
            }
        }
    }
    found
}

/// One block. In the opening of a page, verdicts are emphasized.
fn block(of: &Block, opening: bool) -> Markup {
    html! {
        @match of {
            Block::Heading(text) => h2 { (text) },
            Block::Text(text) => (prose::markup(text)),
            Block::Verdict(text) if opening => (answer(text)),
            Block::Verdict(text) => p.answer { (text) },
            Block::Facts(facts) => dl {
                @for (name, what) in facts { div { dt { (name) } dd { (what) } } }
            },
            Block::Table(of) => (table::draw(of)),
            Block::Picture(of) => (picture::draw(of)),
            Block::Caption(text) => p.caption { (text) },
            Block::Details(title, inner) => details {
                summary { (title) }
                @for one in shown(inner, |_| true) { (block(one, false)) }
            },
            Block::Warnings(warnings) => {
                h2 { "Warnings" }
                ul.notice { @for warning in warnings { li { (warning) } } }
            },
            Block::Reproduce(commands) => {
                h3 { "Reproduce" }
                pre { code { (commands.join("\n")) } }
            }
        }
    }
}

/// A sentence, with its figures in smaller letters.
fn answer(text: &str) -> Markup {
    // From the right: a name may contain a colon.
    let (says, figures) = text.rsplit_once(": ").unwrap_or((text, ""));
    html! {
        div.verdict {
            p {
                strong { (says) }
                @if !figures.is_empty() { span.colon { ": " } span.evidence { (figures) } }
            }
        }
    }
}
