//! Keys: published alike to everyone, and the same after a restart.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{Request, StatusCode};
use mica_envelope::{ClientEnvelope, KeyConfigList};
use mica_gateway::{BuildError, Config, Gateway, RouteConfig};
use mica_service::{
    clock::Clock,
    http::{HttpClient, HttpOptions},
    store::StoreError,
    testing::databases,
};

use crate::world::{Target, World, created, routes, start_gateway, upload};

#[tokio::test]
async fn the_published_list_is_the_same_for_everyone_and_everywhere() {
    let world = World::start(Target::new(created).start().await).await;
    let mut answers = BTreeSet::new();
    for (path, client) in
        [("/ohttp-keys", false), ("/.well-known/ohttp-gateway", false), ("/ohttp-keys", true)]
    {
        let client = HttpClient::new(HttpOptions { h2_prior_knowledge: client, ..HttpOptions::default() });
        for n in 0..334 {
            let request = Request::get(format!("http://{}{path}", world.gateway))
                .header("accept", ["application/ohttp-keys", "*/*", "text/html"][n % 3])
                .header("user-agent", format!("client {n}"))
                .header("cookie", format!("c={n}"))
                .header("x-forwarded-for", format!("203.0.113.{}", n % 256))
                .body(Bytes::new())
                .unwrap();
            let answer = client.send(request).await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            let fields = ["content-type", "cache-control", "etag"]
                .map(|name| answer.headers()[name].to_str().unwrap().to_owned());
            assert!(!answer.headers().contains_key("vary"));
            answers.insert((answer.body().to_vec(), fields));
        }
    }
    assert_eq!(answers.len(), 1);
    let (list, [media, cache, tag]) = answers.first().unwrap();
    assert_eq!(list, world.keys.encoded());
    assert_eq!((media.as_str(), cache.as_str()), ("application/ohttp-keys", "public, max-age=86400"));
    assert!(tag.starts_with('"') && tag.len() == 66);

    let other = format!("\"{}\"", "0".repeat(64));
    for (known, status) in [
        (tag.clone(), StatusCode::NOT_MODIFIED),
        (format!("{other}, W/{tag}"), StatusCode::NOT_MODIFIED),
        ("*".to_owned(), StatusCode::NOT_MODIFIED),
        (other, StatusCode::OK),
    ] {
        let request =
            Request::get(format!("http://{}/ohttp-keys", world.gateway)).header("if-none-match", known);
        let answer = world.http.send(request.body(Bytes::new()).unwrap()).await.unwrap();
        assert_eq!((answer.status(), answer.body().is_empty()), (status, status == StatusCode::NOT_MODIFIED));
        assert_eq!(answer.headers()["etag"], *tag);
    }
}

#[tokio::test]
async fn a_request_sealed_before_a_restart_is_opened_after_it() {
    for database in databases().await {
        let target = Target::new(created).start().await;
        let config = || Config::new("127.0.0.1:0", database.url.clone(), routes(target));
        let (_, before) = start_gateway(config(), Clock::manual(1)).await;
        let keys = KeyConfigList::parse(before.keys.clone()).unwrap();
        let (sealed, opener) = ClientEnvelope::seal(&keys, &upload()).unwrap();
        before.shutdown.trigger();

        let (address, after) = start_gateway(config(), Clock::manual(2)).await;
        assert_eq!(before.keys, after.keys, "{}", database.kind);
        let request = Request::post(format!("http://{address}/.well-known/ohttp-gateway"))
            .header("content-type", "message/ohttp-req")
            .body(sealed.into())
            .unwrap();
        let answer = HttpClient::new(HttpOptions::default()).send(request).await.unwrap();
        assert_eq!(opener.open(answer.body()).unwrap().status, 201);
    }
}

#[tokio::test]
async fn replicas_that_start_together_share_one_key() {
    for database in databases().await {
        let config = || Config::new("127.0.0.1:0", database.url.clone(), Vec::new());
        let (one, two) = tokio::join!(Gateway::build(config()), Gateway::build(config()));
        assert_eq!(one.unwrap().key_config(), two.unwrap().key_config(), "{}", database.kind);
    }
}

#[tokio::test]
async fn a_gateway_that_cannot_work_says_why_and_is_not_built() {
    let config = Config::new("127.0.0.1:0", "sqlite:/no/such/folder/gateway.db", Vec::new());
    assert!(matches!(Gateway::build(config).await.err(), Some(BuildError::Store(StoreError::Unwritable(_)))));
    let route = RouteConfig::new("POST", "leader.example", "tasks", None, "https://leader.example/");
    let error = Gateway::build(Config::new("127.0.0.1:0", "sqlite:/tmp/unused.db", vec![route])).await.err();
    assert_eq!(error.unwrap().to_string(), "route 1: `tasks` is not a path such as /tasks/{task}/reports");
}

#[test]
fn a_configuration_is_read_with_its_defaults_and_without_surprises() {
    let text = "listen = '127.0.0.1:1'\ndatabase = 'sqlite:x'\ntimeout = '5s'\npadding = 'refuse'\n\
                [replay]\nwindow = '10m'\n[[routes]]\nmethod = 'GET'\nauthority = 'a'\npath = '/'\ntarget = 'http://b'\n";
    let config: Config = toml::from_str(text).unwrap();
    assert_eq!((config.timeout.as_secs(), config.replay.window.as_secs(), config.routes.len()), (5, 600, 1));
    for unknown in ["nonsense = 1\n", "[replay]\nnonsense = 1\n"] {
        let text = format!("listen = 'x'\ndatabase = 'y'\n{unknown}");
        assert!(toml::from_str::<Config>(&text).unwrap_err().to_string().contains("nonsense"));
    }
}
