//! Shows a document in every form that was asked for.

use std::path::Path;

use anyhow::Result;

use crate::atomic_file::AtomicFile;
use crate::record::samples_of;
use crate::report::model::{Block, Document};
use crate::report::{html, markdown, terminal, wrap};

/// Where a document goes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Output<'a> {
    /// Where the record is saved already, to say so.
    pub json: Option<&'a Path>,
    /// Where to put a page to look at.
    pub html: Option<&'a Path>,
    /// Whether Markdown goes to stdout, rather than what is made for a terminal.
    pub markdown: bool,
}

/// Prints the document, its warnings on stderr, and saves the page; then says where everything is.
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

/// The same for what was printed already, part by part.
///
/// # Errors
/// When something cannot be written.
pub fn finish(document: &Document, output: Output) -> Result<()> {
    let warnings = document.blocks.iter().filter_map(|block| match block {
        Block::Warnings(warnings) => Some(warnings),
        _ => None,
    });
    terminal::warn(warnings.flatten().cloned());
    if let Some(path) = output.html {
        let raw = output.json.and_then(|json| link(path, json));
        let page = html::render(document, raw.as_deref());
        AtomicFile::reserve("--html", path)?.save_text(&page)?;
    }
    if output.markdown {
        return Ok(());
    }
    let samples = output.json.map(samples_of).filter(|path| path.is_file());
    let files = [
        ("The result:", output.json),
        ("Every sample:", samples.as_deref()),
        ("The report:", output.html),
    ];
    let lines = files
        .into_iter()
        .filter_map(|(what, path)| Some(format!("{what:14}{}\n", path?.display())));
    let lines: String = lines.collect();
    if lines.is_empty() { Ok(()) } else { terminal::print(&format!("\n{lines}")) }
}

/// How a page names the raw data: by the file's name alone, where both lie in one folder.
fn link(page: &Path, json: &Path) -> Option<String> {
    let folder = |path: &Path| path.canonicalize().ok()?.parent().map(Path::to_owned);
    let here = page.parent().filter(|folder| !folder.as_os_str().is_empty());
    let here = here.unwrap_or(Path::new(".")).canonicalize().ok();
    let name = json.file_name()?.to_string_lossy().into_owned();
    (folder(json) == here).then_some(name)
}
