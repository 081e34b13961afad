//! The layout for a given number of columns and rows: facts, a table, a line about keys.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row as TableRow, Table, Widget};

use crate::watch::columns::{COLUMNS, GAP, Placed, choose};
use crate::watch::keys::Look;
use crate::watch::reading::Condition;
use crate::watch::view::{Row, View};

/// Blanks between two facts on a line.
const FACT_GAP: usize = 3;

/// Draws the view. Returns how many rows of the table had room.
pub fn draw(view: &View, look: &Look, area: Rect, buffer: &mut Buffer) -> usize {
    let mut facts = facts(view, area.width);
    facts.truncate(usize::from(area.height) / 2); // the table gets half of the area
    let mut footer = footer(view, look, area.width);
    footer.truncate(usize::from(area.height).saturating_sub(facts.len() + 3));
    paint(view, look, facts, footer, area, buffer)
}

/// The view as text of this width, with all rows and without the line about keys.
pub fn text(view: &View, width: u16) -> String {
    let facts = facts(view, width);
    let area = Rect::new(0, 0, width, (facts.len() + 1 + view.rows.len()) as u16);
    let mut buffer = Buffer::empty(area);
    paint(view, &Look::default(), facts, Vec::new(), area, &mut buffer);
    text_of(&buffer)
}

fn paint(
    view: &View,
    look: &Look,
    facts: Vec<String>,
    footer: Vec<String>,
    area: Rect,
    buffer: &mut Buffer,
) -> usize {
    let [above, below] = [&facts, &footer].map(|lines| Constraint::Length(lines.len() as u16));
    let [top, middle, bottom] = Layout::vertical([above, Constraint::Fill(1), below]).areas(area);
    let room = usize::from(middle.height.saturating_sub(1));
    let skipped = look.skipped.min(view.rows.len().saturating_sub(room));
    let columns = choose(view, area.width.into());
    let header = columns.iter().map(|placed| {
        let is_sorted = placed.index == look.sort;
        let style = if is_sorted { Style::new().reversed() } else { Style::new() };
        line(placed, placed.column().heading.into(), style, String::new())
    });
    let widths = columns.iter().map(|placed| placed.width() as u16);
    let rows = view.rows.iter().skip(skipped).take(room);
    let rows = rows.map(|row| columns.iter().map(|placed| cell(placed, row, view)).collect());
    Table::new(rows.collect::<Vec<TableRow>>(), widths)
        .header(TableRow::new(header).bold())
        .column_spacing(GAP as u16)
        .render(middle, buffer);
    let shown = format!("{}-{}", skipped + 1, view.rows.len().min(skipped + room));
    Paragraph::new(facts.join("\n")).render(top, buffer);
    Paragraph::new(footer.join("\n").replace("{rows}", &shown)).dim().render(bottom, buffer);
    room
}

/// A buffer's characters, without the blanks at the ends of its lines.
fn text_of(buffer: &Buffer) -> String {
    let lines = buffer.content.chunks(usize::from(buffer.area.width).max(1));
    let lines = lines.map(|line| line.iter().map(|cell| cell.symbol()).collect::<String>());
    lines.map(|line| format!("{}\n", line.trim_end())).collect()
}

/// The facts, in as many lines as they need, and a blank one.
fn facts(view: &View, width: u16) -> Vec<String> {
    let lines = view.facts.iter().flat_map(|group| wrap(group, width));
    let options = textwrap::Options::new(width.into()).subsequent_indent("  ");
    let sentences = view.sentences.iter().flat_map(|it| textwrap::wrap(it, &options));
    let sentences = sentences.map(|line| line.into_owned());
    lines.chain(sentences).chain([String::new()]).collect()
}

/// The lines at the bottom of a terminal.
fn footer(view: &View, look: &Look, width: u16) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    if look.is_paused {
        parts.push("PAUSED".into());
    }
    let accepts = view.rows.iter().any(Row::accepts_for_others);
    let what = if accepts { "processes" } else { "workers" };
    parts.extend([format!("{what} {{rows}} of {}", view.rows.len()), "q quit".into()]);
    if look.is_explained {
        let sorts = COLUMNS.iter().filter_map(|column| column.sort);
        let sorts: Vec<String> = sorts.map(|(key, name)| format!("{key} {name}")).collect();
        parts.extend(["space pause", "↑ ↓ page up, page down scroll"].map(str::to_owned));
        parts.push(format!("sort by: {}", sorts[0]));
        parts.extend_from_slice(&sorts[1..]);
        parts.push("← → the column beside".into());
        let helps = COLUMNS.iter().filter_map(|column| Some((column.heading, column.help?)));
        parts.extend(helps.map(|(heading, help)| format!("{heading}: {help}")));
    } else {
        parts.push("? help".into());
    }
    wrap(&parts, width)
}

/// Puts parts on lines, as many on each as fit. No part is broken; one that is too long is cut off later.
fn wrap(parts: &[String], width: u16) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line)
                if line.chars().count() + FACT_GAP + part.chars().count() <= width.into() =>
            {
                *line += &" ".repeat(FACT_GAP);
                *line += part;
            }
            _ => lines.push(part.clone()),
        }
    }
    lines
}

fn cell(placed: &Placed, row: &Row, view: &View) -> Line<'static> {
    let column = placed.column();
    let style = match row.now.condition {
        _ if !column.is_word => Style::new(),
        Condition::Serving | Condition::Acceptor => Style::new(),
        Condition::Starting | Condition::Draining => Style::new().fg(Color::Cyan),
        Condition::Silent(_) => Style::new().fg(Color::Yellow),
        Condition::Stopped | Condition::Gone => Style::new().fg(Color::Red),
    };
    let bar = match placed.bar {
        0 => String::new(),
        length => format!(" {}", column.bar(row, view, length)),
    };
    line(placed, column.text(row), style, bar)
}

fn line(placed: &Placed, text: String, style: Style, bar: String) -> Line<'static> {
    let blanks = match placed.column().is_word {
        true => 0,
        false => placed.text.saturating_sub(text.chars().count()),
    };
    Line::from_iter([Span::raw(" ".repeat(blanks)), Span::styled(text, style), bar.green()])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::watch::reading::Worker;
    use crate::watch::view::tests::{queue, view, worker};

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
            queue: queue(1025),
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
findings: looking

worker      pid  state         open         req/s        CPU %            queue
     0      200  serving         96 █████  10 000 █████     75 ███▊      0/1024
     1      201  silent 12 s     10 ▌       1 000 ▌          0        1025/1024
     2      202  draining         0             0            0           2/1024

workers 1-3 of 3   q quit   ? help
";
        let text = shown(&some(), &Look::default(), 80, 11);
        assert_eq!(text, expected, "\n{text}");
    }

    #[test]
    fn narrow_shows_what_matters_most_wide_all_that_happened_and_help_leaves_room_for_the_table() {
        let mut view = some();
        view.rows[0].now.steered = 4;
        view.rows[0].replaced = 7;
        let help = Look { is_explained: true, ..Look::default() };
        let narrow = "worker state open req/s CPU silent 10\u{a0}000 q\u{a0}quit";
        let explained =
            "space\u{a0}pause c\u{a0}connections empty/s:\u{a0}woken silent\u{a0}12\u{a0}s";
        for (look, width, height, words) in [
            (Look::default(), 60, 10, narrow),
            (Look::default(), 120, 12, "pid new/s replaced steered/s \u{a0}7\u{a0}"),
            (help, 60, 20, explained),
        ] {
            let text = shown(&view, &look, width, height);
            assert!(text.lines().all(|line| line.chars().count() <= width.into()), "{text}");
            for word in words.split(' ').map(|word| word.replace('\u{a0}', " ")) {
                assert!(text.contains(&word), "{word}:\n{text}");
            }
            assert_eq!(text.contains("pid  "), width > 60, "{text}");
        }
    }

    #[test]
    fn a_thousand_workers_are_scrolled_through() {
        let workers = || (0..1024).map(|index| worker(index, 0)).collect::<Vec<_>>();
        let view = view(workers(), workers());
        let look = Look { skipped: usize::MAX, is_paused: true, ..Look::default() };
        let text = shown(&view, &look, 80, 21);
        assert!(text.contains("PAUSED   workers 1012-1024 of 1024"), "{text}");
        assert!(text.contains("\n  1011 ") && text.contains("\n  1023 "), "{text}");
        assert!(!text.contains("\n  1010 "), "{text}");
    }

    #[test]
    fn no_size_is_too_small() {
        for (width, height) in [(1, 1), (3, 2), (60, 3), (10, 5), (200, 4)] {
            for is_explained in [false, true] {
                shown(&some(), &Look { is_explained, ..Look::default() }, width, height);
            }
        }
    }
}
