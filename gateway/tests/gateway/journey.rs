//! The way there and back.

use std::collections::BTreeSet;

use axum::{body::Body, response::Response};
use http::{HeaderName, Method};
use mica_envelope::{InnerRequest, SIZE_BUCKETS};
use mica_gateway::Outcome;

use crate::world::{Target, UPLOAD, World, created, open, upload};

fn names(headers: &http::HeaderMap) -> BTreeSet<&str> {
    headers.keys().map(HeaderName::as_str).collect()
}

#[tokio::test]
async fn a_report_arrives_at_its_target_and_the_answer_comes_back() {
    let target = Target::new(created);
    let world = World::start(target.start().await).await;
    let (_, inner) = world.exchange(&upload()).await;
    assert_eq!((inner.status, &inner.body[..]), (201, &b"stored"[..]));
    let seen = target.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].method, Method::POST);
    assert_eq!(seen[0].uri.path_and_query().unwrap(), "/inside/tasks/Ab-_9/reports");
    assert_eq!(seen[0].body, "report");
    assert_eq!(world.count(Outcome::Forwarded), 1);
}

#[tokio::test]
async fn target_sees_no_header_of_the_client_or_the_relay() {
    let target = Target::new(created);
    let world = World::start(target.start().await).await;
    let mut request = upload();
    for name in
        ["user-agent", "cookie", "authorization", "forwarded", "via", "traceparent", "accept", "x-canary"]
    {
        request.headers.push((name.to_owned(), b"canary".to_vec()));
    }
    let (sealed, opener) = world.seal(&request);
    let mut outer = http::Request::post(format!("http://{}/", world.gateway)).body(sealed.into()).unwrap();
    for name in ["user-agent", "cookie", "forwarded", "x-forwarded-for", "via", "traceparent", "x-canary"] {
        outer.headers_mut().insert(name, "canary".parse().unwrap());
    }
    outer.headers_mut().insert("content-type", "message/ohttp-req".parse().unwrap());
    let answer = world.http.send(outer).await.unwrap();
    assert_eq!(open(answer, opener).1.status, 201);
    let seen = target.seen();
    assert_eq!(names(&seen[0].headers), BTreeSet::from(["content-length", "content-type"]));
    assert_eq!(seen[0].headers["content-type"], UPLOAD);
    assert!(!format!("{:?}{}", seen[0].headers, seen[0].uri).contains("canary"));
}

#[tokio::test]
async fn client_sees_only_the_fields_it_needs_of_the_target() {
    let target = Target::new(|_| {
        let mut response = Response::new(Body::from("{}"));
        for (name, value) in [
            ("content-type", "application/problem+json"),
            ("cache-control", "max-age=60"),
            ("retry-after", "5"),
            ("set-cookie", "canary"),
            ("server", "canary"),
            ("etag", "canary"),
            ("via", "canary"),
        ] {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        response
    });
    let world = World::start(target.start().await).await;
    let (outer, inner) = world.exchange(&upload()).await;
    let inside: Vec<&str> = inner.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(inside, ["content-type", "cache-control", "retry-after"]);
    assert!(!format!("{:?}", outer.headers()).contains("canary"));
}

#[tokio::test]
async fn a_request_without_content_finds_its_route() {
    let target = Target::new(created);
    let world = World::start(target.start().await).await;
    let request = InnerRequest {
        method: "GET".into(),
        path: "/hpke_config".into(),
        headers: vec![],
        body: "".into(),
        ..upload()
    };
    assert_eq!(world.exchange(&request).await.1.status, 201);
    let seen = target.seen();
    assert_eq!(seen[0].uri.path(), "/inside/hpke_config");
    assert!(seen[0].headers.is_empty());
}

#[tokio::test]
async fn sealed_messages_have_shared_sizes_whatever_is_inside() {
    let target = Target::new(|before| Response::new(Body::from(vec![b'x'; before * 700])));
    let world = World::start(target.start().await).await;
    let mut sizes = BTreeSet::new();
    for length in [0, 1, 100, 500, 1000, 1900] {
        let mut request = upload();
        request.body = vec![1; length].into();
        let (sealed, opener) = world.seal(&request);
        assert!(SIZE_BUCKETS.contains(&sealed.len()));
        let (outer, inner) = open(world.post(world.relay, sealed).await, opener);
        assert!(SIZE_BUCKETS.contains(&outer.body().len()));
        assert_eq!(inner.status, 200);
        sizes.insert(outer.body().len());
    }
    assert_eq!(sizes, BTreeSet::from([1024, 2048, 4096]));
    assert_eq!(world.count(Outcome::Unpadded), 0);
}
