//! One experiment: question, picture, answer, claims, figures, the kernel's view, its page.

use std::time::Duration;

use maud::{Markup, html};

use crate::lab::chapter::{Chapter, Status};
use crate::report::html::figure::words;
use crate::report::html::lab::{claims, picture, prose, with_interval};
use crate::report::lab::{THE_KERNEL, command, duration};
use crate::report::model::{Cell, Table, Unit};

/// The chapter, which is so many places down the record.
pub fn section(place: usize, chapter: &Chapter, quick: bool) -> Markup {
    let at = |field: &str| format!("/chapters/{place}/{field}");
    let findings = &chapter.findings;
    html! {
        section.chapter id=(chapter.name) {
            h2 {
                small { (words(&chapter.name, &at("name"))) } " "
                (words(&chapter.page.question, &at("page/question")))
            }
            @match &chapter.outcome {
                Status::Done => {}
                Status::Skipped(reason) => p.notice {
                    "Skipped: " (words(reason, &at("outcome/reason")))
                },
                Status::Failed(reason) => p.notice {
                    "Failed: " (words(reason, &at("outcome/reason")))
                },
            }
            @if let Some(found) = &findings.picture {
                (picture::draw(&chapter.name, found, &at("findings/picture")))
            }
            @if !findings.answer.is_empty() {
                p.answer { (words(&findings.answer, &at("findings/answer"))) }
            }
            (claims::of_chapter(place, chapter))
            @if !findings.advice.is_empty() {
                p { strong { "What to do: " } (words(&findings.advice, &at("findings/advice"))) }
            }
            (tables(&findings.tables, &at("findings/tables")))
            @if !findings.evidence.is_empty() {
                @if findings.evidence[0].title != THE_KERNEL { h3 { (THE_KERNEL) } }
                (tables(&findings.evidence, &at("findings/evidence")))
            }
            @for (number, missing) in findings.missing.iter().enumerate() {
                @let at = at(&format!("findings/missing/{number}"));
                p.notice { "Missing: " (words(missing, &at)) }
            }
            @for (name, text) in &chapter.page.sections {
                h3 { (name) }
                (prose::markup(text))
            }
            h3 { "How to repeat it" }
            pre { code { "target/release/" (command(&chapter.name, quick)) } }
            @if chapter.outcome == Status::Done {
                @let took = Duration::from_secs_f64(chapter.seconds.max(0.0));
                p.caption { "It took " (duration(took)) "." }
            }
        }
    }
}

fn tables(tables: &[Table], at: &str) -> Markup {
    html! {
        @for (place, of) in tables.iter().enumerate() {
            (table(of, &format!("{at}/{place}")))
        }
    }
}

fn table(of: &Table, at: &str) -> Markup {
    let side = |unit| if unit == Unit::Text { "left" } else { "right" };
    html! {
        h3.title { (words(&of.title, &format!("{at}/title"))) }
        div.scroll tabindex="0" role="region" aria-label=(of.title) {
            table.sticky.found {
                thead { tr {
                    th { }
                    @for column in &of.columns {
                        th.(side(column.unit)) scope="col" { (column.name) }
                    }
                } }
                tbody { @for (number, row) in of.rows.iter().enumerate() { tr {
                    @let at = format!("{at}/rows/{number}");
                    th scope="row" { (words(&row.name, &format!("{at}/name"))) }
                    @for (place, (found, column)) in row.cells.iter().zip(&of.columns).enumerate() {
                        td.(side(column.unit)) {
                            (cell(found, column.unit, &format!("{at}/cells/{place}")))
                        }
                    }
                } } }
            }
        }
        @if !of.note.is_empty() { p.caption { (words(&of.note, &format!("{at}/note"))) } }
    }
}

fn cell(found: &Cell, unit: Unit, at: &str) -> Markup {
    match (found.value, &found.text) {
        (Some(value), _) => with_interval(value, found.interval, at, unit),
        (None, Some(text)) => words(text, &format!("{at}/text")),
        (None, None) => html! { "–" },
    }
}
