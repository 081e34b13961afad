//! An experiment's page of the book, read from the heading of its own source file.
//!
//! What decides a claim must stand beside the code that does it, and a reader of the report must see
//! the same words. So there is only one text: the `//!` lines at the top of each experiment.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// The sections that every page has, in this order.
pub const SECTIONS: [&str; 5] =
    ["The claim", "What the kernel does", "The set-up", "The criterion", "Elsewhere"];

/// A page.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Page {
    /// The question, the page's first line.
    pub question: String,
    /// What is said about it: the name of each section and its paragraphs, in Markdown.
    pub sections: Vec<(String, String)>,
}

impl Page {
    /// Reads the heading of a source file.
    ///
    /// # Errors
    /// When a section is missing, empty or out of order: then the program is wrong, not its user.
    pub fn of(source: &str) -> Result<Self> {
        let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
        let mut lines = lines.map(|line| line.strip_prefix(' ').unwrap_or(line));
        let question = lines.next().context("a source file without a heading")?.trim().to_owned();
        let mut sections: Vec<(String, String)> = Vec::new();
        for line in lines {
            match (line.strip_prefix("# "), sections.last_mut()) {
                (Some(name), _) => sections.push((name.trim().into(), String::new())),
                (None, Some((_, text))) => *text += &format!("{line}\n"),
                (None, None) => {}
            }
        }
        for (_, text) in &mut sections {
            *text = text.trim().to_owned();
        }
        let names: Vec<&str> = sections.iter().map(|(name, _)| name.as_str()).collect();
        ensure!(names == SECTIONS, "'{question}' has the sections {names:?}, not {SECTIONS:?}");
        ensure!(sections.iter().all(|(_, text)| !text.is_empty()), "'{question}': empty section");
        Ok(Self { question, sections })
    }

    /// A section's text.
    #[cfg(test)]
    pub fn section(&self, name: &str) -> &str {
        self.sections.iter().find(|(found, _)| found == name).map_or("", |(_, text)| text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heading_becomes_a_question_and_its_sections() {
        let sections = SECTIONS.map(|name| format!("//! # {name}\n//! It is.\n//!\n//! So.\n//!"));
        let source = format!("//! Why?\n//!\n{}\n\nuse x;\n//! not this", sections.join("\n"));
        let page = Page::of(&source).unwrap();
        assert_eq!(page.question, "Why?");
        assert_eq!(page.section("Elsewhere"), "It is.\n\nSo.");
        assert!(Page::of(&source.replace("# Elsewhere", "# Here")).is_err());
        assert!(Page::of("use x;").is_err());
    }
}
