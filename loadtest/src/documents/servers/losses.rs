//! The requests that each server loses.

use crate::documents::servers::cells::{column, or_failed};
use crate::probe::outcome::Outcomes;
use crate::report::format::count;
use crate::report::model::{Cell, Table, Unit};
use crate::servers::record::{After, Faults, Reload, Row, Second, Servers};

/// The table.
pub fn losses(record: &Servers) -> Table {
    let rows = &record.rows;
    let mut table =
        Table::of("Requests that each server loses", rows.iter().map(|row| row.name.clone()));
    let faults = |cell: fn(&Faults) -> Cell| {
        rows.iter().map(move |row| or_failed(row, 3, row.faults.as_ref().map(cell)))
    };
    let served = faults(|it| it.served_while_stopped.into());
    table.column(column("", "served with one stopped", Unit::Part), served);
    table.column(column("killed", "lost", Unit::Count), faults(killed));
    table.column(column("killed", "recovered after", Unit::Microseconds), faults(back));
    table.column(column("killed", "hung", Unit::Count), faults(|it| it.lost_with_hung.into()));
    for (kind, of) in [("new", 0), ("kept", 1)] {
        let cells =
            rows.iter().map(|row| or_failed(row, 4, row.reload.as_ref().map(|it| reload(it, of))));
        table.column(column("reloads, lost", kind, Unit::Count), cells);
    }
    for (kind, of) in [("new", 0), ("kept", 1)] {
        let cells = rows.iter().map(|row| {
            or_failed(
                row,
                5,
                row.term.as_ref().map(|it| {
                    let ends = (it.after != After::Nobody).then(|| "goes on".to_owned());
                    Cell::from(it.lost_accepted()[of]).note(ends)
                }),
            )
        });
        table.column(column("TERM, lost", kind, Unit::Count), cells);
    }
    let second = rows.iter().map(|row| or_failed(row, 6, row.second.as_ref().map(second)));
    table.column(column("", "second server", Unit::Text), second);
    let times = |of: fn(&Row) -> Option<u64>| rows.iter().find_map(of).map(count);
    let reloads = times(|row| match &row.reload {
        Some(Reload::Done(found)) => Some(found.times),
        _ => None,
    });
    let ends = times(|row| row.term.as_ref().map(|it| it.times));
    table.note = format!(
        "Requests arrive at a fixed rate: 200/s on new connections while a worker is stopped and \
         three are killed; 100/s on new and 100/s on kept connections while the server reloads ({} \
         times) and ends at SIGTERM ({} times). Served: rate over that before. Recovered: at 90 % of \
         it again; at once if it never was below. Hung: requests of 32 clients, lost when a worker \
         was stopped for 1 s and then killed; more than 32 if the server ended, since clients ask \
         again. With SIGTERM and a hung worker, only requests count \
         whose connection the kernel had accepted. \"none\": the server has no reload. Second \
         server: one of the same kind is started on the same port.",
        reloads.unwrap_or_else(|| "0".into()),
        ends.unwrap_or_else(|| "0".into()),
    );
    table
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

fn reload(found: &Reload, of: usize) -> Cell {
    let Reload::Done(found) = found else { return "none".into() };
    let outcomes: &Outcomes = [&found.new, &found.kept][of];
    let note = match found.after {
        After::Others => None,
        After::SomeOfBefore => Some("some workers stay".to_owned()),
        After::Nobody => Some("the server ended".to_owned()),
    };
    Cell::from(outcomes.lost()).note(note)
}

fn second(found: &Second) -> Cell {
    match found {
        Second::Refused(_) => "refused".into(),
        Second::Tries => "retries forever".into(),
        Second::Silent(None) => "silent".into(),
        Second::Silent(Some([got, all])) => format!("silent, gets {got} of {all}").into(),
    }
}
