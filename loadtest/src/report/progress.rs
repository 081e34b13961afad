//! The progress bar, on stderr; it hides itself where that is no terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::report::format::count;

/// A bar for a known time. It has no colours, so there are none to turn off for NO_COLOR.
pub struct Bar(ProgressBar);

const ASKING: &str = "asking {msg} [{bar:30}] {elapsed} of {prefix}";

/// Starts a bar for `duration`, of a run of wrk.
pub fn bar(what: &str, duration: Duration) -> Bar {
    let end = humantime::format_duration(duration).to_string();
    start("wrk on {msg} [{bar:30}] {elapsed} of {prefix}", what, duration.as_millis() as u64, end)
}

/// Starts a bar for a run of many slices of wrk, which says how much time is left.
pub fn slices(duration: Duration) -> Bar {
    let template = "{msg} [{bar:30}] {elapsed}, {eta} left";
    start(template, "", duration.as_millis() as u64, String::new())
}

/// Starts a bar for a run of the prober that ends after so much time.
pub fn asking(what: &str, time: Duration) -> Bar {
    start(ASKING, what, time.as_millis() as u64, humantime::format_duration(time).to_string())
}

/// Starts a bar for a run of the prober that ends after so many requests.
pub fn requests(what: &str, number: u64) -> Bar {
    start(ASKING, what, number, format!("{} requests", count(number)))
}

fn start(template: &str, what: &str, length: u64, end: String) -> Bar {
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(end);
    bar.set_message(what.to_owned());
    Bar(bar)
}

impl Bar {
    /// Shows how much time has passed.
    pub fn show(&self, elapsed: Duration) {
        self.0.set_position(elapsed.as_millis() as u64);
    }

    /// Shows how many requests were made, in a run that ends after so many.
    pub fn show_requests(&self, requests: u64) {
        self.0.set_position(requests);
    }

    /// Says what is being done, in a run of several parts.
    pub fn name(&self, what: String) {
        self.0.set_message(what);
    }

    /// Takes the bar off the screen.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.finish();
    }
}
