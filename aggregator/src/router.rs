//! The whole surface of an aggregator on one screen (DAP appendix A).
//!
//! Resources live under the path of the endpoint that the task's configuration names, byte for byte: who configured
//! `https://example.com/api/dap/` finds them under `/api/dap/tasks/..`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::{StatusCode, Uri, header};
use mica_dap::media::Media;
use tower::ServiceExt as _;

use crate::error::{Abort, ServerError};
use crate::extract;
use crate::helper::{aggregate, share};
use crate::leader::{collect, upload};
use crate::shared::Shared;

/// Everything a leader answers.
pub(crate) fn leader(shared: Arc<Shared>) -> Router {
    let resources = Router::new()
        .route("/hpke_config", get(hpke_config))
        .route("/tasks/{task}/reports", post(upload::upload))
        .route("/tasks/{task}/collection_jobs", post(collect::create))
        .route("/tasks/{task}/collection_jobs/{id}", get(collect::poll).delete(collect::delete));
    mount(resources, shared)
}

/// Everything a helper answers.
pub(crate) fn helper(shared: Arc<Shared>) -> Router {
    let resources = Router::new()
        .route("/hpke_config", get(hpke_config))
        .route("/tasks/{task}/aggregation_jobs", post(aggregate::create))
        .route(
            "/tasks/{task}/aggregation_jobs/{id}",
            get(aggregate::poll).post(aggregate::advance).delete(aggregate::delete),
        )
        .route("/tasks/{task}/aggregate_shares", post(share::create))
        .route("/tasks/{task}/aggregate_shares/{id}", get(share::poll).delete(share::delete));
    mount(resources, shared)
}

/// The resources under the base path of every task there is, also of those that come later.
fn mount(resources: Router<Arc<Shared>>, shared: Arc<Shared>) -> Router {
    let resources: Router = resources.with_state(Arc::clone(&shared));
    let elsewhere = {
        let (resources, shared) = (resources.clone().fallback(nothing_here), Arc::clone(&shared));
        move |request: Request| based(resources, shared, request)
    };
    Router::new().route("/health", get(health)).with_state(shared).merge(resources).fallback(elsewhere)
}

/// Answers a request for a resource under a base path as if it were asked for under `/`.
async fn based(resources: Router, shared: Arc<Shared>, mut request: Request) -> Response {
    let mut rest =
        shared.tasks.under_base_path(request.uri().path()).filter(|rest| rest != request.uri().path());
    if rest.is_none() && looks_like_a_resource(request.uri().path()) {
        if let Err(error) = shared.tasks.look_again().await {
            return ServerError::from(error).into_response();
        }
        rest = shared.tasks.under_base_path(request.uri().path());
    }
    let relocated = rest.and_then(|rest| {
        let query = request.uri().query().map_or_else(String::new, |query| format!("?{query}"));
        Uri::try_from(rest + &query).ok()
    });
    let Some(uri) = relocated else { return nothing_here().await };
    *request.uri_mut() = uri;
    resources.oneshot(request).await.into_response()
}

fn looks_like_a_resource(path: &str) -> bool {
    path.ends_with("/hpke_config") || path.contains("/tasks/")
}

async fn hpke_config(State(shared): State<Arc<Shared>>) -> Response {
    let mut response = extract::message(Media::HpkeConfigList, shared.keys.configs().to_vec());
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, http::HeaderValue::from_static("public, max-age=86400"));
    response
}

async fn health(State(shared): State<Arc<Shared>>) -> Result<&'static str, ServerError> {
    shared.store.ping().await?;
    Ok("ok\n")
}

async fn nothing_here() -> Response {
    Abort::plain(StatusCode::NOT_FOUND, "there is nothing here").into_response()
}
