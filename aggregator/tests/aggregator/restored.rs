//! A database that was restored from an older copy gives no budget back and lets nothing be drawn for twice.

use std::path::{Path, PathBuf};

use http::StatusCode;
use mica_aggregator::Role;
use mica_aggregator::high_water::{HighWater, Setback};
use mica_aggregator::shared::Limits;
use mica_dap::codec::Encode as _;
use mica_dap::time::Time;
use mica_service::testing::{TestDatabase, databases};
use tempfile::TempDir;

use crate::support::leader::{ids, now, share_request};
use crate::support::{Flaw, ScriptedLeader, Server, TestTask};

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
        let accept = |entries| HighWater::accept(&mark, &server.store, entries);
        assert_eq!(accept(4).await.expect("nothing is written"), None);
        assert_eq!(leader.post_share(later.clone()).await.problem(), "ledger-set-back");
        assert_eq!(accept(2).await.expect("it can be written").map(|head| head.sequence), Some(2));
        assert_eq!(leader.post_share(later).await.status, StatusCode::OK, "without a restart");
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
