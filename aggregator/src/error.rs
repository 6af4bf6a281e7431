//! The three ways a request can go wrong, and the only place that maps them to HTTP.
//!
//! [`Reject`] is about one report and travels inside a message; [`Abort`] is the peer's doing and becomes an RFC 9457
//! problem document (DAP 3.6); [`Fault`] is ours, is logged once, and tells the peer nothing but "not now".
//! None of them may ever quote a report, a share, a token or an address.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use mica_dap::id::TaskId;
use mica_dap::problem::{Problem, printable};
use mica_dap::report_error::ReportError;
use mica_dp::accountant::format_second;
use mica_service::store::{StoreError, Tx};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One report is refused, the others are not affected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject(pub ReportError);

/// The request is refused, and it is the peer who can do something about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abort(Box<Document>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Document {
    #[serde(rename = "type", default = "about_blank")]
    type_: Cow<'static, str>,
    #[serde(default)]
    title: Cow<'static, str>,
    #[serde(default = "bad_request")]
    status: u16,
    #[serde(default)]
    detail: Cow<'static, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    taskid: Option<String>,
    #[serde(flatten)]
    members: Map<String, Value>,
    #[serde(skip)]
    retry_after: Option<u64>,
}

impl Abort {
    /// A problem of the DAP registry.
    pub fn new(problem: Problem, detail: impl Into<Cow<'static, str>>) -> Self {
        let status = StatusCode::from_u16(problem.status()).unwrap_or(StatusCode::BAD_REQUEST);
        Self::of(problem.urn(), problem.title(), status, detail)
    }

    /// A refusal that DAP has no name for, but we do: one of the constants below.
    pub fn named(name: &'static str, title: &'static str, status: StatusCode, detail: String) -> Self {
        Self::of(name, title, status, detail)
    }

    /// A refusal that needs no name: `about:blank` with a plain status.
    pub fn plain(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::of(about_blank(), status.canonical_reason().unwrap_or("refused"), status, detail)
    }

    /// The budget does not allow the release; nothing was charged and nothing was drawn.
    pub fn budget_exhausted(detail: String, members: Map<String, Value>) -> Self {
        let title = "The privacy budget does not allow this release.";
        let mut abort = Self::named(BUDGET_EXHAUSTED, title, StatusCode::FORBIDDEN, detail);
        abort.0.members = members;
        abort
    }

    /// The batch is more than one; nothing was charged, and nothing was closed.
    pub(crate) fn batch_too_wide(detail: String, members: Map<String, Value>) -> Self {
        let title = "The batch reaches over more time than a batch of this task may.";
        let mut abort = Self::named(BATCH_TOO_WIDE, title, StatusCode::FORBIDDEN, detail);
        abort.0.members = members;
        abort
    }

    /// Refused before any work was done; worth another try after this many seconds.
    pub fn overloaded(retry_after: u64) -> Self {
        let mut abort = Self::named(
            OVERLOADED,
            "The server has too much to do.",
            StatusCode::SERVICE_UNAVAILABLE,
            "too much work is waiting already".to_owned(),
        );
        abort.0.retry_after = Some(retry_after);
        abort
    }

    /// Worth another try after this many seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    /// What a member of the document says in words.
    pub(crate) fn member(&self, name: &str) -> Option<&str> {
        self.0.members.get(name)?.as_str()
    }

    /// The refusal as it is told to those who ask again, until `again_at`: by then it was given so many times in a row
    /// to `what`.
    pub(crate) fn said_before(mut self, what: &str, refusals: u64, again_at: u64) -> Self {
        let (again, before) = (format_second(signed_second(again_at)), self.0.detail);
        self.0.detail = Cow::Owned(format!(
            "{before} (The helper has refused {what} {refusals} times in a row; it is asked again from {again} on, or \
             under another policy of the leader. Nothing was charged.)"
        ));
        self.0.members.insert(ASKED_AGAIN_AT.to_owned(), Value::from(again));
        self
    }

    /// Names the task the problem is about.
    #[must_use]
    pub fn in_task(mut self, task: &TaskId) -> Self {
        self.0.taskid = Some(task.to_string());
        self
    }

    /// The problem type, which names the refusal in logs and metrics.
    pub fn problem_type(&self) -> &str {
        &self.0.type_
    }

    /// The problem type if it is one that this program knows. What a peer has made up may say anything, also what no log
    /// may hold.
    pub fn known_type(&self) -> &'static str {
        let ours = [
            BUDGET_EXHAUSTED,
            FIELD_OVERFLOW,
            EXCEPTION_EXPIRED,
            POLICY_NOT_IN_FORCE,
            LEDGER_SET_BACK,
            BATCH_TOO_WIDE,
            STATEMENT_MISMATCH,
        ];
        Problem::from_urn(&self.0.type_)
            .map(Problem::urn)
            .or_else(|| ours.into_iter().find(|ours| *ours == self.0.type_))
            .unwrap_or("another problem")
    }

    /// Work that this server has failed at through a fault of its own, so often that it does not try again. Nothing of it
    /// was counted.
    pub(crate) fn given_up(attempts: u64) -> Self {
        Self::named(
            GIVEN_UP,
            "The server cannot do this.",
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("it has failed {attempts} times; its operator finds the cause in the log"),
        )
    }

    /// The problem document, to be kept with a job that failed.
    pub fn to_json(&self) -> String {
        serde_json::to_string(&self.0).expect("strings and numbers are always JSON")
    }

    /// A problem document that was kept: a refusal, or work that was given up.
    pub(crate) fn kept(text: &str) -> Option<Self> {
        let given_up = || serde_json::from_str(text).ok().filter(|kept: &Document| kept.type_ == GIVEN_UP);
        Self::from_json(text).or_else(|| given_up().map(|kept| Self(Box::new(kept))))
    }

    /// A problem document that was kept, or that a peer sent; of the latter no more than fits a log and a row.
    pub fn from_json(text: &str) -> Option<Self> {
        if text.len() > LARGEST_DOCUMENT {
            return None;
        }
        let mut document: Document = serde_json::from_str(text).ok()?;
        document.shorten();
        (400..500).contains(&document.status).then(|| Self(Box::new(document)))
    }

    fn of(
        type_: impl Into<Cow<'static, str>>,
        title: impl Into<Cow<'static, str>>,
        status: StatusCode,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Document {
            type_: type_.into(),
            title: title.into(),
            status: status.as_u16(),
            detail: detail.into(),
            taskid: None,
            members: Map::new(),
            retry_after: None,
        }))
    }
}

impl Document {
    /// Leaves what is meant for people, at a length that people read.
    fn shorten(&mut self) {
        for text in [&mut self.type_, &mut self.title, &mut self.detail] {
            *text = Cow::Owned(printable(text));
        }
        self.taskid = self.taskid.take().filter(|id| id.parse::<TaskId>().is_ok());
        self.members.retain(|name, value| {
            if let Value::String(text) = value {
                *text = printable(text);
            }
            MEMBERS.contains(&name.as_str()) && (value.is_string() || value.is_number())
        });
    }
}

impl fmt::Display for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.type_, self.0.detail)
    }
}

impl IntoResponse for Abort {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::BAD_REQUEST);
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], self.to_json()).into_response();
        if let Some(seconds) = self.0.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Something of ours failed: the database, the pool, an invariant.
#[derive(Debug)]
pub struct Fault(anyhow::Error);

impl Fault {
    /// A fault with this cause.
    pub fn new(cause: impl Into<anyhow::Error>) -> Self {
        Self(cause.into())
    }

    /// Whether it is likely to pass by itself: the database could not do it now.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(
            self.0.downcast_ref(),
            Some(StoreError::Contended | StoreError::Unreachable(_) | StoreError::Database(_))
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

/// Why a handler did not answer with a success.
#[derive(Debug)]
pub enum ServerError {
    /// The peer's doing.
    Abort(Abort),
    /// Ours.
    Fault(Fault),
}

impl IntoResponse for ServerError {
    fn into_response(self) -> Response {
        match self {
            Self::Abort(abort) => abort.into_response(),
            Self::Fault(fault) => {
                if matches!(fault.0.downcast_ref(), Some(StoreError::Contended)) {
                    // Who collided and comes back at the same time collides again.
                    return Abort::overloaded(rand::random_range(CONTENDED)).into_response();
                }
                tracing::error!(cause = %fault, "a request failed through a fault of this server");
                Abort::plain(StatusCode::INTERNAL_SERVER_ERROR, "the server failed").into_response()
            }
        }
    }
}

impl From<Abort> for ServerError {
    fn from(abort: Abort) -> Self {
        Self::Abort(abort)
    }
}

impl From<Fault> for ServerError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<StoreError> for ServerError {
    fn from(error: StoreError) -> Self {
        Self::Fault(Fault::new(error))
    }
}

fn signed_second(at: u64) -> i64 {
    i64::try_from(at).unwrap_or(i64::MAX)
}

/// What a document without a type says (RFC 9457 3.1.1).
fn about_blank() -> Cow<'static, str> {
    Cow::Borrowed("about:blank")
}

/// What a document without a status is taken to say.
fn bad_request() -> u16 {
    StatusCode::BAD_REQUEST.as_u16()
}

/// For the body of a transaction: only a failure of the database makes it fail, and be tried again; anything else rolls
/// it back and is its value.
pub(crate) fn settle<T>(
    mut tx: Tx,
    result: Result<T, ServerError>,
) -> Result<(Tx, Result<T, ServerError>), StoreError> {
    match result {
        Err(ServerError::Fault(Fault(cause))) => match cause.downcast::<StoreError>() {
            Ok(error) => Err(error),
            Err(cause) => {
                tx.abandon();
                Ok((tx, Err(ServerError::Fault(Fault(cause)))))
            }
        },
        Err(abort) => {
            tx.abandon();
            Ok((tx, Err(abort)))
        }
        Ok(value) => Ok((tx, Ok(value))),
    }
}

/// The problem type of a refusal by the budget: ours, for DAP's registry has none.
pub const BUDGET_EXHAUSTED: &str = "urn:x-mica:problem:budget-exhausted";

/// The problem type of a refusal because so many reports may not fit the field.
pub const FIELD_OVERFLOW: &str = "urn:x-mica:problem:field-overflow";

/// The problem type of a refusal because the written exception from noise has run out.
pub const EXCEPTION_EXPIRED: &str = "urn:x-mica:problem:exception-expired";

/// The problem type of a refusal because the policy holds from a later day on.
pub const POLICY_NOT_IN_FORCE: &str = "urn:x-mica:problem:policy-not-in-force";

/// The problem type of a refusal because the ledger ends before where it had come to, as after a restore.
pub const LEDGER_SET_BACK: &str = "urn:x-mica:problem:ledger-set-back";

/// The problem type of a refusal because the batch reaches over more time than the caps on a client's reports hold for.
pub const BATCH_TOO_WIDE: &str = "urn:x-mica:problem:batch-too-wide";

/// The two aggregators of a task have different release statements.
pub const STATEMENT_MISMATCH: &str = "urn:x-mica:problem:statement-mismatch";

/// The problem type of a refusal before any work was done, because there is too much of it. A leader tells by it that
/// the helper itself has spoken: a proxy may say 503 about a request that was served.
pub const OVERLOADED: &str = "urn:x-mica:problem:overloaded";

/// The problem type of what was taken in and is not worked on any more, because it has failed too often.
pub const GIVEN_UP: &str = "urn:x-mica:problem:given-up";

/// The problem type of the admin API where another task has the name.
pub const TASK_CONFLICT: &str = "urn:x-mica:problem:task-conflict";

/// The problem type of the admin API where the rules of the aggregator refuse a task.
pub const TASK_REFUSED: &str = "urn:x-mica:problem:task-refused";

/// After how many seconds a request that lost a race for the database is worth another try.
const CONTENDED: RangeInclusive<u64> = 1..=4;

/// The member that says from when on a helper is asked again.
const ASKED_AGAIN_AT: &str = "asked_again_at";

/// The members of a document that are kept beside those of RFC 9457: those of an exhausted budget,
/// and of a batch that is too wide.
const MEMBERS: [&str; 16] = [
    ASKED_AGAIN_AT,
    "batch_within",
    "longest_seconds",
    "fits_from",
    "fits_to",
    "budget",
    "ledger_of",
    "window_from",
    "window_to",
    "spent",
    "requested",
    "limit",
    "remaining",
    "would_fit",
    "renews_at",
    "see",
];

/// The most bytes of a document that are looked at.
const LARGEST_DOCUMENT: usize = 64 << 10;

const PROBLEM_JSON: &str = "application/problem+json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_that_was_kept_is_the_same_when_it_is_answered() {
        let members = Map::from_iter([("budget".to_owned(), Value::from("weekly"))]);
        let abort =
            Abort::budget_exhausted("nothing left".to_owned(), members).in_task(&TaskId::new([1; 32]));
        assert_eq!(Abort::from_json(&abort.to_json()), Some(abort));
    }

    #[test]
    fn what_was_given_up_is_kept_as_a_fault_of_ours_and_taken_from_no_peer() {
        let kept = Abort::given_up(7).to_json();
        let read = Abort::kept(&kept).expect("it was kept");
        assert_eq!((read.0.status, read), (500, Abort::given_up(7)));
        assert_eq!(Abort::from_json(&kept), None);
    }

    #[test]
    fn a_problem_of_a_peer_needs_no_more_than_a_type() {
        let urn = Problem::BatchMismatch.urn();
        let abort = Abort::from_json(&format!(r#"{{"type":"{urn}"}}"#)).expect("a problem document");
        assert_eq!((abort.problem_type(), abort.0.status), (urn, 400));
        for no_refusal in ["", "[]", r#"{"status":500}"#, r#"{"status":"400"}"#] {
            assert_eq!(Abort::from_json(no_refusal), None, "{no_refusal}");
        }
    }

    #[test]
    fn of_what_a_peer_says_no_more_is_kept_than_people_read() {
        let long = "\u{1b}[2J\nx".repeat(500);
        let document = serde_json::json!({
            "type": Problem::BatchMismatch.urn(), "title": long, "status": 400, "detail": long,
            "taskid": long, "budget": long, "spent": 7, "limit": {"deep": [long]}, "other": 1,
        });
        let abort = Abort::from_json(&document.to_string()).expect("a problem document");
        assert_eq!(abort.problem_type(), Problem::BatchMismatch.urn());
        assert_eq!(abort.0.taskid, None);
        assert_eq!(abort.0.members.keys().collect::<Vec<_>>(), ["budget", "spent"]);
        for text in [&abort.0.title, &abort.0.detail] {
            assert_eq!(text.chars().count(), 400);
            assert!(!text.contains(char::is_control));
        }
        assert!(abort.to_json().len() < 2_000);
        let huge = serde_json::json!({"type": "a", "detail": "x".repeat(64 << 10)});
        assert_eq!(Abort::from_json(&huge.to_string()), None);
    }

    #[test]
    fn a_fault_tells_the_peer_nothing() {
        let response = ServerError::from(StoreError::Database("secret words".to_owned())).into_response();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let response = ServerError::from(StoreError::Contended).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(response.headers().contains_key(header::RETRY_AFTER));
    }

    #[test]
    fn those_who_collide_are_not_all_told_the_same_time() {
        let told = || {
            let response = ServerError::from(StoreError::Contended).into_response();
            response.headers()[header::RETRY_AFTER]
                .to_str()
                .expect("a number")
                .parse::<u64>()
                .expect("a number")
        };
        let times: std::collections::BTreeSet<u64> = (0..200).map(|_| told()).collect();
        assert!(times.len() > 1 && times.iter().all(|time| CONTENDED.contains(time)), "{times:?}");
    }

    #[test]
    fn what_a_peer_has_made_up_gets_no_name() {
        let known = |text| Abort::from_json(text).expect("a problem document").known_type();
        assert_eq!(known(r#"{"type":"report AAECAwQFBgcICQoLDA0ODw","status":400}"#), "another problem");
        assert_eq!(known(r#"{"type":"urn:x-mica:problem:anything","status":403}"#), "another problem");
    }

    #[test]
    fn every_refusal_that_a_helper_has_for_a_share_goes_by_its_name() {
        let refusals = [
            BUDGET_EXHAUSTED,
            FIELD_OVERFLOW,
            EXCEPTION_EXPIRED,
            POLICY_NOT_IN_FORCE,
            LEDGER_SET_BACK,
            STATEMENT_MISMATCH,
            Problem::BatchMismatch.urn(),
        ];
        for name in refusals {
            let said = Abort::named(name, "no", StatusCode::FORBIDDEN, "no".to_owned()).to_json();
            assert_eq!(Abort::from_json(&said).expect("a problem document").known_type(), name);
        }
    }
}
