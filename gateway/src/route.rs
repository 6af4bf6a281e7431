//! The route table: the only places an inner request can go, fixed at the start.
//!
//! Scheme, authority, path and media type of what is sent on come from here. Of the inner request only the segments
//! that a pattern leaves open, the content, and the fields a route names are taken over.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use mica_dap::media::Media;
use mica_envelope::InnerRequest;
use mica_service::http::{Peer, PeerError};
use mica_service::tls::Peers;
use thiserror::Error;

use crate::{
    config::{Config, MergeConfig, Protocol, RouteConfig},
    media_type::MediaType,
    problem::Problem,
};

/// A line of the table that makes no sense.
#[derive(Debug, Error)]
pub enum RouteError {
    /// A value that is not what it should be.
    #[error("route {route}: `{value}` is not {what}")]
    Value {
        /// Number of the route in the file, from 1.
        route: usize,
        /// Its key.
        key: &'static str,
        /// The value.
        value: String,
        /// What it should be.
        what: &'static str,
    },
    /// The URL of a target is of no use.
    #[error("route {route}: target: {why}")]
    Target {
        /// Number of the route in the file, from 1.
        route: usize,
        /// One sentence.
        why: PeerError,
    },
}

/// All routes.
pub(crate) struct RouteTable {
    routes: Vec<Route>,
}

/// A request for a target and how to speak to it.
pub(crate) struct Matched {
    pub(crate) request: Request<Bytes>,
    pub(crate) protocol: Protocol,
    /// Whether it may go together with others.
    pub(crate) merging: Option<Merging>,
}

/// How uploads go together.
#[derive(Clone)]
pub(crate) struct Merging {
    pub(crate) config: MergeConfig,
    /// Most bytes that go together: as many as may go alone.
    pub(crate) max_bytes: usize,
}

impl Matched {
    /// Whether it asks for something and changes nothing (RFC 9110 9.2.1).
    pub(crate) fn only_reads(&self) -> bool {
        matches!(*self.request.method(), Method::GET | Method::HEAD) && self.request.body().is_empty()
    }
}

impl RouteTable {
    /// The table of a configuration, each route beside what else it says.
    pub(crate) fn of(config: &Config, peers: &Peers) -> Result<Self, RouteError> {
        let table = Self::build(&config.routes, peers)?;
        for (route, one) in (1..).zip(&config.routes) {
            // What a route does not say contradicts nothing.
            if one.max_bytes > config.max_request_bytes && one.max_bytes != RouteConfig::MAX_BYTES {
                let (value, what) = (one.max_bytes.to_string(), "within `max_request_bytes` of the gateway");
                return Err(RouteError::Value { route, key: "max_bytes", value, what });
            }
        }
        Ok(table)
    }

    /// Reads routes.
    pub(crate) fn build(routes: &[RouteConfig], peers: &Peers) -> Result<Self, RouteError> {
        if let Some(route) = (1..routes.len()).find(|index| is_dead(routes, *index)) {
            let value = routes.get(route).map(|route| route.path.clone()).unwrap_or_default();
            let what = "of a route of its own: one above takes all of its requests";
            return Err(RouteError::Value { route: route + 1, key: "path", value, what });
        }
        let routes = routes.iter().enumerate().map(|(index, config)| Route::build(index + 1, config, peers));
        Ok(Self { routes: routes.collect::<Result<_, _>>()? })
    }

    /// The request that is sent on in place of `inner`, or why there is none.
    pub(crate) fn resolve(&self, inner: InnerRequest) -> Result<Matched, Problem> {
        let mut refusal = Problem::NO_ROUTE;
        for route in self.routes.iter().filter(|route| route.authority == inner.authority) {
            let Some(path) = route.path(&inner.path) else { continue };
            if route.method.as_str() != inner.method {
                refusal = Problem::INNER_METHOD;
                continue;
            }
            if !route.takes(inner.header("content-type"), &inner.body) {
                refusal = Problem::INNER_MEDIA_TYPE;
                continue;
            }
            if inner.body.len() > route.max_bytes {
                return Err(Problem::INNER_TOO_LARGE);
            }
            return route.request(&path, inner);
        }
        Err(refusal)
    }
}

struct Route {
    method: Method,
    authority: String,
    segments: Vec<Segment>,
    content: Option<(MediaType, HeaderValue)>,
    max_bytes: usize,
    forward: Vec<(String, HeaderName)>,
    target: Peer,
    protocol: Protocol,
    merging: Option<Merging>,
}

enum Segment {
    Fixed(String),
    Open,
}

impl Route {
    fn build(route: usize, config: &RouteConfig, peers: &Peers) -> Result<Self, RouteError> {
        let bad = |key, value: &str, what| RouteError::Value { route, key, value: value.to_owned(), what };
        if config.max_bytes == 0 && config.content_type.is_some() {
            return Err(bad("max_bytes", "0", "a size: nothing could be sent there"));
        }
        let content = config.content_type.as_deref().map(|text| {
            let parsed = MediaType::parse(text.as_bytes()).zip(HeaderValue::from_str(text).ok());
            parsed.ok_or_else(|| bad("content_type", text, "a media type"))
        });
        let forward = config.forward_headers.iter().map(|name| {
            let may_go = name.starts_with("dap-") || FORWARDABLE.contains(&name.as_str());
            let parsed = HeaderName::from_lowercase(name.as_bytes()).ok().filter(|_| may_go);
            parsed
                .map(|header| (name.clone(), header))
                .ok_or_else(|| bad("forward_headers", name, FORWARDABLE_ONLY))
        });
        Ok(Self {
            method: method(&config.method).ok_or_else(|| bad("method", &config.method, METHODS_ONLY))?,
            authority: authority(&config.authority)
                .ok_or_else(|| bad("authority", &config.authority, "a host and port"))?,
            segments: segments(&config.path)
                .ok_or_else(|| bad("path", &config.path, "a path such as /tasks/{task}/reports"))?,
            content: content.transpose()?,
            max_bytes: config.max_bytes,
            forward: forward.collect::<Result<_, _>>()?,
            target: target(&config.target, peers).map_err(|why| RouteError::Target { route, why })?,
            protocol: config.protocol,
            merging: merging(config).map_err(|value| bad("merge", value, UPLOADS_ONLY))?,
        })
    }

    /// The path, built anew from the pattern and the open segments, when `path` matches.
    fn path(&self, path: &str) -> Option<String> {
        let mut given = path.strip_prefix('/')?.split('/');
        let mut built = String::with_capacity(path.len());
        for segment in &self.segments {
            let given = given.next()?;
            built.push('/');
            match segment {
                Segment::Fixed(fixed) if fixed == given => built.push_str(fixed),
                Segment::Open if is_open_segment(given) => built.push_str(given),
                Segment::Fixed(_) | Segment::Open => return None,
            }
        }
        given.next().is_none().then_some(built)
    }

    fn takes(&self, content_type: Option<&[u8]>, body: &[u8]) -> bool {
        match &self.content {
            Some((media_type, _)) => content_type.and_then(MediaType::parse).as_ref() == Some(media_type),
            None => content_type.is_none() && body.is_empty(),
        }
    }

    fn request(&self, path: &str, inner: InnerRequest) -> Result<Matched, Problem> {
        let uri: Uri = self.target.url(path).parse().map_err(|_| Problem::NO_ROUTE)?;
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        if let Some((_, spelling)) = &self.content {
            request.headers_mut().insert(header::CONTENT_TYPE, spelling.clone());
        }
        for (name, header) in &self.forward {
            let value = inner.header(name).filter(|value| value.len() <= LONGEST_FIELD);
            let value = value.and_then(|value| HeaderValue::from_bytes(value).ok());
            if let Some(value) = value {
                request.headers_mut().insert(header.clone(), value);
            }
        }
        *request.body_mut() = inner.body;
        Ok(Matched { request, protocol: self.protocol, merging: self.merging.clone() })
    }
}

/// Methods are told apart by their case (RFC 9110 9.1). One that nobody has heard of is a slip of the pen.
fn method(text: &str) -> Option<Method> {
    METHODS.contains(&text).then(|| text.parse().ok())?
}

/// Whether a route above takes all that the one at `index` could.
fn is_dead(routes: &[RouteConfig], index: usize) -> bool {
    let Some((above, route)) =
        routes.split_at_checked(index).and_then(|(above, rest)| Some((above, rest.first()?)))
    else {
        return false;
    };
    let key = |route: &RouteConfig| {
        let pattern =
            |segment: &str| if segment.starts_with('{') { "{}".to_owned() } else { segment.to_owned() };
        let path: Vec<String> = route.path.split('/').map(pattern).collect();
        let media = route.content_type.as_deref().map(|text| MediaType::parse(text.as_bytes()));
        (route.method.clone(), authority(&route.authority), path, media)
    };
    above.iter().any(|other| key(other) == key(route))
}

/// How a route merges, if it does; or the value that does not go with that.
fn merging(config: &RouteConfig) -> Result<Option<Merging>, &'static str> {
    let Some(merge) = &config.merge else { return Ok(None) };
    if !config.content_type.as_deref().is_some_and(|media| Media::UploadReq.matches(media)) {
        return Err("merge");
    }
    if !(2..=MOST_TOGETHER).contains(&merge.reports) {
        return Err("merge.reports");
    }
    if merge.wait > LONGEST_WAIT {
        return Err("merge.wait");
    }
    Ok(Some(Merging { config: merge.clone(), max_bytes: config.max_bytes }))
}

/// A target that may be asked: with TLS, or on this machine.
fn target(url: &str, peers: &Peers) -> Result<Peer, PeerError> {
    let target = Peer::parse(url)?;
    let uri: Uri = url.parse().map_err(|_| PeerError::BadUrl(format!("`{url}` is not a URL")))?;
    peers.allow(&uri).map_err(PeerError::BadUrl)?;
    Ok(target)
}

fn authority(text: &str) -> Option<String> {
    let parsed: http::uri::Authority = text.parse().ok()?;
    (!text.contains('@')).then(|| parsed.as_str().to_ascii_lowercase())
}

fn segments(pattern: &str) -> Option<Vec<Segment>> {
    let segment = |text: &str| match text.strip_prefix('{').map(|rest| rest.strip_suffix('}')) {
        Some(Some(name)) if is_open_segment(name) => Some(Segment::Open),
        None if text.bytes().all(is_fixed_byte) && !matches!(text, "." | "..") => {
            Some(Segment::Fixed(text.to_owned()))
        }
        _ => None,
    };
    pattern.strip_prefix('/')?.split('/').map(segment).collect()
}

/// What stands in an open segment: identifiers in base64url. No dots, so no way up; no escapes, so one spelling.
fn is_open_segment(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

fn is_fixed_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte)
}

/// As many as a leader takes in one upload.
const MOST_TOGETHER: usize = 1_000;
const LONGEST_WAIT: Duration = Duration::from_secs(1);
const UPLOADS_ONLY: &str = "possible: merge is for routes of DAP uploads, of 2 to 1,000 reports and up to 1s";

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"];
const METHODS_ONLY: &str =
    "a method, in capital letters: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS or QUERY";

/// Longer fields are dropped: as long as the longest task configuration that a leader reads from one.
const LONGEST_FIELD: usize = 8_192;

/// Fields about what is asked, beside those of DAP. Not who asks, by which way, or how the message is framed.
const FORWARDABLE: [&str; 6] =
    ["accept", "content-digest", "idempotency-key", "if-match", "if-none-match", "prefer"];
const FORWARDABLE_ONLY: &str = "a field that can be forwarded: those that begin with dap-, accept, content-digest, \
                                idempotency-key, if-match, if-none-match and prefer";

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
