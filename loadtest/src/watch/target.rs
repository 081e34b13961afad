//! Finds the scoreboard of a running server.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use common::scoreboard::Scoreboard;
use nix::fcntl::OFlag;

use crate::kernel::procfs::{Running, family};
use crate::watch::reading::command_of;

/// The scoreboard in this file.
/// Fails when it cannot be read, is no scoreboard, or its server has ended.
pub fn at(path: &Path) -> Result<Scoreboard> {
    let show = path.display();
    let remedy = "name the file that your running server's option --scoreboard names";
    let file = open(path).with_context(|| format!("cannot read {show}; {remedy}"))?;
    ensure!(file.metadata()?.is_file(), "{show} is not a file; {remedy}");
    let scoreboard = Scoreboard::from_file(file)
        .map_err(|error| anyhow!("{show} cannot be watched: {error}; {remedy}"))?;
    ensure!(
        scoreboard.workers().any(|(_, slot)| Running::of(slot.owner()).is_some()),
        "no server uses the scoreboard {show} any more, or its processes belong to another \
         container and cannot be seen from here; {remedy}"
    );
    Ok(scoreboard)
}

/// The scoreboard of this server, of the server that this process started, or of the server whose worker it is. `None`
/// if there is none that may be read.
///
/// # Errors
/// When there is more than one.
pub fn of_process(pid: u32) -> Result<Option<Scoreboard>> {
    match own(pid) {
        Ok(Some(found)) => return Ok(Some(found)),
        Err(error) if is_refused(&error) => return Ok(None),
        _ if Running::of(pid).is_none() => return Ok(None),
        _ => {}
    }
    // A loadtest has the scoreboards of several servers open, but writes to none of them.
    let started = family(pid)?.into_iter().map(|it| it.pid).filter(|started| *started != pid);
    let mut found: Vec<(u32, Scoreboard)> =
        started.filter_map(|pid| Some((pid, own(pid).ok()??))).collect();
    if found.len() > 1 {
        let names: Vec<_> =
            found.iter().map(|(pid, _)| format!("{pid} ({})", command_of(*pid))).collect();
        bail!("process {pid} has started several servers; name one: {}", names.join(", "));
    }
    Ok(found.pop().map(|(_, scoreboard)| scoreboard).or_else(|| server_of(pid)))
}

/// Opens a file without blocking: a FIFO would wait for a writer.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)
}

/// The scoreboard on which this process has workers.
fn own(pid: u32) -> Result<Option<Scoreboard>> {
    let board = Scoreboard::of_process(pid)?;
    let has_workers = board.workers().any(|(_, slot)| slot.owner() == pid);
    Ok(has_workers.then_some(board))
}

/// Whether the error is a missing permission.
fn is_refused(error: &Error) -> bool {
    let error = error.root_cause().downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

/// The scoreboard on which this process is a worker: its parent's.
fn server_of(pid: u32) -> Option<Scoreboard> {
    let board = Scoreboard::of_process(Running::of(pid)?.parent).ok()?;
    let is_worker = board.workers().any(|(_, slot)| slot.pid() == Some(pid));
    is_worker.then_some(board)
}
