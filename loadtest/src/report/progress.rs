//! The progress bar, on stderr; it hides itself where that is no terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar for a known time. It has no colours, so there are none to turn off for NO_COLOR.
pub struct Bar(ProgressBar);

/// Starts a bar for `duration`.
pub fn bar(what: &str, duration: Duration) -> Bar {
    let bar = ProgressBar::new(duration.as_millis() as u64);
    if let Ok(style) = ProgressStyle::with_template("wrk on {msg} [{bar:30}] {elapsed} of {prefix}")
    {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(humantime::format_duration(duration).to_string());
    bar.set_message(what.to_owned());
    Bar(bar)
}

impl Bar {
    /// Shows how much time has passed.
    pub fn show(&self, elapsed: Duration) {
        self.0.set_position(elapsed.as_millis() as u64);
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
