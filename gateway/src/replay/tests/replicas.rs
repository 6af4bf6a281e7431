//! Several processes on one PostgreSQL.

use super::*;

/// Of two processes on one database, one asks the target and both have its answer.
#[tokio::test]
async fn replicas_share_what_they_were_answered() {
    let Some(database) = mica_service::testing::postgres().await else { return };
    let ([a, b, c], clock) = (requests(), Clock::manual(1_000));
    let one = start(&database, &limits(10, 1_000), &clock).await;
    let two = start(&database, &limits(10, 1_000), &clock).await;
    first(&one, a).await.leave(response("x")).await;
    assert_eq!(again(&two, a).await, Some(201));

    let ticket = first(&one, b).await;
    let waiting = tokio::spawn({
        let two = two.clone();
        async move { again(&two, b).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    ticket.leave(response("x")).await;
    assert_eq!(waiting.await.unwrap(), Some(201));

    // The generations turn once, whoever of them turns them.
    clock.advance(100);
    first(&two, c).await.leave(response("x")).await;
    let three = start(&database, &limits(10, 1_000), &clock).await;
    for enc in [a, b, c] {
        assert_eq!(again(&three, enc).await, Some(201));
    }
}

/// A claim that was taken over in the older generation went when that did.
#[tokio::test]
async fn a_claim_that_was_taken_over_outlives_the_generation_in_which_it_was_first_made() {
    let Some(database) = mica_service::testing::postgres().await else { return };
    let ([a, b], clock) = (requests(), Clock::manual(1_000));
    let limits = limits(10, 1_000);
    let one = start(&database, &limits, &clock).await;
    let two = start(&database, &limits, &clock).await;
    let three = start(&database, &limits, &clock).await;
    drop(first(&one, a).await);
    clock.advance(100);
    first(&two, b).await.leave(response("x")).await;
    clock.advance(95);
    let ticket = first(&two, a).await;
    clock.advance(10);
    let standing = three.claim(a, lock(a), Instant::now()).await;
    assert!(matches!(standing, Claim::Later(_)), "somebody works on it");
    ticket.leave(response("x")).await;
    assert_eq!(again(&three, a).await, Some(201));
}

/// A replica that has not heard of the turn would claim in the table that is emptied next.
#[tokio::test]
async fn nothing_is_claimed_or_left_in_a_generation_that_is_over() {
    let Some(database) = mica_service::testing::postgres().await else { return };
    let ([a, b], clock) = (requests(), Clock::manual(1_000));
    let store = database.open(&crate::MIGRATOR).await.unwrap();
    let steady = Steady::new(clock.clone());
    let window = Duration::from_secs(100);
    table::open(&store, &steady, window).await.unwrap();
    let turn = async || {
        let look = steady.look();
        let turned = store.tx("turn", move |mut tx| async move {
            let current = table::turn(&mut tx, look, window).await?;
            Ok((tx, current))
        });
        turned.await.unwrap()
    };
    let (line, stale) = (store.line(), turn().await);
    assert!(group::claim(&line, stale, &[a], 2_000).await.unwrap() == [a]);
    clock.advance(100);
    let current = turn().await;
    assert_eq!(current.generation, stale.generation + 1);
    assert!(group::claim(&line, stale, &[b], 2_000).await.unwrap().is_empty());
    let left = table::Left { enc: b, answer: vec![7; 40] };
    assert!(!group::leave(&line, stale, &[&left]).await.unwrap());
    assert!(group::claim(&line, current, &[b], 2_000).await.unwrap() == [b]);
}

/// Counts the looks for answers.
#[derive(Default)]
struct Looks(std::sync::atomic::AtomicUsize);

impl mica_service::store::Watch for Looks {
    fn reach(&self, name: &'static str, _: mica_service::store::Moment) -> mica_service::store::Verdict<'_> {
        let looks = usize::from(name == "look_up_answer");
        self.0.fetch_add(looks, std::sync::atomic::Ordering::SeqCst);
        Box::pin(async { Ok(()) })
    }
}

/// Those whose date is wrong have no place at a target, and each would have a connection to the database.
#[tokio::test]
async fn many_who_ask_at_once_what_replicas_were_answered_share_few_looks() {
    let Some(database) = mica_service::testing::postgres().await else { return };
    let ([known], clock) = (requests(), Clock::manual(1_000));
    first(&start(&database, &limits(10, 1_000), &clock).await, known).await.leave(response("x")).await;
    let looks = Arc::new(Looks::default());
    let store = database.open(&crate::MIGRATOR).await.unwrap().watched_by(looks.clone());
    let answers =
        Answers::open(&store, &limits(10, 1_000), Steady::new(clock), UnderWay::new()).await.unwrap();
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..1_000_u16 {
        let mut enc = [7; 16];
        enc[..2].copy_from_slice(&number.to_be_bytes());
        let enc = if number % 2 == 0 { known } else { EncDigest::from_bytes(enc) };
        let answers = answers.clone();
        asking.spawn(async move { answers.recall(enc, &lock(enc), true).await });
    }
    let told: Vec<Option<Claim>> = asking.join_all().await;
    let answered = told.iter().filter(|told| matches!(told, Some(Claim::Again(_)))).count();
    assert_eq!((answered, told.iter().flatten().count()), (500, 500), "and who is new is not known");
    let looks = looks.0.load(std::sync::atomic::Ordering::SeqCst);
    assert!((1..=100).contains(&looks), "{looks}");
}

/// Its claim would be in the table that is the older one then, and nobody who claims in the next would see it before it is
/// committed: both would ask the target.
#[tokio::test]
async fn no_generation_ends_under_somebody_who_claims_in_it() {
    let Some(database) = mica_service::testing::postgres().await else { return };
    let ([a], clock, ahead) = (requests(), Clock::manual(1_000), Clock::manual(1_100));
    let limits = limits(10, 1_000);
    let late = start(&database, &limits, &clock).await;
    let store = database.open(&crate::MIGRATOR).await.unwrap();
    // It has looked which generation it is, and waits with its next step.
    let (held, holds) = tokio::sync::oneshot::channel();
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let holding = tokio::spawn({
        let (store, mut signals) = (store.clone(), Some((held, released)));
        async move {
            let holding = store.tx("hold", move |mut tx| {
                let signals = signals.take();
                async move {
                    let lock = "LOCK TABLE gateway_answers_even IN ACCESS EXCLUSIVE MODE";
                    sqlx::query(lock).execute(tx.connection()).await?;
                    let (held, released) = signals.expect("nobody is in its way");
                    held.send(()).unwrap();
                    released.await.unwrap();
                    Ok((tx, ()))
                }
            });
            holding.await.unwrap();
        }
    });
    holds.await.unwrap();
    let until = Instant::now() + Duration::from_secs(1_000);
    let claiming = tokio::spawn(async move { late.claim(a, lock(a), until).await });
    let line = store.line();
    let waiting = async || {
        let many = "SELECT COUNT(*) AS many FROM pg_stat_activity                     WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let rows = line.fetch_all("waiting", || sqlx::query(many)).await.unwrap();
        mica_service::store::Fields::of("pg_stat_activity", &rows[0]).unsigned("many").unwrap()
    };
    while waiting().await < 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let turning = tokio::spawn({
        let (store, steady) = (store.clone(), Steady::new(ahead.clone()));
        steady.look();
        ahead.advance(CLOCKS_DIFFER);
        let look = steady.look();
        async move {
            let turned = store.tx("turn", move |mut tx| async move {
                let current = table::turn(&mut tx, look, Duration::from_secs(100)).await?;
                Ok((tx, current))
            });
            turned.await.unwrap().generation
        }
    });
    while waiting().await < 2 && !turning.is_finished() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!turning.is_finished());
    release.send(()).unwrap();
    holding.await.unwrap();
    assert_eq!(turning.await.unwrap(), 1);
    // Who claims in the next finds it, whether who claimed it had the patience to hear so or not.
    let next = start(&database, &limits, &ahead).await;
    assert!(matches!(next.claim(a, lock(a), Instant::now()).await, Claim::Later(_)));
    assert!(!matches!(claiming.await.unwrap(), Claim::Again(_)));
}
