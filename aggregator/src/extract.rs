//! What a handler needs of a request, read strictly and in the order in which it may be refused: the task, then the
//! token, then the media type, then the length, then the bytes.
//!
//! A handler that takes [`Authorized`] cannot be reached without the token of the task.

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

use crate::error::{Abort, ServerError};
use crate::shared::Shared;
use crate::task::Task;

/// The task that the URL names. Anyone may address it.
pub(crate) struct Addressed(pub(crate) Arc<Task>);

/// The task that the URL names, and a caller that has shown its token.
pub(crate) struct Authorized(pub(crate) Arc<Task>);

/// The identifier that the URL holds in its last part, `{id}`.
pub(crate) struct Resource<T>(pub(crate) T);

impl FromRequestParts<Arc<Shared>> for Addressed {
    type Rejection = ServerError;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, ServerError> {
        let id: Option<TaskId> = path_part(parts, "task").await;
        let task = id
            .and_then(|id| shared.tasks.by_id(&id))
            .ok_or_else(|| Abort::new(Problem::UnrecognizedTask, "there is no such task here"))?;
        Ok(Self(Arc::clone(task)))
    }
}

impl FromRequestParts<Arc<Shared>> for Authorized {
    type Rejection = ServerError;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, ServerError> {
        let Addressed(task) = Addressed::from_request_parts(parts, shared).await?;
        task.expected_token().check(&parts.headers).map_err(|abort| abort.in_task(&task.id))?;
        Ok(Self(task))
    }
}

impl<T: FromStr> FromRequestParts<Arc<Shared>> for Resource<T> {
    type Rejection = ServerError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Shared>) -> Result<Self, ServerError> {
        let id = path_part(parts, "id").await;
        Ok(Self(id.ok_or_else(|| Abort::plain(StatusCode::NOT_FOUND, "there is no such resource"))?))
    }
}

/// The body of a request, if it is of this type and no longer than `limit`.
///
/// # Errors
/// 415 for another media type, 413 for a longer body, 400 for one that breaks off.
pub(crate) async fn body(request: Request, media: Media, limit: usize) -> Result<Bytes, ServerError> {
    check_media(request.headers(), media)?;
    let announced =
        request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > limit as u64) {
        return Err(too_large().into());
    }
    match Limited::new(request.into_body(), limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large().into()),
        Err(_) => Err(Abort::plain(StatusCode::BAD_REQUEST, "the body breaks off").into()),
    }
}

/// A success with a message in it.
pub(crate) fn message(media: Media, bytes: impl Into<Body>) -> Response {
    let mut response = Response::new(bytes.into());
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(media.header()));
    response
}

/// The same answer, with the place where this resource is found from now on.
pub(crate) fn located(mut response: Response, task: &Task, resource: &resource::Resource) -> Response {
    let path = resource.absolute_path(task.endpoint());
    let location = http::HeaderValue::from_str(&path).expect("an endpoint is checked to be printable ASCII");
    response.headers_mut().insert(header::LOCATION, location);
    response
}

fn check_media(headers: &HeaderMap, media: Media) -> Result<(), Abort> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let only = values.next().filter(|_| values.next().is_none()).and_then(|value| value.to_str().ok());
    if only.is_some_and(|value| media.matches(value)) {
        return Ok(());
    }
    Err(Abort::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("this resource takes {}", media.header())))
}

fn too_large() -> Abort {
    Abort::plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than this server takes")
}

async fn path_part<T: FromStr>(parts: &mut Parts, name: &str) -> Option<T> {
    let params = RawPathParams::from_request_parts(parts, &()).await.ok()?;
    params.iter().find(|(key, _)| *key == name)?.1.parse().ok()
}
