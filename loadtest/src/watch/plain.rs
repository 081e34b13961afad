//! Readings as text, where nobody can look at a terminal or press a key.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::interrupt;
use crate::report::terminal;
use crate::watch::End;
use crate::watch::reading::Reading;
use crate::watch::screen::text;
use crate::watch::target::Target;
use crate::watch::view::History;

/// How wide the text is: a pipe does not say.
const WIDTH: u16 = 100;

/// How often Ctrl-C is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Prints so many readings, each of one interval.
pub fn run(target: &Target, interval: Duration, times: u64) -> Result<End> {
    let mut history = History::default();
    history.take(Reading::take(target.scoreboard()));
    let mut next = Instant::now();
    for time in 0..times {
        next += interval;
        while Instant::now() < next {
            interrupt::check()?;
            sleep(LOOK_EVERY.min(next.saturating_duration_since(Instant::now())));
        }
        let reading = Reading::take(target.scoreboard());
        if reading.has_ended() {
            return Ok(End::ServerEnded);
        }
        let blank = if time > 0 { "\n" } else { "" };
        terminal::print(&format!("{blank}{}", text(&history.take(reading), WIDTH)))?;
    }
    Ok(End::Asked)
}
