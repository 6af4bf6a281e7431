//! The memory against a real database of each kind.

use std::time::Duration;

use mica_service::clock::Clock;
use mica_service::key_life::CLOCKS_DIFFER;
use mica_service::testing::{TestDatabase, databases};

use super::*;

mod failing;
mod replicas;

/// Digests of different requests.
fn requests<const N: usize>() -> [EncDigest; N] {
    let mut number = 0;
    [(); N].map(|()| {
        number += 1;
        EncDigest::from_bytes([number; 16])
    })
}

fn lock(enc: EncDigest) -> AnswerLock {
    AnswerLock::of(enc.as_bytes(), b"a request")
}

/// By when a target is to have answered.
fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn limits(max_requests: usize, max_bytes: usize) -> ReplayConfig {
    ReplayConfig { window: Duration::from_secs(100), max_requests, max_bytes, ..ReplayConfig::default() }
}

async fn start(database: &TestDatabase, limits: &ReplayConfig, clock: &Clock) -> Answers {
    let store = database.open(&crate::MIGRATOR).await.unwrap();
    Answers::open(&store, limits, Steady::new(clock.clone()), UnderWay::new()).await.unwrap()
}

fn response(body: &'static str) -> Answer {
    encoded(&InnerResponse { status: 201, headers: vec![], body: body.into() })
}

fn status(answer: &Answer) -> u16 {
    mica_envelope::decode_response(answer.clone()).unwrap().message.status
}

async fn again(answers: &Answers, enc: EncDigest) -> Option<u16> {
    match answers.claim(enc, lock(enc), soon()).await {
        Claim::Again(answer) => Some(status(&answer)),
        Claim::First(_) | Claim::Later(_) => None,
    }
}

async fn first(answers: &Answers, enc: EncDigest) -> Ticket {
    match answers.claim(enc, lock(enc), soon()).await {
        Claim::First(ticket) => ticket,
        Claim::Again(_) | Claim::Later(_) => panic!("it is the first"),
    }
}

#[tokio::test]
async fn an_answer_is_kept_for_one_window_at_least_and_two_at_most() {
    for database in databases().await {
        let ([a, b], clock) = (requests(), Clock::manual(1_000));
        let answers = start(&database, &limits(10, 1_000), &clock).await;
        first(&answers, a).await.leave(response("x")).await;
        clock.advance(99);
        assert_eq!(again(&answers, a).await, Some(201));
        clock.advance(1);
        first(&answers, b).await.leave(response("x")).await;
        assert_eq!(again(&answers, a).await, Some(201));
        clock.advance(100);
        assert_eq!(again(&answers, b).await, Some(201));
        first(&answers, a).await.leave(response("x")).await;
        clock.advance(100);
        first(&answers, b).await.leave(response("x")).await;
        assert_eq!(again(&answers, a).await, Some(201));
        clock.advance(100);
        assert_eq!(again(&answers, b).await, Some(201));
        first(&answers, a).await.leave(response("x")).await;
    }
}

/// What took answers until now was emptied with the generation that it followed.
#[tokio::test]
async fn what_was_answered_just_after_a_pause_is_kept_as_long_as_anything() {
    for database in databases().await {
        let ([before, after, under_way, more, last], clock) = (requests(), Clock::manual(1_000));
        let limits = limits(10, 1_000);
        let answers = start(&database, &limits, &clock).await;
        first(&answers, before).await.leave(response("x")).await;
        clock.advance(300);
        let answers = start(&database, &limits, &clock).await;
        first(&answers, after).await.leave(response("y")).await;
        let ticket = first(&answers, under_way).await;
        clock.advance(CLOCKS_DIFFER);
        assert_eq!(again(&answers, after).await, Some(201), "{}", database.kind);
        // The database turns when something is written.
        first(&answers, more).await.leave(response("x")).await;
        ticket.leave(response("y")).await;
        assert_eq!(again(&answers, under_way).await, Some(201), "{}", database.kind);
        let anew = start(&database, &limits, &clock).await;
        for enc in [after, under_way, more] {
            assert_eq!(again(&anew, enc).await, Some(201), "{}", database.kind);
        }
        // And it goes one window later than without the pause.
        clock.advance(100);
        first(&anew, last).await.leave(response("x")).await;
        let anew = start(&database, &limits, &clock).await;
        drop(first(&anew, after).await);
        assert_eq!(again(&anew, more).await, Some(201), "{}", database.kind);
    }
}

#[tokio::test]
async fn what_was_answered_before_the_end_of_the_process_is_answered_after_it() {
    for database in databases().await {
        let ([a, b, c, d], clock) = (requests(), Clock::manual(1_000));
        let answers = start(&database, &limits(10, 1_000), &clock).await;
        first(&answers, a).await.leave(response("x")).await;
        clock.advance(100);
        first(&answers, b).await.leave(response("y")).await;
        // Asked of its target, and then the power went.
        let lost = first(&answers, c).await;
        let answers = start(&database, &limits(10, 1_000), &clock).await;
        assert_eq!(again(&answers, a).await, Some(201), "{}", database.kind);
        assert_eq!(again(&answers, b).await, Some(201), "{}", database.kind);
        clock.advance(31);
        first(&answers, c).await.leave(response("z")).await;
        assert_eq!(again(&answers, c).await, Some(201));
        clock.advance(69);
        assert_eq!(again(&answers, b).await, Some(201));
        clock.advance(200);
        let answers = start(&database, &limits(10, 1_000), &clock).await;
        assert_eq!(again(&answers, b).await, Some(201), "a clock that was looked at once ends nothing");
        clock.advance(CLOCKS_DIFFER);
        assert_eq!(
            again(&answers, b).await,
            Some(201),
            "whatever was the current generation stays for one more"
        );
        // The database turns when something is written.
        first(&answers, d).await.leave(response("x")).await;
        clock.advance(99);
        assert_eq!(again(&answers, b).await, Some(201));
        clock.advance(1);
        first(&answers, b).await.leave(response("x")).await;
        drop(lost);
    }
}

/// Before there were blocks each request had a row, on SQLite as well.
#[tokio::test]
async fn what_an_older_version_kept_on_sqlite_is_answered_by_this_one() {
    let database = mica_service::testing::sqlite();
    let ([a, b, c], clock) = (requests(), Clock::manual(1_000));
    let limits = limits(10, 1_000);
    let answers = start(&database, &limits, &clock).await;
    clock.advance(100);
    first(&answers, c).await.leave(response("z")).await;
    let store = database.open(&crate::MIGRATOR).await.unwrap();
    let (in_previous, in_current) = (
        "INSERT INTO gateway_answers_even (enc, answer, claimed_until) VALUES ($1, $2, 0)",
        "INSERT INTO gateway_answers_odd (enc, answer, claimed_until) VALUES ($1, $2, 0)",
    );
    for (statement, enc) in [(in_previous, a), (in_current, b)] {
        let locked = lock(enc).lock(&response("x")).unwrap();
        let row = || sqlx::query(statement).bind(enc.as_bytes().to_vec()).bind(locked.clone());
        store.line().execute("as_before", row).await.unwrap();
    }
    for _ in 0..2 {
        let answers = start(&database, &limits, &clock).await;
        assert_eq!(answers.fill().requests, 2, "one of them was answered in the window before");
        for enc in [a, b, c] {
            assert_eq!(again(&answers, enc).await, Some(201));
        }
    }
    // And it goes when its time is over.
    clock.advance(100);
    first(&answers, requests::<4>()[3]).await.leave(response("x")).await;
    let answers = start(&database, &limits, &clock).await;
    drop(first(&answers, a).await);
    assert_eq!(again(&answers, b).await, Some(201));
}

/// What is forgotten too early would be forwarded twice.
#[tokio::test]
async fn a_clock_that_steps_ahead_for_a_moment_forgets_no_answer() {
    for database in databases().await {
        let ([a, b, c], clock) = (requests(), Clock::manual(1_000));
        let answers = start(&database, &limits(10, 1_000), &clock).await;
        first(&answers, a).await.leave(response("x")).await;
        clock.advance(CLOCKS_DIFFER);
        clock.step_to(1_000_000);
        // Each of them turns the generations if it is time: in memory and in the database.
        first(&answers, b).await.leave(response("x")).await;
        let other = start(&database, &limits(10, 1_000), &clock).await;
        first(&other, c).await.leave(response("x")).await;
        clock.step_to(1_000 + CLOCKS_DIFFER);
        assert_eq!(again(&answers, a).await, Some(201), "{}", database.kind);
        let answers = start(&database, &limits(10, 1_000), &clock).await;
        assert_eq!(again(&answers, a).await, Some(201), "{}", database.kind);
    }
}

#[tokio::test]
async fn a_memory_that_is_full_is_still_full_after_the_end_of_the_process() {
    for database in databases().await {
        let ([a, b, c], clock) = (requests(), Clock::manual(1_000));
        let answers = start(&database, &limits(2, 1_000), &clock).await;
        first(&answers, a).await.leave(response("x")).await;
        first(&answers, b).await.leave(response("x")).await;
        clock.advance(40);
        for answers in [answers, start(&database, &limits(2, 1_000), &clock).await] {
            assert!(matches!(answers.claim(c, lock(c), soon()).await, Claim::Later(60)), "{}", database.kind);
            assert_eq!(again(&answers, a).await, Some(201));
        }
    }
}

#[tokio::test]
async fn whoever_comes_early_waits_for_the_answer() {
    for database in databases().await {
        let ([a], clock) = (requests(), Clock::manual(1_000));
        let answers = start(&database, &limits(10, 1_000), &clock).await;
        let ticket = first(&answers, a).await;
        let waiting = tokio::spawn({
            let answers = answers.clone();
            async move { again(&answers, a).await }
        });
        tokio::task::yield_now().await;
        ticket.leave(response("x")).await;
        assert_eq!(waiting.await.unwrap(), Some(201));
    }
}

#[tokio::test]
async fn an_answer_that_never_came_is_a_502_and_not_a_second_attempt() {
    for database in databases().await {
        let ([a], clock) = (requests(), Clock::manual(1_000));
        let answers = start(&database, &limits(10, 1_000), &clock).await;
        drop(first(&answers, a).await);
        assert_eq!(again(&answers, a).await, Some(502));
    }
}

#[tokio::test]
async fn answers_that_do_not_fit_are_remembered_as_given_and_keep_nobody_out() {
    const LONG: &str = "an answer that is longer than those which most requests get, by far: so long that a few of them \
                        would take what hundreds of others need; so they may take no more than a half of what there is, \
                        and whoever asks for one of them again is told that it was given, which a client can live with.";
    for database in databases().await {
        let ([a, b, c, more, last], clock) = (requests(), Clock::manual(1_000));
        let (short, long) = (response("short"), response(LONG));
        let stored = |answer: &Answer| answer.len() + AnswerLock::OVERHEAD;
        // One of each length, and a short one that takes the rest.
        let limits = limits(10, 2 * stored(&long) + 10);
        let answers = start(&database, &limits, &clock).await;
        for (enc, answer) in [(a, &long), (b, &long), (c, &short)] {
            first(&answers, enc).await.leave(answer.clone()).await;
        }
        let fill = answers.fill();
        assert_eq!(fill.bytes, stored(&long) + AnswerLock::OVERHEAD + stored(&short));
        for answers in [answers, start(&database, &limits, &clock).await] {
            assert_eq!(answers.fill(), fill, "{}: it is counted alike after a restart", database.kind);
            let kept = [again(&answers, a).await, again(&answers, b).await, again(&answers, c).await];
            assert_eq!(kept, [Some(201), Some(409), Some(201)], "{}", database.kind);
        }
        let answers = start(&database, &ReplayConfig { max_bytes: 1, ..limits }, &clock).await;
        first(&answers, more).await.leave(short.clone()).await;
        assert_eq!(
            again(&answers, more).await,
            Some(409),
            "no room for the shortest, and yet it is not asked twice"
        );
        first(&answers, last).await.leave(short.clone()).await;
    }
}

/// It was counted without and then with what locking adds.
#[tokio::test]
async fn the_room_for_answers_is_measured_alike_before_and_after_a_restart() {
    for database in databases().await {
        let clock = Clock::manual(1_000);
        let all = requests::<12>();
        let limits = limits(100, 12 * (response("x").len() + AnswerLock::OVERHEAD));
        let answers = start(&database, &limits, &clock).await;
        for enc in &all[..8] {
            first(&answers, *enc).await.leave(response("x")).await;
        }
        let answers = start(&database, &limits, &clock).await;
        for enc in &all[8..] {
            first(&answers, *enc).await.leave(response("x")).await;
            assert_eq!(again(&answers, *enc).await, Some(201), "{}", database.kind);
        }
        assert_eq!(answers.fill().bytes, answers.fill().max_bytes);
    }
}

/// What a group shares is one transaction: many who come together need few of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_answers_at_once_share_few_durable_writes() {
    for database in databases().await {
        let clock = Clock::manual(1_000);
        let commits = Arc::new(Commits::default());
        let store = database.open(&crate::MIGRATOR).await.unwrap().watched_by(commits.clone());
        let limits = limits(10_000, 1_000_000);
        let answers = Answers::open(&store, &limits, Steady::new(clock), UnderWay::new()).await.unwrap();
        commits.0.store(0, std::sync::atomic::Ordering::SeqCst);
        let all = (0..1_000_u16).map(|number| {
            let mut enc = [0; 16];
            enc[..2].copy_from_slice(&number.to_be_bytes());
            let answers = answers.clone();
            tokio::spawn(async move {
                let enc = EncDigest::from_bytes(enc);
                first(&answers, enc).await.leave(response("x")).await;
            })
        });
        for one in all.collect::<Vec<_>>() {
            one.await.unwrap();
        }
        let commits = commits.0.load(std::sync::atomic::Ordering::SeqCst);
        println!("{}: {commits} durable writes for 1000 answers", database.kind);
        assert!(commits <= 100, "{}: {commits}", database.kind);
    }
}

/// Counts the transactions that made answers durable.
#[derive(Default)]
struct Commits(std::sync::atomic::AtomicUsize);

impl mica_service::store::Watch for Commits {
    fn reach(
        &self,
        name: &'static str,
        moment: mica_service::store::Moment,
    ) -> mica_service::store::Verdict<'_> {
        if (name, moment) == ("leave_answers", mica_service::store::Moment::Committed) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
        Box::pin(async { Ok(()) })
    }
}

/// Else nothing would be forgotten, and no new request be taken, for as long as the clock was ahead.
#[tokio::test]
async fn a_clock_that_was_ahead_for_long_forgets_nothing_and_keeps_nobody_out_when_it_is_right() {
    for database in databases().await {
        let (all, clock) = (requests::<7>(), Clock::manual(1_000));
        let answers = start(&database, &limits(2, 1_000), &clock).await;
        clock.advance(CLOCKS_DIFFER);
        first(&answers, all[0]).await.leave(response("x")).await;
        clock.step_to(50_000);
        assert_eq!(again(&answers, all[0]).await, Some(201));
        clock.advance(CLOCKS_DIFFER);
        assert_eq!(again(&answers, all[0]).await, Some(201), "believed, and nothing is older by it");
        clock.advance(100);
        first(&answers, all[1]).await.leave(response("x")).await;
        clock.step_to(1_300);
        assert_eq!(again(&answers, all[0]).await, Some(201), "{}", database.kind);
        first(&answers, all[2]).await.leave(response("x")).await;
        let told = answers.claim(all[3], lock(all[3]), soon()).await;
        assert!(matches!(told, Claim::Later(seconds) if seconds <= 100), "a window at most");
        // Also for one that starts now and finds what the wrong clock wrote.
        let anew = start(&database, &limits(2, 1_000), &clock).await;
        clock.advance(CLOCKS_DIFFER);
        for answers in [&answers, &anew] {
            assert_eq!(again(answers, all[1]).await, Some(201), "{}", database.kind);
            // Whoever writes finds it.
            answers.writer.leave(all[6], lock(all[6]).lock(&response("x")).unwrap()).await;
        }
        clock.advance(100);
        for (answers, enc) in [(&answers, all[4]), (&anew, all[5])] {
            first(answers, enc).await.leave(response("x")).await;
            assert_eq!(again(answers, enc).await, Some(201), "{}", database.kind);
        }
        let found = start(&database, &limits(2, 1_000), &clock).await;
        assert!(found.promised_from() <= clock.now());
    }
}

/// The promise of a first start by a clock that was ahead.
#[tokio::test]
async fn dates_are_taken_although_the_memory_was_begun_by_a_clock_that_was_ahead() {
    let clock = Clock::manual(50_000);
    let database = mica_service::testing::sqlite();
    let answers = start(&database, &limits(2, 1_000), &clock).await;
    let rule = DateRule::new(&limits(2, 1_000), answers.promised_from(), clock.clone());
    clock.step_to(1_000);
    assert!(rule.refusal(&dated(1_000)).is_none());
    clock.advance(10);
    assert!(rule.refusal(&dated(1_005)).is_none());
    assert!(rule.refusal(&dated(990)).is_some(), "from before anybody knew");
}

fn dated(at: u64) -> mica_envelope::InnerRequest {
    let date = std::time::UNIX_EPOCH + Duration::from_secs(at);
    mica_envelope::InnerRequest {
        method: "POST".into(),
        scheme: "https".into(),
        authority: "x".into(),
        path: "/".into(),
        headers: vec![("date".to_owned(), httpdate::fmt_http_date(date).into_bytes())],
        body: "".into(),
    }
}
