//! Which columns there is room for, and what stands in them.

use crate::report::format::{bar, rounded};
use crate::watch::view::{Rates, Row, Sort, View};

/// Blanks between two columns.
const GAP: usize = 2;

/// A bar is no shorter than this, or there is none,
const SHORTEST_BAR: usize = 5;

/// nor longer than this: more would show no more.
const LONGEST_BAR: usize = 20;

/// What stands in a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The worker's number.
    Worker,
    /// Its process.
    Pid,
    /// How it is.
    State,
    /// Connections open.
    Open,
    /// Requests each second.
    Requests,
    /// CPU time, percent of a core.
    Cpu,
    /// Its accept queue.
    Queue,
    /// Connections accepted each second.
    Accepted,
    /// How often it was replaced.
    Replaced,
    /// Wake-ups without a connection, each second.
    Empty,
    /// Times it stood back, each second.
    Gated,
    /// Connections steered to it, each second.
    Steered,
    /// Connections migrated to it.
    Migrated,
}

use Kind::*;

/// From left to right.
const ORDER: [Kind; 13] = [
    Worker, Pid, State, Open, Requests, Cpu, Queue, Accepted, Replaced, Empty, Gated, Steered,
    Migrated,
];

/// What is to find a place, the most important first.
const PRIORITY: [Wish; 16] = [
    Wish::Text(Worker),
    Wish::Text(State),
    Wish::Text(Open),
    Wish::Text(Requests),
    Wish::Bar(Open),
    Wish::Bar(Requests),
    Wish::Text(Cpu),
    Wish::Text(Queue),
    Wish::Text(Pid),
    Wish::Bar(Cpu),
    Wish::Text(Accepted),
    Wish::Text(Replaced),
    Wish::Text(Gated),
    Wish::Text(Steered),
    Wish::Text(Migrated),
    Wish::Text(Empty),
];

/// A column's text, or the bar beside it.
#[derive(Clone, Copy)]
enum Wish {
    Text(Kind),
    Bar(Kind),
}

/// A column that has found its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// What stands in it.
    pub kind: Kind,
    /// Where it begins, counted from 0.
    pub left: usize,
    /// How wide its text is.
    pub text: usize,
    /// How long its bar can be; 0 = none.
    pub bar: usize,
}

impl Column {
    /// Text and bar together.
    pub fn width(&self) -> usize {
        self.text + if self.bar > 0 { 1 + self.bar } else { 0 }
    }
}

/// The columns that find a place in so many characters.
pub fn choose(view: &View, width: usize) -> Vec<Column> {
    let mut chosen: Vec<Column> = Vec::new();
    for wish in PRIORITY {
        let used: usize = chosen.iter().map(|column| column.width() + GAP).sum();
        let left = width.saturating_sub(used);
        match wish {
            Wish::Text(kind) => {
                let text = kind.width(view);
                if kind.says_something(view) && text <= left {
                    chosen.push(Column { kind, left: 0, text, bar: 0 });
                }
            }
            Wish::Bar(kind) => {
                // The last column needs no gap behind it, but a bar one blank before.
                let room = left + GAP > SHORTEST_BAR;
                let column = chosen.iter_mut().find(|column| column.kind == kind);
                if let Some(column) = column.filter(|_| room) {
                    column.bar = SHORTEST_BAR;
                }
            }
        }
    }
    chosen.sort_by_key(|column| ORDER.iter().position(|&kind| kind == column.kind));
    stretch(&mut chosen, width);
    let mut left = 0;
    for column in &mut chosen {
        column.left = left;
        left += column.width() + GAP;
    }
    chosen
}

/// Gives what is left of the width to the bars, each as much.
fn stretch(columns: &mut [Column], width: usize) {
    let used: usize = columns.iter().map(|column| column.width() + GAP).sum();
    let bars: Vec<&mut Column> = columns.iter_mut().filter(|column| column.bar > 0).collect();
    let more = (width + GAP).saturating_sub(used).checked_div(bars.len()).unwrap_or(0);
    for column in bars {
        column.bar = (column.bar + more).min(LONGEST_BAR);
    }
}

impl Kind {
    /// What stands above it.
    pub fn heading(self) -> &'static str {
        match self {
            Worker => "worker",
            Pid => "pid",
            State => "state",
            Open => "open",
            Requests => "req/s",
            Cpu => "CPU %",
            Queue => "queue",
            Accepted => "new/s",
            Replaced => "replaced",
            Empty => "empty/s",
            Gated => "gated/s",
            Steered => "steered/s",
            Migrated => "migrated",
        }
    }

    /// What it sorts the rows by, if it does.
    pub fn sort(self) -> Option<Sort> {
        match self {
            Worker => Some(Sort::Worker),
            Open => Some(Sort::Open),
            Requests => Some(Sort::Requests),
            Cpu => Some(Sort::Cpu),
            Queue => Some(Sort::Queue),
            _ => None,
        }
    }

    /// Words begin at the left, numbers end at the right.
    pub fn is_word(self) -> bool {
        self == State
    }

    /// What a worker has in it.
    pub fn cell(self, row: &Row) -> String {
        let rate =
            |of: fn(Rates) -> f64| row.rates.map_or("–".into(), |rates| rounded(of(rates)));
        match self {
            Worker => row.now.index.to_string(),
            Pid => row.now.pid.map_or("–".into(), |pid| pid.to_string()),
            State => row.now.condition.text(),
            Open => row.now.open.to_string(),
            Requests => rate(|rates| rates.requests),
            Cpu => rate(|rates| rates.cpu),
            Queue => row.now.queue.map_or("–".into(), |q| format!("{}/{}", q.waiting, q.most)),
            Accepted => rate(|rates| rates.accepted),
            Replaced => row.replaced.to_string(),
            Empty => rate(|rates| rates.empty),
            Gated => rate(|rates| rates.gated),
            Steered => rate(|rates| rates.steered),
            Migrated => row.now.migrated.to_string(),
        }
    }

    /// A worker's bar, beside which all others in the column are.
    pub fn bar(self, row: &Row, view: &View, length: usize) -> String {
        let value = |row: &Row| match self {
            Open => row.now.open,
            Requests => row.rates.map_or(0, |rates| rates.requests.round() as u64),
            Cpu => row.rates.map_or(0, |rates| rates.cpu.round() as u64),
            _ => 0,
        };
        // A worker with nothing to do is to look like it, even if none has more.
        let whole = if self == Cpu { 100 } else { 0 };
        let most = view.rows.iter().map(value).max().unwrap_or(0).max(whole);
        bar(value(row), most, length)
    }

    /// Room for every worker's text, and some more, so that columns do not jump about.
    fn width(self, view: &View) -> usize {
        let usual = match self {
            Pid => 7,
            State => "draining".len(),
            Open => 5,
            Requests => 6,
            _ => 0,
        };
        let cells = view.rows.iter().map(|row| self.cell(row).chars().count());
        cells.max().unwrap_or(0).max(self.heading().len()).max(usual)
    }

    /// Whether it is of use: policies that are not used, and a queue that all share, are not shown.
    fn says_something(self, view: &View) -> bool {
        let some = |of: fn(&Row) -> u64| view.rows.iter().any(|row| of(row) > 0);
        match self {
            Queue => !view.is_shared,
            Gated => some(|row| row.now.gated),
            Steered => some(|row| row.now.steered),
            Migrated => some(|row| row.now.migrated),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::view::tests::{view, worker};

    fn kinds(width: usize) -> Vec<Kind> {
        let view = view(vec![], vec![worker(0, 10), worker(1, 20_000)]);
        let columns = choose(&view, width);
        let end = columns.last().map_or(0, |column| column.left + column.width());
        assert!(end <= width, "{end} characters of {width}: {columns:?}");
        columns.iter().map(|column| column.kind).collect()
    }

    #[test]
    fn what_matters_most_stays_when_there_is_little_room() {
        assert_eq!(kinds(0), []);
        assert_eq!(kinds(16), [Worker, State]);
        assert_eq!(kinds(60), [Worker, State, Open, Requests, Cpu, Queue]);
        assert_eq!(kinds(80)[..7], [Worker, Pid, State, Open, Requests, Cpu, Queue]);
        assert_eq!(
            kinds(120),
            [Worker, Pid, State, Open, Requests, Cpu, Queue, Accepted, Replaced, Empty]
        );
    }

    #[test]
    fn no_width_is_exceeded() {
        (0..200).for_each(|width| drop(kinds(width)));
    }

    #[test]
    fn policies_have_a_column_as_soon_as_they_do_something() {
        let mut steered = worker(0, 0);
        steered.steered = 5;
        steered.migrated = 1;
        let view = view(vec![], vec![steered]);
        let kinds: Vec<Kind> = choose(&view, 200).iter().map(|column| column.kind).collect();
        assert!(kinds.contains(&Steered) && kinds.contains(&Migrated) && !kinds.contains(&Gated));
    }
}
