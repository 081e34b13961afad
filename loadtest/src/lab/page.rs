//! An experiment's page of the book: a Markdown file beside its source file.
//!
//! The criterion of a claim must stand beside the code that measures it, and a reader of the report must
//! see the same words. So there is only one text, which is also the documentation of the module. It ends
//! with five lists, which are not part of the page but describe its findings:
//!
//! - **Answer** and **Advice**: items `condition | text`, in groups separated by a blank line. Each group
//!   contributes its first item whose condition holds and whose figures, such as `{own}`, are all known
//!   (see [`figure`](crate::lab::figure)). A condition names claims by number, each with a verdict:
//!   `1+ 3-` if the first is reproduced and the third is not, `2?` if the second cannot be decided.
//! - **Picture**: one item `| text`, what to see in the picture.
//! - **Notes**: items `table | how to read it`; a table is named by the beginning of its title, several
//!   with ` / ` between them.
//! - **Claims**: items `source | url | claim | their figure | criterion`; the URL may be missing. For the
//!   criterion see [`criterion`](crate::lab::criterion). If the source measured on a different set-up,
//!   ` | another system` follows: then a claim that is not reproduced here is not refuted.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::lab::figure::{Figures, filled};

/// The sections that every page has, in this order.
pub const SECTIONS: [&str; 5] =
    ["The claim", "What the kernel does", "The set-up", "The criterion", "Elsewhere"];

/// A page without its lists.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Page {
    /// The question: the page's first line.
    pub question: String,
    /// The sections: the name of each and its paragraphs, in Markdown.
    pub sections: Vec<(String, String)>,
}

impl Page {
    /// Reads a page. A missing, empty or misplaced section is an error in the program, not of its user.
    pub fn of(text: &str) -> Result<Self> {
        let (text, _) = text.split_once("\n# Answer\n").context("a page without an answer")?;
        let mut parts = text.split("\n# ");
        let question = parts.next().unwrap_or_default().trim().to_owned();
        let sections = parts.filter_map(|part| part.split_once('\n'));
        let sections: Vec<(String, String)> =
            sections.map(|(name, words)| (name.trim().into(), words.trim().into())).collect();
        let names: Vec<&str> = sections.iter().map(|(name, _)| name.as_str()).collect();
        ensure!(names == SECTIONS, "'{question}' has the sections {names:?}, not {SECTIONS:?}");
        ensure!(sections.iter().all(|(_, text)| !text.is_empty()), "'{question}': empty section");
        Ok(Self { question, sections })
    }
}

/// The items of one of the page's lists, each joined to one line, in their groups.
pub fn items(page: &str, list: &str) -> Vec<Vec<String>> {
    let after = page.split(&format!("\n# {list}\n")).nth(1).unwrap_or_default();
    let list = after.split("\n# ").next().unwrap_or_default().trim();
    let in_a_line = |item: &str| item.split_whitespace().collect::<Vec<_>>().join(" ");
    let group = |group: &str| {
        group.trim_start_matches("- ").split("\n- ").map(in_a_line).collect::<Vec<String>>()
    };
    list.split("\n\n").filter(|group| !group.is_empty()).map(group).collect()
}

/// The text of a list with these verdicts and figures. An item that begins with a comma or another
/// punctuation mark follows without a space.
pub fn said(page: &str, list: &str, met: &[Option<bool>], figures: &Figures) -> String {
    let holds = |condition: &str| {
        let (number, verdict) = condition.split_at(condition.len() - 1);
        let met = number.parse::<usize>().ok().and_then(|number| met.get(number - 1));
        debug_assert!(met.is_some(), "there is no claim '{number}'");
        met == Some(&["-", "+"].iter().position(|sign| *sign == verdict).map(|place| place == 1))
    };
    let text = |item: &String| {
        let (condition, text) = item.split_once('|')?;
        let said = condition.split_whitespace().all(holds).then(|| filled(text.trim(), figures));
        said.filter(|(_, known)| *known).map(|(text, _)| text)
    };
    let mut all = String::new();
    for text in items(page, list).iter().filter_map(|group| group.iter().find_map(text)) {
        let goes_on = all.is_empty() || text.starts_with([',', ';', ':', '.']);
        all = all + if goes_on { "" } else { " " } + &text;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_becomes_a_question_and_its_sections() {
        let sections = SECTIONS.map(|name| format!("# {name}\nIt is.\n\nSo.\n"));
        let source = format!("Why?\n\n{}\n# Answer\n- | So.\n", sections.join("\n"));
        let page = Page::of(&source).unwrap();
        assert_eq!(page.question, "Why?");
        assert_eq!(page.sections[4], ("Elsewhere".into(), "It is.\n\nSo.".into()));
        assert!(Page::of(&source.replace("# Elsewhere", "# Here")).is_err());
        assert!(Page::of("Why?").is_err());
    }

    #[test]
    fn of_each_group_the_first_text_is_said_that_fits_the_verdicts_and_has_its_figures() {
        let page = "\n# Answer\n- 1+ 2- | It is {own}\n  and {one}.\n- 1? | Who knows?\n- | No.\n\n\
                    - | ; {one}\n- | ; nothing.\n";
        let said = |met: [Option<bool>; 2], one: &str| {
            let [own, one] = ["3", one].map(|words| words.to_owned().into());
            said(page, "Answer", &met, &[("own", own), ("one", one)])
        };
        assert_eq!(said([Some(true), Some(false)], "4"), "It is 3 and 4.; 4");
        assert_eq!(said([Some(true), Some(false)], "-"), "No.; nothing.");
        assert_eq!(said([Some(true), None], "4"), "No.; 4");
        assert_eq!(said([None, None], ""), "Who knows?; nothing.");
    }
}
