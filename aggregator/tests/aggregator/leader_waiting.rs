//! Collections that wait, of several tasks at one leader: they cost next to nothing until something happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration as RealTime;

use mica_aggregator::aggregator::Options;
use mica_aggregator::shared::Limits;
use mica_aggregator::store::collection_jobs::{self, NewCollectionJob};
use mica_aggregator::store::{Store, migrator};
use mica_aggregator::{Aggregator, Role};
use mica_dap::collection::{CollectionJobReq, Query};
use mica_dap::id::CollectionJobId;
use mica_dap::time::{Duration, Interval, Time};
use mica_service::clock::Clock;
use mica_service::compute::ComputePool;
use mica_service::http::{HttpClient, HttpOptions};
use mica_service::shutdown::Shutdown;
use mica_service::testing::{TestDatabase, databases};
use tokio::net::TcpListener;

use crate::support::{NOW, TestTask};

/// A leader of three tasks on which nobody calls.
async fn leader(database: &TestDatabase) -> (Store, Vec<i64>, Arc<AtomicU64>, Clock) {
    let tasks = [TestTask::plain(), TestTask::plain(), TestTask::plain()];
    let store = database.open(migrator()).await.expect("the database of the test");
    let clock = Clock::manual(NOW);
    let options = Options {
        role: Role::Leader,
        store: store.clone(),
        clock: clock.clone(),
        compute: ComputePool::with_threads(1),
        http: HttpClient::new(HttpOptions::default()),
        policy: tasks[0].policy(),
        tasks: tasks.iter().map(|task| task.file(Role::Leader)).collect(),
        limits: Limits::default(),
    };
    let leader = Aggregator::build(options).await.expect("the tasks can be served");
    let passes = leader.passes_over_collections();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    tokio::spawn(leader.run(listener, Shutdown::new()));
    let keys = store.read("task_keys", |mut tx| async move {
        let keys = sqlx::query_scalar("SELECT id FROM tasks ORDER BY id").fetch_all(tx.connection()).await?;
        Ok((tx, keys))
    });
    let keys = keys.await.expect("the database answers");
    (store, keys, passes, clock)
}

/// Asks for `count` hours of the task that hold no reports.
async fn wait_for(store: &Store, task: i64, count: u64) {
    let asked = store.tx("ask", move |mut tx| async move {
        for hour in 0..count {
            let interval = Interval::new(Time(NOW / 3_600 + 2 * hour), Duration(1)).expect("one unit");
            let request = CollectionJobReq::new(Query::time_interval(interval), Vec::new()).bytes().to_vec();
            let id = CollectionJobId::random(&mut rand::rng());
            let job = NewCollectionJob { id, task, request, fence: 0, created_at: NOW };
            assert!(collection_jobs::insert(&mut tx, &job).await?);
        }
        Ok((tx, ()))
    });
    asked.await.expect("the database takes them");
}

#[tokio::test]
async fn collections_that_wait_in_several_tasks_keep_nobody_busy() {
    for database in databases().await {
        let (store, tasks, passes, clock) = leader(&database).await;
        for (task, count) in tasks.iter().zip([50, 1, 1]) {
            wait_for(&store, *task, count).await;
        }
        tokio::time::sleep(RealTime::from_secs(2)).await;
        assert!(passes.load(Ordering::SeqCst) >= 3, "{}: every task is looked through", database.kind);
        clock.advance(60);
        tokio::time::sleep(RealTime::from_secs(1)).await;
        let before = passes.load(Ordering::SeqCst);
        tokio::time::sleep(RealTime::from_secs(4)).await;
        let more = passes.load(Ordering::SeqCst) - before;
        assert!(more <= 3, "{}: {more} passes in four seconds", database.kind);
    }
}
