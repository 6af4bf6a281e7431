//! How the leader asks the helper: one request, one answer, and what kind of answer it was.
//!
//! Nothing is resent here. A request that got no answer may have been served, so the job that sent it repeats it later
//! with the same bytes. Credentials never follow a `Location` to another origin.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use mica_dap::media::Media;
use mica_dap::problem::Problem;
use mica_dap::resource;

use crate::error::{Abort, BUDGET_EXHAUSTED, EXCEPTION_EXPIRED, FIELD_OVERFLOW};
use crate::jobs::JobError;
use crate::shared::Shared;
use crate::task::Task;

/// What the helper said.
pub(crate) enum Answer {
    /// The representation that was asked for.
    Ready(Bytes),
    /// Not yet (DAP 3.1): ask `location`, not before `seconds` have passed.
    Deferred { location: Option<String>, seconds: u64 },
    /// A definitive refusal: repeating the same bytes will not help.
    Refused(Box<Abort>),
    /// The message is larger than the helper takes.
    TooLarge,
    /// The helper knows no such resource, if it ever did.
    Gone,
}

/// Posts a message and expects `expected` in return.
pub(crate) async fn post(
    shared: &Shared,
    task: &Task,
    url: &str,
    (media, body): (Media, Vec<u8>),
    expected: Media,
) -> Result<Answer, JobError> {
    let request = request(task, Method::POST, url)
        .header(header::CONTENT_TYPE, media.header())
        .body(Bytes::from(body))
        .map_err(|_| JobError::retry("the helper's endpoint is not a URL that can be asked"))?;
    exchange(shared, task, request, expected).await
}

/// Asks again for what was deferred.
pub(crate) async fn poll(
    shared: &Shared,
    task: &Task,
    url: &str,
    expected: Media,
) -> Result<Answer, JobError> {
    let request = request(task, Method::GET, url)
        .body(Bytes::new())
        .map_err(|_| JobError::retry("the helper's endpoint is not a URL that can be asked"))?;
    exchange(shared, task, request, expected).await
}

fn request(task: &Task, method: Method, url: &str) -> http::request::Builder {
    let request = Request::builder().method(method).uri(url);
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
) -> Result<Answer, JobError> {
    let response =
        shared.http.send(request).await.map_err(|error| JobError::retry(format!("the helper: {error}")))?;
    if response.status().is_success() {
        return success(task, response, expected);
    }
    let status = response.status();
    let refusal = std::str::from_utf8(response.body()).ok().and_then(Abort::from_json);
    match (status, refusal) {
        (StatusCode::PAYLOAD_TOO_LARGE, _) => Ok(Answer::TooLarge),
        (_, Some(abort)) if abort.problem_type() == Problem::UnrecognizedAggregationJob.urn() => {
            Ok(Answer::Gone)
        }
        (_, Some(abort)) if status.is_client_error() && is_final(abort.problem_type()) => {
            Ok(Answer::Refused(Box::new(abort)))
        }
        (StatusCode::NOT_FOUND | StatusCode::GONE, None) => Ok(Answer::Gone),
        (_, refusal) => {
            let what = refusal.map_or_else(String::new, |abort| format!(", {}", abort.known_type()));
            let why = format!("the helper answered {status}{what}");
            Err(match retry_after(&response) {
                Some(seconds) => JobError::RetryAfter(why, seconds),
                None => JobError::Retry(why),
            })
        }
    }
}

/// Whether a problem is about the very bytes that were sent. Others pass: a helper that does not know the task yet, a
/// token that is being replaced, too many requests.
fn is_final(problem_type: &str) -> bool {
    match Problem::from_urn(problem_type) {
        Some(Problem::UnrecognizedTask | Problem::UnrecognizedAggregationJob) => false,
        Some(_) => true,
        None => [BUDGET_EXHAUSTED, FIELD_OVERFLOW, EXCEPTION_EXPIRED].contains(&problem_type),
    }
}

/// Ready or deferred is told by the body alone, never by the kind of success (DAP 3.1, 3.3).
fn success(task: &Task, response: Response<Bytes>, expected: Media) -> Result<Answer, JobError> {
    if response.body().is_empty() {
        let location = text(&response, header::LOCATION)
            .and_then(|location| resource::follow(task.configuration.helper_url(), &task.id, location));
        let seconds = retry_after(&response).unwrap_or(1);
        return Ok(Answer::Deferred { location, seconds });
    }
    let media = text(&response, header::CONTENT_TYPE);
    if !media.is_some_and(|media| expected.matches(media)) {
        return Err(JobError::retry("the helper answered with another media type"));
    }
    Ok(Answer::Ready(response.into_body()))
}

/// The seconds that the helper wants to be left alone, within reason.
fn retry_after(response: &Response<Bytes>) -> Option<u64> {
    let seconds: u64 = text(response, header::RETRY_AFTER)?.parse().ok()?;
    Some(seconds.clamp(1, 3_600))
}

fn text(response: &Response<Bytes>, name: header::HeaderName) -> Option<&str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}
