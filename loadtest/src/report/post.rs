//! Figures of the post that these experiments began with, quoted beside ours.

/// A figure that is not ours.
#[derive(Clone, Copy, Debug)]
pub struct Quotation {
    /// Requests/s.
    pub requests_per_second: u64,
    /// What the post calls the program.
    pub program: &'static str,
}

/// What the figures are of. They are quoted, not measured here, and differ from ours in machine,
/// system and language; only their ratio says anything about ours, and even that was another
/// kernel's.
pub const CONDITIONS: &str = "Python (Sanic), MacBook Pro 2016, macOS, kept alive";

/// Where they are from.
pub const SOURCE: &str = "quoted from the post \"socket in processes\", not measured here";

/// Of one socket that all workers share.
pub const SHARED: Quotation = Quotation { requests_per_second: 34_492, program: "one shared fd" };

/// Of a socket for each worker.
pub const REUSEPORT: Quotation =
    Quotation { requests_per_second: 22_366, program: "a socket per worker" };

/// What the post measured for the server that a record names, if it did.
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
