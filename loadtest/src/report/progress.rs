//! The progress bar, on stderr; hidden if that is no terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};

use crate::report::format::count;

/// A bar for a known time. It has no colours, so NO_COLOR does not matter. It is removed when it is
/// dropped.
pub struct Bar(ProgressBar);

/// Starts a bar for `duration`, of a run of wrk.
pub fn bar(what: &str, duration: Duration) -> Bar {
    let end = humantime::format_duration(duration);
    start("wrk on {msg} [{bar:30}] {elapsed} of {prefix}", what, millis(duration), end)
}

/// Starts a bar for a run of many slices of wrk, with the remaining time.
pub fn slices(duration: Duration) -> Bar {
    start("{msg} [{bar:30}] {elapsed}, {eta} left", "", millis(duration), "")
}

/// Starts a bar for a run of the prober that ends after this time.
pub fn asking(what: &str, time: Duration) -> Bar {
    start(ASKING, what, millis(time), humantime::format_duration(time))
}

/// Starts a bar for a run of the prober that ends after this many requests.
pub fn requests(what: &str, number: u64) -> Bar {
    start(ASKING, what, number, format!("{} requests", count(number)))
}

const ASKING: &str = "asking {msg} [{bar:30}] {elapsed} of {prefix}";

fn start(template: &str, what: &str, length: u64, end: impl ToString) -> Bar {
    let bar = ProgressBar::new(length).with_finish(ProgressFinish::AndClear);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    Bar(bar.with_prefix(end.to_string()).with_message(what.to_owned()))
}

fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}

impl Bar {
    /// Shows how much time has passed.
    pub fn show(&self, elapsed: Duration) {
        self.0.set_position(millis(elapsed));
    }

    /// Shows how many requests were sent, in a run that ends by their number.
    pub fn show_requests(&self, requests: u64) {
        self.0.set_position(requests);
    }

    /// Shows the name of the present part, in a run of several parts.
    pub fn name(&self, what: String) {
        self.0.set_message(what);
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}
