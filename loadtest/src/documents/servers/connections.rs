//! How each server listens, and the spread of connections.

use crate::documents::servers::cells::{column, or_failed};
use crate::report::model::{Cell, Mark, Table, Unit};
use crate::servers::catalogue::WORKERS;
use crate::servers::record::{Servers, Spread};
use crate::servers::spread::CONNECTIONS;
use crate::statistics::significance::evenness;
use crate::statistics::{max_over_mean, median};

/// A probability below which a spread is called uneven.
const UNEVEN: f64 = 0.001;

/// A smaller probability is shown as below this.
const LEAST: f64 = 0.0001;

/// The table.
pub fn connections(record: &Servers) -> Table {
    let rows = &record.rows;
    let mut table = Table::of(
        "How each server listens, and which workers get connections",
        rows.iter().map(|row| row.name.clone()),
    );
    table.column(
        column("", "version", Unit::Text),
        rows.iter().map(|it| it.version.as_ref().into()),
    );
    let model = rows.iter().map(|row| or_failed(row, 0, row.model.as_ref().map(Cell::from)));
    table.column(column("", "model", Unit::Text), model);
    for (group, of) in [
        ("burst", (|it| &it.burst) as fn(&Spread) -> &Vec<Vec<u64>>),
        ("trickle", |it| &it.trickle),
    ] {
        let cells = |cell: fn(&[Vec<u64>], bool) -> Cell| {
            rows.iter().map(move |row| {
                or_failed(row, 1, row.spread.as_ref().map(|it| cell(of(it), it.kept)))
            })
        };
        table.column(column(group, "busiest / average", Unit::Times), cells(busiest));
        table.column(column(group, "p", Unit::Probability), cells(chance));
    }
    let blocking = rows
        .iter()
        .map(|row| or_failed(row, 2, row.blocking.as_ref().map(|it| Cell::from(it.of_ideal))));
    table.column(column("blocking", "p99 / ideal", Unit::Times), blocking);
    table.note = format!(
        "{WORKERS} workers each. {CONNECTIONS} connections that are kept, one at a time (trickle) \
         and all at once (burst); p: the probability of a spread as uneven with equal chances, `!` \
         below {UNEVEN}. \"by answer\": the server closes each connection, and each answer names \
         its worker. Blocking: handlers sleep for 20 ms, at 75 % of the rate that all workers can \
         serve; the ideal is one queue for all of them."
    );
    table
}

/// The busiest worker's part.
fn busiest(rounds: &[Vec<u64>], kept: bool) -> Cell {
    if rounds.iter().any(|counts| counts.iter().sum::<u64>() == 0) {
        return "keeps none".into();
    }
    if rounds.iter().all(|counts| counts.len() < 2) {
        return "one process".into();
    }
    let parts: Vec<f64> = rounds.iter().filter_map(|it| max_over_mean(it)).collect();
    Cell::from(median(&parts)).note((!kept).then(|| "by answer".to_owned()))
}

fn chance(rounds: &[Vec<u64>], _: bool) -> Cell {
    let Some(found) = evenness(rounds.iter().map(Vec::as_slice)) else { return Cell::default() };
    let p = found.as_uneven;
    let cell = if p < LEAST { Cell::from(format!("< {LEAST}")) } else { p.into() };
    cell.mark((p < UNEVEN).then_some(Mark::Bad))
}
