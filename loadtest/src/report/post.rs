//! The figures of the post that this project answers, for show beside ours.

use crate::server::Strategy;

/// One of the post's two figures.
pub struct Quotation {
    /// Requests per second.
    pub requests_per_second: u64,
    /// Which of its two programs it was.
    pub program: &'static str,
}

/// What the figures are of. They are quoted, not measured here, and differ from ours in machine,
/// system and language; only their ratio says anything about ours, and even that was another
/// kernel's.
pub const CONDITIONS: &str = "Python (Sanic), MacBook Pro 2016, macOS, kept alive";

/// Where they are from.
pub const SOURCE: &str = "quoted from the post \"socket in processes\", not measured here";

/// What the post measured for a strategy.
pub fn figure(strategy: Strategy) -> Quotation {
    match strategy {
        Strategy::Shared => Quotation { requests_per_second: 34_492, program: "one shared fd" },
        Strategy::Reuseport => {
            Quotation { requests_per_second: 22_366, program: "a socket per worker" }
        }
    }
}

/// What the post measured for the server that a record names, if it did.
pub fn figure_for(server: &str) -> Option<Quotation> {
    let all = [Strategy::Shared, Strategy::Reuseport];
    all.into_iter().find(|strategy| strategy.name() == server).map(figure)
}
