//! The admin API: JSON over HTTP for whoever holds the admin token, on a listener of its own.
//!
//! Every answer but a success is a problem document (RFC 9457). Nothing of a request is logged, and secrets are in an
//! answer only where `secrets=true` asked for them.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, Uri, header};
use mica_dap::id::TaskId;
use serde::Serialize;

use super::access::Access;
use super::{Desk, DeskError, Page, openapi};
use crate::auth::TokenHash;
use crate::budget::{self, BudgetStatus};
use crate::enrol::EnrolError;
use crate::error::{Abort, ServerError, TASK_CONFLICT, TASK_REFUSED};
use crate::extract;
use crate::metrics::Figures;
use crate::router::explain_method;
use crate::task_file::{TaskFile, TaskText};

/// Everything the admin listener answers, to the holder of `token` alone.
pub fn router(desk: Desk, token: TokenHash) -> Router {
    let access = Access::new(token);
    let check = move |request: Request, next: Next| {
        let allowed = access.check(request.headers());
        async move {
            match allowed {
                Ok(()) => private(next.run(request).await),
                Err(abort) => abort.into_response(),
            }
        }
    };
    Router::new()
        .route("/admin/v1/tasks", get(list).post(create))
        .route("/admin/v1/tasks/{task}", get(show))
        .route("/admin/v1/tasks/{task}/retire", post(retire))
        .route("/admin/v1/tasks/{task}/export", get(export))
        .route("/admin/v1/policies", get(policies))
        .route("/admin/v1/policies/{policy}", get(policy))
        .route("/admin/v1/budgets", get(budgets))
        .route("/admin/v1/openapi.json", get(document))
        .route("/metrics", get(metrics))
        .fallback(async || Abort::plain(StatusCode::NOT_FOUND, "there is nothing here"))
        .layer(middleware::map_response(explain_method))
        .layer(middleware::from_fn(check))
        .with_state(desk)
}

async fn list(State(desk): State<Desk>, uri: Uri) -> Result<Response, ServerError> {
    let query = Query::of(&uri, &["after", "limit"])?;
    let page = Page { after: query.number("after", 0)?, most: query.number("limit", 100)? };
    json(StatusCode::OK, &desk.list(page).await?)
}

async fn create(State(desk): State<Desk>, request: Request) -> Result<Response, ServerError> {
    let body = read(request).await?;
    // What the parser says may quote the body, which holds secrets: only where it stopped is told.
    let text: TaskText = serde_json::from_slice(&body).map_err(|error| {
        let place =
            format!("the body is not a task in JSON, at line {} column {}", error.line(), error.column());
        Abort::plain(StatusCode::BAD_REQUEST, place)
    })?;
    let file = TaskFile::from_text(&text).map_err(|why| Abort::plain(StatusCode::BAD_REQUEST, why))?;
    let (detail, is_new) = desk.create(&file).await?;
    let mut response = json(if is_new { StatusCode::CREATED } else { StatusCode::OK }, &detail)?;
    let location = HeaderValue::from_str(&format!("/admin/v1/tasks/{}", file.task_id))
        .expect("base64url has only letters that a header may have");
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

async fn show(State(desk): State<Desk>, Path(task): Path<String>, uri: Uri) -> Result<Response, ServerError> {
    let with_secrets = Query::of(&uri, &["secrets"])?.is_true("secrets")?;
    json(StatusCode::OK, &desk.show(&named(&task)?, with_secrets).await?)
}

async fn retire(State(desk): State<Desk>, Path(task): Path<String>) -> Result<Response, ServerError> {
    json(StatusCode::OK, &desk.retire(&named(&task)?).await?)
}

async fn export(
    State(desk): State<Desk>,
    Path(task): Path<String>,
    uri: Uri,
) -> Result<Response, ServerError> {
    let with_secrets = Query::of(&uri, &["secrets"])?.is_true("secrets")?;
    json(StatusCode::OK, &desk.export(&named(&task)?, with_secrets).await?)
}

async fn policies(State(desk): State<Desk>) -> Result<Response, ServerError> {
    json(StatusCode::OK, &desk.policies().await?)
}

async fn policy(
    State(desk): State<Desk>,
    Path(policy): Path<String>,
    uri: Uri,
) -> Result<Response, ServerError> {
    let version = Query::of(&uri, &["version"])?.optional("version")?;
    json(StatusCode::OK, &desk.policy(&policy, version).await?)
}

async fn budgets(State(desk): State<Desk>) -> Result<Response, ServerError> {
    json(StatusCode::OK, &desk.budgets().await?)
}

async fn document() -> Result<Response, ServerError> {
    json(StatusCode::OK, &openapi::document())
}

/// What Prometheus scrapes, with the admin token as its credentials.
async fn metrics(State(desk): State<Desk>) -> Result<Response, ServerError> {
    let mut figures = Figures::read(&desk.store).await?;
    if let Some(paces) = &desk.paces {
        figures.service_times = vec![
            ("upload", paces.uploads.microseconds()),
            ("helper_job", paces.jobs.microseconds()),
            ("helper_share", paces.shares.microseconds()),
            ("collection", paces.collections.microseconds()),
        ];
    }
    let budgets = budget::status(&desk.store, &desk.policy.get(), desk.clock.now()).await?;
    let figure = |it: &BudgetStatus| (it.account.budget_id.clone(), it.spent_thousandths(), it.warns());
    figures.budgets = budgets.iter().map(figure).collect();
    figures.set_back = desk.high_water.setback(&desk.store).await?.map(|setback| setback.word());
    let mut response = Response::new(Body::from(figures.render(desk.clock.now())));
    let media = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, media);
    Ok(response)
}

fn named(task: &str) -> Result<TaskId, Abort> {
    task.parse().map_err(|_| Abort::plain(StatusCode::NOT_FOUND, "this is not the identifier of a task"))
}

/// What comes after the question mark: known words only, each once.
struct Query(Vec<(String, String)>);

impl Query {
    fn of(uri: &Uri, known: &[&str]) -> Result<Self, Abort> {
        let mut given: Vec<(String, String)> = Vec::new();
        for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !known.contains(&name) || given.iter().any(|(other, _)| other == name) {
                let detail = format!("this resource takes {} in its query, each once", known.join(" and "));
                return Err(Abort::plain(StatusCode::BAD_REQUEST, detail));
            }
            given.push((name.to_owned(), value.to_owned()));
        }
        Ok(Self(given))
    }

    fn number<T: std::str::FromStr>(&self, name: &str, otherwise: T) -> Result<T, Abort> {
        Ok(self.optional(name)?.unwrap_or(otherwise))
    }

    fn optional<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Abort> {
        let Some((_, value)) = self.0.iter().find(|(given, _)| given == name) else { return Ok(None) };
        let wrong = |_| Abort::plain(StatusCode::BAD_REQUEST, format!("{name} is not a number"));
        value.parse().map(Some).map_err(wrong)
    }

    fn is_true(&self, name: &str) -> Result<bool, Abort> {
        match self.0.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str()) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Abort::plain(StatusCode::BAD_REQUEST, format!("{name} is true or false"))),
        }
    }
}

async fn read(request: Request) -> Result<Bytes, Abort> {
    let is_json = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"));
    if !is_json {
        return Err(Abort::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "this resource takes application/json"));
    }
    extract::collect(request, LONGEST_BODY).await
}

fn json(status: StatusCode, value: &impl Serialize) -> Result<Response, ServerError> {
    let text = serde_json::to_vec_pretty(value).map_err(crate::error::Fault::new)?;
    let mut response = (status, Body::from(text)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// No cache keeps what an operator was told.
fn private(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl From<DeskError> for ServerError {
    fn from(error: DeskError) -> Self {
        let detail = error.to_string();
        match error {
            DeskError::Store(error) | DeskError::Enrol(EnrolError::Store(error)) => error.into(),
            DeskError::Unknown(_) | DeskError::UnknownPolicy(_) => {
                Abort::plain(StatusCode::NOT_FOUND, detail).into()
            }
            DeskError::Enrol(EnrolError::Changed(_)) => {
                Abort::named(TASK_CONFLICT, "Another task has this name.", StatusCode::CONFLICT, detail)
                    .into()
            }
            DeskError::Enrol(_) => {
                let title = "This aggregator does not take the task.";
                Abort::named(TASK_REFUSED, title, StatusCode::UNPROCESSABLE_ENTITY, detail).into()
            }
        }
    }
}

/// Longer than a task configuration of the largest endpoints, in base64url, with all its keys.
const LONGEST_BODY: usize = 512 << 10;
