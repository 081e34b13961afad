//! The requests that each server loses.

use crate::documents::servers::cells::{or_failed, reloads, table};
use crate::report::format::count;
use crate::report::model::{Cell, Field, Table, Unit};
use crate::servers::record::{After, Faults, Reload, Replaced, Row, Second, Servers};

const COLUMNS: [(&str, Field<Row>); 9] = [
    (
        "",
        ("served with one stopped", Unit::Part, |row| {
            faults(row, |it| it.served_while_stopped.into())
        }),
    ),
    ("killed", ("lost", Unit::Count, |row| faults(row, killed))),
    ("killed", ("recovered after", Unit::Microseconds, |row| faults(row, back))),
    ("killed", ("hung", Unit::Count, |row| faults(row, |it| it.lost_with_hung.into()))),
    ("reloads, lost", ("new", Unit::Count, |row| reload(row, |it| it.new.lost()))),
    ("reloads, lost", ("kept", Unit::Count, |row| reload(row, |it| it.kept.lost()))),
    ("TERM, lost", ("new", Unit::Count, |row| term(row, |[new, _]| new))),
    ("TERM, lost", ("kept", Unit::Count, |row| term(row, |[_, kept]| kept))),
    ("", ("second server", Unit::Text, |row| or_failed(row, 6, row.second.as_ref().map(second)))),
];

/// The table.
pub fn losses(record: &Servers) -> Table {
    let rows = &record.rows;
    let mut table = table("Requests that each server loses", rows, &COLUMNS);
    let times = |of: fn(&Row) -> Option<&Replaced>| {
        count(rows.iter().find_map(of).map_or(0, |found| found.times))
    };
    let (reloads, ends) = (times(reloads), times(|row| row.term.as_ref()));
    table.note = format!(
        "Requests arrive at a fixed rate: 200/s on new connections while a worker is stopped and \
         three are killed; 100/s on new and 100/s on kept connections while the server reloads \
         ({reloads} times) and ends at SIGTERM ({ends} times). Served: rate over that before. Recovered: at 90 % of \
         it again; at once if it never was below. Hung: requests of 32 clients, lost when a worker \
         was stopped for 1 s and then killed; more than 32 if the server ended, since clients ask \
         again. With SIGTERM and a hung worker, only requests count \
         whose connection the kernel had accepted. \"none\": the server has no reload. Second \
         server: one of the same kind is started on the same port."
    );
    table
}

fn faults(row: &Row, cell: fn(&Faults) -> Cell) -> Cell {
    or_failed(row, 3, row.faults.as_ref().map(cell))
}

/// What kills cost, and how many workers are not back.
fn killed(found: &Faults) -> Cell {
    let [before, after] = found.workers;
    let left = match (found.kills, before.saturating_sub(after)) {
        (0, _) => Some("no worker to kill".to_owned()),
        (_, 0) => None,
        (_, _) if found.ended() => Some("the server ended".to_owned()),
        (_, _) => Some(format!("{after} of {before} left")),
    };
    Cell::from(found.lost).note(left)
}

fn back(found: &Faults) -> Cell {
    match found.back_after_ms {
        None => "not recovered".into(),
        // The rate is known for each tenth of a second.
        Some(..100) => "at once".into(),
        Some(ms) => Cell::from(ms * 1000),
    }
}

fn reload(row: &Row, lost: fn(&Replaced) -> u64) -> Cell {
    let cell = row.reload.as_ref().map(|found| {
        let Reload::Done(found) = found else { return "none".into() };
        let note = match found.after {
            After::Others => None,
            After::SomeOfBefore => Some("some workers stay".to_owned()),
            After::Nobody => Some("the server ended".to_owned()),
        };
        Cell::from(lost(found)).note(note)
    });
    or_failed(row, 4, cell)
}

fn term(row: &Row, of: fn([u64; 2]) -> u64) -> Cell {
    let cell = row.term.as_ref().map(|found| {
        let ends = (found.after != After::Nobody).then(|| "goes on".to_owned());
        Cell::from(of(found.lost_accepted())).note(ends)
    });
    or_failed(row, 5, cell)
}

fn second(found: &Second) -> Cell {
    match found {
        Second::Refused(_) => "refused".into(),
        Second::Tries => "retries forever".into(),
        Second::Silent(None) => "silent".into(),
        Second::Silent(Some([got, all])) => format!("silent, gets {got} of {all}").into(),
    }
}
