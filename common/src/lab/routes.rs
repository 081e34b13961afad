//! The routes that `--lab` adds to the web app: handlers that take time.

use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::routing::get;

use crate::lab::burn::burn;

/// The longest time that a lab route may take: any client of the port can ask for it.
pub const LIMIT: Duration = Duration::from_secs(1);

/// Adds the routes.
pub fn add_to<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router.route("/spin/{microseconds}", get(spin)).route("/block/{microseconds}", get(block))
}

/// Burns so many microseconds of CPU time, as heavy requests do.
async fn spin(Path(microseconds): Path<u64>) -> &'static str {
    burn(Duration::from_micros(microseconds).min(LIMIT));
    "spun"
}

/// Blocks the worker's thread for so many microseconds, and with it all other connections of the worker, as a
/// blocking call in an async handler does.
async fn block(Path(microseconds): Path<u64>) -> &'static str {
    std::thread::sleep(Duration::from_micros(microseconds).min(LIMIT));
    "blocked"
}
