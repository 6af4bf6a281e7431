//! `date` inside the envelope: not needed, and looked at when it is there.

use std::time::{Duration, UNIX_EPOCH};

use mica_envelope::{InnerRequest, InnerResponse};
use mica_gateway::{BuildError, Config, Dates, Gateway, Outcome};
use mica_service::{clock::Clock, testing::databases};

use crate::world::{Target, World, created, routes, upload};

fn date(seconds: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds))
}

fn dated(date: &str) -> InnerRequest {
    let mut request = upload();
    request.headers.push(("date".to_owned(), date.as_bytes().to_vec()));
    request
}

fn is_refused(answer: &InnerResponse, now: u64) -> bool {
    if answer.status == 201 {
        return false;
    }
    assert_eq!(answer.status, 400);
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(problem["type"], "https://iana.org/assignments/http-problem-types#date");
    assert_eq!(answer.header("date"), Some(date(now).as_bytes()));
    assert_eq!(answer.header("cache-control"), Some(&b"no-store"[..]));
    true
}

/// RFC 9458 6.5.1, 6.5.2.
#[tokio::test]
async fn a_date_inside_is_optional_and_one_that_is_far_off_is_refused_with_the_gateways_own() {
    let target = Target::new(created);
    let world = World::start(target.start().await).await;
    world.clock.advance(1_000);
    let now = world.clock.now();
    assert!(!is_refused(&world.exchange(&upload()).await.1, now));
    for near in [now, now - 300, now + 300] {
        assert!(!is_refused(&world.exchange(&dated(&date(near))).await.1, now));
    }
    for far in [date(now - 301), date(now + 301), date(0), "soon".to_owned(), String::new()] {
        assert!(is_refused(&world.exchange(&dated(&far)).await.1, now), "{far}");
    }
    let mut two = dated(&date(now));
    two.headers.push(("date".to_owned(), date(now).into_bytes()));
    assert!(is_refused(&world.exchange(&two).await.1, now));
    assert_eq!((world.count(Outcome::Forwarded), world.count(Outcome::Date)), (4, 6));
    let seen = target.seen();
    assert_eq!(seen.len(), 4);
    assert!(seen.iter().all(|request| !request.headers.contains_key("date")), "no target is told");
}

#[tokio::test]
async fn an_operator_may_leave_dates_alone_or_insist_on_them() {
    for (dates, without, with_an_old_one) in [(Dates::Off, 201, 201), (Dates::Require, 400, 400)] {
        let target = Target::new(created);
        let world = World::start_with(target.start().await, |config| config.replay.dates = dates).await;
        let now = world.clock.now();
        assert_eq!(world.exchange(&upload()).await.1.status, without, "{dates:?}");
        assert_eq!(world.exchange(&dated(&date(0))).await.1.status, with_an_old_one, "{dates:?}");
        assert!(!is_refused(&world.exchange(&dated(&date(now))).await.1, now), "{dates:?}");
    }
}

/// A gateway that begins without a memory cannot know what was answered before; one that has it does.
#[tokio::test]
async fn dates_from_before_the_memory_are_refused_and_a_restart_is_no_loss_of_memory() {
    for database in databases().await {
        let target = Target::new(created).start().await;
        let clock = Clock::manual(1_700_000_000);
        let config = Config::new("127.0.0.1:0", database.url.clone(), routes(target));
        let world = World::over(config.clone(), clock.clone()).await;
        let begun = clock.now();
        clock.advance(10);
        assert!(is_refused(&world.exchange(&dated(&date(begun - 1))).await.1, clock.now()));
        assert!(!is_refused(&world.exchange(&dated(&date(begun))).await.1, clock.now()));
        world.stop();
        clock.advance(100);
        let world = World::over(config, clock.clone()).await;
        assert!(!is_refused(&world.exchange(&dated(&date(begun + 50))).await.1, clock.now()));
    }
}

#[tokio::test]
async fn windows_that_do_not_outlive_what_they_are_to_remember_are_refused_at_the_start() {
    let config = Config::new("127.0.0.1:0", "sqlite:never-made.db", routes("127.0.0.1:9".parse().unwrap()));
    let refused = async |adjust: fn(&mut Config)| {
        let mut config = config.clone();
        adjust(&mut config);
        match Gateway::build(config).await {
            Err(BuildError::Window(key, _)) => key,
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("it is refused"),
        }
    };
    let half = |config: &mut Config| {
        config.replay.date_window = config.replay.window / 2 + Duration::from_secs(1);
    };
    assert_eq!(refused(half).await, "replay.date_window");
    assert_eq!(refused(|config| config.replay.window = Duration::ZERO).await, "replay.window");
    assert_eq!(refused(|config| config.replay.window = Duration::from_secs(59)).await, "replay.window");
    // 15 minutes are no longer enough.
    assert_eq!(refused(|config| config.timeout = Duration::from_mins(8)).await, "replay.window");
}

/// RFC 9458 6.5: corrected in a fresh envelope, it would reach its target twice.
#[tokio::test]
async fn what_was_answered_is_answered_again_when_its_date_is_long_past() {
    let target = Target::new(created);
    let world = World::start(target.start().await).await;
    world.clock.advance(1_000);
    let (sealed, opener) = world.seal(&dated(&date(world.clock.now())));
    let (_, first) = crate::world::open(world.post(world.relay, sealed.clone()).await, opener);
    assert_eq!(first.status, 201);
    world.clock.advance(301);
    assert_eq!(world.post(world.relay, sealed).await.status(), 200);
    assert_eq!((world.count(Outcome::Again), world.count(Outcome::Date)), (1, 0));
    assert_eq!(target.seen().len(), 1);
}
