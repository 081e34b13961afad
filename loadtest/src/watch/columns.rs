//! The table of columns: the content, key and help of each, and which columns fit. Screen, plain text, keys and help
//! all use [`COLUMNS`].

use std::cmp::Reverse;

use crate::report::format::{bar, rounded};
use crate::watch::reading::Worker;
use crate::watch::view::{Row, View};
use common::kernel::sock_diag::Listener;

/// Blanks between two columns.
pub const GAP: usize = 2;

/// The shortest bar; with less room there is none. The longest is [`LONGEST_BAR`].
const SHORTEST_BAR: usize = 5;

/// A longer bar would not show more.
const LONGEST_BAR: usize = 20;

/// A number for sorting and bars, and its text; `None` if it is not known.
type Cell = Option<(f64, String)>;

/// A column.
#[derive(Clone, Copy)]
pub struct Column {
    /// Its heading.
    pub heading: &'static str,
    /// The key that sorts rows by it, and its name in the help.
    pub sort: Option<(char, &'static str)>,
    /// Its explanation in the help.
    pub help: Option<&'static str>,
    /// Whether it has words, which begin at the left; numbers end at the right.
    pub is_word: bool,
    cell: fn(&Row) -> Cell,
    /// Its rank for a place, 0 first; texts and bars share the ranks.
    rank: u8,
    /// The rank of its bar, and the least value of the longest bar.
    bar: Option<(u8, f64)>,
    /// The width of usual texts, so that columns do not move.
    usual: usize,
    /// Whether it is shown: not for unused policies, a shared queue, or unknown values.
    is_of_use: fn(&View) -> bool,
}

/// From left to right.
pub static COLUMNS: [Column; 13] = [
    column(0, "worker", |row| whole(row.now.index as u64)).sorted_by('i', "worker"),
    column(8, "pid", |row| whole(row.now.pid?.into())).usually(7),
    Column { is_word: true, ..column(1, "state", |row| Some((0.0, row.now.condition.text()))) }
        .usually("draining".len()),
    column(2, "open", |row| whole(row.now.open))
        .sorted_by('c', "connections")
        .explained("connections open")
        .usually(5)
        .with_bar(4, 0.0),
    column(3, "req/s", |row| rate(row, |worker| worker.requests as f64))
        .sorted_by('r', "requests/s")
        .usually(6)
        .with_bar(5, 0.0)
        .only_if(|view| view.has_scoreboard),
    // An idle worker must look idle, even if no worker has more to do.
    column(6, "CPU %", |row| rate(row, Worker::cpu_percent))
        .sorted_by('u', "CPU use")
        .with_bar(9, 100.0),
    column(7, "queue", |row| {
        let Listener { queued, backlog, .. } = row.now.queue.as_ref()?;
        Some(((*queued).into(), format!("{queued}/{backlog}")))
    })
    .sorted_by('a', "accept queue")
    .explained("connections waiting/at most")
    .only_if(|view| !view.is_shared),
    column(10, "new/s", |row| rate(row, |worker| worker.accepted as f64))
        .explained("connections accepted"),
    column(11, "replaced", |row| whole(row.replaced)),
    column(15, "empty/s", |row| rate(row, |worker| worker.empty as f64))
        .explained("woken without a connection")
        .only_if(|view| view.has_scoreboard),
    column(12, "gated/s", |row| rate(row, |worker| worker.gated as f64))
        .explained("stood back for another")
        .only_if(|view| view.rows.iter().any(|row| row.now.gated > 0)),
    column(13, "steered/s", |row| rate(row, |worker| worker.steered as f64))
        .explained("given by a policy")
        .only_if(|view| view.rows.iter().any(|row| row.now.steered > 0)),
    column(14, "migrated", |row| whole(row.now.migrated))
        .explained("came from a dead worker")
        .only_if(|view| view.rows.iter().any(|row| row.now.migrated > 0)),
];

/// The last rank in [`COLUMNS`].
const LAST_RANK: u8 = 15;

const fn column(rank: u8, heading: &'static str, cell: fn(&Row) -> Cell) -> Column {
    Column {
        heading,
        sort: None,
        help: None,
        is_word: false,
        cell,
        rank,
        bar: None,
        usual: 0,
        is_of_use: |_| true,
    }
}

impl Column {
    const fn sorted_by(self, key: char, name: &'static str) -> Self {
        Self { sort: Some((key, name)), ..self }
    }

    const fn explained(self, help: &'static str) -> Self {
        Self { help: Some(help), ..self }
    }

    const fn usually(self, usual: usize) -> Self {
        Self { usual, ..self }
    }

    const fn with_bar(self, rank: u8, whole: f64) -> Self {
        Self { bar: Some((rank, whole)), ..self }
    }

    const fn only_if(self, is_of_use: fn(&View) -> bool) -> Self {
        Self { is_of_use, ..self }
    }

    fn number(&self, row: &Row) -> Option<f64> {
        Some((self.cell)(row)?.0)
    }

    /// A worker's text in it.
    pub fn text(&self, row: &Row) -> String {
        (self.cell)(row).map_or("–".into(), |(_, text)| text)
    }

    /// A worker's bar, relative to the others in the column.
    pub fn bar(&self, row: &Row, view: &View, length: usize) -> String {
        let value = |row: &Row| self.number(row).unwrap_or(0.0).round() as u64;
        let whole = self.bar.map_or(0, |(_, whole)| whole as u64);
        bar(value(row), view.rows.iter().map(value).max().unwrap_or(0).max(whole), length)
    }

    fn width(&self, view: &View) -> usize {
        let cells = view.rows.iter().map(|row| self.text(row).chars().count());
        cells.max().unwrap_or(0).max(self.heading.len()).max(self.usual)
    }
}

fn whole(number: u64) -> Cell {
    Some((number as f64, number.to_string()))
}

fn rate(row: &Row, of: fn(&Worker) -> f64) -> Cell {
    row.rate(of).map(|rate| (rate, rounded(rate)))
}

/// Sorts the rows by the column of this index: the first column in rising order, all others with the greatest on top
/// and equal ones in the order of the workers.
pub fn sort(view: &mut View, by: usize) {
    view.rows.sort_by_key(|row| row.now.index);
    if by > 0 {
        // There are no negative numbers, so their bits have the same order.
        view.rows.sort_by_cached_key(|row| Reverse(COLUMNS[by].number(row).map(f64::to_bits)));
    }
}

/// The next column to sort by, to the right or to the left, cyclic.
pub fn beside(index: usize, is_right: bool) -> usize {
    let sorting = (0..COLUMNS.len()).filter(|&index| COLUMNS[index].sort.is_some());
    let all: Vec<usize> = sorting.collect();
    let place = all.iter().position(|&sorting| sorting == index).unwrap_or(0);
    all[(place + if is_right { 1 } else { all.len() - 1 }) % all.len()]
}

/// A column with its place on the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its index in [`COLUMNS`].
    pub index: usize,
    /// The width of its text.
    pub text: usize,
    /// The length of its longest bar; 0: no bar.
    pub bar: usize,
}

impl Placed {
    /// The column.
    pub fn column(&self) -> &'static Column {
        &COLUMNS[self.index]
    }

    /// The width of text and bar together.
    pub fn width(&self) -> usize {
        self.text + if self.bar > 0 { 1 + self.bar } else { 0 }
    }
}

/// The width of these columns, including the gap after the last.
fn used(columns: &[Placed]) -> usize {
    columns.iter().map(|placed| placed.width() + GAP).sum()
}

/// The columns that fit into this width.
pub fn choose(view: &View, width: usize) -> Vec<Placed> {
    let mut chosen: Vec<Placed> = Vec::new();
    for rank in 0..=LAST_RANK {
        let left = width.saturating_sub(used(&chosen));
        let is_next = |column: &Column| column.rank == rank && (column.is_of_use)(view);
        if let Some(index) = COLUMNS.iter().position(is_next) {
            let text = COLUMNS[index].width(view);
            if text <= left {
                chosen.push(Placed { index, text, bar: 0 });
            }
        }
        // The last column needs no gap after it, but a bar needs a blank before it.
        let has_bar = |placed: &&mut Placed| placed.column().bar.is_some_and(|bar| bar.0 == rank);
        if let Some(placed) = chosen.iter_mut().find(has_bar).filter(|_| left + GAP > SHORTEST_BAR)
        {
            placed.bar = SHORTEST_BAR;
        }
    }
    chosen.sort_by_key(|placed| placed.index);
    // The rest of the width is shared equally among the bars.
    let left = (width + GAP).saturating_sub(used(&chosen));
    let bars = chosen.iter().filter(|placed| placed.bar > 0).count();
    for placed in chosen.iter_mut().filter(|placed| placed.bar > 0) {
        placed.bar = (placed.bar + left / bars).min(LONGEST_BAR);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::view::tests::{view, worker};

    fn headings(view: &View, width: usize) -> String {
        let chosen = choose(view, width);
        assert!(used(&chosen) <= width + GAP, "{width}: {chosen:?}");
        let headings: Vec<&str> = chosen.iter().map(|placed| placed.column().heading).collect();
        headings.join(" ")
    }

    #[test]
    fn what_matters_most_stays_when_there_is_little_room_and_no_width_is_exceeded() {
        let view = view(vec![], vec![worker(0, 10), worker(1, 20_000)]);
        let full = "worker pid state open req/s CPU % queue new/s replaced empty/s";
        for (width, expected) in [
            (0, ""),
            (16, "worker state"),
            (60, "worker state open req/s CPU % queue"),
            (80, "worker pid state open req/s CPU % queue"),
            (120, full),
        ] {
            let found = headings(&view, width);
            assert!(found == expected || width == 80 && found.starts_with(expected), "{found}");
        }
        (0..200).for_each(|width| drop(headings(&view, width)));
    }

    #[test]
    fn policies_have_a_column_as_soon_as_they_do_something() {
        let steered = Worker { steered: 5, migrated: 1, ..worker(0, 0) };
        let found = headings(&view(vec![], vec![steered]), 200);
        assert!(found.ends_with("steered/s migrated") && !found.contains("gated"), "{found}");
    }

    #[test]
    fn every_rank_is_given_once() {
        let bars = COLUMNS.iter().filter_map(|column| column.bar);
        let mut ranks: Vec<u8> = COLUMNS.iter().map(|column| column.rank).collect();
        ranks.extend(bars.map(|(rank, _)| rank));
        ranks.sort_unstable();
        assert_eq!(ranks, (0..=LAST_RANK).collect::<Vec<_>>());
    }

    #[test]
    fn rows_are_sorted_with_the_most_on_top_and_equals_by_number() {
        let with = |index, open, requests, cpu| Worker { open, cpu, ..worker(index, requests) };
        let start = vec![worker(0, 0), worker(1, 0), worker(2, 0), worker(3, 0)];
        let end =
            vec![with(0, 5, 9, 0.1), with(1, 7, 9, 0.3), with(2, 5, 20, 0.2), with(3, 1, 0, 0.0)];
        let mut view = view(start, end);
        for (heading, expected) in [
            ("open", [1, 0, 2, 3]),
            ("req/s", [2, 0, 1, 3]),
            ("CPU %", [1, 2, 0, 3]),
            ("queue", [3, 2, 1, 0]),
            ("worker", [0, 1, 2, 3]),
        ] {
            sort(&mut view, COLUMNS.iter().position(|column| column.heading == heading).unwrap());
            let order: Vec<usize> = view.rows.iter().map(|row| row.now.index).collect();
            assert_eq!(order, expected, "{heading}");
        }
    }

    #[test]
    fn the_columns_to_sort_by_go_round() {
        let mut found = vec![0];
        (0..5).for_each(|place| found.push(beside(found[place], true)));
        let names: Vec<&str> = found.iter().map(|&index| COLUMNS[index].heading).collect();
        assert_eq!(names, ["worker", "open", "req/s", "CPU %", "queue", "worker"]);
        assert_eq!(beside(0, false), found[4]);
    }
}
