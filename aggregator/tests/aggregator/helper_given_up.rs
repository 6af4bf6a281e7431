//! What the helper has taken in and cannot do: tried again, but not for ever, and never quietly forgotten.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use mica_aggregator::Role;
use mica_aggregator::config::Answers;
use mica_aggregator::error::GIVEN_UP;
use mica_aggregator::shared::Limits;
use mica_dap::id::AggregationJobId;
use mica_dap::resource::Resource;
use mica_service::store::{Moment, Verdict, Watch};
use mica_service::testing::databases;
use tokio::time::{Instant, sleep};

use crate::helper_deferred::parked;
use crate::support::leader::{job, verdicts};
use crate::support::{NOW, ScriptedLeader, Server, TestTask};

/// Every job that is committed ends in a panic, while it is told so.
#[derive(Default)]
struct Panics(AtomicBool);

impl Watch for Panics {
    fn reach(&self, name: &'static str, _: Moment) -> Verdict<'_> {
        Box::pin(async move {
            assert!(name != "helper_job" || !self.0.load(Ordering::SeqCst), "on purpose");
            Ok(())
        })
    }
}

/// Lets time pass until the helper has nothing to do, but not for ever.
async fn worked_off(server: &Server) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while server.waiting_work().await > 0 {
        assert!(Instant::now() < deadline, "the helper works on it for ever");
        server.clock.advance(100);
        sleep(Duration::from_millis(20)).await;
    }
}

fn place(task: &TestTask, id: AggregationJobId) -> String {
    Resource::AggregationJob(task.id, id, Some(0)).absolute_path(task.configuration.helper_url())
}

#[tokio::test]
async fn a_job_that_the_helper_panics_over_is_given_up_and_says_so() {
    for database in databases().await {
        let task = TestTask::plain();
        let panics = Arc::new(Panics::default());
        let limits = Limits { answers: Answers::Deferred, ..Limits::default() };
        let watch: Arc<dyn Watch> = panics.clone();
        let server = Server::watched(Role::Helper, &task, &database, limits, watch).await;
        let leader = ScriptedLeader::of(&task, &server);
        let reports = leader.reports(&[1, 2]);
        panics.0.store(true, Ordering::SeqCst);
        let id = parked(&server, &job(&reports), NOW + 10).await;
        worked_off(&server).await;
        panics.0.store(false, Ordering::SeqCst);
        for answer in
            [leader.follow(Method::GET, &place(&task, id)).await, leader.post_job(job(&reports)).await]
        {
            assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{}", database.kind);
            let said = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(said.contains(GIVEN_UP) && said.contains("failed 15 times"), "{said}");
        }
        assert_eq!((server.counted().await, server.tallies().await), (0, Vec::new()));
        // Nothing of it was counted, and everything else goes on.
        let other = leader.reports(&[1, 2, 3]);
        let answer = leader.patiently(leader.post_job(job(&other)).await).await;
        assert_eq!(leader.errors(&verdicts(&answer, &other)), [None; 3]);
    }
}

#[tokio::test]
async fn a_job_that_every_worker_dies_of_is_given_up_too() {
    for database in databases().await {
        let task = TestTask::plain();
        let server = Server::deferring(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let id = parked(&server, &job(&leader.reports(&[1, 2])), NOW + 10).await;
        let died = server.store.tx("died", |mut tx| async move {
            sqlx::query("UPDATE helper_work SET attempts = 15").execute(tx.connection()).await?;
            Ok((tx, ()))
        });
        died.await.expect("the database does so");
        worked_off(&server).await;
        let answer = leader.follow(Method::GET, &place(&task, id)).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{}", database.kind);
        assert_eq!(server.counted().await, 0);
    }
}

#[tokio::test]
async fn what_waits_of_a_task_that_is_over_is_dropped() {
    for database in databases().await {
        let task = TestTask::plain();
        let server = Server::deferring(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let id = parked(&server, &job(&leader.reports(&[1, 2])), NOW + 1_000).await;
        let over = server.store.tx("over", |mut tx| async move {
            let query = sqlx::query("UPDATE tasks SET expires_at = $1")
                .bind(i64::try_from(NOW + 500).expect("a time"));
            query.execute(tx.connection()).await?;
            Ok((tx, ()))
        });
        over.await.expect("the database does so");
        server.clock.set(NOW + 600);
        let deadline = Instant::now() + Duration::from_mins(1);
        while leader.follow(Method::GET, &place(&task, id)).await.status.is_success() {
            assert!(Instant::now() < deadline, "the task is served for ever");
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(server.waiting_work().await, 1, "not due yet");
        worked_off(&server).await;
        assert_eq!((server.counted().await, server.tallies().await), (0, Vec::new()), "{}", database.kind);
    }
}
