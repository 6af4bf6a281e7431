//! What a scripted helper can do with a request.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Response, header};
use hyper::body::{Body, Frame, SizeHint};
use mica_dap::aggregation::{AggregationJobResp, VerifyResp};
use mica_dap::codec::Encode as _;
use mica_dap::media::Media;
use mica_dap::problem::{Problem, ProblemDocument};

/// What the helper does with one request.
pub(crate) enum Act {
    Honest,
    /// Does its part; then the connection breaks before the answer.
    LoseAnswer,
    /// Does its part and never answers.
    Hang,
    /// Does nothing but answer this.
    Say(Answer),
    /// Does its part and answers something else.
    Change(Box<dyn FnOnce(Answer) -> Answer + Send>),
}

/// An answer of the helper.
#[derive(Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) media: Option<String>,
    pub(crate) location: Option<String>,
    pub(crate) retry_after: Option<u64>,
    /// Further headers.
    pub(crate) headers: Vec<(http::HeaderName, String)>,
    pub(crate) body: Vec<u8>,
    /// The connection breaks after half of the body.
    pub(crate) torn: bool,
}

/// The body of an answer, whole or broken off.
pub(crate) struct Spoken {
    bytes: Bytes,
    announced: u64,
    torn: bool,
}

impl Act {
    pub(crate) fn status(status: u16) -> Self {
        Self::Say(Answer { status, ..Answer::default() })
    }

    pub(crate) fn busy(status: u16, retry_after: u64) -> Self {
        Self::Say(Answer { status, retry_after: Some(retry_after), ..Answer::default() })
    }

    pub(crate) fn problem(problem: Problem) -> Self {
        Self::Say(Answer::problem(problem))
    }

    /// A refusal by a name that DAP does not have.
    pub(crate) fn refuse(name: &str) -> Self {
        let body = format!(r#"{{"type":"{name}","status":403,"detail":"the helper says no"}}"#).into_bytes();
        let media = Some("application/problem+json".to_owned());
        Self::Say(Answer { status: 403, media, body, ..Answer::default() })
    }

    pub(crate) fn change(change: impl FnOnce(&mut Answer) + Send + 'static) -> Self {
        Self::Change(Box::new(|mut answer| {
            change(&mut answer);
            answer
        }))
    }

    /// Does its part, and says that it takes a while.
    pub(crate) fn defer(retry_after: u64) -> Self {
        Self::change(move |answer| answer.defer(retry_after))
    }

    /// Does its part of a share, and says that it takes a while.
    pub(crate) fn defer_share(retry_after: u64) -> Self {
        Self::change(move |answer| answer.defer_at(retry_after, ""))
    }

    /// Does its part of a job, and tells something else about it.
    pub(crate) fn tamper(tamper: impl FnOnce(&mut Vec<VerifyResp>) + Send + 'static) -> Self {
        Self::change(|answer| {
            let mut resp = AggregationJobResp::decode_limited(&answer.body, 10_000).expect("its own answer");
            tamper(&mut resp.verify_resps);
            answer.body = resp.encoded();
        })
    }
}

impl Answer {
    pub(crate) fn defer(&mut self, retry_after: u64) {
        self.defer_at(retry_after, "?step=0");
    }

    fn defer_at(&mut self, retry_after: u64, query: &str) {
        self.body.clear();
        self.media = None;
        self.retry_after = Some(retry_after);
        self.location = self.location.take().map(|location| format!("{location}{query}"));
    }
}

impl Answer {
    pub(super) fn ready(media: Media, body: Vec<u8>, location: String) -> Self {
        let location = Some(location).filter(|location| !location.is_empty());
        let media = Some(media.header().to_owned());
        Self { status: 200, media, location, body, ..Self::default() }
    }

    pub(super) fn problem(problem: Problem) -> Self {
        let body = ProblemDocument::new(problem).to_json();
        let media = Some("application/problem+json".to_owned());
        Self { status: problem.status(), media, body, ..Self::default() }
    }

    pub(super) fn into_response(self) -> Response<Spoken> {
        let mut response = Response::builder().status(self.status);
        let retry_after = self.retry_after.map(|seconds| seconds.to_string());
        let headers = [
            (header::CONTENT_TYPE, self.media),
            (header::LOCATION, self.location),
            (header::RETRY_AFTER, retry_after),
        ];
        for (name, value) in headers {
            if let Some(value) = value {
                response = response.header(name, value);
            }
        }
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        let announced = self.body.len() as u64;
        let mut bytes = Bytes::from(self.body);
        if self.torn {
            bytes.truncate(bytes.len() / 2);
        }
        response.body(Spoken { bytes, announced, torn: self.torn }).expect("headers of a test are valid")
    }
}

impl Body for Spoken {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let spoken = self.get_mut();
        if !spoken.bytes.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut spoken.bytes)))));
        }
        let torn = std::mem::take(&mut spoken.torn);
        Poll::Ready(torn.then(|| Err(io::ErrorKind::ConnectionReset.into())))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.announced)
    }
}
