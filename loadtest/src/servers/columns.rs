//! All columns of one server. Each starts a new server, so that a damaged or dead one does not affect the
//! next column.

use std::time::Duration;

use anyhow::Result;
use common::kernel::sock_diag::listeners;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::diagnose::{self, Target};
use crate::interrupt;
use crate::measure::store::Store;
use crate::server::Server;
use crate::servers::record::{Form, Row};
use crate::servers::second::shortened;
use crate::servers::subject::{Subject, meet};
use crate::servers::{blocking, faults, replacing, second, spread};

/// The columns, in the order of their measurement.
pub const COLUMNS: [&str; 7] =
    ["model", "spread", "blocking", "one stopped, some killed", "reload", "TERM", "a second one"];

/// The failed "column" of a server that does not start: then no column is measured.
pub const START: &str = "start";

/// How long `diagnose` looks.
const LOOK_FOR: Duration = Duration::from_millis(500);

/// Measures all columns that are not in the store yet. `begin` is called with the name of each.
///
/// # Errors
/// After Ctrl-C, and when a sample cannot be saved. A failed column is no error, but noted in the row.
pub fn measure(
    subject: &Subject,
    form: Form,
    seed: u64,
    store: &mut Store,
    mut begin: impl FnMut(&str),
) -> Result<Row> {
    let mut row =
        Row { name: subject.name.clone(), version: subject.version.clone(), ..Row::default() };
    let (name, failed) = (&subject.identity(), Vec::new());
    let mut columns = Columns { store, name, failed, begin: &mut begin };
    let mut start = None;
    let model = columns.column(COLUMNS[0], || match subject.start() {
        Ok(server) => self::model(server),
        Err(reason) => {
            start = Some((START.to_owned(), shortened(&format!("{reason:#}"))));
            Err(reason)
        }
    })?;
    (row.model, row.sockets) = model.unzip();
    if let Some(reason) = start {
        return Ok(Row { failed: vec![reason], ..row });
    }
    row.spread = columns.column(COLUMNS[1], || spread::measure(subject, form))?;
    if let Some(at_once) = subject.at_once {
        row.blocking =
            columns.column(COLUMNS[2], || blocking::measure(subject, at_once, form, seed))?;
    }
    row.faults = columns.column(COLUMNS[3], || faults::measure(subject, form))?;
    row.reload = columns.column(COLUMNS[4], || replacing::reload(subject, form))?;
    row.term = columns.column(COLUMNS[5], || replacing::term(subject, form))?;
    row.second = columns.column(COLUMNS[6], || second::measure(subject))?;
    row.failed = columns.failed;
    Ok(row)
}

struct Columns<'a> {
    store: &'a mut Store,
    name: &'a str,
    failed: Vec<(String, String)>,
    begin: &'a mut dyn FnMut(&str),
}

impl Columns<'_> {
    /// One column: from the store, or measured now. A failed column is noted, and a resumed run measures it
    /// again.
    fn column<T: Serialize + DeserializeOwned>(
        &mut self,
        column: &str,
        measure: impl FnOnce() -> Result<T>,
    ) -> Result<Option<T>> {
        (self.begin)(column);
        let mut failure = None;
        let found = self.store.sample(&format!("{}/{column}", self.name), || match measure() {
            Ok(found) => Ok(Some(found)),
            Err(error) => {
                failure = Some(shortened(&format!("{error:#}")));
                Ok(None)
            }
        })?;
        interrupt::check()?;
        self.failed.extend(failure.map(|reason| (column.to_owned(), reason)));
        Ok(found)
    }
}

/// How the server listens while it has connections, according to `diagnose`; and its number of sockets.
fn model(mut server: Server) -> Result<(String, usize)> {
    let opened = meet(&mut server);
    let port = server.address().port();
    let target = Target { port: Some(port), pid: server.pid() };
    let found = diagnose::look(&target, LOOK_FOR)?;
    drop(opened);
    let sockets = listeners(port)?.len();
    server.stop()?;
    Ok((found.model, sockets))
}
