//! `matrix` as a page to look at: a heat map, and the figures behind it.

use anyhow::{Context, Result};
use maud::{Markup, html};

use crate::matrix::expectations::GOOD;
use crate::matrix::record::{Figure, Matrix};
use crate::matrix::workloads::STOPPED;
use crate::report::html::document;
use crate::report::html::figure::{figure, rate, two_digits, words};
use crate::report::matrix::word;
use crate::report::terminal::machine;

/// Colours of the cells alone; the rest is the style of all pages.
pub const HEAT: &str = include_str!("matrix.css");

/// The page. `json` is the file with the record, relative to the page, to be linked.
///
/// # Errors
/// When the command that repeats it cannot be written for a shell.
pub fn page(matrix: &Matrix, json: Option<&str>) -> Result<String> {
    let arguments = matrix.arguments.iter().map(String::as_str);
    let command = shlex::try_join(["target/release/loadtest"].into_iter().chain(arguments))
        .context("an argument cannot be quoted for a shell")?;
    let body = html! {
                header {
                    h1 { "Who gets the next connection: every policy in every workload" }
                    (answer(matrix))
                }
                main {
                    (heat_map(matrix, ""))
                    (expectations(matrix, ""))
                    (connections(matrix, ""))
                    section {
                        h2 { "How it was measured" }
                        ul {
                            @for (number, column) in matrix.columns.iter().enumerate() {
                                li {
                                    strong { (words(&column.name, &at(number, "name"))) } ": "
                                    (words(&column.words, &at(number, "words")))
                                }
                            }
                        }
                        p { (machine(&matrix.environment)) }
                        @if let Some(commit) = &matrix.environment.commit { p { "Commit " (commit) } }
                        pre { (command) }
                        @for missing in &matrix.missing {
                            p .notice { (missing.policy) " took no part: " (missing.reason) }
                        }
                        @if !matrix.warnings.is_empty() {
                            h3 { "Warnings" }
                            ul { @for warning in &matrix.warnings { li { (warning) } } }
                        }
                        @if let Some(json) = json { p { a href=(json) { "All figures as JSON" } } }
                    }
                }
    };
    Ok(document("Who is good in which workload?", HEAT, &body))
}

fn at(column: usize, field: &str) -> String {
    format!("/columns/{column}/{field}")
}

/// Who is good everywhere, in a sentence.
pub fn sentence(matrix: &Matrix) -> String {
    let is_good = |policy: &&String| {
        let judged = matrix.columns.iter().filter(|column| column.judged);
        let mut figures = judged.map(|column| matrix.figure(&column.name, policy));
        figures.all(|figure| figure.is_some_and(|figure| figure.part() >= GOOD))
    };
    let good: Vec<&str> = matrix.policies.iter().filter(is_good).map(String::as_str).collect();
    match &good[..] {
        [] => "No policy is good in every workload.".into(),
        [one] => format!("Only {one} is good in every workload."),
        [others @ .., last] => format!("Good in every workload: {} and {last}.", others.join(", ")),
    }
}

/// The same at the top of a page.
fn answer(matrix: &Matrix) -> Markup {
    html! {
        div .verdict { p { strong { (sentence(matrix)) }
            span .evidence { "Good is at least " (two_digits(GOOD)) " of the best policy." } } }
    }
}

/// The matrix itself. `root` is where the record has it.
pub fn heat_map(matrix: &Matrix, root: &str) -> Markup {
    html! {
        section {
            h2 { "Requests/s, of the best policy of each workload" }
            p .caption {
                "Below: requests/s. The frame marks what is below " (two_digits(GOOD)) "; the post's load is for the spread of connections alone."
            }
            div .scroll {
                table .heat .sticky {
                    thead { tr { th { }
                        @for column in &matrix.columns { th scope="col" { (column.name) } }
                    } }
                    tbody { @for policy in &matrix.policies { tr {
                        th scope="row" { (policy) }
                        @for (number, column) in matrix.columns.iter().enumerate() {
                            (cell(root, number, column.judged, column.cells.iter().position(|f| &f.policy == policy),
                                &column.cells))
                        }
                    } } }
                }
            }
        }
    }
}

fn cell(
    root: &str,
    column: usize,
    judged: bool,
    place: Option<usize>,
    figures: &[Figure],
) -> Markup {
    let Some(place) = place else { return html! { td { "–" } } };
    let found = &figures[place];
    let at = |field: &str| format!("{root}/columns/{column}/cells/{place}/{field}");
    // Half of the best, or less, is as bad as it gets.
    let good = ((found.part() - 0.5) * 200.0).clamp(0.0, 100.0);
    let class = if judged && found.part() < GOOD { "bad" } else { "good" };
    html! {
        td class=(class) style=(format!("--good: {good:.0}%")) {
            strong { (figure(found.part(), &at("of_best/value"), two_digits)) }
            small { (figure(found.rate(), &at("requests_per_second/value"), rate)) "/s" }
        }
    }
}

/// What must come out of it, and whether it did.
pub fn expectations(matrix: &Matrix, root: &str) -> Markup {
    html! {
        section {
            h2 { "What must come out" }
            ul .expectations {
                @for (place, expectation) in matrix.expectations.iter().enumerate() {
                    li { strong { (word(expectation)) } " "
                        (words(&expectation.text, &format!("{root}/expectations/{place}/text"))) ": "
                        (words(&expectation.figures, &format!("{root}/expectations/{place}/figures"))) }
                }
            }
        }
    }
}

/// Who got the post's connections, and what happens without a worker.
pub fn connections(matrix: &Matrix, root: &str) -> Markup {
    let place = |name: &str| matrix.columns.iter().position(|column| column.name == name);
    let (post, stopped) = (place("post"), place(STOPPED));
    let shown = |column: Option<usize>, policy: &str, field: &str, digits: usize| {
        let column = column?;
        let cells = &matrix.columns[column].cells;
        let row = cells.iter().position(|figure| figure.policy == policy)?;
        let at = format!("{root}/columns/{column}/cells/{row}/{field}");
        let value = serde_json::to_value(&cells[row]).ok()?.get(field)?.clone();
        let number = value.as_f64()?;
        Some(html! { data value=(value) data-at=(at) { (format!("{number:.digits$}")) } })
    };
    let fields = [
        (post, "connections_max_over_mean", "the post's connections: busiest / average worker", 2),
        (post, "connections_max_less_min", "busiest less idlest, worst slice", 0),
        (stopped, "while_stopped", "served while one of 4 is stopped, of before", 2),
        (stopped, "lost_when_killed", "requests lost when it is killed", 1),
    ];
    html! {
        section {
            h2 { "Connections, and a worker lost" }
            div .scroll { table .sticky {
                thead { tr { th { }
                    @for (.., name, _) in fields { th scope="col" .who { (name) } }
                } }
                tbody { @for policy in &matrix.policies { tr {
                    th scope="row" { (policy) }
                    @for (column, field, _, digits) in fields {
                        td { (shown(column, policy, field, digits).unwrap_or_else(|| html! { "–" })) }
                    }
                } } }
            } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::expectations::tests::matrix;

    #[test]
    fn every_figure_of_the_page_is_the_records() {
        let matrix = matrix();
        let record = serde_json::to_value(&matrix).unwrap();
        let page = page(&matrix, Some("matrix.json")).unwrap();
        let document = scraper::Html::parse_document(&page);
        let selector = scraper::Selector::parse("[data-at]").unwrap();
        let mut seen = 0;
        for element in document.select(&selector) {
            let at = element.value().attr("data-at").unwrap();
            let found = record.pointer(at).unwrap_or_else(|| panic!("{at} is not in the record"));
            match element.value().attr("value") {
                Some(value) => assert_eq!(value, found.to_string(), "{at}"),
                None => assert_eq!(element.text().collect::<String>(), found.as_str().unwrap()),
            }
            seen += 1;
        }
        let cells = matrix.policies.len() * matrix.columns.len();
        assert!(seen >= 2 * cells, "{seen} figures");
        assert!(
            page.contains("Good in every workload: shared/least-conn and reuseport/least-conn.")
        );
    }
}
