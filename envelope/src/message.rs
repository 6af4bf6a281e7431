//! The two inner messages, in the form that both ends work with.
//!
//! Neither prints itself: an inner request names a task and holds a report.

use bytes::Bytes;

/// The request inside an envelope.
#[derive(Clone, PartialEq, Eq)]
pub struct InnerRequest {
    /// Method, a token.
    pub method: String,
    /// `https` or `http`.
    pub scheme: String,
    /// Host and optional port, lower case, never with user information. Taken from `host` when the control data
    /// left it empty.
    pub authority: String,
    /// Path and optional query; begins with a slash.
    pub path: String,
    /// Fields in order. Never `host` or `content-length`: both are said elsewhere.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Content.
    pub body: Bytes,
}

impl InnerRequest {
    /// The value of the first field called `name` (lower case).
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        first(&self.headers, name)
    }
}

/// The response inside an envelope.
#[derive(Clone, PartialEq, Eq)]
pub struct InnerResponse {
    /// Final status, 200 to 599.
    pub status: u16,
    /// Fields in order. Never `content-length`, which the content says.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Content.
    pub body: Bytes,
}

impl InnerResponse {
    /// The value of the first field called `name` (lower case).
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        first(&self.headers, name)
    }
}

impl std::fmt::Debug for InnerRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InnerRequest").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for InnerResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InnerResponse").field("status", &self.status).finish_non_exhaustive()
    }
}

fn first<'a>(headers: &'a [(String, Vec<u8>)], name: &str) -> Option<&'a [u8]> {
    headers.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_slice())
}
