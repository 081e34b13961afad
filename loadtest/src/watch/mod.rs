//! `loadtest watch`: who serves what, just now?
//!
//! - [`target`]: finds the scoreboard of a running server, by its file or a process;
//! - [`reading`]: what scoreboard, /proc and the kernel say at one moment;
//! - [`view`]: what is to be seen, from two readings;
//! - [`columns`]: the table of columns, by which all of these go:
//! - [`screen`]: how it looks in a given number of columns and rows, or as text;
//! - [`live`], [`keys`]: a terminal that follows.
//!
//! It only looks. The scoreboard is mapped for reading alone and never locked, so a server cannot
//! tell that it is watched.

mod columns;
mod keys;
mod live;
mod reading;
mod screen;
mod target;
mod view;

use std::io::{IsTerminal, stdin, stdout};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use common::scoreboard::Scoreboard;
use ratatui::crossterm::terminal;

use crate::cli;
use crate::interrupt;
use crate::report::terminal::print;
use crate::watch::reading::Reading;
use crate::watch::screen::text;
use crate::watch::view::History;

/// How wide text is: a pipe does not say.
const WIDTH: u16 = 100;

/// How often Ctrl-C is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How watching came to its end.
enum End {
    /// As it was asked to.
    Asked,
    /// The server ended.
    ServerEnded,
}

/// Finds the server, and shows it until told to stop, or until it ends.
pub fn run(asked: &cli::Watch) -> Result<()> {
    let board = match (&asked.path, asked.pid) {
        (Some(path), _) => target::at(path)?,
        (None, pid) => target::of_process(pid.unwrap_or_default())?,
    };
    // Known before it ends: a process that is gone has no name any more.
    let name = Reading::take(&board).names();
    let end = match asked.count {
        None if is_terminal() => live::run(&board, asked.interval)?,
        count => print_readings(&board, asked.interval, count.unwrap_or(1))?,
    };
    if let End::ServerEnded = end {
        print(&format!("the server has ended: {name}\n"))?;
    }
    Ok(())
}

/// Prints so many readings as text, each over one interval: for where nobody can look at a terminal
/// or press a key.
fn print_readings(board: &Scoreboard, interval: Duration, times: u64) -> Result<End> {
    let mut history = History::default();
    history.take(Reading::take(board));
    let mut next = Instant::now();
    for time in 0..times {
        next += interval;
        while Instant::now() < next {
            interrupt::check()?;
            sleep(LOOK_EVERY.min(next.saturating_duration_since(Instant::now())));
        }
        let reading = Reading::take(board);
        if reading.has_ended() {
            return Ok(End::ServerEnded);
        }
        let blank = if time > 0 { "\n" } else { "" };
        print(&format!("{blank}{}", text(&history.take(reading), WIDTH)))?;
    }
    Ok(End::Asked)
}

/// Whether somebody sits there who can look and press keys. A serial line may not know its size.
fn is_terminal() -> bool {
    let can_draw = std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
    let has_size = || terminal::size().is_ok_and(|(width, height)| width > 0 && height > 0);
    can_draw && stdout().is_terminal() && stdin().is_terminal() && has_size()
}
