//! An experiment's page of the book: a Markdown file beside its source file.
//!
//! What decides a claim must stand beside the code that does it, and a reader of the report must see
//! the same words. So there is only one text, which is the documentation of the module as well. Its
//! last section lists the claims, which are no part of the page but of its findings.

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
    /// Reads a page.
    ///
    /// # Errors
    /// When a section is missing, empty or out of order: then the program is wrong, not its user.
    pub fn of(text: &str) -> Result<Self> {
        let (text, _) = text.split_once("\n# Claims\n").context("a page without claims")?;
        let mut lines = text.lines();
        let question = lines.next().context("a page without a question")?.trim().to_owned();
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
    fn a_text_becomes_a_question_and_its_sections() {
        let sections = SECTIONS.map(|name| format!("# {name}\nIt is.\n\nSo.\n"));
        let source = format!("Why?\n\n{}\n# Claims\n- me | | so | 1\n", sections.join("\n"));
        let page = Page::of(&source).unwrap();
        assert_eq!(page.question, "Why?");
        assert_eq!(page.section("Elsewhere"), "It is.\n\nSo.");
        assert!(Page::of(&source.replace("# Elsewhere", "# Here")).is_err());
        assert!(Page::of("Why?").is_err());
    }
}
