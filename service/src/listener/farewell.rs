//! What becomes of a body that nobody wants: over HTTP/1.1 a connection that is closed with bytes unread takes the answer
//! with it, so the rest is read and forgotten for a moment.

use std::future::pending;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use http::{HeaderMap, Version, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::runtime::Handle;
use tokio::time::timeout;

/// The body of a request, until it is at its end.
pub(super) struct Attended {
    body: Option<Incoming>,
    /// Whether who sends it is listened to after the answer.
    lingers: bool,
}

impl Attended {
    /// In HTTP/2 one request can end without the others; and who asks before sending is simply told no.
    pub(super) fn new(body: Incoming, version: Version, headers: &HeaderMap) -> Self {
        let lingers = version < Version::HTTP_2 && !headers.contains_key(header::EXPECT);
        Self { body: Some(body), lingers }
    }
}

impl Body for Attended {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = Pin::new(body).poll_frame(context);
        if let Poll::Ready(None | Some(Err(_))) = frame {
            self.body = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Attended {
    fn drop(&mut self) {
        let rest = self.body.take().filter(|body| self.lingers && !body.is_end_stream());
        if let (Some(rest), Ok(runtime)) = (rest, Handle::try_current()) {
            runtime.spawn(dismiss(rest));
        }
    }
}

/// Lets the client read the answer: it is listened to, and then left.
async fn dismiss(mut body: Incoming) {
    let farewell = async {
        let mut unread = 0;
        while unread < MOST_UNREAD {
            let Some(Ok(frame)) = body.frame().await else { return };
            unread += frame.data_ref().map_or(0, Bytes::len);
        }
        // The rest stays where it is, and the connection open.
        pending::<()>().await;
    };
    // Who has not read the answer by then is left.
    let _ = timeout(FAREWELL, farewell).await;
}

/// How long, and over how many bytes, a client is listened to whose body is not wanted.
const FAREWELL: Duration = Duration::from_secs(1);
const MOST_UNREAD: usize = 4 << 20;
