//! Shows a document in all requested forms.

use std::path::Path;

use anyhow::Result;

use crate::atomic_file::AtomicFile;
use crate::record::samples_of;
use crate::report::model::{Block, Document};
use crate::report::{html, markdown, terminal, wrap};

/// The outputs of a document.
#[derive(Clone, Copy, Debug, Default)]
pub struct Output<'a> {
    /// The file in which the record was saved, to be named.
    pub json: Option<&'a Path>,
    /// The file for the HTML page.
    pub html: Option<&'a Path>,
    /// Whether stdout gets Markdown instead of the terminal's form.
    pub markdown: bool,
}

/// Prints the document, its warnings on stderr, and saves the page; then names the files.
///
/// # Errors
/// When something cannot be written.
pub fn publish_to(document: &Document, output: Output) -> Result<()> {
    terminal::print(&match output.markdown {
        true => markdown::render(document),
        false => terminal::render(document, wrap::columns()),
    })?;
    finish(document, output)
}

/// The same for a document that was printed already, part by part.
///
/// # Errors
/// When something cannot be written.
pub fn finish(document: &Document, output: Output) -> Result<()> {
    for block in &document.blocks {
        if let Block::Warnings(warnings) = block {
            terminal::warn(warnings);
        }
    }
    if let Some(path) = output.html {
        let raw = output.json.filter(|json| folder(json) == folder(path));
        let raw = raw.and_then(|json| Some(json.file_name()?.to_string_lossy()));
        AtomicFile::reserve("--html", path)?.save_text(&html::render(document, raw.as_deref()))?;
    }
    let samples = output.json.map(samples_of).filter(|path| path.is_file());
    let files = [
        ("The result:", output.json),
        ("Every sample:", samples.as_deref()),
        ("The report:", output.html),
    ];
    let lines = files.map(|(what, path)| {
        path.map_or_else(String::new, |path| format!("{what:14}{}\n", path.display()))
    });
    match lines.concat() {
        lines if lines.is_empty() || output.markdown => Ok(()),
        lines => terminal::print(&format!("\n{lines}")),
    }
}

/// The folder of a file that may not exist yet.
fn folder(file: &Path) -> Option<std::path::PathBuf> {
    std::path::absolute(file).ok()?.parent()?.canonicalize().ok()
}
