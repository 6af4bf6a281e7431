//! A database that was restored from an older copy gives no budget back and lets nothing be drawn for twice.

use std::path::{Path, PathBuf};

use axum::body::Body;
use http::{Request, StatusCode};
use mica_aggregator::Role;
use mica_aggregator::admin::{self, Desk};
use mica_aggregator::auth::TokenHash;
use mica_aggregator::budget::{Filter, history, verify};
use mica_aggregator::high_water::{Acceptance, HighWater, Setback};
use mica_aggregator::shared::Limits;
use mica_dap::codec::Encode as _;
use mica_dap::time::Time;
use mica_dp::EntryKind;
use mica_dp::EntryKind::{Charge, Commit};
use mica_service::http::{HttpClient, HttpOptions};
use mica_service::testing::{TestDatabase, databases};
use tempfile::TempDir;
use tower::ServiceExt as _;

use crate::support::leader::{ids, now, share_request};
use crate::support::task::Kind;
use crate::support::{Flaw, ScriptedLeader, Server, TestTask, World};

struct Marked {
    task: TestTask,
    folder: TempDir,
}

impl Marked {
    fn new() -> Self {
        Self { task: TestTask::noised(), folder: tempfile::tempdir().expect("a temporary folder") }
    }

    fn mark(&self) -> PathBuf {
        self.folder.path().join("helper.mark")
    }

    async fn helper(&self, database: &TestDatabase, mark: &Path) -> (Server, ScriptedLeader) {
        let limits = Limits::default();
        let server = Server::marked(Role::Helper, &self.task, database, limits, Some(mark)).await;
        let leader = ScriptedLeader::of(&self.task, &server);
        (server, leader)
    }
}

/// What the admin listener of a server with this mark shows a scraper.
async fn scrape(server: &Server, task: &TestTask, mark: &Path) -> String {
    let desk = Desk {
        store: server.store.clone(),
        clock: server.clock.clone(),
        role: Role::Helper,
        policy: task.policy().into(),
        min_batch_size_floor: 2,
        http: HttpClient::new(HttpOptions::default()),
        high_water: mark_of(mark),
        paces: None,
    };
    let request = Request::get("/metrics").header("authorization", "Bearer scraper");
    let answer = admin::router(desk, TokenHash::of("scraper"))
        .oneshot(request.body(Body::empty()).expect("a request"))
        .await
        .expect("it answers");
    let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.expect("a short text");
    String::from_utf8(body.to_vec()).expect("figures are text")
}

fn mark_of(path: &Path) -> HighWater {
    HighWater::at(path).expect("it can be read")
}

/// Aggregates the reports of an hour, and what asks for their share.
async fn hour(leader: &ScriptedLeader, hour: u64) -> Vec<u8> {
    let time = Time(now().0 - hour);
    let reports = [1, 2].map(|value| leader.report_at(value, time, Flaw::None));
    let answer = leader.aggregate(&reports).await;
    assert_eq!(leader.errors(&answer), [None, None], "reports are taken, whatever the ledger says");
    share_request(time, 1, &ids(&reports)).encoded()
}

#[tokio::test]
async fn nothing_is_released_from_a_restored_database_until_its_operator_accepts_it() {
    for database in databases().await {
        let marked = Marked::new();
        let (server, leader) = marked.helper(&database, &marked.mark()).await;
        let requests = [hour(&leader, 0).await, hour(&leader, 1).await];
        let first = leader.post_share(requests[0].clone()).await;
        assert_eq!(first.status, StatusCode::OK, "{first:?}");
        server.store.close().await;
        server.kill();
        let backup = database.copy().await;
        let (server, leader) = marked.helper(&database, &marked.mark()).await;
        assert_eq!(leader.post_share(requests[1].clone()).await.status, StatusCode::OK);
        server.kill();

        let (server, leader) = marked.helper(&backup, &marked.mark()).await;
        let refused = leader.post_share(requests[1].clone()).await;
        assert_eq!((refused.status, refused.problem().as_str()), (StatusCode::FORBIDDEN, "ledger-set-back"));
        assert_eq!(server.spent().await, [(100_000_000_000, 2)], "{}", database.kind);
        let later = hour(&leader, 2).await;
        assert_eq!(leader.post_share(later.clone()).await.problem(), "ledger-set-back");
        assert_eq!(leader.post_share(requests[0].clone()).await, first, "what was released is as it was");
        let mark = HighWater::open(&marked.mark(), &server.store).await.expect("it can be read");
        let setback = mark.setback(&server.store).await.expect("the database answers");
        assert_eq!(setback, Some(Setback::Older { mark: 4, entries: 2 }));

        let mark = marked.mark();
        let scraped = scrape(&server, &marked.task, &mark).await;
        assert!(scraped.contains("mica_ledger_set_back{how=\"older\"} 1\n"), "{scraped}");
        let by = &Acceptance::new("alice", "the disk failed").expect("two short texts");
        let accept = |entries| HighWater::accept(&mark, &server.store, entries, by, 1_795_000_000);
        assert_eq!(accept(4).await.expect("nothing is written"), None);
        assert_eq!(leader.post_share(later.clone()).await.problem(), "ledger-set-back");
        assert_eq!(accept(2).await.expect("it can be written").map(|head| head.sequence), Some(3));
        assert_eq!(leader.post_share(later).await.status, StatusCode::OK, "without a restart");
        let scraped = scrape(&server, &marked.task, &mark).await;
        assert!(scraped.contains("mica_ledger_set_back{how=\"older\"} 0\n"), "{scraped}");
        assert_eq!(server.spent().await, [(200_000_000_000, 5)], "{}", database.kind);
        let verified = verify(&server.store, &mark_of(&mark)).await.expect("the database answers");
        let verified = verified.expect("all of it follows");
        assert_eq!((verified.charges, verified.accepted_restores, verified.head.sequence), (2, 1, 5));
        let everything = history(&server.store, &Filter::default(), 10).await.expect("the database answers");
        let entry = everything.iter().find(|entry| entry.sequence == 3).expect("it is in the ledger");
        assert_eq!((entry.kind, entry.units), (EntryKind::AcceptedRestore, 0));
        assert_eq!(entry.created_at, 1_795_000_000);
        let note = "alice: the disk failed (the ledger had come to entry 4 and ended at entry 2)";
        assert_eq!(entry.note.as_deref(), Some(note));
        assert_eq!(accept(5).await.expect("there is nothing to do").map(|head| head.sequence), Some(5));
        assert_eq!(server.entries().await.len(), 5, "what is not set back is not accepted");
    }
}

#[tokio::test]
async fn a_database_without_its_mark_or_with_that_of_another_releases_nothing() {
    for database in databases().await {
        let marked = Marked::new();
        let (server, leader) = marked.helper(&database, &marked.mark()).await;
        let first = hour(&leader, 0).await;
        assert_eq!(leader.post_share(first).await.status, StatusCode::OK);
        let second = hour(&leader, 1).await;
        server.kill();
        let lost = marked.folder.path().join("lost.mark");
        let (server, leader) = marked.helper(&database, &lost).await;
        assert_eq!(leader.post_share(second.clone()).await.problem(), "ledger-set-back");
        assert!(!lost.exists(), "nobody vouches for what is not known");
        server.kill();
        let text = std::fs::read_to_string(marked.mark()).expect("it was written");
        let (other, end) = text.trim_end().split_at(text.trim_end().len() - 1);
        let other = format!("{other}{}\n", if end == "0" { "1" } else { "0" });
        std::fs::write(marked.mark(), other).expect("a folder of our own");
        let (server, leader) = marked.helper(&database, &marked.mark()).await;
        assert_eq!(leader.post_share(second.clone()).await.problem(), "ledger-set-back");
        std::fs::write(marked.mark(), text).expect("a folder of our own");
        assert_eq!(leader.post_share(second).await.status, StatusCode::OK);
        assert_eq!(server.spent().await, [(200_000_000_000, 4)], "{}", database.kind);
    }
}

#[tokio::test]
async fn a_share_whose_charge_cannot_be_marked_does_not_leave() {
    let database = mica_service::testing::sqlite();
    let marked = Marked::new();
    let place = marked.folder.path().join("place");
    std::fs::create_dir(&place).expect("a folder of our own");
    let (server, leader) = marked.helper(&database, &place.join("mark")).await;
    let request = hour(&leader, 0).await;
    std::fs::remove_dir_all(&place).expect("a folder of our own");
    let failed = leader.post_share(request.clone()).await;
    assert_eq!(failed.status, StatusCode::INTERNAL_SERVER_ERROR);
    std::fs::create_dir(&place).expect("a folder of our own");
    let reply = leader.post_share(request).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(server.spent().await, [(100_000_000_000, 2)], "charged once");
    let text = std::fs::read_to_string(place.join("mark")).expect("it was written");
    assert!(text.starts_with("mica-ledger-mark/1 2 "), "{text}");
}

#[tokio::test]
async fn a_helper_is_not_asked_before_the_charge_is_marked() {
    for database in databases().await {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let place = folder.path().join("place");
        std::fs::create_dir(&place).expect("a folder of our own");
        let kind = Kind { epsilon: Some("1/10"), ..Kind::default() };
        let world = World::marked(kind, &database, &place.join("mark")).await;
        assert_eq!(world.upload(&world.reports(&[1, 2])).await, []);
        world.settled().await;
        std::fs::remove_dir_all(&place).expect("a folder of our own");
        let begun = world.collect().await;
        let location = begun.location.expect("a job has a place");
        let unmarked = async || {
            let troubles = world.leader.troubles_of_collections().await;
            troubles.iter().any(|why| why.contains("high-water mark"))
        };
        world.until("a mark that cannot be written", unmarked).await;
        assert_eq!(world.leader.entries().await, [Charge]);
        assert_eq!(world.helper.posted("/aggregate_shares").len(), 0, "{}", database.kind);
        std::fs::create_dir(&place).expect("a folder of our own");
        let reply = world.concluded(&location).await;
        assert_eq!(world.total(&reply).0, 2);
        assert_eq!(world.helper.posted("/aggregate_shares").len(), 1);
        assert_eq!(world.leader.entries().await, [Charge, Commit], "charged once");
    }
}

/// How far the ledger had come, as the file says.
fn marked_at(mark: &Path) -> u64 {
    let text = std::fs::read_to_string(mark).expect("it was written");
    text.split(' ').nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

#[tokio::test]
async fn a_replica_that_releases_nothing_marks_what_the_others_release() {
    for database in databases().await {
        let marked = Marked::new();
        let (busy, leader) = marked.helper(&database, &marked.mark()).await;
        let idle_mark = marked.folder.path().join("idle.mark");
        let (idle, of_idle) = marked.helper(&database, &idle_mark).await;
        let requests = [hour(&leader, 0).await, hour(&leader, 1).await, hour(&leader, 2).await];
        assert_eq!(leader.post_share(requests[0].clone()).await.status, StatusCode::OK);
        // Asked for a batch that nobody has, it releases nothing; but it has looked.
        let none = share_request(Time(now().0 - 9), 1, &[]).encoded();
        assert_eq!(of_idle.post_share(none).await.problem(), "invalidBatchSize");
        assert_eq!(marked_at(&idle_mark), 2, "{}", database.kind);
        assert_eq!(leader.post_share(requests[1].clone()).await.status, StatusCode::OK);
        // Asked for nothing at all, it looks by itself.
        for _ in 0..100 {
            if marked_at(&idle_mark) == 4 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        assert_eq!(marked_at(&idle_mark), 4, "{}", database.kind);
        busy.kill();
        idle.kill();
    }
}
