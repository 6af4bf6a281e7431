//! A database that fails: nobody is told to come back with what was answered, and the log stays short.

use super::*;

/// A database that takes nothing: whoever was served is told so, and nobody else is served until it takes them.
#[tokio::test]
async fn a_database_that_takes_nothing_costs_no_answer_and_lets_nothing_new_in() {
    for database in databases().await {
        let ([a, b], clock) = (requests(), Clock::manual(1_000));
        let broken = Arc::new(Broken::default());
        let store = database.open(&crate::MIGRATOR).await.unwrap().watched_by(broken.clone());
        let answers = Answers::open(&store, &limits(10, 1_000), Steady::new(clock.clone()), UnderWay::new())
            .await
            .unwrap();
        let ticket = first(&answers, a).await;
        broken.0.store(true, std::sync::atomic::Ordering::SeqCst);
        ticket.leave(response("x")).await;
        assert_eq!(again(&answers, a).await, Some(201));
        assert!(matches!(answers.claim(b, lock(b), soon()).await, Claim::Later(1)), "{}", database.kind);
        broken.0.store(false, std::sync::atomic::Ordering::SeqCst);
        let ticket = loop {
            match answers.claim(b, lock(b), soon()).await {
                Claim::First(ticket) => break ticket,
                Claim::Later(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                Claim::Again(_) => panic!("nobody answered it"),
            }
        };
        ticket.leave(response("x")).await;
        let answers = start(&database, &limits(10, 1_000), &clock).await;
        assert_eq!(again(&answers, a).await, Some(201), "{}: written when it could be", database.kind);
    }
}

#[derive(Default)]
struct Broken(std::sync::atomic::AtomicBool);

impl mica_service::store::Watch for Broken {
    fn reach(&self, name: &'static str, _: mica_service::store::Moment) -> mica_service::store::Verdict<'_> {
        let broken = name == "leave_answers" && self.0.load(std::sync::atomic::Ordering::SeqCst);
        Box::pin(async move {
            if broken { Err(StoreError::Database("a test says so".to_owned())) } else { Ok(()) }
        })
    }
}

/// A database that does nothing of this kind.
struct BrokenFor(&'static [&'static str]);

impl mica_service::store::Watch for BrokenFor {
    fn reach(&self, name: &'static str, _: mica_service::store::Moment) -> mica_service::store::Verdict<'_> {
        let broken = self.0.contains(&name);
        Box::pin(async move {
            if broken { Err(StoreError::Database("a test says so".to_owned())) } else { Ok(()) }
        })
    }
}

/// The lines of the log of this thread, as long as the other is kept.
fn listen() -> (Lines, impl Sized) {
    let lines = Lines::default();
    let format = mica_service::telemetry::LogFormat::Text;
    let (subscriber, routes) = mica_service::telemetry::subscriber(format, "info", lines.clone()).unwrap();
    let dispatch = tracing::Dispatch::new(subscriber);
    // With one listener alone, what the thread of another test meets first is silenced for all.
    let second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
    (lines, (tracing::dispatcher::set_default(&dispatch), second, routes))
}

#[derive(Clone, Default)]
struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);

impl Lines {
    /// Those with this word.
    fn with(&self, word: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(word)).map(str::to_owned).collect()
    }
}

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Whoever sends could fill the disk, and the moments of requests would be kept.
#[tokio::test]
async fn a_database_that_fails_writes_no_line_for_each_request() {
    let Some(database) = mica_service::testing::postgres().await else { return };
    let (lines, _guard) = listen();
    let store = database
        .open(&crate::MIGRATOR)
        .await
        .unwrap()
        .watched_by(Arc::new(BrokenFor(&["claim_answers", "look_up_answer"])));
    let steady = Steady::new(Clock::manual(1_000));
    let answers = Answers::open(&store, &limits(1_000, 1_000_000), steady, UnderWay::new()).await.unwrap();
    for number in 0..50 {
        let enc = EncDigest::from_bytes([number; 16]);
        assert!(matches!(answers.claim(enc, lock(enc), soon()).await, Claim::Later(1)));
        assert!(answers.recall(enc, &lock(enc), true).await.is_some());
    }
    let warned = lines.with("WARN");
    assert!((1..10).contains(&warned.len()), "{warned:#?}");
}

/// With a target that is not there and a database that is slow, each request would have its line.
#[tokio::test]
async fn claims_that_cannot_be_taken_back_write_no_line_for_each_request() {
    let Some(database) = mica_service::testing::postgres().await else { return };
    let (lines, _guard) = listen();
    let broken = Arc::new(BrokenFor(&["release_claim"]));
    let store = database.open(&crate::MIGRATOR).await.unwrap().watched_by(broken);
    let steady = Steady::new(Clock::manual(1_000));
    let answers = Answers::open(&store, &limits(1_000, 1_000_000), steady, UnderWay::new()).await.unwrap();
    for enc in requests::<50>() {
        first(&answers, enc).await.take_back(response("x")).await;
    }
    let warned = lines.with("taken back");
    assert!((1..10).contains(&warned.len()), "{warned:#?}");
}

/// RFC 9458 6.5: told to come back, its client would have the target act on it twice.
#[tokio::test]
async fn what_is_known_to_be_answered_is_told_as_given_when_it_cannot_be_read() {
    let (database, [a], clock) = (mica_service::testing::sqlite(), requests(), Clock::manual(1_000));
    let limits = limits(10, 1_000);
    first(&start(&database, &limits, &clock).await, a).await.leave(response("x")).await;
    let broken = Arc::new(BrokenFor(&["look_up_answer"]));
    let store = database.open(&crate::MIGRATOR).await.unwrap().watched_by(broken);
    let answers = Answers::open(&store, &limits, Steady::new(clock), UnderWay::new()).await.unwrap();
    assert_eq!(again(&answers, a).await, Some(409));
    assert!(matches!(answers.recall(a, &lock(a), false).await, Some(Claim::Again(_))));
}

/// The machine of the database loses its power, or a firewall forgets the connections: nothing comes back on them. New ones
/// are answered, as after a failover. What asks for everybody must not wait for ever on an old one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_falls_silent_is_asked_again_on_other_connections() {
    let Some(mut database) = mica_service::testing::postgres().await else { return };
    let silence = silenced(&mut database).await;
    let store = database.open(&crate::MIGRATOR).await.unwrap();
    let (clock, limits) = (Clock::manual(1_000), limits(1_000, 1_000_000));
    let answers = Answers::open(&store, &limits, Steady::new(clock.clone()), UnderWay::new()).await.unwrap();
    let [a, b, fresh @ ..] = requests::<200>();
    first(&answers, a).await.leave(response("x")).await;
    let ticket = first(&answers, b).await;
    silence.send(()).unwrap();
    // It is told although nobody can write it down.
    ticket.leave(response("x")).await;
    let mut refused = 0;
    for enc in fresh {
        match answers.claim(enc, lock(enc), soon()).await {
            Claim::First(ticket) => {
                ticket.leave(response("x")).await;
                break;
            }
            Claim::Later(_) => refused += 1,
            Claim::Again(_) => panic!("nobody has sent it before"),
        }
        assert!(refused < 150, "for half a minute and more nobody is served");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(refused > 0, "the connections that were there are silent");
    let elsewhere = start(&database, &limits, &clock).await;
    for enc in [a, b] {
        assert_eq!(again(&elsewhere, enc).await, Some(201), "what was answered is written down in the end");
    }
}

/// Puts between `database` and its server what forgets all connections that it has when it is told to, and no others.
async fn silenced(database: &mut mica_service::testing::TestDatabase) -> tokio::sync::watch::Sender<()> {
    let (_, behind) = database.url.split_once('@').unwrap();
    let server = behind.split('/').next().unwrap().to_owned();
    let between = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    database.url = database.url.replace(&server, &between.local_addr().unwrap().to_string());
    let (silence, silent) = tokio::sync::watch::channel(());
    tokio::spawn(async move {
        loop {
            let (mut near, _) = between.accept().await.unwrap();
            let (server, mut silent) = (server.clone(), silent.clone());
            silent.borrow_and_update();
            tokio::spawn(async move {
                let mut far = tokio::net::TcpStream::connect(server).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    _ = silent.changed() => std::future::pending().await,
                }
            });
        }
    });
    silence
}
