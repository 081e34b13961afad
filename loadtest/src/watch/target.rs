//! Finds the scoreboard of a running server.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use common::scoreboard::Scoreboard;
use nix::fcntl::OFlag;
use procfs::process::{Process, all_processes};

use crate::watch::reading::{command_of, is_there};

/// A scoreboard that somebody writes.
#[derive(Debug)]
pub struct Target(Scoreboard);

impl Target {
    /// The scoreboard, mapped for reading alone.
    pub fn scoreboard(&self) -> &Scoreboard {
        &self.0
    }

    /// The scoreboard in this file.
    ///
    /// # Errors
    /// When it cannot be read, is none, or nobody writes it any more.
    pub fn at(path: &Path) -> Result<Self> {
        let show = path.display();
        let remedy = "name the file that a running server of yours was given as --scoreboard";
        let file = open(path).with_context(|| format!("cannot read {show}; {remedy}"))?;
        ensure!(file.metadata()?.is_file(), "{show} is not a file; {remedy}");
        let scoreboard = Scoreboard::from_file(file)
            .map_err(|error| anyhow!("{show} cannot be watched: {error}; {remedy}"))?;
        ensure!(
            scoreboard.workers().any(|(_, slot)| is_there(slot.owner())),
            "nobody serves with the scoreboard {show} any more, or it is a server of another \
             container, whose processes cannot be seen from here; {remedy}"
        );
        Ok(Self(scoreboard))
    }

    /// The scoreboard of this server; or of the server that this process started, or is a worker of.
    ///
    /// # Errors
    /// When there is no such process, it may not be looked at, or there is no server, or more than
    /// one.
    pub fn of_process(pid: u32) -> Result<Self> {
        let remedy = "name the process that a server printed at its start as its parent pid";
        ensure!(is_there(pid), "there is no process {pid}; {remedy}");
        match own(pid) {
            Ok(Some(found)) => return Ok(Self(found)),
            Err(error) if is_refused(&error) => bail!(
                "may not look into process {pid}, which is another user's, or whose program has \
                 file capabilities; run as root"
            ),
            _ => {}
        }
        // A loadtest has the scoreboards of several servers open, but writes none of them.
        let started = servers_below(pid);
        let mut found: Vec<(u32, Scoreboard)> =
            started.into_iter().filter_map(|pid| Some((pid, own(pid).ok()??))).collect();
        if found.len() > 1 {
            let names: Vec<_> =
                found.iter().map(|(pid, _)| format!("{pid} ({})", command_of(*pid))).collect();
            bail!("process {pid} has started several servers; name one: {}", names.join(", "));
        }
        let found = found.pop().map(|(_, scoreboard)| scoreboard).or_else(|| server_of(pid));
        let found = found.with_context(|| {
            let name = command_of(pid);
            format!("process {pid} ({name}) is no server and has started none; {remedy}")
        })?;
        Ok(Self(found))
    }
}

/// Opens a file without waiting, whatever it is: a FIFO would wait for somebody to write.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)
}

/// The scoreboard on which this process has workers.
fn own(pid: u32) -> Result<Option<Scoreboard>> {
    let board = Scoreboard::of_process(pid)?;
    let has_workers = board.workers().any(|(_, slot)| slot.owner() == pid);
    Ok(has_workers.then_some(board))
}

/// Whether it was for want of a right.
fn is_refused(error: &Error) -> bool {
    let error = error.root_cause().downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

/// All processes that this one has started, and those that they have, and so on.
fn servers_below(pid: u32) -> Vec<u32> {
    let stats = all_processes().into_iter().flatten().flatten();
    let both: Vec<(u32, u32)> = stats
        .filter_map(|process| process.stat().ok())
        .map(|stat| (stat.pid as u32, stat.ppid as u32))
        .collect();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(both.iter().filter(|(_, ppid)| *ppid == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}

/// The scoreboard on which this process is a worker: its parent's.
fn server_of(pid: u32) -> Option<Scoreboard> {
    let parent = Process::new(pid as i32).ok()?.stat().ok()?.ppid as u32;
    let board = Scoreboard::of_process(parent).ok()?;
    let is_worker = board.workers().any(|(_, slot)| slot.pid() == Some(pid));
    is_worker.then_some(board)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn processes_that_were_started_by_those_it_started_are_found() {
        let mut child = Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
        let grandchild = loop {
            if let [pid] = servers_below(child.id())[..] {
                break pid;
            }
        };
        assert!(servers_below(std::process::id()).contains(&grandchild));
        let pid = nix::unistd::Pid::from_raw(grandchild as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        child.wait().unwrap();
    }
}
