//! Logging to stderr; `RUST_LOG` chooses how much.

use std::io::IsTerminal;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

/// Sends the log to stderr, from level `info` upwards unless `RUST_LOG` says otherwise: a level (`debug`), or
/// levels of modules (`hyper=warn,common::parent=debug`).
///
/// `EnvFilter` can also filter by the content of messages, for which it needs a regular-expression engine.
pub fn to_stderr() {
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let wanted = if wanted.is_empty() { "info" } else { &wanted };
    let parsed = wanted.parse::<Targets>();
    let levels = parsed.as_ref().cloned().unwrap_or_default();
    let levels = match levels.default_level() {
        Some(_) => levels,
        None => levels.with_default(LevelFilter::INFO), // for the modules that are not named
    };
    let format = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    tracing_subscriber::registry().with(format).with(levels).init();
    if let Err(error) = parsed {
        tracing::warn!(
            "RUST_LOG={wanted} is ignored: {error}; give a level, such as debug, or module=level"
        );
    }
}
