//! A document as a page to look at: one file that loads nothing, not even a script.
//!
//! - [`table`], [`prose`]: figures and words;
//! - [`picture`]: what answers at a glance: rows of bars, points, strips and chips, and [`lines`];
//! - [`scale`], [`look`]: what pictures have in common.

mod lines;
mod look;
mod picture;
mod prose;
mod scale;
pub mod table;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::report::model::{Block, Document, Mark};

/// Colours, sizes, and what becomes of them on phones, in the dark and on paper.
const STYLE: &str = include_str!("page.css");

/// Forbids the browser to load anything, should a name ever get past the escaping.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// A page with more sections than this begins with a list of them.
const FEW_SECTIONS: usize = 9;

/// What of a file's name means something else in a link.
const NOT_IN_A_LINK: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_').remove(b'~');

/// The page. `raw` is the file with the record, relative to the page, to be linked.
pub fn render(document: &Document, raw: Option<&str>) -> String {
    let begins: Vec<usize> = (document.blocks.iter().enumerate())
        .filter(|(_, block)| matches!(block, Block::Heading(_)))
        .map(|(place, _)| place)
        .collect();
    let ends = begins.iter().skip(1).copied().chain([document.blocks.len()]);
    let sections = begins.iter().zip(ends).map(|(&begin, end)| &document.blocks[begin..end]);
    let sections: Vec<&[Block]> =
        sections.filter(|section| section[1..].iter().any(|block| !block.is_empty())).collect();
    let first = begins.first().copied().unwrap_or(document.blocks.len());
    let opening = &document.blocks[..first];
    let ids = ids(&sections);
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
                    div.many[verdicts > 2] { (blocks(opening, "verdict")) }
                }
                main {
                    @if sections.len() > FEW_SECTIONS { (contents(&sections, &ids)) }
                    @for (section, id) in sections.iter().zip(&ids) {
                        section id=(id) { (blocks(section, "answer")) }
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
    // The dot keeps a name with a colon from being taken for another scheme.
    html! { a href={ "./" (utf8_percent_encode(file, NOT_IN_A_LINK)) } { (file) } }
}

/// A name for each section that is its own: the heading's letters, and a number where it is another's.
fn ids(sections: &[&[Block]]) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for section in sections {
        let letters = heading(section).chars().map(|letter| match letter {
            'a'..='z' | '0'..='9' => letter,
            'A'..='Z' => letter.to_ascii_lowercase(),
            _ => '-',
        });
        let mut id: String = letters.take(60).collect();
        if id.is_empty() || ids.contains(&id) || id == "top" {
            id = format!("{id}-{}", ids.len());
        }
        ids.push(id);
    }
    ids
}

fn heading(section: &[Block]) -> &str {
    match section.first() {
        Some(Block::Heading(text)) => text,
        _ => "",
    }
}

/// The sections with the judgements in them.
fn contents(sections: &[&[Block]], ids: &[String]) -> Markup {
    html! {
        nav aria-label="Contents" {
            ol.contents {
                @for (section, id) in sections.iter().zip(ids) {
                    li {
                        a href={ "#" (id) } { (heading(section)) }
                        span.badges {
                            @for (text, class, number) in judgements(section) {
                                span.badge.(class) { (text) @if number > 1 { " × " (number) } } " "
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Each judgement in words within a section, and how often it is there.
fn judgements(section: &[Block]) -> Vec<(&str, &'static str, usize)> {
    let mut found: Vec<(&str, &str, usize)> = Vec::new();
    let tables = section.iter().filter_map(|block| match block {
        Block::Table(table) => Some(table),
        _ => None,
    });
    let cells = tables.flat_map(|table| &table.rows).flat_map(|row| &row.cells);
    for (text, mark) in cells
        .filter(|cell| cell.value.is_none())
        .filter_map(|cell| Some((cell.text.as_deref()?, cell.mark?)))
    {
        let class = match mark {
            Mark::Good => "yes",
            Mark::Bad => "no",
            Mark::Undecided => "open",
        };
        match found.iter_mut().find(|(known, ..)| *known == text) {
            Some((.., number)) => *number += 1,
            None => found.push((text, class, 1)),
        }
    }
    found
}

/// `verdict` is how verdicts look.
fn blocks(blocks: &[Block], verdict: &str) -> Markup {
    html! { @for one in blocks.iter().filter(|one| !one.is_empty()) { (block(one, verdict)) } }
}

fn block(block: &Block, verdict: &str) -> Markup {
    html! {
        @match block {
            Block::Heading(text) => h2 { (text) },
            Block::Text(text) => (prose::markup(text)),
            Block::Verdict(text) if verdict == "answer" => p.answer { (text) },
            Block::Verdict(text) => (answer(text)),
            Block::Facts(facts) => dl {
                @for (name, what) in facts { div { dt { (name) } dd { (what) } } }
            },
            Block::Table(of) => (table::draw(of)),
            Block::Picture(of) => (picture::draw(of)),
            Block::Details(title, inner) => details {
                summary { (title) }
                (blocks(inner, "answer"))
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

/// The sentence, its figures in smaller letters than what they mean.
fn answer(text: &str) -> Markup {
    // From the right: a name may have a colon of its own.
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
