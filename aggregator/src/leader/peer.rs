//! How the leader asks the helper: one request, one answer, and what kind of answer it was.
//!
//! Nothing is resent here and no redirect is followed. A request that got no answer may have been served, so the job
//! that sent it repeats it later with the same bytes. Credentials never follow a `Location` to another origin.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use mica_dap::media::Media;
use mica_dap::problem::{Problem, ProblemDocument};
use mica_dap::{resource, taskprov};
use mica_service::http::{PeerError, Sent};
use mica_service::retry_after::retry_after;

use crate::error::{
    Abort, BATCH_TOO_WIDE, BUDGET_EXHAUSTED, EXCEPTION_EXPIRED, FIELD_OVERFLOW, OVERLOADED,
    POLICY_NOT_IN_FORCE,
};
use crate::jobs::{JobError, Reason};
use crate::shared::Shared;
use crate::task::Task;

/// What the helper said.
pub(crate) enum Answer {
    /// The representation that was asked for.
    Ready(Bytes),
    /// Not yet (DAP 3.1): ask `location`, not before `seconds` have passed, if the helper said how many.
    Deferred { location: Option<String>, seconds: Option<u64> },
    /// A definitive refusal: repeating the same bytes will not help.
    Refused(Box<Abort>),
    /// The message is larger than the helper takes.
    TooLarge,
    /// The helper knows no such resource, if it ever did.
    Gone,
}

/// What the helper said when it was told to forget something.
pub(crate) enum Forgotten {
    /// It has.
    Yes,
    /// It knows no such thing, or nothing of forgetting.
    NotKnown,
}

/// Posts a message and expects `expected` in return; with the answer comes where the helper keeps what came of it, if it
/// says so.
pub(super) async fn post(
    shared: &Shared,
    task: &Task,
    url: &str,
    (media, body): (Media, Bytes),
    expected: Media,
) -> Result<(Answer, Option<String>), JobError> {
    let request = request(task, Method::POST, url)
        .header(header::CONTENT_TYPE, media.header())
        .body(body)
        .map_err(|_| no_url())?;
    exchange(shared, task, request, expected).await
}

/// Asks again for what was deferred.
pub(crate) async fn poll(
    shared: &Shared,
    task: &Task,
    url: &str,
    expected: Media,
) -> Result<Answer, JobError> {
    let request = request(task, Method::GET, url).body(Bytes::new()).map_err(|_| no_url())?;
    Ok(exchange(shared, task, request, expected).await?.0)
}

/// Tells the helper that what it keeps there is not needed any more.
pub(crate) async fn delete(shared: &Shared, task: &Task, url: &str) -> Result<Forgotten, JobError> {
    let request = request(task, Method::DELETE, url).body(Bytes::new()).map_err(|_| no_url())?;
    let response = shared.http.send(request).await.map_err(failed)?;
    let status = response.status();
    if status.is_success() {
        return Ok(Forgotten::Yes);
    }
    match reason(status, None) {
        Reason::Refused => Ok(Forgotten::NotKnown),
        _ if status == StatusCode::NOT_IMPLEMENTED => Ok(Forgotten::NotKnown),
        reason => {
            let seconds = retry_after(response.headers(), shared.clock.now());
            let why = format!("the helper answered {status}");
            Err(JobError::Retry { reason, why, seconds, untouched: false })
        }
    }
}

fn no_url() -> JobError {
    JobError::because(Reason::Local, "the helper's endpoint is not a URL that can be asked")
}

/// A request to the helper, with what the leader shows it.
pub(crate) fn request(task: &Task, method: Method, url: &str) -> http::request::Builder {
    let mut request = Request::builder().method(method).uri(url);
    if let Some(advertisement) = task.advertisement() {
        request = request.header(taskprov::HEADER, advertisement);
    }
    match task.token_to_helper() {
        Some(token) => request.header(header::AUTHORIZATION, token.header()),
        None => request,
    }
}

async fn exchange(
    shared: &Shared,
    task: &Task,
    request: Request<Bytes>,
    expected: Media,
) -> Result<(Answer, Option<String>), JobError> {
    let asked = request.uri().to_string();
    let response = shared.http.send(request).await.map_err(failed)?;
    let status = response.status();
    let seconds = retry_after(response.headers(), shared.clock.now());
    if status.is_success() {
        let location = text(response.headers(), header::LOCATION).and_then(|location| {
            resource::follow(task.configuration.helper_url(), &task.id, (&asked, location))
        });
        return Ok((success(response, expected, (location.clone(), seconds))?, location));
    }
    let refusal = std::str::from_utf8(response.body()).ok().and_then(Abort::from_json);
    let problem = refusal.as_ref().and_then(|abort| Problem::from_urn(abort.problem_type()));
    let by_helper =
        text(response.headers(), header::CONTENT_TYPE).is_some_and(|media| Media::Problem.matches(media));
    let overload = ProblemDocument::from_json(response.body());
    let answer = match (status, refusal) {
        (StatusCode::PAYLOAD_TOO_LARGE, _) => Ok(Answer::TooLarge),
        _ if problem == Some(Problem::UnrecognizedAggregationJob) => Ok(Answer::Gone),
        (_, Some(abort)) if status.is_client_error() && is_final(abort.problem_type()) => {
            Ok(Answer::Refused(Box::new(abort)))
        }
        (StatusCode::NOT_FOUND | StatusCode::GONE, _) if problem.is_none() => Ok(Answer::Gone),
        (_, refusal) => {
            // Its type only: what a peer writes beside it could name a report.
            let what = refusal.map_or_else(String::new, |abort| format!(", {}", abort.known_type()));
            let why = format!("the helper answered {status}{what}");
            let reason = reason(status, problem);
            let untouched = refused_unread(reason, by_helper) || turned_away(status, overload.as_ref());
            Err(JobError::Retry { reason, why, seconds, untouched })
        }
    };
    Ok((answer?, None))
}

/// No answer came.
#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn failed(error: PeerError) -> JobError {
    let reason = match error {
        PeerError::TooLarge { .. } => Reason::Confused,
        PeerError::BadUrl(_) => Reason::Local,
        _ if error.sent() == Sent::Part => Reason::Interrupted,
        _ => Reason::Unreachable,
    };
    // What did not arrive whole did not arrive.
    let untouched = error.sent() != Sent::All;
    JobError::Retry { reason, why: format!("the helper: {error}"), seconds: None, untouched }
}

/// What kind of failure an answer is that is none of those above.
fn reason(status: StatusCode, problem: Option<Problem>) -> Reason {
    match status {
        _ if problem == Some(Problem::UnrecognizedTask) => Reason::UnknownTask,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Reason::Unauthorized,
        StatusCode::REQUEST_TIMEOUT
        | StatusCode::TOO_EARLY
        | StatusCode::TOO_MANY_REQUESTS
        | StatusCode::SERVICE_UNAVAILABLE => Reason::Busy,
        _ if status.is_server_error() => Reason::Failing,
        _ if status.is_client_error() => Reason::Refused,
        _ => Reason::Confused,
    }
}

/// Whether whoever refused a request has looked at no report. A status without a problem document may be that of a proxy,
/// which can dislike the answer to a request that it has passed on; and one that says nothing we know says nothing.
fn refused_unread(reason: Reason, by_helper: bool) -> bool {
    match reason {
        Reason::UnknownTask => true,
        Reason::Unauthorized => by_helper,
        _ => false,
    }
}

/// Whether a busy helper has looked at no report. A status alone may be that of a proxy, which can give up on a request
/// after it has passed it on; what 429 counts is requests, before they are served.
fn turned_away(status: StatusCode, problem: Option<&ProblemDocument>) -> bool {
    let ours = problem.is_some_and(|problem| problem.type_ == OVERLOADED);
    status == StatusCode::TOO_MANY_REQUESTS || (status == StatusCode::SERVICE_UNAVAILABLE && ours)
}

/// Whether a problem is about the very bytes that were sent. Others pass: a helper that does not know the task yet, a
/// token that is being replaced, too many requests.
fn is_final(problem_type: &str) -> bool {
    match Problem::from_urn(problem_type) {
        Some(Problem::UnrecognizedTask | Problem::UnrecognizedAggregationJob) => false,
        Some(_) => true,
        None => [BUDGET_EXHAUSTED, FIELD_OVERFLOW, EXCEPTION_EXPIRED, POLICY_NOT_IN_FORCE, BATCH_TOO_WIDE]
            .contains(&problem_type),
    }
}

/// Ready or deferred is told by the body alone, never by the kind of success (DAP 3.1, 3.3).
fn success(
    response: Response<Bytes>,
    expected: Media,
    (location, seconds): (Option<String>, Option<u64>),
) -> Result<Answer, JobError> {
    if response.body().is_empty() {
        return Ok(Answer::Deferred { location, seconds });
    }
    let media = text(response.headers(), header::CONTENT_TYPE);
    if !media.is_some_and(|media| expected.matches(media)) {
        return Err(JobError::because(Reason::Confused, "the helper answered with another media type"));
    }
    Ok(Answer::Ready(response.into_body()))
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_says_that_it_did_nothing_is_believed_to_have_done_nothing() {
        let other = ProblemDocument::new(Problem::InvalidMessage);
        let ours = ProblemDocument { type_: OVERLOADED.to_owned(), ..other.clone() };
        let (ours, other) = (Some(&ours), Some(&other));
        for (status, problem, untouched) in [
            (429, None, true),
            (503, ours, true),
            (503, other, false),
            (503, None, false),
            (408, ours, false),
            (425, ours, false),
            (502, ours, false),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(turned_away(status, problem), untouched, "{status}");
        }
    }

    #[test]
    fn a_refusal_leaves_no_doubt_only_where_the_helper_itself_has_refused() {
        for (reason, by_helper, unread) in [
            (Reason::Refused, false, false),
            (Reason::Refused, true, false),
            (Reason::Unauthorized, false, false),
            (Reason::Unauthorized, true, true),
            (Reason::UnknownTask, true, true),
            (Reason::Failing, true, false),
        ] {
            assert_eq!(refused_unread(reason, by_helper), unread, "{reason:?} {by_helper}");
        }
    }

    #[test]
    fn every_answer_that_settles_nothing_has_a_reason() {
        for (status, expected) in [
            (301, Reason::Confused),
            (307, Reason::Confused),
            (400, Reason::Refused),
            (401, Reason::Unauthorized),
            (403, Reason::Unauthorized),
            (429, Reason::Busy),
            (500, Reason::Failing),
            (503, Reason::Busy),
            (504, Reason::Failing),
        ] {
            assert_eq!(reason(StatusCode::from_u16(status).expect("a status"), None), expected, "{status}");
        }
        assert_eq!(reason(StatusCode::NOT_FOUND, Some(Problem::UnrecognizedTask)), Reason::UnknownTask);
    }
}
