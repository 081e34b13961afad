//! Values that more than one room speaks of: those that people give, and errors of a load.

use serde::{Deserialize, Serialize};

/// Errors by kind, as wrk counts them.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Errors {
    /// Connections that could not be opened.
    pub connect: u64,
    /// Connections that ended in the middle of an answer, or before it.
    pub read: u64,
    /// Requests that could not be sent.
    pub write: u64,
    /// Answers with a status of 400 or above. They count as requests too.
    pub status: u64,
    /// Answers that took longer than wrk's timeout. They are missing in the latencies.
    pub timeout: u64,
}

impl std::ops::AddAssign for Errors {
    fn add_assign(&mut self, other: Self) {
        self.connect += other.connect;
        self.read += other.read;
        self.write += other.write;
        self.status += other.status;
        self.timeout += other.timeout;
    }
}

impl Errors {
    /// Each kind with its name.
    pub fn kinds(&self) -> [(&'static str, u64); 5] {
        [
            ("connect", self.connect),
            ("read", self.read),
            ("write", self.write),
            ("status", self.status),
            ("timeout", self.timeout),
        ]
    }

    /// All kinds together.
    pub fn total(&self) -> u64 {
        self.kinds().iter().map(|(_, count)| count).sum()
    }
}

/// A path that can be asked for, such as `/` or `/block/20000`.
///
/// # Errors
/// When it does not begin with a slash or cannot stand in a request line; with the remedy.
pub fn url_path(text: &str) -> Result<String, String> {
    match text {
        _ if !text.starts_with('/') => Err(format!("a path begins with a slash, as in /{text}")),
        _ if !is_plain(text) => Err("a path has no spaces; write %20".into()),
        _ => Ok(text.into()),
    }
}

/// A URL that can be asked for: `http://host:port/path`.
///
/// # Errors
/// When it is something else.
pub fn http_url(text: &str) -> Result<String, String> {
    match text.strip_prefix("http://") {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') && is_plain(rest) => {
            Ok(text.into())
        }
        _ => Err("expected http://host:port/path".into()),
    }
}

fn is_plain(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_graphic())
}
