//! Wraps texts, for terminals of any width. Escape sequences have no width.

use textwrap::{Options, WordSplitter};

/// The width of a report if the terminal's width is not known.
pub const WIDTH: usize = 100;

/// The least width that is readable.
const NARROWEST: usize = 40;

/// The width to use: `COLUMNS`, as in other programs, or that of the terminal; at most [`WIDTH`], since longer lines
/// are hard to read.
pub fn columns() -> usize {
    let asked = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let terminal = || Some(usize::from(console::Term::stdout().size_checked()?.1));
    asked.or_else(terminal).unwrap_or(WIDTH).clamp(NARROWEST, WIDTH)
}

/// The width of a text.
pub fn room(text: &str) -> usize {
    textwrap::core::display_width(text)
}

/// A wrapped text, its first line after `first` and the others indented by as many blanks. A word that is longer than
/// a line has a line of its own.
pub fn hanging(first: &str, text: &str, width: usize) -> String {
    let indent = " ".repeat(room(first));
    let options = Options::new(width.max(indent.len() + NARROWEST / 2))
        .initial_indent(first)
        .subsequent_indent(&indent)
        .word_splitter(WordSplitter::NoHyphenation)
        .break_words(false);
    // Blanks at the end of `first` are kept before a text, and dropped if there is none.
    textwrap::wrap(text, options).iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_broken_between_words_and_goes_on_below_its_beginning() {
        let text = hanging("claim  ", "one two three four five six seven eight nine ten", 40);
        assert_eq!(text, "claim  one two three four five six seven\n       eight nine ten\n");
        let word = "x".repeat(50);
        assert_eq!(hanging("", &format!("see {word} there"), 20), format!("see\n{word}\nthere\n"));
        assert_eq!(hanging("", "", 20), "\n");
        assert_eq!(room("\u{1b}[1mfour\u{1b}[0m"), 4, "colours take no room");
    }
}
