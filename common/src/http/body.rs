//! A request's body. Nobody here wants one; it is read so that the connection can be used again.

use axum::body::{HttpBody, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;

use crate::http::phase::ConnectionPhase;
use crate::http::timed::Notes;

/// A body may have so many bytes.
const MAX_BODY: usize = 64 * 1024;

/// Reads the body that a request has.
///
/// # Errors
/// With what to refuse the request.
pub async fn read(request: Request, notes: &Notes) -> Result<Request, StatusCode> {
    let (head, body) = request.into_parts();
    // Said beforehand: then a client that waits for "100 Continue" need not send it at all.
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    notes.now_at(ConnectionPhase::Body);
    match to_bytes(body, MAX_BODY).await {
        Ok(body) => Ok(Request::from_parts(head, body.into())),
        // Malformed, or gone: then nobody will see the answer.
        Err(error) if is_too_large(&error) => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Err(_) => Err(StatusCode::BAD_REQUEST),
    }
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
