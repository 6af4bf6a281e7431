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
use mica_envelope::media;
use sha2::{Digest, Sha256};

/// The answer to whoever asks for the keys.
#[derive(Clone)]
pub(crate) struct Published {
    list: Bytes,
    tag: HeaderValue,
    cache: HeaderValue,
}

impl Published {
    pub(crate) fn new(list: &[u8], max_age: Duration) -> Self {
        let digest = hex::encode(Sha256::digest(list));
        let ascii = |text: String| {
            HeaderValue::from_str(&text).expect("hexadecimal and decimal digits are visible ASCII")
        };
        Self {
            list: Bytes::copy_from_slice(list),
            tag: ascii(format!("\"{digest}\"")),
            cache: ascii(format!("public, max-age={}", max_age.as_secs())),
        }
    }

    /// The list, or the statement that the asker has it already.
    pub(crate) fn answer(&self, asked: &HeaderMap) -> Response {
        let has_it = asked.get(header::IF_NONE_MATCH) == Some(&self.tag);
        let mut response = if has_it {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            let mut response = Response::new(Body::from(self.list.clone()));
            let media = HeaderValue::from_static(media::OHTTP_KEYS);
            response.headers_mut().insert(header::CONTENT_TYPE, media);
            response
        };
        response.headers_mut().insert(header::CACHE_CONTROL, self.cache.clone());
        response.headers_mut().insert(header::ETAG, self.tag.clone());
        response
    }
}
