//! How it looks in a given number of columns and rows: facts, a table, a line about keys.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use crate::watch::columns::{Column, choose};
use crate::watch::reading::Condition;
use crate::watch::view::{Row, Sort, View};

/// Blanks between two facts on a line.
const GAP: usize = 3;

/// The line at the bottom, where there is a terminal.
const HINT: [&str; 2] = ["q quit", "? help"];

/// The same after `?`.
const HELP: [&str; 16] = [
    "q quit",
    "space pause",
    "↑ ↓ page up, page down scroll",
    "sort by: c connections",
    "r requests/s",
    "u CPU use",
    "a accept queue",
    "i worker",
    "← → the column beside",
    "open: connections open",
    "queue: connections waiting/at most",
    "new/s: connections accepted",
    "empty/s: woken without a connection",
    "gated/s: stood back for another",
    "steered/s: given by a policy",
    "migrated: came from a dead worker",
];

/// What was chosen with keys.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    /// What rows are sorted by.
    pub sort: Sort,
    /// How many rows are to be scrolled past; the last page is a full one all the same.
    pub skipped: usize,
    /// Whether the view stands still.
    pub is_paused: bool,
    /// Whether to explain.
    pub is_explained: bool,
}

/// Draws it all. Gives how many rows of the table there was room for.
pub fn draw(view: &View, look: &Look, area: Rect, buffer: &mut Buffer) -> usize {
    let width = usize::from(area.width);
    let mut lines = facts(view, width);
    lines.truncate(usize::from(area.height) / 2); // half of it is for the table
    let table = lines.len() as u16;
    for (y, line) in lines.iter().enumerate() {
        buffer.set_stringn(0, y as u16, line, width, Style::new());
    }
    let footer = footer(view, look, width, area.height.saturating_sub(table + 3));
    let room = area.height.saturating_sub(table + 1 + footer.len() as u16);
    let columns = choose(view, width);
    if table < area.height {
        heading(&columns, look.sort, table, buffer);
    }
    let skipped = look.skipped.min(view.rows.len().saturating_sub(room.into()));
    let rows = view.rows.iter().skip(skipped).take(room.into());
    for (y, row) in (table + 1..).zip(rows) {
        columns.iter().for_each(|column| cell(column, row, view, y, buffer));
    }
    let shown = skipped + 1..=view.rows.len().min(skipped + usize::from(room));
    for (y, line) in (table + 1 + room..area.height).zip(footer) {
        let line = line.replace("{rows}", &format!("{}-{}", shown.start(), shown.end()));
        buffer.set_stringn(0, y, line, width, Style::new().add_modifier(Modifier::DIM));
    }
    room.into()
}

/// The same as text of this width, with all rows and without the line about keys.
pub fn text(view: &View, width: u16) -> String {
    let lines = facts(view, width.into());
    let area = Rect::new(0, 0, width, (lines.len() + 1 + view.rows.len()) as u16);
    let mut buffer = Buffer::empty(area);
    for (y, line) in lines.iter().enumerate() {
        buffer.set_stringn(0, y as u16, line, width.into(), Style::new());
    }
    let columns = choose(view, width.into());
    heading(&columns, Sort::Worker, lines.len() as u16, &mut buffer);
    for (y, row) in (lines.len() as u16 + 1..).zip(&view.rows) {
        columns.iter().for_each(|column| cell(column, row, view, y, &mut buffer));
    }
    text_of(&buffer)
}

/// A buffer's characters, without the blanks at the ends of its lines.
fn text_of(buffer: &Buffer) -> String {
    let lines = buffer.content.chunks(usize::from(buffer.area.width).max(1));
    let lines = lines.map(|line| line.iter().map(|cell| cell.symbol()).collect::<String>());
    lines.map(|line| format!("{}\n", line.trim_end())).collect()
}

fn facts(view: &View, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = view.facts.iter().flat_map(|group| wrap(group, width)).collect();
    lines.push(String::new());
    lines
}

fn footer(view: &View, look: &Look, width: usize, most: u16) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    if look.is_paused {
        parts.push("PAUSED".into());
    }
    parts.push(format!("workers {{rows}} of {}", view.rows.len()));
    let rest: &[&str] = if look.is_explained { &HELP } else { &HINT };
    parts.extend(rest.iter().map(|part| (*part).to_owned()));
    let mut lines = wrap(&parts, width);
    lines.truncate(most.into());
    lines
}

/// Puts parts on lines, as many on each as fit. None is broken; what is too long is cut off later.
fn wrap(parts: &[String], width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line) if line.chars().count() + GAP + part.chars().count() <= width => {
                *line += &" ".repeat(GAP);
                *line += part;
            }
            _ => lines.push(part.clone()),
        }
    }
    lines
}

/// The heading that rows are sorted by stands out.
fn heading(columns: &[Column], sort: Sort, y: u16, buffer: &mut Buffer) {
    buffer
        .set_style(Rect { y, height: 1, ..buffer.area }, Style::new().add_modifier(Modifier::BOLD));
    for column in columns {
        let style = match column.kind.sort() == Some(sort) {
            true => Style::new().add_modifier(Modifier::REVERSED),
            false => Style::new(),
        };
        put(column, column.kind.heading(), style, y, buffer);
    }
}

fn cell(column: &Column, row: &Row, view: &View, y: u16, buffer: &mut Buffer) {
    let style = match row.now.condition {
        _ if !column.kind.is_word() => Style::new(),
        Condition::Serving => Style::new(),
        Condition::Starting | Condition::Draining => Style::new().fg(Color::Cyan),
        Condition::Silent(_) => Style::new().fg(Color::Yellow),
        Condition::Stopped | Condition::Gone => Style::new().fg(Color::Red),
    };
    put(column, &column.kind.cell(row), style, y, buffer);
    if column.bar > 0 {
        let bar = column.kind.bar(row, view, column.bar);
        let x = column.left + column.text + 1;
        let style = Style::new().fg(Color::Green);
        buffer.set_stringn(x as u16, y, bar, column.bar, style);
    }
}

fn put(column: &Column, text: &str, style: Style, y: u16, buffer: &mut Buffer) {
    let blanks = match column.kind.is_word() {
        true => 0,
        false => column.text.saturating_sub(text.chars().count()),
    };
    buffer.set_stringn((column.left + blanks) as u16, y, text, column.text - blanks, style);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::watch::reading::{Queue, Worker};
    use crate::watch::view::tests::{view, worker};

    /// What a terminal of this size shows.
    fn shown(view: &View, look: &Look, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let draw = |frame: &mut ratatui::Frame| {
            super::draw(view, look, frame.area(), frame.buffer_mut());
        };
        terminal.draw(draw).unwrap();
        text_of(terminal.backend().buffer())
    }

    /// Three workers, one of each kind.
    fn some() -> View {
        let before = vec![worker(0, 0), worker(1, 0), worker(2, 0)];
        let busy = Worker { open: 96, cpu: 1.5, accepted: 96, ..worker(0, 20_000) };
        let stalled = Worker {
            condition: Condition::Silent(Duration::from_secs(12)),
            queue: Some(Queue { waiting: 1025, most: 1024 }),
            ..worker(1, 2000)
        };
        let draining = Worker { condition: Condition::Draining, open: 0, ..worker(2, 0) };
        view(before, vec![busy, stalled, draining])
    }

    #[test]
    fn eighty_columns() {
        let expected = "\
http://127.0.0.1:8080/   reuseport-server --workers 4 (pid 100)
3 workers   106 connections open   116 accepted   11 000 requests/s   CPU 75 %
1 027 of 3 072 waiting in 3 accept queues

worker      pid  state         open         req/s        CPU %            queue
     0      200  serving         96 █████  10 000 █████     75 ███▊      0/1024
     1      201  silent 12 s     10 ▌       1 000 ▌          0        1025/1024
     2      202  draining         0             0            0           2/1024

workers 1-3 of 3   q quit   ? help
";
        let text = shown(&some(), &Look::default(), 80, 10);
        assert_eq!(text, expected, "\n{text}");
    }

    #[test]
    fn sixty_columns_and_few_rows_keep_what_matters_most() {
        let text = shown(&some(), &Look::default(), 60, 10);
        for line in text.lines() {
            assert!(line.chars().count() <= 60, "{line}");
        }
        assert!(!text.contains("pid  "), "{text}");
        for word in ["worker", "state", "open", "req/s", "CPU %", "silent 12 s", "10 000", "q quit"]
        {
            assert!(text.contains(word), "{word}:\n{text}");
        }
    }

    #[test]
    fn a_hundred_and_twenty_columns_show_all_that_happened() {
        let mut view = some();
        view.rows[0].now.steered = 4;
        view.rows[0].replaced = 7;
        let text = shown(&view, &Look::default(), 120, 12);
        for word in ["pid", "new/s", "replaced", "steered/s"] {
            assert!(text.contains(word), "{word}:\n{text}");
        }
        assert!(
            text.lines().any(|line| line.trim_start().starts_with("0 ") && line.contains(" 7 "))
        );
    }

    #[test]
    fn a_thousand_workers_are_scrolled_through() {
        let workers = || (0..1024).map(|index| worker(index, 0)).collect::<Vec<_>>();
        let view = view(workers(), workers());
        let look = Look { skipped: usize::MAX, is_paused: true, ..Look::default() };
        let text = shown(&view, &look, 80, 20);
        assert!(text.contains("PAUSED   workers 1012-1024 of 1024"), "{text}");
        assert!(text.contains("\n  1011 ") && text.contains("\n  1023 "), "{text}");
        assert!(!text.contains("\n  1010 "), "{text}");
    }

    #[test]
    fn help_explains_and_leaves_room_for_the_table() {
        let look = Look { is_explained: true, ..Look::default() };
        let text = shown(&some(), &look, 60, 20);
        for word in ["space pause", "c connections", "empty/s: woken", "silent 12 s"] {
            assert!(text.contains(word), "{word}:\n{text}");
        }
    }

    #[test]
    fn no_size_is_too_small() {
        for (width, height) in [(1, 1), (3, 2), (60, 3), (10, 5), (200, 4)] {
            for is_explained in [false, true] {
                shown(&some(), &Look { is_explained, ..Look::default() }, width, height);
            }
        }
    }

    #[test]
    fn the_text_has_every_row_and_no_keys() {
        let text = text(&some(), 100);
        assert_eq!(text.lines().count(), 4 + 1 + 3, "{text}");
        assert!(!text.contains("q quit"), "{text}");
    }
}
