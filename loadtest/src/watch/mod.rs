//! `loadtest watch`: which worker serves how much right now?
//!
//! - [`target`]: finds the scoreboard of a running server, by its file or a process;
//! - [`outside`]: a server of any kind, as `diagnose` sees it; [`source`]: one of these, or both;
//! - [`reading`]: scoreboard, /proc and the kernel at one moment;
//! - [`view`]: what is shown, from two readings; [`steering`]: whether another program has replaced the server's;
//! - [`columns`]: the table of columns, which these use:
//! - [`screen`]: the layout in a given number of columns and rows, or as text;
//! - [`live`], [`keys`]: the live view in a terminal;
//! - [`prometheus`]: the readings as text for a scraper.
//!
//! It only reads. A scoreboard is mapped read-only and never locked, so a server does not notice the
//! watch.

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

/// The width of text in a pipe.
const WIDTH: u16 = 100;

/// How often it checks for Ctrl-C.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The exit status when there is no server that it can watch.
const COULD_NOT: u8 = 2;

/// Why the watch ended.
enum End {
    /// The user asked for it.
    Asked,
    /// The server ended.
    ServerEnded,
}

/// A server, and the series of its readings.
#[derive(Debug)]
struct Watched {
    source: Source,
    history: History,
    exporter: Option<Exporter>,
    /// Its name, read while it runs.
    name: String,
}

impl Watched {
    /// Takes a reading; `None` when the server has ended.
    fn look(&mut self) -> Option<View> {
        let reading = self.source.take()?;
        let name = reading.names();
        if self.name.is_empty() || !name.starts_with("pid ") {
            self.name = name; // at its end only its pid is known
        }
        if let Some(exporter) = &mut self.exporter {
            exporter.take(&reading);
        }
        let mut view = self.history.take(reading);
        view.facts[0].extend(self.metrics());
        Some(view)
    }

    /// The URL for a scraper.
    fn metrics(&self) -> Option<String> {
        let address = self.exporter.as_ref()?.address;
        Some(format!("metrics on http://{address}/metrics"))
    }
}

/// Watches, and returns the exit status.
pub fn main(asked: &cli::Watch) -> ExitCode {
    match interrupt::watch().and_then(|()| run(asked)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loadtest: {error:#}");
            COULD_NOT.into()
        }
    }
}

/// Finds the server, and shows it until the user stops it, or the server ends.
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

/// Prints a view as text, where there is no terminal.
fn show(time: u64, view: &View) -> Result<()> {
    let blank = if time > 0 { "\n" } else { "" };
    print(&format!("{blank}{}", text(view, WIDTH)))
}

/// Takes this many readings, each over one interval, and calls the function with each.
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

/// Whether there is a terminal with keys and a size. A serial line may not know its size.
fn is_terminal() -> bool {
    let can_draw = std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
    let has_size = || terminal::size().is_ok_and(|(width, height)| width > 0 && height > 0);
    can_draw && stdout().is_terminal() && stdin().is_terminal() && has_size()
}
