//! The meaning of keys, as in top(1) and less(1).

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::watch::columns::{COLUMNS, beside};

/// The choices made with keys.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    /// The index in [`COLUMNS`] of the column by which rows are sorted.
    pub sort: usize,
    /// How many rows are scrolled past; the last page is always full.
    pub skipped: usize,
    /// Whether the view stands still.
    pub is_paused: bool,
    /// Whether the help is shown.
    pub is_explained: bool,
}

/// The effect of a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// The look has changed.
    Look,
    /// Ends the program.
    Quit,
    /// The key has no meaning.
    Nothing,
}

/// Handles a key. `room` is the number of visible rows, of `rows`.
pub fn press(key: KeyEvent, look: &mut Look, room: usize, rows: usize) -> Asked {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    let last_page = rows.saturating_sub(room);
    let skipped = look.skipped.min(last_page);
    let sorts =
        |by| COLUMNS.iter().position(|column| column.sort.is_some_and(|(key, _)| key == by));
    match key.code {
        // In raw mode Ctrl-C is a key, not a signal.
        KeyCode::Char('c') if control => return Asked::Quit,
        _ if control => return Asked::Nothing,
        KeyCode::Char('q') | KeyCode::Esc => return Asked::Quit,
        KeyCode::Char(' ') => look.is_paused = !look.is_paused,
        KeyCode::Char('?') => look.is_explained = !look.is_explained,
        KeyCode::Char(key) => match sorts(key) {
            Some(column) => look.sort = column,
            None => return Asked::Nothing,
        },
        KeyCode::Left => look.sort = beside(look.sort, false),
        KeyCode::Right => look.sort = beside(look.sort, true),
        KeyCode::Up => look.skipped = skipped.saturating_sub(1),
        KeyCode::Down => look.skipped = (skipped + 1).min(last_page),
        KeyCode::PageUp => look.skipped = skipped.saturating_sub(room),
        KeyCode::PageDown => look.skipped = (skipped + room).min(last_page),
        KeyCode::Home => look.skipped = 0,
        // The end, also after workers come and go, or the window changes.
        KeyCode::End => look.skipped = usize::MAX,
        _ => return Asked::Nothing,
    }
    Asked::Look
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(code: KeyCode) -> KeyEvent {
        KeyEvent::new(code, KeyModifiers::NONE)
    }

    #[test]
    fn scrolling_ends_with_a_full_page() {
        let look = &mut Look::default();
        for (code, rows, expected) in [
            (KeyCode::Up, 35, 0),
            (KeyCode::Down, 35, 1),
            (KeyCode::PageDown, 35, 11),
            (KeyCode::PageDown, 35, 21),
            (KeyCode::PageDown, 35, 25),
            (KeyCode::Down, 35, 25),
            (KeyCode::PageUp, 35, 15),
            (KeyCode::Home, 35, 0),
            (KeyCode::End, 35, usize::MAX),
            (KeyCode::Up, 35, 24),     // one above the last page
            (KeyCode::PageDown, 4, 0), // all rows are visible
        ] {
            press(plain(code), look, 10, rows);
            assert_eq!(look.skipped, expected, "{code:?}");
        }
    }
}
