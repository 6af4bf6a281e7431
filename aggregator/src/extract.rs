//! What a handler needs of a request, read strictly and in the order in which it may be refused: the task, then the
//! token, then the media type, then the length, then the bytes.
//!
//! A handler that takes [`Authorized`] cannot be reached without the credential of the task.

use std::str::FromStr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequestParts, RawPathParams, Request};
use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use mica_dap::id::TaskId;
use mica_dap::media::Media;
use mica_dap::problem::Problem;
use mica_dap::resource;
use mica_service::listener::is_too_slow;
use mica_service::room::{Place, Refused};

use crate::credential::Presented;
use crate::crowd::Guest;
use crate::error::{Abort, ServerError};
use crate::shared::Shared;
use crate::store::tasks::Origin;
use crate::task::Task;
use crate::taskprov::{self, Advertised};

/// The task that the URL names. Anyone may address it.
pub(crate) struct Addressed(pub(crate) Arc<Task>);

/// The task that the URL names, and a caller that has shown its credential.
pub(crate) struct Authorized(pub(crate) Arc<Task>);

/// The identifier that the URL holds in its last part, `{id}`.
pub(crate) struct Resource<T>(pub(crate) T);

impl FromRequestParts<Arc<Shared>> for Addressed {
    type Rejection = ServerError;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, ServerError> {
        let id: TaskId = path_part(parts, "task").await.ok_or_else(|| unknown(None))?;
        let terms = shared.tasks.taskprov();
        let advertised = terms.and_then(|terms| terms.read(&parts.headers));
        if let Some(task) = shared.tasks.find(&id).await? {
            return Ok(Self(agreed(task, advertised.as_ref())?));
        }
        let (Some(terms), Some(advertised)) = (terms, advertised.filter(|advertised| advertised.id == id))
        else {
            return Err(unknown(Some(id)));
        };
        terms.opt_in(shared, advertised, Origin::Upload).await?;
        shared.tasks.by_id(&id).map(Self).ok_or_else(|| unknown(Some(id)))
    }
}

impl FromRequestParts<Arc<Shared>> for Authorized {
    type Rejection = ServerError;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, ServerError> {
        let id: Option<TaskId> = path_part(parts, "task").await;
        let shown = Presented::of(parts).map_err(|abort| about(abort, id))?;
        let terms = shared.tasks.taskprov();
        let advertised = terms.and_then(|terms| terms.read(&parts.headers));
        let known = || {
            let task = id.and_then(|id| shared.tasks.by_id(&id));
            task.filter(|task| task.expected().is_shown(&shown))
        };
        if let Some(task) = known() {
            return Self::vouched(shared, agreed(task, advertised.as_ref())?).await;
        }
        // Somebody else may have added the task a moment ago. From here on each step is the same whether there is such a
        // task or not: whoever has shown nothing that is known here learns nothing.
        shared.tasks.look_again().await?;
        if let Some(task) = known() {
            return Self::vouched(shared, agreed(task, advertised.as_ref())?).await;
        }
        let may_bring_tasks = terms.filter(|terms| terms.expected().is_shown(&shown));
        if let (Some(id), Some(terms), Some(advertised)) = (id, may_bring_tasks, advertised)
            && advertised.id == id
            && shared.tasks.by_id(&id).is_none()
        {
            terms.opt_in(shared, advertised, Origin::Taskprov).await?;
            if let Some(task) = known() {
                return Self::vouched(shared, task).await;
            }
        }
        let is_a_peer = may_bring_tasks.is_some() | shared.tasks.know(&shown);
        let abort = if is_a_peer {
            Abort::new(Problem::UnrecognizedTask, "there is no such task here for this caller")
        } else {
            Abort::plain(StatusCode::FORBIDDEN, "the token or certificate is not known here")
        };
        Err(about(abort, id))
    }
}

impl Authorized {
    /// Whoever shows the credential of a task vouches for it, if it came with an upload.
    async fn vouched(shared: &Shared, task: Arc<Task>) -> Result<Self, ServerError> {
        taskprov::vouch(shared, &task).await?;
        Ok(Self(task))
    }
}

impl<T: FromStr> FromRequestParts<Arc<Shared>> for Resource<T> {
    type Rejection = ServerError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Shared>) -> Result<Self, ServerError> {
        if let Some(id) = path_part(parts, "id").await {
            return Ok(Self(id));
        }
        let unknown = Abort::plain(StatusCode::NOT_FOUND, "there is no such resource");
        Err(about(unknown, path_part(parts, "task").await))
    }
}

/// The task, unless the request speaks of another or knows it otherwise.
fn agreed(task: Arc<Task>, advertised: Option<&Advertised>) -> Result<Arc<Task>, ServerError> {
    let id = task.id;
    match advertised {
        Some(advertised) if advertised.id != id => Err(unknown(Some(id))),
        Some(advertised) if !advertised.is(&task.configuration) => {
            let detail = "the task has another configuration here";
            Err(Abort::new(Problem::InvalidTask, detail).in_task(&id).into())
        }
        _ => Ok(task),
    }
}

fn unknown(id: Option<TaskId>) -> ServerError {
    about(Abort::new(Problem::UnrecognizedTask, "there is no such task here"), id)
}

/// The body of a request, if it is of this type and no longer than `limit`.
///
/// # Errors
/// 415 for another media type, 413 for a longer body, 400 for one that breaks off, 408 for one that comes too slowly.
pub(crate) async fn body(request: Request, media: Media, limit: usize) -> Result<Bytes, ServerError> {
    let (task, request) = named(request).await;
    let read = async {
        check_head(request.headers(), media, limit)?;
        collect(request, limit).await
    };
    read.await.map_err(|abort| about(abort, task))
}

/// The same for a body that may be large: there must be room for it. The place in it is to be kept for as long as the
/// bytes are.
///
/// # Errors
/// As [`body`], and 503 when there is no room, before it is read or on the way.
pub(crate) async fn admitted(
    request: Request,
    media: Media,
    limit: usize,
    shared: &Shared,
) -> Result<(Bytes, Place), ServerError> {
    let (task, request) = named(request).await;
    let read = async {
        check_head(request.headers(), media, limit)?;
        shared.room.read(request.into_body(), limit).await.map_err(|refused| match refused {
            Refused::Full => Abort::overloaded(shared.when_full()),
            Refused::TooLarge => too_large(),
            Refused::Incomplete => incomplete(),
            Refused::TooSlow => too_slow(),
        })
    };
    read.await.map_err(|abort| about(abort, task))
}

/// The same for a request of the leader: a task gets no more than its part of what is worked on at once.
pub(crate) async fn admitted_job(
    request: Request,
    media: Media,
    shared: &Shared,
    task: &Task,
) -> Result<(Bytes, (Place, Guest)), ServerError> {
    // A leader with the same settings counts reports, we count the request around them.
    let limit = shared.limits.job_bytes.saturating_mul(2);
    let (bytes, place) = admitted(request, media, limit, shared).await?;
    let full = || Abort::overloaded(shared.when_full()).in_task(&task.id);
    let guest = shared.crowd.enter(task.id).ok_or_else(full)?;
    Ok((bytes, (place, guest)))
}

/// A success with a message in it.
pub(crate) fn message(media: Media, bytes: impl Into<Body>) -> Response {
    let mut response = Response::new(bytes.into());
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(media.header()));
    response
}

/// A success without anything in it: the answer is not ready, and worth asking for after so many seconds (DAP 3.1).
pub(crate) fn not_ready(retry_after: u64) -> Response {
    let mut response = Response::new(Body::empty());
    response.headers_mut().insert(header::RETRY_AFTER, http::HeaderValue::from(retry_after));
    response
}

/// The same answer, with the place where this resource is found from now on.
pub(crate) fn located(mut response: Response, task: &Task, resource: &resource::Resource) -> Response {
    let path = resource.absolute_path(task.endpoint());
    let location = http::HeaderValue::from_str(&path).expect("an endpoint is checked to be printable ASCII");
    response.headers_mut().insert(header::LOCATION, location);
    response
}

/// The media type, and the length if one is announced.
fn check_head(headers: &HeaderMap, media: Media, limit: usize) -> Result<(), Abort> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let only = values.next().filter(|_| values.next().is_none()).and_then(|value| value.to_str().ok());
    if !only.is_some_and(|value| media.matches(value)) {
        let detail = format!("this resource takes {}", media.header());
        return Err(Abort::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    if !codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        let detail = "bodies are taken as they are, without a content coding";
        return Err(Abort::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let Some(length) = headers.get(header::CONTENT_LENGTH) else { return Ok(()) };
    let length: Option<u64> = length.to_str().ok().and_then(|length| length.parse().ok());
    if length.is_some_and(|length| length <= limit as u64) { Ok(()) } else { Err(too_large()) }
}

/// The body of a request, whatever its type.
pub(crate) async fn collect(request: Request, limit: usize) -> Result<Bytes, Abort> {
    match Limited::new(request.into_body(), limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(error) if is_too_slow(&*error) => Err(too_slow()),
        Err(_) => Err(incomplete()),
    }
}

/// The request, and the task that its URL names.
async fn named(request: Request) -> (Option<TaskId>, Request) {
    let (mut parts, body) = request.into_parts();
    let task = path_part(&mut parts, "task").await;
    (task, Request::from_parts(parts, body))
}

fn about(abort: Abort, task: Option<TaskId>) -> ServerError {
    match task {
        Some(task) => abort.in_task(&task).into(),
        None => abort.into(),
    }
}

fn incomplete() -> Abort {
    Abort::plain(StatusCode::BAD_REQUEST, "the body breaks off")
}

fn too_slow() -> Abort {
    Abort::plain(StatusCode::REQUEST_TIMEOUT, "the body comes too slowly")
}

fn too_large() -> Abort {
    Abort::plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than this server takes")
}

async fn path_part<T: FromStr>(parts: &mut Parts, name: &str) -> Option<T> {
    let params = RawPathParams::from_request_parts(parts, &()).await.ok()?;
    params.iter().find(|(key, _)| *key == name)?.1.parse().ok()
}
