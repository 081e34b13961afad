//! How each server listens, and the spread of connections.

use crate::documents::servers::cells::{or_failed, table};
use crate::report::model::{Cell, Field, Mark, Table, Unit};
use crate::servers::catalogue::WORKERS;
use crate::servers::record::{Row, Servers, Spread};
use crate::servers::spread::CONNECTIONS;
use crate::statistics::significance::evenness;
use crate::statistics::{max_over_mean, median};

/// A probability below which a spread is called uneven.
const UNEVEN: f64 = 0.001;

/// A smaller probability is shown as below this.
const LEAST: f64 = 0.0001;

const COLUMNS: [(&str, Field<Row>); 7] = [
    ("", ("version", Unit::Text, |row| row.version.as_ref().into())),
    ("", ("model", Unit::Text, |row| or_failed(row, 0, row.model.as_ref()))),
    ("burst", ("busiest / average", Unit::Times, |row| spread(row, |it| busiest(&it.burst, it)))),
    ("burst", ("p", Unit::Probability, |row| spread(row, |it| chance(&it.burst)))),
    (
        "trickle",
        ("busiest / average", Unit::Times, |row| spread(row, |it| busiest(&it.trickle, it))),
    ),
    ("trickle", ("p", Unit::Probability, |row| spread(row, |it| chance(&it.trickle)))),
    (
        "blocking",
        ("p99 / ideal", Unit::Times, |row| {
            or_failed(row, 2, row.blocking.as_ref().map(|it| it.of_ideal))
        }),
    ),
];

/// The table.
pub fn connections(record: &Servers) -> Table {
    let title = "How each server listens, and which workers get connections";
    let mut table = table(title, &record.rows, &COLUMNS);
    table.note = format!(
        "{WORKERS} workers each. {CONNECTIONS} connections that are kept, one at a time (trickle) \
         and all at once (burst); p: the probability of a spread as uneven with equal chances, `!` \
         below {UNEVEN}. \"by answer\": the server closes each connection, and each answer names \
         its worker. Blocking: handlers sleep for 20 ms, at 75 % of the rate that all workers can \
         serve; the ideal is one queue for all of them."
    );
    table
}

fn spread(row: &Row, cell: fn(&Spread) -> Cell) -> Cell {
    or_failed(row, 1, row.spread.as_ref().map(cell))
}

/// The busiest worker's part.
fn busiest(rounds: &[Vec<u64>], of: &Spread) -> Cell {
    if rounds.iter().any(|counts| counts.iter().sum::<u64>() == 0) {
        return "keeps none".into();
    }
    if rounds.iter().all(|counts| counts.len() < 2) {
        return "one process".into();
    }
    let parts: Vec<f64> = rounds.iter().filter_map(|it| max_over_mean(it)).collect();
    Cell::from(median(&parts)).note((!of.kept).then(|| "by answer".to_owned()))
}

fn chance(rounds: &[Vec<u64>]) -> Cell {
    let Some(found) = evenness(rounds.iter().map(Vec::as_slice)) else { return Cell::default() };
    let p = found.as_uneven;
    let cell = if p < LEAST { Cell::from(format!("< {LEAST}")) } else { p.into() };
    cell.mark((p < UNEVEN).then_some(Mark::Bad))
}
