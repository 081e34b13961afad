//! One connection's life: hyper reads requests and writes answers until either side has enough.

use std::sync::atomic::AtomicU64;

use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::handler::App;
use crate::scoreboard::Slot;

/// Serves one connection to its end.
///
/// This is what `axum::serve` would do, less what this server does not need: the choice between
/// HTTP/1 and HTTP/2, and an executor for it. Measured, that is several thousand instructions per
/// connection.
pub async fn serve(stream: TcpStream, app: &'static App, slot: &'static Slot) {
    let _open = Open::new(&slot.connections_open);
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| async move {
        let response = app.answer(request.map(Body::new)).await;
        Slot::add(&slot.requests, 1);
        response
    });
    // Head and body of an answer this small go out in one buffer: copying five bytes is cheaper
    // than writev(2).
    let connection =
        http1::Builder::new().writev(false).serve_connection(TokioIo::new(stream), service);
    // "Without shutdown": close(2) follows at once and ends both directions by itself.
    if let Err(error) = connection.without_shutdown().await {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Counts a connection as open for as long as it lives, however it ends.
struct Open(&'static AtomicU64);

impl Open {
    fn new(count: &'static AtomicU64) -> Self {
        Slot::add(count, 1);
        Self(count)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        Slot::subtract_one(self.0);
    }
}
