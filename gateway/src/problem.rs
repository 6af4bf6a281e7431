//! Problem documents (RFC 9457) that the gateway makes itself. They are constant texts.

use mica_envelope::{InnerResponse, media};

/// A refusal or failure, said inside the envelope or, before a seal was opened, outside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: u16,
    kind: &'static str,
    title: &'static str,
    detail: &'static str,
}

impl Problem {
    /// No key of this gateway opens the request (RFC 9458 5.3). The same for every reason.
    pub(crate) const KEY: Self = Self {
        status: 400,
        kind: media::PROBLEM_OHTTP_KEY,
        title: "key identifier unknown or request not sealed to the current key",
        detail: "fetch the key configurations again",
    };
    /// Sent with another method than POST.
    pub(crate) const METHOD: Self = Self::plain(405, "method not allowed", "send the sealed request by POST");
    /// Not one of the relays that are served.
    pub(crate) const STRANGER: Self =
        Self::plain(403, "forbidden", "this gateway works for relays that it knows");
    /// Not a sealed request.
    pub(crate) const MEDIA_TYPE: Self =
        Self::plain(415, "unsupported media type", "this resource takes message/ohttp-req, not chunked");
    /// Larger than the gateway takes.
    pub(crate) const TOO_LARGE: Self =
        Self::plain(413, "content too large", "the sealed request is too large");
    /// The sender stopped in the middle.
    pub(crate) const INCOMPLETE: Self = Self::plain(400, "incomplete request", "the content ended early");
    /// The sender took too long.
    pub(crate) const TOO_SLOW: Self = Self::plain(408, "request timeout", "the content came too slowly");
    /// No room in memory.
    pub(crate) const BUSY: Self =
        Self::plain(503, "service unavailable", "too much is under way; try again in a moment");
    /// Not padded although this gateway insists.
    pub(crate) const NOT_PADDED: Self =
        Self::plain(400, "request not padded", "pad to one of the shared sizes");
    /// Nothing in the route table.
    pub(crate) const NO_ROUTE: Self =
        Self::plain(404, "no such route", "this gateway does not serve that target");
    /// In the table with another method.
    pub(crate) const INNER_METHOD: Self =
        Self::plain(405, "method not allowed", "the target takes another method");
    /// In the table with another media type.
    pub(crate) const INNER_MEDIA_TYPE: Self =
        Self::plain(415, "unsupported media type", "the target takes another media type");
    /// In the table with less content.
    pub(crate) const INNER_TOO_LARGE: Self =
        Self::plain(413, "content too large", "the target takes less content");
    /// No room to remember the answer, or nobody knows yet what became of the same request.
    pub(crate) const LATER: Self =
        Self::plain(503, "service unavailable", "try again after the time that retry-after names");
    /// We failed in a way that nobody foresaw. What the target made of the request is not known.
    pub(crate) const FAILED: Self =
        Self::plain(500, "internal error", "the gateway failed; what became of the request is not known");
    /// The date inside is too far from ours (RFC 9458 6.5.2).
    pub(crate) const DATE: Self = Self {
        status: 400,
        kind: media::PROBLEM_DATE,
        title: "date in the request is not acceptable",
        detail: "try again under a fresh envelope, by the date of this answer",
    };
    /// No date inside although this gateway insists.
    pub(crate) const NO_DATE: Self = Self { title: "no date in the request", ..Self::DATE };
    /// Answered before, and the answer is not kept or cannot be read.
    pub(crate) const ANSWERED_BEFORE: Self = Self::plain(
        409,
        "already answered",
        "this sealed request was processed before and its answer is not at hand",
    );
    /// The target gave no usable answer.
    pub(crate) const BAD_TARGET: Self = Self::plain(502, "bad gateway", "the target gave no usable answer");
    /// The target has answered, and there is no room in memory for what it said. Nobody is told to come back: the target
    /// may have acted (RFC 9458 6.5).
    pub(crate) const NO_ROOM: Self =
        Self::plain(502, "bad gateway", "the target has answered, and there was no room for its answer");
    /// The target took too long.
    pub(crate) const TIMEOUT: Self = Self::plain(504, "gateway timeout", "the target did not answer in time");

    /// The inner message breaks a rule.
    pub(crate) const fn invalid(rule: &'static str) -> Self {
        Self::plain(400, "invalid inner request", rule)
    }

    const fn plain(status: u16, title: &'static str, detail: &'static str) -> Self {
        Self { status, kind: "about:blank", title, detail }
    }

    /// The document. Its texts are ours and need no escaping.
    pub(crate) fn json(&self) -> String {
        let Self { status, kind, title, detail } = self;
        format!(r#"{{"type":"{kind}","title":"{title}","status":{status},"detail":"{detail}"}}"#)
    }

    /// The answer inside the envelope.
    pub(crate) fn inside(&self) -> InnerResponse {
        InnerResponse {
            status: self.status,
            headers: vec![("content-type".to_owned(), media::PROBLEM_JSON.as_bytes().to_vec())],
            body: self.json().into(),
        }
    }

    /// The same with the seconds after which to try again.
    pub(crate) fn inside_after(&self, seconds: u64) -> InnerResponse {
        let mut answer = self.inside();
        answer.headers.push(("retry-after".to_owned(), seconds.to_string().into_bytes()));
        answer
    }
}
