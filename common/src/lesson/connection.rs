//! One connection's life: hyper reads requests and writes answers until either side has enough.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;

use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWrite;

use crate::http::deadlines::{ConnectionPhase, Notes, Timed};
use crate::http::guard;
use crate::lesson::worker::Worker;

/// A request's head may have so many bytes.
const MAX_HEAD: usize = 16 * 1024;

/// A request's body may have so many bytes. Nobody here wants one; it is read so that the
/// connection can be used again.
const MAX_BODY: usize = 64 * 1024;

/// Serves one connection to its end.
///
/// This is what `axum::serve` would do, less what this server does not need: the choice between
/// HTTP/1 and HTTP/2, and an executor for it. Measured, that is several thousand instructions per
/// connection.
pub async fn serve(stream: Timed, _open: ConnectionGuard, worker: &'static Worker) {
    let notes = stream.notes();
    let service = service_fn(|request| answer(request, notes.clone(), worker));
    let mut connection = http1::Builder::new()
        // A client that has closed its own direction still waits for its answer. Without this, it
        // gets none if the end arrives with the request.
        .half_close(true)
        // Head and body of an answer this small go out in one buffer: copying five bytes is
        // cheaper than writev(2).
        .writev(false)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = (&mut connection).await {
        tracing::debug!(%error, "a connection ended early");
    }
    // hyper does not shut down the stream of a client that asked for an upgrade, even in vain.
    if notes.step() == ConnectionPhase::Linger {
        let mut stream = connection.into_parts().io.into_inner();
        let _ = poll_fn(|context| Pin::new(&mut stream).poll_shutdown(context)).await;
    }
}

/// Answers one request: the app does, unless HTTP wants it refused.
async fn answer(
    request: hyper::Request<Incoming>,
    notes: Notes,
    worker: &'static Worker,
) -> Result<Response, Infallible> {
    let must_close = guard::must_close(request.headers());
    let is_ambiguous = must_close && notes.has_length();
    let mut response = if is_ambiguous || guard::has_bad_host(request.version(), request.headers())
    {
        refuse(StatusCode::BAD_REQUEST, &notes)
    } else if must_close && let Some(status) = guard::refuses_coding(request.headers()) {
        refuse(status, &notes)
    } else if request.body().is_end_stream() {
        notes.now_at(ConnectionPhase::Answer);
        worker.app.answer(request.map(Body::new)).await?
    } else {
        // Boxed, or its space would be set aside in every connection that never has a body.
        Box::pin(read_body_and_answer(request.map(Body::new), &notes, worker)).await?
    };
    if must_close {
        notes.now_at(ConnectionPhase::Linger); // the client may be sending its next request already
    }
    // A draining worker ends a connection with an answer: then the client knows that the next
    // request belongs elsewhere. Closing it while the next one is under way would lose that.
    if must_close || worker.deadlines.is_draining() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    worker.slot.add(|slot| &slot.requests, 1);
    Ok(response)
}

async fn read_body_and_answer(
    request: Request,
    notes: &Notes,
    worker: &'static Worker,
) -> Result<Response, Infallible> {
    let (head, body) = request.into_parts();
    // Said beforehand: then a client that waits for "100 Continue" need not send it at all.
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Ok(refuse(StatusCode::PAYLOAD_TOO_LARGE, notes));
    }
    notes.now_at(ConnectionPhase::Body);
    match to_bytes(body, MAX_BODY).await {
        Ok(body) => {
            notes.now_at(ConnectionPhase::Answer);
            worker.app.answer(Request::from_parts(head, body.into())).await
        }
        // Malformed, or gone: then nobody will see the answer.
        Err(error) if is_too_large(&error) => Ok(refuse(StatusCode::PAYLOAD_TOO_LARGE, notes)),
        Err(_) => Ok(refuse(StatusCode::BAD_REQUEST, notes)),
    }
}

/// An answer after which the connection is closed, whatever the client still sends.
fn refuse(status: StatusCode, notes: &Notes) -> Response {
    notes.now_at(ConnectionPhase::Linger);
    (status, [(header::CONNECTION, "close")]).into_response()
}

fn is_too_large(error: &axum::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// Counts a connection as open for as long as it lives, however it ends. It lives from accept on,
/// and not only from when its task first runs: a worker that ends in between would reset it.
pub struct ConnectionGuard(&'static Worker);

impl ConnectionGuard {
    /// One more.
    pub fn new(worker: &'static Worker) -> Self {
        worker.slot.add(|slot| &slot.connections_accepted, 1);
        worker.slot.opened();
        if let Some(lane) = worker.lane {
            lane.opened(worker.slot);
        }
        Self(worker)
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.slot.closed();
        if let Some(lane) = self.0.lane {
            lane.closed(self.0.slot);
        }
        self.0.tell_if_awaited();
    }
}
