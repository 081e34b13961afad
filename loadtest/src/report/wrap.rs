//! Texts in lines that fit, on terminals of any width. Escape sequences take no room.

use textwrap::{Options, WordSplitter};

/// Columns of a report where nobody says how wide the terminal is.
pub const WIDTH: usize = 100;

/// Narrower than this, nothing is readable any more.
const NARROWEST: usize = 40;

/// Columns to write in: those that `COLUMNS` names, as in other programs, or of the terminal; never
/// more than [`WIDTH`], since longer lines are hard to read.
pub fn columns() -> usize {
    let asked = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let terminal = || Some(usize::from(console::Term::stdout().size_checked()?.1));
    asked.or_else(terminal).unwrap_or(WIDTH).clamp(NARROWEST, WIDTH)
}

/// How much room a text takes.
pub fn room(text: &str) -> usize {
    textwrap::core::display_width(text)
}

/// A text in lines that fit, the first after `first` and the others after so many blanks. A word
/// that is longer than a line has a line of its own.
pub fn hanging(first: &str, text: &str, width: usize) -> String {
    let indent = " ".repeat(room(first));
    let options = Options::new(width.max(indent.len() + NARROWEST / 2))
        .initial_indent(first)
        .subsequent_indent(&indent)
        .word_splitter(WordSplitter::NoHyphenation)
        .break_words(false);
    // Blanks at the end of `first` are kept before a text, and dropped where there is none.
    textwrap::wrap(text, options).iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// The same for cells of a table, where a word that is too long would push the others aside: it is
/// broken too, after a mark if there is one.
pub fn cell(text: &str, width: usize) -> String {
    let after_marks = |word: &str| -> Vec<usize> {
        let places = word.char_indices().filter(|(_, letter)| "/-_,:".contains(*letter));
        places.map(|(place, _)| place + 1).filter(|place| *place < word.len()).collect()
    };
    // Words that fit into a line are not broken.
    let splitter = WordSplitter::NoHyphenation;
    let mut lines: Vec<String> = Vec::new();
    for line in textwrap::wrap(text, Options::new(width).word_splitter(splitter).break_words(false))
    {
        let mut rest: &str = &line;
        while room(rest) > width {
            let most = rest.char_indices().nth(width).map_or(rest.len(), |(place, _)| place);
            let at = after_marks(rest).into_iter().rfind(|place| *place <= most).unwrap_or(most);
            lines.push(rest[..at].into());
            rest = &rest[at..];
        }
        lines.push(rest.into());
    }
    lines.join("\n")
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
    }

    #[test]
    fn in_a_cell_a_long_word_is_broken_after_a_mark_or_anywhere() {
        assert_eq!(
            cell("of heroku/python-getting-started#248", 18),
            "of\nheroku/python-\ngetting-\nstarted#248"
        );
        assert_eq!(cell("0123456789", 4), "0123\n4567\n89");
        assert_eq!(cell("one two three", 8), "one two\nthree");
    }

    #[test]
    fn colours_take_no_room() {
        assert_eq!(room("\u{1b}[1mfour\u{1b}[0m"), 4);
    }
}
