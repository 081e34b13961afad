//! Texts in lines that fit, on terminals of any width.

use anstream::adapter::strip_str;

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

/// How much room a text takes: escape sequences take none.
pub fn room(text: &str) -> usize {
    strip_str(text).to_string().chars().count()
}

/// A text in lines of at most so many columns, broken between words; a longer word has a line.
pub fn lines(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && room(&line) + 1 + room(word) > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    lines.push(line);
    lines
}

/// The same for cells of a table, where a word that is too long would push the others aside: it is
/// broken too, after a mark if there is one.
pub fn cell(text: &str, width: usize) -> String {
    let mut parts: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let letters: Vec<char> = word.chars().collect();
        let mut rest = letters.as_slice();
        while rest.len() > width {
            let is_mark = |letter: &char| "/-_,:".contains(*letter);
            let mark = rest[..width].iter().rposition(is_mark).map_or(width, |place| place + 1);
            parts.push(rest[..mark].iter().collect());
            rest = &rest[mark..];
        }
        parts.push(rest.iter().collect());
    }
    lines(&parts.join(" "), width).join("\n")
}

/// A text in lines that fit, the first after `first` and the others after so many blanks.
pub fn hanging(first: &str, text: &str, width: usize) -> String {
    let indent = " ".repeat(room(first));
    let lines = lines(text, width.saturating_sub(indent.len()).max(NARROWEST / 2));
    let before = |number: usize| if number == 0 { first } else { indent.as_str() };
    lines.iter().enumerate().map(|(number, line)| format!("{}{line}\n", before(number))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_broken_between_words_and_goes_on_below_its_beginning() {
        let text = hanging("claim  ", "one two three four five six seven eight nine ten", 40);
        assert_eq!(text, "claim  one two three four five six seven\n       eight nine ten\n");
    }

    #[test]
    fn a_word_that_is_too_long_has_a_line_of_its_own_and_nothing_is_lost() {
        let text = format!("see {} there", "x".repeat(50));
        assert_eq!(lines(&text, 20).join(" "), text);
        assert_eq!(lines(&text, 20).len(), 3);
        assert_eq!(lines("", 20), [""]);
    }

    #[test]
    fn in_a_cell_a_long_word_is_broken_after_a_mark_or_anywhere() {
        assert_eq!(
            cell("of heroku/python-getting-started#248", 18),
            "of heroku/python-\ngetting-\nstarted#248"
        );
        assert_eq!(cell("0123456789", 4), "0123\n4567\n89");
        assert_eq!(cell("one two three", 8), "one two\nthree");
    }

    #[test]
    fn colours_take_no_room() {
        assert_eq!(room("\u{1b}[1mfour\u{1b}[0m"), 4);
    }
}
