//! What keys mean, after those of top(1) and less(1).

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::watch::screen::Look;
use crate::watch::view::Sort;

/// What a key asks for that is more than another look.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// To look at it in another way; the look has changed.
    Look,
    /// To end.
    Quit,
    /// Nothing that is known here.
    Nothing,
}

/// Obeys a key. `room` is how many rows are seen at once, of `rows`.
pub fn press(key: KeyEvent, look: &mut Look, room: usize, rows: usize) -> Asked {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    let last_page = rows.saturating_sub(room);
    let skipped = look.skipped.min(last_page);
    match key.code {
        // In a terminal that is read key by key, Ctrl-C is no signal.
        KeyCode::Char('c') if control => return Asked::Quit,
        _ if control => return Asked::Nothing,
        KeyCode::Char('q') | KeyCode::Esc => return Asked::Quit,
        KeyCode::Char('c') => look.sort = Sort::Open,
        KeyCode::Char('r') => look.sort = Sort::Requests,
        KeyCode::Char('u') => look.sort = Sort::Cpu,
        KeyCode::Char('a') => look.sort = Sort::Queue,
        KeyCode::Char('i') => look.sort = Sort::Worker,
        KeyCode::Left => look.sort = look.sort.beside(-1),
        KeyCode::Right => look.sort = look.sort.beside(1),
        KeyCode::Char(' ') => look.is_paused = !look.is_paused,
        KeyCode::Char('?') => look.is_explained = !look.is_explained,
        KeyCode::Up => look.skipped = skipped.saturating_sub(1),
        KeyCode::Down => look.skipped = (skipped + 1).min(last_page),
        KeyCode::PageUp => look.skipped = skipped.saturating_sub(room),
        KeyCode::PageDown => look.skipped = (skipped + room).min(last_page),
        KeyCode::Home => look.skipped = 0,
        // The end, wherever that comes to be: workers come and go, and windows grow.
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
    fn three_keys_quit_and_others_do_not() {
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        let look = &mut Look::default();
        for key in [control_c, plain(KeyCode::Char('q')), plain(KeyCode::Esc)] {
            assert_eq!(press(key, look, 10, 10), Asked::Quit);
        }
        assert_eq!(press(plain(KeyCode::Char('c')), look, 10, 10), Asked::Look);
        assert_eq!(look.sort, Sort::Open);
        assert_eq!(press(plain(KeyCode::Char('x')), look, 10, 10), Asked::Nothing);
    }

    #[test]
    fn scrolling_ends_with_a_full_page() {
        let look = &mut Look::default();
        for (code, expected) in [
            (KeyCode::Up, 0),
            (KeyCode::Down, 1),
            (KeyCode::PageDown, 11),
            (KeyCode::PageDown, 21),
            (KeyCode::PageDown, 25),
            (KeyCode::Down, 25),
            (KeyCode::PageUp, 15),
            (KeyCode::Home, 0),
        ] {
            press(plain(code), look, 10, 35);
            assert_eq!(look.skipped, expected, "{code:?}");
        }
        press(plain(KeyCode::End), look, 10, 35);
        press(plain(KeyCode::Up), look, 10, 35);
        assert_eq!(look.skipped, 24, "one above the last page");
        press(plain(KeyCode::PageDown), look, 10, 4);
        assert_eq!(look.skipped, 0, "all is seen");
    }
}
