//! One connection's life: hyper reads requests and writes answers until either side has enough.

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use crate::accept::recipient::ConnectionGuard;
use crate::http::answer::answer;
use crate::http::timed::Timed;
use crate::lesson::app::App;
use crate::scoreboard::OwnSlot;

/// A request's head may have so many bytes.
const MAX_HEAD: usize = 16 * 1024;

/// Serves one connection to its end.
///
/// This is what `axum::serve` would do, less what this server does not need: the choice between
/// HTTP/1 and HTTP/2, and an executor for it. Measured, that is several thousand instructions per
/// connection.
pub async fn serve(stream: Timed, _open: ConnectionGuard, app: &'static App, slot: OwnSlot) {
    let notes = stream.notes();
    let service = service_fn(|request| {
        let count = || slot.add(|slot| &slot.requests, 1);
        answer(request, notes.clone(), |request| app.answer(request), count)
    });
    let mut connection = http1::Builder::new()
        // A client that has closed its own direction still waits for its answer. Without this, it
        // gets none if the end arrives with the request.
        .half_close(true)
        // Head and body of an answer this small go out in one buffer: copying five bytes is
        // cheaper than writev(2).
        .writev(false)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut ended = (&mut connection).await;
    // Where a client asked for an upgrade, even in vain, hyper calls the connection done before it has sent
    // and shut down what it holds. Asked again, it does that.
    if !notes.is_shut_down() {
        ended = connection.await;
    }
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
