//! A network inside of one process, for a test that decides what becomes of each request.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};

use crate::http::PeerError;

/// What comes of a request.
pub type Carried = Pin<Box<dyn Future<Output = Result<Response<Bytes>, PeerError>> + Send>>;

/// Answers requests in the place of the real network. Clones are the same network.
#[derive(Clone)]
pub struct Network(Arc<dyn Fn(Request<Bytes>) -> Carried + Send + Sync>);

impl Network {
    /// One that has `carry` answer each request.
    pub fn new(carry: impl Fn(Request<Bytes>) -> Carried + Send + Sync + 'static) -> Self {
        Self(Arc::new(carry))
    }

    pub(crate) fn carry(&self, request: Request<Bytes>) -> Carried {
        (self.0)(request)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a network inside of this process")
    }
}
