//! `lab` as a book: a chapter for each experiment.

use anyhow::Result;
use maud::html;

use crate::lab::record::Lab;
use crate::report::html::document;

/// The page. `json` is the file with the record, relative to the page, to be linked.
///
/// # Errors
/// When the command that repeats it cannot be written for a shell.
pub fn page(lab: &Lab, json: Option<&str>) -> Result<String> {
    let body = html! {
        main {
            @for chapter in &lab.chapters { section { h2 { (chapter.page.question) } } }
            @if let Some(json) = json { p { a href=(json) { "Every observation as JSON" } } }
        }
    };
    Ok(document("The lab", "", &body))
}
