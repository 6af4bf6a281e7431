//! What one path shows of the keys of a gateway.

use bytes::Bytes;
use http::{Request, StatusCode, header};
use mica_envelope::history::{self, History};
use mica_service::http::{HttpClient, Peer, PeerError};

use super::compare::Published;
use crate::exit::{Exit, Failure};

/// The list and the history at `url`.
pub(super) async fn published(
    http: &HttpClient,
    path: &str,
    url: &str,
    accept: &str,
) -> Result<Published, Failure> {
    let peer = Peer::parse(url).map_err(|error| Failure::usage(format!("{path}: {error}")))?;
    let is_base = peer.url("") == format!("{}/", peer.origin());
    let keys_url = if is_base { format!("{}{LIST}", peer.origin()) } else { url.to_owned() };
    let answer = get(http, &keys_url, accept).await?;
    if answer.status() != StatusCode::OK {
        let what = format!("{path}: {} answered {} and no keys", peer.origin(), answer.status());
        return Err(Failure::new(Exit::Unreachable, what));
    }
    let field = |name: header::HeaderName| {
        answer
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_ascii_lowercase()
    };
    let (cache, is_keys) = (field(header::CACHE_CONTROL), field(header::CONTENT_TYPE) == KEYS);
    let is_for_everybody = is_keys
        && !["private", "no-store"].iter().any(|word| cache.contains(word))
        && !answer.headers().contains_key(header::VARY)
        && !answer.headers().contains_key(header::SET_COOKIE);
    let history = get(http, &format!("{}{}", peer.origin(), history::PATH), accept).await?;
    let history = match history.status() {
        StatusCode::OK => Some(History::from_json(history.body())),
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => None,
        status => {
            let what = format!("{path}: {} answered {status} and no history", peer.origin());
            return Err(Failure::new(Exit::Unreachable, what));
        }
    };
    Ok(Published { path: path.to_owned(), list: answer.into_body().to_vec(), is_for_everybody, history })
}

async fn get(http: &HttpClient, url: &str, accept: &str) -> Result<http::Response<Bytes>, Failure> {
    let request = Request::get(url).header(header::ACCEPT, accept).body(Bytes::new());
    let request = request.map_err(|_| Failure::usage(format!("`{url}` is not a URL")))?;
    let answer: Result<_, PeerError> = http.send(request).await;
    Ok(answer?)
}

const LIST: &str = "/ohttp-keys";
const KEYS: &str = "application/ohttp-keys";
