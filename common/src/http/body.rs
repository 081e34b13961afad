//! A request's body. Nobody here wants one; it is read so that the connection can be used again.

use std::error::Error;

use axum::body::{HttpBody, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use http_body_util::LengthLimitError;

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
        Err(error) if error.source().is_some_and(|why| why.is::<LengthLimitError>()) => {
            Err(StatusCode::PAYLOAD_TOO_LARGE)
        }
        Err(_) => Err(StatusCode::BAD_REQUEST), // malformed, or gone: then nobody will see the answer
    }
}
