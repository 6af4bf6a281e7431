//! The whole surface of an aggregator on one screen (DAP appendix A).
//!
//! Resources live under the path of the endpoint that the task's configuration names, byte for byte: who configured
//! `https://example.com/api/dap/` finds them under `/api/dap/tasks/..`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::{StatusCode, header};
use mica_dap::media::Media;

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
    mount(&resources, shared)
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
    mount(&resources, shared)
}

fn mount(resources: &Router<Arc<Shared>>, shared: Arc<Shared>) -> Router {
    let mut router = Router::new().route("/health", get(health));
    for base in shared.tasks.base_paths() {
        router = match base.as_str() {
            "/" => router.merge(resources.clone()),
            path => router.nest(path.trim_end_matches('/'), resources.clone()),
        };
    }
    router.fallback(nothing_here).with_state(shared)
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
