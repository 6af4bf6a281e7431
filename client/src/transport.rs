//! The one thing a client says on the network: a POST of a sealed request to the relay, and nothing that tells it from
//! the requests of others. Nothing is resent by itself.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use mica_tls::{Connector, Peers, Reason};

use crate::ClientError;

/// Sends over kept-alive connections.
#[derive(Clone)]
pub(crate) struct Transport {
    client: Client<Connector, Full<Bytes>>,
    connector: Connector,
}

impl Transport {
    pub(crate) fn new(peers: &Peers) -> Self {
        let connector = peers.connector(PATIENCE);
        let client = Client::builder(TokioExecutor::new())
            .retry_canceled_requests(false)
            .pool_timer(TokioTimer::new())
            .build(connector.clone());
        Self { client, connector }
    }

    /// Posts `body` and returns the whole answer.
    pub(crate) async fn post(
        &self,
        url: &str,
        media: &str,
        body: Vec<u8>,
    ) -> Result<Response<Bytes>, ClientError> {
        self.send(Request::post(url).header(header::CONTENT_TYPE, media).body(Full::from(body)), url).await
    }

    /// Gets what is at `url`.
    pub(crate) async fn get(&self, url: &str, media: &str) -> Result<Response<Bytes>, ClientError> {
        self.send(Request::get(url).header(header::ACCEPT, media).body(Full::default()), url).await
    }

    async fn send(
        &self,
        request: Result<Request<Full<Bytes>>, http::Error>,
        url: &str,
    ) -> Result<Response<Bytes>, ClientError> {
        let unreachable = |why: &str| ClientError::Unreachable { origin: origin(url), why: why.to_owned() };
        let request = request.map_err(|_| unreachable("this is not a URL"))?;
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| self.explain(url, &error))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, LARGEST_ANSWER)
                .collect()
                .await
                .map_err(|_| unreachable("the answer broke off or is too large"))?;
            Ok(Response::from_parts(parts, body.to_bytes()))
        };
        match tokio::time::timeout(PATIENCE, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(unreachable("no answer in time")),
        }
    }

    /// What went wrong, without the address that lower layers like to add.
    fn explain(&self, url: &str, error: &hyper_util::client::legacy::Error) -> ClientError {
        let origin = origin(url);
        let host = origin.split_once("://").map_or(origin.as_str(), |(_, host)| host).to_owned();
        match self.connector.reason(&host, error) {
            Some(Reason::Certificate(why)) => ClientError::Certificate { host, why },
            Some(Reason::NotAccepted(why)) => ClientError::NotAccepted { origin, why },
            Some(Reason::Unusable(why)) => ClientError::Unusable(why),
            Some(Reason::Other(why)) => ClientError::Unreachable { origin, why },
            None => ClientError::Unreachable { origin, why: "no connection".to_owned() },
        }
    }
}

fn origin(url: &str) -> String {
    let uri = url.parse::<Uri>().unwrap_or_default();
    format!("{}://{}", uri.scheme_str().unwrap_or("http"), uri.authority().map_or("?", |host| host.as_str()))
}

const PATIENCE: Duration = Duration::from_secs(30);
const LARGEST_ANSWER: usize = 16 << 20;
