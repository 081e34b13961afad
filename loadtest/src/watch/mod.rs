//! `loadtest watch`: who serves what, just now?
//!
//! - [`target`]: finds the scoreboard of a running server, by its file or a process;
//! - [`outside`]: a server of any kind, as `diagnose` sees it; [`source`]: one of these, or both;
//! - [`reading`]: what scoreboard, /proc and the kernel say at one moment;
//! - [`view`]: what is to be seen, from two readings; [`steering`]: whether another program took over;
//! - [`columns`]: the table of columns, by which all of these go:
//! - [`screen`]: how it looks in a given number of columns and rows, or as text;
//! - [`live`], [`keys`]: a terminal that follows;
//! - [`prometheus`]: the readings as text for a scraper.
//!
//! It only looks. A scoreboard is mapped for reading alone and never locked, so a server cannot
//! tell that it is watched.

mod columns;
mod keys;
mod live;
mod outside;
mod prometheus;
mod reading;
mod screen;
mod source;
mod steering;
mod target;
mod view;

use std::io::{IsTerminal, stdin, stdout};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use ratatui::crossterm::terminal;

use crate::cli;
use crate::interrupt;
use crate::report::terminal::print;
use crate::watch::prometheus::Exporter;
use crate::watch::screen::text;
use crate::watch::source::Source;
use crate::watch::view::{History, View};

/// How wide text is: a pipe does not say.
const WIDTH: u16 = 100;

/// How often Ctrl-C is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The exit status when there is nothing that it can watch.
const COULD_NOT: u8 = 2;

/// How watching came to its end.
enum End {
    /// As it was asked to.
    Asked,
    /// The server ended.
    ServerEnded,
}

/// A server, and what was seen of it so far.
#[derive(Debug)]
struct Watched {
    source: Source,
    history: History,
    exporter: Option<Exporter>,
    /// Known before it ends: a process that is gone has no name any more.
    name: String,
}

impl Watched {
    /// Takes a reading; `None` when the server has ended.
    fn look(&mut self) -> Option<View> {
        let reading = self.source.take()?;
        let name = reading.names();
        if self.name.is_empty() || !name.starts_with("pid ") {
            self.name = name; // one that is ending has only its pid left
        }
        if let Some(exporter) = &mut self.exporter {
            exporter.take(&reading);
        }
        let mut view = self.history.take(reading);
        view.facts[0].extend(self.metrics());
        Some(view)
    }

    /// Where a scraper finds the readings.
    fn metrics(&self) -> Option<String> {
        let address = self.exporter.as_ref()?.address;
        Some(format!("metrics on http://{address}/metrics"))
    }
}

/// Watches, and says by its status whether it could.
pub fn main(asked: &cli::Watch) -> ExitCode {
    match interrupt::watch().and_then(|()| run(asked)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loadtest: {error:#}");
            COULD_NOT.into()
        }
    }
}

/// Finds the server, and shows it until told to stop, or until it ends.
fn run(asked: &cli::Watch) -> Result<()> {
    let exporter = asked.prometheus.map(Exporter::start).transpose()?;
    let source = Source::find(asked)?;
    let (history, name) = (History::default(), String::new());
    let mut watched = Watched { source, history, exporter, name };
    let end = match (asked.count, watched.metrics()) {
        (None, _) if is_terminal() => live::run(&mut watched, asked.interval)?,
        (None, Some(metrics)) => {
            print(&format!("{metrics}\n"))?;
            take_readings(&mut watched, asked.interval, u64::MAX, |_, _| Ok(()))?
        }
        (count, _) => take_readings(&mut watched, asked.interval, count.unwrap_or(1), show)?,
    };
    if let End::ServerEnded = end {
        if let Some(trouble) = watched.source.trouble() {
            return Err(trouble);
        }
        print(&format!("the server has ended: {}\n", watched.name))?;
    }
    Ok(())
}

/// Prints a view as text: for where nobody can look at a terminal or press a key.
fn show(time: u64, view: &View) -> Result<()> {
    let blank = if time > 0 { "\n" } else { "" };
    print(&format!("{blank}{}", text(view, WIDTH)))
}

/// Takes so many readings, each over one interval, and does this with each.
fn take_readings(
    watched: &mut Watched,
    interval: Duration,
    times: u64,
    show: impl Fn(u64, &View) -> Result<()>,
) -> Result<End> {
    if watched.look().is_none() {
        return Ok(End::ServerEnded);
    }
    let mut next = Instant::now();
    for time in 0..times {
        next += interval;
        while Instant::now() < next {
            interrupt::check()?;
            sleep(LOOK_EVERY.min(next.saturating_duration_since(Instant::now())));
        }
        let Some(view) = watched.look() else { return Ok(End::ServerEnded) };
        show(time, &view)?;
    }
    Ok(End::Asked)
}

/// Whether somebody sits there who can look and press keys. A serial line may not know its size.
fn is_terminal() -> bool {
    let can_draw = std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
    let has_size = || terminal::size().is_ok_and(|(width, height)| width > 0 && height > 0);
    can_draw && stdout().is_terminal() && stdin().is_terminal() && has_size()
}
