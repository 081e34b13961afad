//! Is one faster? The answer first, then what it is an answer about, and what it lacks.

use maud::{Markup, html};

use crate::measure::comparison::{Comparison, Pair, Plan, Summary};
use crate::report::compare::ONE_AT_A_TIME;
use crate::report::format::count;
use crate::report::html::figure::{figure, percent, words};
use crate::report::html::look::plain_name;
use crate::statistics::verdict::Verdict;

/// The head of the page.
pub fn section(comparison: &Comparison) -> Markup {
    let pairs = asked_for(comparison);
    html! {
        header {
            h1 { (title(comparison)) }
            div.verdicts.many[pairs.len() > 2] {
                @for (index, pair) in &pairs { (verdict(*index, pair)) }
            }
            p.measured { (measured(&comparison.plan)) }
            (shortcomings(comparison))
        }
    }
}

/// What the page is about.
pub fn title(comparison: &Comparison) -> String {
    let names: Vec<&str> = comparison.subjects.iter().map(|c| c.name.as_str()).collect();
    format!("Compared under load: {}", names.join(", "))
}

/// The pairs that somebody wanted to know about: those with the baseline, if there are any.
fn asked_for(comparison: &Comparison) -> Vec<(usize, &Pair)> {
    let pairs = comparison.pairs.iter().enumerate();
    pairs.filter(|(_, pair)| pair.baseline == comparison.plan.baseline).collect()
}

/// A sign for those who look before they read.
pub fn sign(pair: &Pair) -> &'static str {
    match pair.result.as_ref().map(|result| result.verdict) {
        Some(Verdict::Faster | Verdict::Higher) => "▲",
        Some(Verdict::Slower | Verdict::Lower) => "▼",
        Some(Verdict::NoDifference) => "=",
        Some(Verdict::TooNoisy) | None => "?",
    }
}

/// The sentence, its figures in smaller letters than what they mean.
fn verdict(index: usize, pair: &Pair) -> Markup {
    let at = format!("/pairs/{index}/sentence");
    // From the right: a name may have a colon of its own.
    let (says, figures) = pair.sentence.rsplit_once(": ").unwrap_or((&pair.sentence, ""));
    html! {
        div.verdict {
            span.sign aria-hidden="true" { (sign(pair)) }
            p data-at=(at) { strong { (says) }
                @if !figures.is_empty() { span.colon { ": " } span.evidence { (figures) } } }
        }
    }
}

fn measured(plan: &Plan) -> Markup {
    let number = |value: u64| count(value);
    let weights: f64 = plan.paths.iter().map(|share| share.weight).sum();
    html! {
        (figure(plan.rounds, "/plan/rounds", |rounds| count(rounds.into()))) " slices each of "
        (figure(plan.slice_seconds, "/plan/slice_seconds", number)) " s, taken in turn; wrk with "
        (figure(plan.threads, "/plan/threads", number)) " threads and "
        (figure(plan.connections_opened, "/plan/connections_opened", number)) " connections"
        @if plan.connections_opened != plan.connections_asked {
            " (" (figure(plan.connections_asked, "/plan/connections_asked", number)) " asked for)"
        }
        @if plan.keep_alive { ", kept alive" } @else { ", a new one for each request" }
        "; asked for "
        @for (index, share) in plan.paths.iter().enumerate() {
            @if index > 0 { ", " }
            code { (words(&share.path, &format!("/plan/paths/{index}/path"))) }
            @if plan.paths.len() > 1 { " (" (percent(share.weight / weights)) ")" }
        }
        "; compared with " (words(&plan.baseline, "/plan/baseline")) ", differences up to "
        (figure(plan.threshold, "/plan/threshold", percent)) " count as noise; seed "
        (figure(plan.seed, "/plan/seed", |seed| seed.to_string())) "."
        @if let Some(cores) = &plan.pinned {
            " Server and wrk were " (cores.sentence()) "."
        }
        @if plan.one_at_a_time { " " (ONE_AT_A_TIME) }
    }
}

/// What is missing, and why; nothing where all went well.
fn shortcomings(comparison: &Comparison) -> Markup {
    let number = |rounds: u32| count(rounds.into());
    html! {
        @if !comparison.complete {
            div.notice role="note" {
                strong { "This run is not complete. " }
                "Of " (figure(comparison.plan.rounds, "/plan/rounds", number))
                " slices each there are: "
                @for (index, subject) in comparison.subjects.iter().enumerate() {
                    @if index > 0 { ", " }
                    (plain_name(index, subject)) " "
                    @match &subject.summary {
                        Some(summary) => {
                            (slices(index, summary))
                        }
                        None => "none",
                    }
                }
                "."
            }
        }
        @for (index, subject) in comparison.subjects.iter().enumerate() {
            @if let Some(reason) = &subject.failed {
                div.notice role="note" {
                    strong { (plain_name(index, subject)) " failed: " }
                    (words(reason, &format!("/subjects/{index}/failed"))) ". "
                    @match &subject.summary {
                        Some(summary) => {
                            "Its first "
                            (slices(index, summary))
                            " slices are kept."
                        }
                        None => "It has no slice.",
                    }
                }
            }
        }
    }
}

/// How many slices a subject has.
fn slices(index: usize, summary: &Summary) -> Markup {
    let at = format!("/subjects/{index}/summary/slices");
    figure(summary.slices, &at, |slices| count(slices as u64))
}
