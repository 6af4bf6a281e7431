//! A peer that says exactly what a test tells it to say.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};
use mica_dap::media::Media;
use mica_dap::problem::ProblemDocument;
use mica_service::http::{HttpClient, HttpOptions, PeerError};

/// Sends single requests.
pub struct Wire {
    http: HttpClient,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The header fields.
    pub headers: HeaderMap,
    /// The content.
    pub body: Bytes,
}

impl Default for Wire {
    fn default() -> Self {
        Self { http: HttpClient::new(HttpOptions::default()) }
    }
}

impl Wire {
    /// Sends one request, and says when there is no answer.
    pub async fn try_send(
        &self,
        method: Method,
        url: &str,
        fields: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Reply, PeerError> {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let response =
            self.http.send(request.body(Bytes::from(body)).expect("a test sends requests")).await?;
        let (head, body) = response.into_parts();
        Ok(Reply { status: head.status.as_u16(), headers: head.headers, body })
    }

    /// Sends one request that must be answered.
    pub async fn send(&self, method: Method, url: &str, fields: &[(&str, &str)], body: Vec<u8>) -> Reply {
        self.try_send(method, url, fields, body).await.expect("the server answers")
    }

    /// Gets what is at `url`.
    pub async fn get(&self, url: &str) -> Reply {
        self.send(Method::GET, url, &[], Vec::new()).await
    }

    /// Posts a message.
    pub async fn post(&self, url: &str, media: Media, body: Vec<u8>) -> Reply {
        self.send(Method::POST, url, &[("content-type", media.header())], body).await
    }

    /// Posts a message and shows a token.
    pub async fn post_with_token(&self, url: &str, media: Media, token: &str, body: Vec<u8>) -> Reply {
        let bearer = format!("Bearer {token}");
        self.send(Method::POST, url, &[("content-type", media.header()), ("authorization", &bearer)], body)
            .await
    }
}

impl Reply {
    /// The last part of the problem type of a refusal.
    #[must_use]
    pub fn problem(&self) -> String {
        let media = self.header(header::CONTENT_TYPE.as_str());
        assert!(media.is_some_and(|media| Media::Problem.matches(media)), "not a problem document: {self:?}");
        let document = ProblemDocument::from_json(&self.body).expect("a problem document is JSON");
        document.type_.rsplit(':').next().unwrap_or_default().to_owned()
    }

    /// The value of a header field.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}
