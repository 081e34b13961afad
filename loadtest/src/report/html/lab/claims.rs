//! What is in the book, and every claim with its verdict.

use maud::{Markup, html};

use crate::lab::chapter::{Chapter, Claim, Status, Verdict};
use crate::lab::record::Lab;
use crate::report::html::figure::words;
use crate::report::lab::word;

/// The chapters with their verdicts.
pub fn contents(lab: &Lab) -> Markup {
    html! {
        nav aria-label="Contents" {
            ol.contents {
                @for chapter in &lab.chapters {
                    li {
                        a href={ "#" (chapter.name) } { (chapter.page.question) }
                        span.badges { (badges(chapter)) }
                    }
                }
            }
            p.caption {
                a href="#claims" { "All claims in one table" } " · "
                a href="#matrix" { "Every policy in every workload" }
            }
        }
    }
}

/// Each verdict of a chapter with how often it has it, or why it has none.
fn badges(chapter: &Chapter) -> Markup {
    let count = |wanted: &str| {
        chapter.findings.claims.iter().filter(|claim| word(&claim.verdict) == wanted).count()
    };
    let verdicts = ["reproduced", "not reproduced", "not decidable"];
    let verdicts = verdicts.map(|word| (word, count(word)));
    html! {
        @match chapter.outcome {
            Status::Done => {
                @for (word, count) in verdicts.into_iter().filter(|(_, count)| *count > 0) {
                    @let class = match word {
                        "reproduced" => "yes",
                        "not reproduced" => "no",
                        _ => "open",
                    };
                    span.badge.(class) { (word) @if count > 1 { " × " (count) } } " "
                }
            }
            Status::Skipped(_) => span.badge.open { "skipped" },
            Status::Failed(_) => span.badge.no { "failed" },
        }
    }
}

/// A verdict as a word in its colour.
pub fn badge(verdict: &Verdict) -> Markup {
    let class = match verdict {
        Verdict::Reproduced => "yes",
        Verdict::NotReproduced => "no",
        Verdict::NotDecidable(_) => "open",
    };
    html! { span.badge.(class) { (word(verdict)) } }
}

/// Every claim in one table, which becomes a list where it is narrow.
pub fn section(lab: &Lab) -> Markup {
    let claims = || {
        let numbered = lab.chapters.iter().enumerate();
        numbered.flat_map(|(place, chapter)| {
            let claims = chapter.findings.claims.iter().enumerate();
            claims.map(move |(number, claim)| (place, chapter, number, claim))
        })
    };
    html! {
        section #claims {
            h2 { "What others claim, and whether it is so here" }
            @if claims().next().is_none() {
                p.notice { "No chapter has judged a claim yet." }
            } @else {
                table.claims {
                    thead { tr {
                        th scope="col" { "claim" } th scope="col" { "source" }
                        th scope="col" { "theirs" } th scope="col" { "here" }
                        th scope="col" { "holds if" } th scope="col" { "verdict" }
                    } }
                    tbody { @for (place, chapter, number, claim) in claims() {
                        @let at = |field: &str| at(place, number, field);
                        tr {
                            td { a href={ "#" (chapter.name) } { (claim.claim) } }
                            td data-label="source" { (source(claim, &at("source"))) }
                            td data-label="theirs" { (words(&claim.theirs, &at("theirs"))) }
                            td data-label="here" { (words(&claim.ours, &at("ours"))) }
                            td data-label="holds if" { (words(&claim.limit, &at("limit"))) }
                            td { (badge(&claim.verdict)) }
                        }
                    } }
                }
            }
        }
    }
}

/// Where the record has a field of a claim.
fn at(chapter: usize, claim: usize, field: &str) -> String {
    format!("/chapters/{chapter}/findings/claims/{claim}/{field}")
}

/// Who says so, with a link if there is one; the page itself loads nothing.
fn source(claim: &Claim, at: &str) -> Markup {
    let named = words(&claim.source, at);
    match claim.url.as_deref().filter(|url| is_of_the_web(url)) {
        Some(url) => html! { a href=(url) rel="noreferrer" { (named) } },
        None => named,
    }
}

/// Whether a link leads to a page, and does nothing else.
pub fn is_of_the_web(url: &str) -> bool {
    ["https://", "http://"].iter().any(|scheme| url.starts_with(scheme))
}

/// The claims of one chapter.
pub fn of_chapter(place: usize, chapter: &Chapter) -> Markup {
    html! {
        @for (number, claim) in chapter.findings.claims.iter().enumerate() {
            @let at = |field: &str| at(place, number, field);
            div.claim {
                p { (badge(&claim.verdict)) " " strong { (words(&claim.claim, &at("claim"))) } }
                dl {
                    div { dt { "source" } dd { (source(claim, &at("source"))) } }
                    div { dt { "theirs" } dd { (words(&claim.theirs, &at("theirs"))) } }
                    div { dt { "here" } dd { (words(&claim.ours, &at("ours"))) } }
                    div { dt { "holds if" } dd { (words(&claim.limit, &at("limit"))) } }
                    @if let Verdict::NotDecidable(reason) = &claim.verdict {
                        div { dt { "why not" } dd { (words(reason, &at("verdict/reason"))) } }
                    }
                }
            }
        }
    }
}
