//! Targets in the process of the gateway: asked without a connection, under the limits of all others.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::{Router, extract::DefaultBodyLimit, routing::post};
use mica_gateway::{Config, Mounted, Outcome, Place, RouteConfig};
use mica_service::{
    clock::Clock,
    telemetry::{LogFormat, subscriber},
    testing::sqlite,
};
use tracing::{Dispatch, subscriber::NoSubscriber};

use crate::world::{Target, World, created, routes, upload};

async fn world(router: Router, adjust: impl FnOnce(&mut Config)) -> (World, impl Sized) {
    let database = sqlite();
    let mut config = Config::new("127.0.0.1:0", database.url.clone(), routes("127.0.0.1:9".parse().unwrap()));
    adjust(&mut config);
    let mounted = Mounted::default().with("http://127.0.0.1:9", router);
    (World::beside(config, Clock::manual(1_700_000_000), mounted).await, database)
}

#[tokio::test]
async fn a_target_in_the_same_process_is_asked_without_a_connection_and_by_its_own_rules() {
    let router = Router::new()
        .route("/inside/tasks/{task}/reports", post(async |body: String| (http::StatusCode::CREATED, body)))
        .layer(DefaultBodyLimit::max(10));
    let (world, _database) = world(router, |_| ()).await;
    let (_, inner) = world.exchange(&upload()).await;
    assert_eq!((inner.status, &inner.body[..]), (201, &b"report"[..]));
    let mut large = upload();
    large.body = vec![b'x'; 11].into();
    assert_eq!(world.exchange(&large).await.1.status, 413, "its own limit");
    let mut larger = upload();
    larger.body = vec![b'x'; 2_001].into();
    assert_eq!(world.exchange(&larger).await.1.status, 413, "that of the route");
    assert_eq!((world.count(Outcome::Forwarded), world.count(Outcome::NoRoute)), (2, 1));
}

/// RFC 9458 5.2: what failed after a good seal is told inside, in the same size and under the same fields as all else.
#[tokio::test]
async fn a_failure_that_nobody_foresaw_is_told_inside_the_envelope() {
    async fn fail(body: String) -> http::StatusCode {
        assert_ne!(body, "report", "on purpose");
        http::StatusCode::CREATED
    }
    let router = Router::new().route("/inside/tasks/{task}/reports", post(fail));
    let (world, _database) = world(router, |_| ()).await;
    let (broken, inner) = world.exchange(&upload()).await;
    assert_eq!((broken.status(), inner.status), (http::StatusCode::OK, 500));
    let mut other = upload();
    other.body = vec![b'x'; 6].into();
    let (well, inner) = world.exchange(&other).await;
    assert_eq!(inner.status, 201, "the gateway goes on");
    assert_eq!(broken.body().len(), well.body().len());
    let names = |of: &http::HeaderMap| of.keys().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(broken.headers()), names(well.headers()));
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// It is whoever sends them that decides how many there are.
#[tokio::test]
async fn requests_that_fail_in_a_way_that_nobody_foresaw_have_one_line_in_the_log() {
    let lines = Lines::default();
    let (subscriber, _routes) = subscriber(LogFormat::Text, "info", lines.clone()).unwrap();
    let dispatch = Dispatch::new(subscriber);
    // With one listener alone, what the thread of another test meets first is silenced for all.
    let _second = Dispatch::new(NoSubscriber::default());
    let _guard = tracing::dispatcher::set_default(&dispatch);
    let fail = async |body: String| assert_eq!(body, "", "on purpose");
    let router = Router::new().route("/inside/tasks/{task}/reports", post(fail));
    let (world, _database) = world(router, |_| ()).await;
    for _ in 0..20 {
        assert_eq!(world.exchange(&upload()).await.1.status, 500);
    }
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let told = text.lines().filter(|line| line.contains("nobody foresaw")).count();
    assert!((1..5).contains(&told), "{text}");
}

#[tokio::test]
async fn a_target_in_the_same_process_is_given_as_much_time_and_room_as_another() {
    let target = Target::new(created).slow(Duration::from_secs(30));
    let (slow, _database) = world(target.router(), |it| it.timeout = Duration::from_millis(200)).await;
    assert_eq!(slow.exchange(&upload()).await.1.status, 504);

    let target = Target::new(|_| axum::response::Response::new(vec![0; 3000].into()));
    let (verbose, _database) = world(target.router(), |it| it.max_response_bytes = 2999).await;
    assert_eq!(verbose.exchange(&upload()).await.1.status, 502);

    let target = Target::new(|_| {
        axum::response::Response::builder().status(302).header("location", "/").body("".into()).unwrap()
    });
    let (misleading, _database) = world(target.router(), |_| ()).await;
    assert_eq!(misleading.exchange(&upload()).await.1.status, 502);
    assert_eq!(target.seen().len(), 1);
}

#[tokio::test]
async fn what_is_mounted_answers_for_its_own_origin_only() {
    let (elsewhere, inside) = (Target::new(created), Target::new(created));
    let address = elsewhere.start().await;
    let (world, _database) = world(inside.router(), |it| it.routes = routes(address)).await;
    assert_eq!(world.exchange(&upload()).await.1.status, 201);
    assert_eq!((elsewhere.seen().len(), inside.seen().len()), (1, 0));
}

/// Behind one reverse proxy there may be others than the one in this process.
#[tokio::test]
async fn another_service_below_the_same_origin_is_asked_over_the_network() {
    let (elsewhere, inside) = (Target::new(created), Target::new(created));
    let address = elsewhere.start().await;
    for (mounted_at, handed_over) in
        [("/dap", false), ("/insid", false), ("/inside", true), ("/inside/", true)]
    {
        let mounted = Mounted::default().with(&format!("http://{address}{mounted_at}"), inside.router());
        let (database, clock) = (sqlite(), Clock::manual(1_700_000_000));
        let config = Config::new("127.0.0.1:0", database.url.clone(), routes(address));
        let world = World::beside(config, clock, mounted).await;
        let before = inside.seen().len();
        assert_eq!(world.exchange(&upload()).await.1.status, 201);
        assert_eq!(inside.seen().len() > before, handed_over, "{mounted_at}");
    }
    assert_eq!((elsewhere.seen().len(), inside.seen().len()), (2, 2));
}

#[tokio::test]
async fn whatever_leads_to_the_listener_of_a_mounted_target_is_handed_over() {
    for (listener, target) in [
        ("0.0.0.0:9", "http://127.0.0.1:9"),
        ("0.0.0.0:9", "http://localhost:9"),
        ("[::]:9", "http://[::1]:9/inside"),
        ("127.0.0.1:80", "http://127.0.0.1/inside"),
    ] {
        let inside = Target::new(created);
        let (database, clock) = (sqlite(), Clock::manual(1_700_000_000));
        let mut config =
            Config::new("127.0.0.1:0", database.url.clone(), routes("127.0.0.1:9".parse().unwrap()));
        config.routes.iter_mut().for_each(|route| route.target = target.to_owned());
        let place = Place::of_listener(listener.parse().unwrap(), false).unwrap();
        let world = World::beside(config, clock, Mounted::default().at(place, inside.router())).await;
        assert_eq!(world.exchange(&upload()).await.1.status, 201, "{listener} {target}");
        assert_eq!(inside.seen().len(), 1);
    }
}

#[test]
fn a_place_knows_the_routes_that_lead_to_it_and_proposes_a_target_that_may_be_asked() {
    let leads = |place: &Place, target: &str, path: &str| {
        place.is_led_to_by(&RouteConfig::new("POST", "a.example", path, None, target))
    };
    let listener = Place::of_listener("0.0.0.0:8080".parse().unwrap(), false).unwrap();
    assert_eq!(listener.target(), "http://127.0.0.1:8080");
    for (target, is_led) in [
        ("http://127.0.0.1:8080", true),
        ("http://127.0.0.1:8080/dap", true),
        ("http://localhost:8080", true),
        ("https://127.0.0.1:8080", false),
        ("http://127.0.0.1:8081", false),
        ("http://leader.example:8080", false),
        ("nonsense", false),
    ] {
        assert_eq!(leads(&listener, target, "/tasks/{task}/reports"), is_led, "{target}");
    }
    let below = Place::of_url("https://Example.com/dap/").unwrap();
    assert_eq!(below.target().to_ascii_lowercase(), "https://example.com/dap");
    for (target, path, is_led) in [
        ("https://example.com/dap/", "/tasks/{task}/reports", true),
        ("https://example.com:443", "/dap/tasks/{task}/reports", true),
        ("https://example.com", "/{service}/hpke_config", true),
        ("https://example.com", "/tasks/{task}/reports", false),
        ("https://example.com/other", "/tasks/{task}/reports", false),
        ("https://example.com/dapper", "/tasks/{task}/reports", false),
        ("https://example.com:8443/dap", "/tasks/{task}/reports", false),
        ("http://example.com/dap", "/tasks/{task}/reports", false),
    ] {
        assert_eq!(leads(&below, target, path), is_led, "{target} {path}");
    }
    assert!(Place::of_url("example").is_err() && Place::of_url("https://a@example.com").is_err());
}
