//! The whole surface of an aggregator on one screen (DAP appendix A).
//!
//! Resources live under the path of the endpoint that the task's configuration names, byte for byte: who configured
//! `https://example.com/api/dap/` finds them under `/api/dap/tasks/..`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::map_response;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use mica_dap::media::Media;
use tower::ServiceExt as _;

use crate::agreement;
use crate::error::{Abort, ServerError};
use crate::extract;
use crate::helper::{aggregate, share};
use crate::leader::{collect, upload};
use crate::shared::Shared;

/// Everything a leader answers.
pub(crate) fn leader(shared: Arc<Shared>) -> Router {
    let resources = Router::new()
        .route("/hpke_config", get(hpke_config))
        .route("/dp/statement/{task}", get(agreement::of_leader))
        .route("/tasks/{task}/reports", post(upload::upload))
        .route("/tasks/{task}/collection_jobs", post(collect::create))
        .route("/tasks/{task}/collection_jobs/{id}", get(collect::poll).delete(collect::delete));
    mount(resources, shared)
}

/// Everything a helper answers.
pub(crate) fn helper(shared: Arc<Shared>) -> Router {
    let resources = Router::new()
        .route("/hpke_config", get(hpke_config))
        .route("/dp/statement/{task}", get(agreement::of_helper))
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
    let router = Router::new().route("/health", get(health)).with_state(shared).merge(resources);
    router.fallback(elsewhere).layer(map_response(explain_method))
}

/// A refusal of a method says so like every other refusal, beside the methods that are there.
pub(crate) async fn explain_method(response: Response) -> Response {
    if response.status() != StatusCode::METHOD_NOT_ALLOWED {
        return response;
    }
    let abort = Abort::plain(StatusCode::METHOD_NOT_ALLOWED, "this resource has other methods, see Allow");
    let mut explained = abort.into_response();
    if let Some(allow) = response.headers().get(header::ALLOW) {
        explained.headers_mut().insert(header::ALLOW, allow.clone());
    }
    explained
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
    path.ends_with("/hpke_config") || path.contains("/tasks/") || path.contains("/dp/statement/")
}

/// The keys that clients seal to (DAP 4.4.1), to be kept for as long as each of them is sure to be accepted.
async fn hpke_config(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let ring = shared.keys.ring();
    let is_known = headers.get_all(header::IF_NONE_MATCH).iter().any(|value| {
        value
            .to_str()
            .is_ok_and(|tags| tags.split(',').any(|tag| tag.trim() == "*" || is_tag(tag, ring.etag())))
    });
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        extract::message(Media::HpkeConfigList, ring.configs().to_vec())
    };
    let cache = format!("public, max-age={}", shared.keys.cache_for());
    for (name, value) in [(header::CACHE_CONTROL, cache.as_str()), (header::ETAG, ring.etag())] {
        response.headers_mut().insert(name, HeaderValue::from_str(value).expect("plain letters"));
    }
    response
}

/// Weak comparison (RFC 9110 8.8.3.2).
fn is_tag(given: &str, etag: &str) -> bool {
    let given = given.trim();
    given.strip_prefix("W/").unwrap_or(given) == etag
}

async fn health(State(shared): State<Arc<Shared>>) -> Result<&'static str, ServerError> {
    shared.store.ping().await?;
    Ok("ok\n")
}

async fn nothing_here() -> Response {
    Abort::plain(StatusCode::NOT_FOUND, "there is nothing here").into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_method_that_is_not_there_is_told_which_are() {
        let router: Router = Router::new().route("/x", get(async || "x")).layer(map_response(explain_method));
        let request = Request::delete("/x").body(Body::empty()).expect("a request");
        let response = router.oneshot(request).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers()[header::ALLOW], "GET,HEAD");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        let problem: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(problem["status"], 405);
    }
}
