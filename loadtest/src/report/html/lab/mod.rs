//! `lab` as a book: the post's question and its answer, every claim, a chapter for each experiment.
//!
//! - [`claims`]: contents, and what others say with its verdicts;
//! - [`chapter`]: one experiment;
//! - [`picture`]: what answers at a glance; [`lines`] draws the one kind that needs axes;
//! - [`prose`]: an experiment's page, from its Markdown.

mod chapter;
mod claims;
mod lines;
mod picture;
mod prose;

use anyhow::Result;
use maud::{Markup, html};

use crate::lab::record::Lab;
use crate::matrix::expectations::GOOD;
use crate::report::html::figure::{figure, interval, words};
use crate::report::html::{context, document, matrix};
use crate::report::lab::grid::number;
use crate::report::lab::{ABOUT_INTERVALS, ABOUT_QUICK};
use crate::report::model::Unit;
use crate::report::terminal;

/// What the book has beside the style of all pages and that of the matrix.
const STYLE: &str = include_str!("lab.css");

/// The page. `json` is the file with the record, relative to the page, to be linked.
///
/// # Errors
/// When the command that repeats it cannot be written for a shell.
pub fn page(lab: &Lab, json: Option<&str>) -> Result<String> {
    let command = context::command(&lab.arguments)?;
    let body = html! {
        header {
            h1 { "One socket or many? What others claim, measured again" }
            (opening(lab))
        }
        main {
            (claims::contents(lab))
            (claims::section(lab))
            (every_policy(lab))
            @for (place, chapter) in lab.chapters.iter().enumerate() {
                (chapter::section(place, chapter, lab.quick))
            }
            section {
                h2 { "How it was measured" }
                @if !lab.warnings.is_empty() {
                    h3 { "Know before you believe it" }
                    ul {
                        @for (place, warning) in lab.warnings.iter().enumerate() {
                            li { (words(warning, &format!("/warnings/{place}"))) }
                        }
                    }
                }
                (context::machine(&lab.environment))
                h3 { "Once more" }
                pre { code { "make build\n" (command) } }
                @if let Some(json) = json {
                    p { "Every single sample: " (context::link(json)) }
                }
            }
        }
    };
    let style = format!("{}{STYLE}", matrix::HEAT);
    Ok(document("One socket or many? What others claim, measured again", &style, &body))
}

/// The post's question with its answer.
fn opening(lab: &Lab) -> Markup {
    let post = lab.chapters.iter().position(|chapter| chapter.name == "post");
    html! {
        @match post.map(|place| (place, &lab.chapters[place])) {
            Some((place, post)) if !post.findings.answer.is_empty() => {
                @let at = |field: &str| format!("/chapters/{place}/{field}");
                div.verdict { p {
                    strong { (words(&post.page.question, &at("page/question"))) }
                    span.evidence { (words(&post.findings.answer, &at("findings/answer"))) }
                } }
            }
            _ => p.notice {
                "Why did the post see what it saw? That was not measured: its chapter, "
                code { "post" } ", is missing or has no answer."
            }
        }
        p.caption { (terminal::machine(&lab.environment)) ". " (ABOUT_INTERVALS) }
        @if lab.quick { p.notice { (ABOUT_QUICK) } }
    }
}

fn every_policy(lab: &Lab) -> Markup {
    let Some(found) = &lab.matrix else {
        return html! {
            section #matrix {
                h2 { "Every policy in every workload" }
                p.notice { "It was not measured: " code { "make matrix" } " does that." }
            }
        };
    };
    html! {
        div #matrix {
            (matrix::heat_map(found, "/matrix"))
            p { strong { (matrix::sentence(found)) } " Good is at least " (GOOD) " of the best." }
            (matrix::connections(found, "/matrix"))
            (matrix::expectations(found, "/matrix"))
            @for (place, missing) in found.missing.iter().enumerate() {
                p.notice {
                    (words(&missing.policy, &format!("/matrix/missing/{place}/policy")))
                    " took no part: "
                    (words(&missing.reason, &format!("/matrix/missing/{place}/reason")))
                }
            }
            p.caption {
                "Taken over from a run of its own, begun "
                (words(&found.environment.started_at, "/matrix/environment/started_at")) "."
            }
        }
    }
}

/// A number of this unit, as paper has it.
fn shown(value: f64, unit: Unit) -> String {
    let text = number(value, unit);
    if unit == Unit::Microseconds { text.replace("us", "µs") } else { text }
}

/// A number of the record, perhaps with its interval; `at` leads to both of them by their names.
fn with_interval(value: f64, ends: Option<[f64; 2]>, at: &str, unit: Unit) -> Markup {
    html! {
        (figure(value, &format!("{at}/value"), |value| shown(value, unit)))
        @if let Some(ends) = ends {
            " " span.ends {
                "(" (interval(ends, &format!("{at}/interval"), |value| shown(value, unit))) ")"
            }
        }
    }
}

#[cfg(test)]
mod tests;
