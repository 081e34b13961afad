//! Figures of the post with which these experiments began, quoted beside ours.

/// A quoted figure.
#[derive(Clone, Copy, Debug)]
pub struct Quotation {
    /// Requests/s.
    pub requests_per_second: u64,
    /// The program's name in the post.
    pub program: &'static str,
}

/// The conditions of the figures. They are quoted, not measured here, and differ from ours in machine,
/// system and language; only their ratio can be compared with ours, and even that is of another kernel.
pub const CONDITIONS: &str = "Python (Sanic), MacBook Pro 2016, macOS, kept alive";

/// Their source.
pub const SOURCE: &str = "quoted from the post \"socket in processes\", not measured here";

/// The figure for one socket that all workers share.
pub const SHARED: Quotation = Quotation { requests_per_second: 34_492, program: "one shared fd" };

/// The figure for a socket for each worker.
pub const REUSEPORT: Quotation =
    Quotation { requests_per_second: 22_366, program: "a socket per worker" };

/// The post's figure for the server of a record, if there is one.
pub fn figure_for(server: &str) -> Option<Quotation> {
    match server.trim() {
        "shared" => Some(SHARED),
        "reuseport" => Some(REUSEPORT),
        _ => None,
    }
}

/// The ratio of the post's two figures.
pub fn ratio() -> f64 {
    REUSEPORT.requests_per_second as f64 / SHARED.requests_per_second as f64
}
