//! From what the gateway answered to what a client is told: an allow-list of statuses, media types and fields.
//!
//! In the journey of a report this is its way back. Whatever is outside of the sealed block is seen by all who see the
//! answer, so nothing of it is the gateway's own wording. It must never pass on what leads a client elsewhere, has it send the
//! same block again by itself, or marks it.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use mica_service::retry_after::retry_after;

use crate::counters::Outcome;

/// The client's answer, or what became of the request instead.
pub(crate) fn pass_on(answer: http::Response<Bytes>) -> Result<Response, Outcome> {
    let (head, content) = answer.into_parts();
    let status = head.status;
    if is_about_us(status) {
        return Err(Outcome::NotAccepted);
    }
    let media = media_of(&head.headers);
    let (media, content) = match (status, media) {
        (StatusCode::OK, Some(SEALED)) => (SEALED, content),
        (StatusCode::OK, _) => return Err(Outcome::BadAnswer),
        (status, _) if !REFUSALS.contains(&status) => return Err(Outcome::BadAnswer),
        (_, Some(media)) => (media, content),
        // A status without the words of whatever stands before the gateway.
        (_, None) => (PROBLEM, Bytes::from_static(b"{}")),
    };
    let mut response = Response::new(Body::from(content));
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&status)
        && let Some(seconds) = patience(&head.headers)
    {
        fields.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    Ok(response)
}

/// The gateway, or what stands before it, turns the relay away: no client can do anything about it.
pub(crate) fn is_about_us(status: StatusCode) -> bool {
    [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::PROXY_AUTHENTICATION_REQUIRED]
        .contains(&status)
}

/// The media type in our own letters, if it is one of those that are passed on.
fn media_of(headers: &HeaderMap) -> Option<&'static str> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (value, further) = (values.next()?.as_bytes(), values.next());
    let essence = value.split(|byte| *byte == b';').next()?.trim_ascii();
    let is = |media: &&str| further.is_none() && essence.eq_ignore_ascii_case(media.as_bytes());
    [SEALED, PROBLEM].into_iter().find(is)
}

/// In seconds only: a date says what clock somebody has.
fn patience(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(header::RETRY_AFTER)?;
    value.as_bytes().iter().all(u8::is_ascii_digit).then(|| retry_after(headers, 0))?
}

/// Media type of a sealed answer (RFC 9458 9.3).
const SEALED: &str = "message/ohttp-res";
/// Media type of a problem (RFC 9457 6.1).
const PROBLEM: &str = "application/problem+json";
/// What a gateway may say in clear of a request. Others are answered by the relay: some have common clients send the same
/// block again by themselves (408, 421, 425), or ask their users for a password.
const REFUSALS: [StatusCode; 6] = [
    StatusCode::BAD_REQUEST,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    StatusCode::UNPROCESSABLE_ENTITY,
    StatusCode::TOO_MANY_REQUESTS,
    StatusCode::SERVICE_UNAVAILABLE,
];
