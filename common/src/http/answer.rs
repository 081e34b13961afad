//! One request and its answer.

use std::convert::Infallible;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;

use crate::http::phase::ConnectionPhase;
use crate::http::timed::Notes;
use crate::http::{body, guard};

/// Answers one request: the app does, unless HTTP demands a refusal. Calls `count` for each answer.
pub async fn answer<F>(
    request: hyper::Request<Incoming>,
    notes: Notes,
    app: impl FnOnce(Request) -> F,
    count: impl Fn(),
) -> Result<Response, Infallible>
where
    F: Future<Output = Result<Response, Infallible>>,
{
    let refuse = |status| {
        count();
        Ok(refuse(status, &notes))
    };
    let (version, headers) = (request.version(), request.headers());
    let must_close = match guard::must_close(version, headers, notes.take_length()) {
        Ok(must_close) => must_close,
        Err(status) => return refuse(status),
    };
    let request = if request.body().is_end_stream() {
        request.map(|_| Body::empty()) // hyper's own would be boxed
    } else {
        // Boxed, or every connection would reserve its space, with a body or without.
        match Box::pin(body::read(request.map(Body::new), &notes)).await {
            Ok(request) => request,
            Err(status) => return refuse(status),
        }
    };
    notes.now_at(ConnectionPhase::Answer);
    let mut response = app(request).await?;
    if must_close {
        notes.now_at(ConnectionPhase::Linger); // the client may be sending its next request already
    }
    // A draining worker ends a connection with an answer, and so does a worker that has too many connections:
    // then the client knows that it must reconnect. Closing the connection while the next request is on its
    // way would lose that request.
    if must_close || notes.is_to_leave() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    count();
    Ok(response)
}

/// An answer after which the connection is closed, whatever else the client sends.
fn refuse(status: StatusCode, notes: &Notes) -> Response {
    notes.now_at(ConnectionPhase::Linger);
    (status, [(header::CONNECTION, "close")]).into_response()
}
