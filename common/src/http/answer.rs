//! One request and its answer.

use std::convert::Infallible;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, Version, header};
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
    let version = request.version();
    let refuse = |status: StatusCode| {
        count();
        notes.now_at(ConnectionPhase::Linger); // whatever else the client sends
        Ok(closing(status.into_response(), version))
    };
    if let Err(status) = guard::check(version, request.headers(), notes.take_length()) {
        return refuse(status);
    }
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
    // A draining worker ends a connection with an answer, and so does a worker that has too many connections:
    // then the client knows that it must reconnect. Closing the connection while the next request is on its
    // way would lose that request.
    if notes.asks_to_leave() {
        response = closing(response, version);
    }
    count();
    Ok(response)
}

/// An answer after which the connection is closed. In an answer of HTTP/1.1 to a request of HTTP/1.0 hyper would add
/// `keep-alive`.
fn closing(mut response: Response, version: Version) -> Response {
    *response.version_mut() = version;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
