//! The published key configurations: the same bytes for everyone, whatever they send along.
//!
//! A gateway that gave each client its own key could tell clients apart (RFC 9458 7). So the answer is made once, may be
//! kept by any cache, and names itself by a strong tag, so that it can be compared across paths.

use std::time::Duration;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sha2::{Digest, Sha256};

/// One document that is the same for whoever asks for it.
#[derive(Clone)]
pub(crate) struct Published {
    body: Bytes,
    media: HeaderValue,
    tag: HeaderValue,
    cache: HeaderValue,
}

impl Published {
    pub(crate) fn new(body: &[u8], media: &'static str, max_age: Duration) -> Self {
        let digest = hex::encode(Sha256::digest(body));
        let ascii = |text: String| {
            HeaderValue::from_str(&text).expect("hexadecimal and decimal digits are visible ASCII")
        };
        Self {
            body: Bytes::copy_from_slice(body),
            media: HeaderValue::from_static(media),
            tag: ascii(format!("\"{digest}\"")),
            cache: ascii(format!("public, max-age={}", max_age.as_secs())),
        }
    }

    /// The document.
    pub(crate) fn body(&self) -> &Bytes {
        &self.body
    }

    /// The document, or the statement that the asker has it already.
    pub(crate) fn answer(&self, asked: &HeaderMap) -> Response {
        let mut response = if self.is_known(asked) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            let mut response = Response::new(Body::from(self.body.clone()));
            response.headers_mut().insert(header::CONTENT_TYPE, self.media.clone());
            response
        };
        response.headers_mut().insert(header::CACHE_CONTROL, self.cache.clone());
        response.headers_mut().insert(header::ETAG, self.tag.clone());
        response
    }

    /// Whether one of the tags that the asker has is ours (RFC 9110 13.1.2).
    fn is_known(&self, asked: &HeaderMap) -> bool {
        let values = asked.get_all(header::IF_NONE_MATCH).iter();
        values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(|tag| {
            let tag = tag.trim();
            tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == self.tag.as_bytes()
        })
    }
}
