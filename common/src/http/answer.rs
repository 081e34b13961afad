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

/// Answers one request: the app does, unless HTTP wants it refused. Each answer is `count`ed.
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
        request.map(Body::new)
    } else {
        // Boxed, or its space would be set aside in every connection that never has a body.
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
    // A draining worker ends a connection with an answer, and so does one that has too many of them: then
    // the client knows that the next request belongs elsewhere. Closing it while the next one is under way
    // would lose that.
    if must_close || notes.is_to_leave() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    count();
    Ok(response)
}

/// An answer after which the connection is closed, whatever the client still sends.
fn refuse(status: StatusCode, notes: &Notes) -> Response {
    notes.now_at(ConnectionPhase::Linger);
    (status, [(header::CONNECTION, "close")]).into_response()
}
