//! Batches of leader-selected tasks: their room, who gets which, and what a refusal leaves.

use mica_dap::batch::{BucketId, Checksum};
use mica_dap::id::{BatchId, CollectionJobId};
use mica_dap::time::Time;

use super::{at_once, commit, lease, stores, token};
use crate::store::batches::{self, BatchState, Room};
use crate::store::buckets::{self, BucketDelta};
use crate::store::collection_jobs::{self, NewCollectionJob};
use crate::store::{Store, StoreError, aggregation_jobs};

fn batch(number: u8) -> BatchId {
    BatchId::new([number; 32])
}

fn collection(number: u8) -> CollectionJobId {
    CollectionJobId::new([number; 16])
}

/// Puts so many verified reports in a batch.
async fn verified(store: &Store, batch: BatchId, reports: u64) {
    let delta = &BucketDelta {
        bucket: BucketId::LeaderSelected(batch),
        share: vec![1],
        report_count: reports,
        checksum: Checksum::default(),
        min_time: Time(1),
        max_time: Time(2),
    };
    let merge = |left: &[u8], right: &[u8]| Ok::<_, StoreError>([left, right].concat());
    commit!(store, |tx| buckets::add(tx, 1, std::slice::from_ref(delta), merge));
}

async fn rooms(store: &Store, target: u64) -> Vec<(BatchId, u64)> {
    let rooms = commit!(store, |tx| batches::with_room(tx, 1, target, 9));
    rooms.into_iter().map(|Room { batch, reports }| (batch, reports)).collect()
}

#[tokio::test]
async fn the_room_of_a_batch_is_what_neither_verified_nor_pending_reports_take() {
    for (_database, store) in stores().await {
        let (one, two) = (&batch(2), &batch(1));
        assert!(commit!(store, |tx| batches::begin(tx, 1, one, 100)));
        assert!(!commit!(store, |tx| batches::begin(tx, 1, one, 100)), "the name is taken");
        assert!(commit!(store, |tx| batches::begin(tx, 2, one, 100)), "but not in another task");
        assert!(commit!(store, |tx| batches::begin(tx, 1, two, 100)));
        assert_eq!(rooms(&store, 10).await, [(*one, 10), (*two, 10)], "the oldest first");
        verified(&store, *one, 3).await;
        let job = commit!(store, |tx| aggregation_jobs::create(tx, 1, Some(one), 7, 100));
        assert!(commit!(store, |tx| aggregation_jobs::under_way(tx, 1, one)));
        assert!(!commit!(store, |tx| aggregation_jobs::under_way(tx, 1, two)));
        assert_eq!(rooms(&store, 10).await, [(*two, 10)]);
        assert_eq!(commit!(store, |tx| batches::close_full(tx, 1, 3)), 0, "some are under way");

        // All seven are refused.
        commit!(store, |tx| aggregation_jobs::lease(tx, 1, lease(100, 1))).unwrap();
        assert!(commit!(store, |tx| aggregation_jobs::finish(tx, job, token(1))));
        assert!(!commit!(store, |tx| aggregation_jobs::under_way(tx, 1, one)));
        assert_eq!(rooms(&store, 10).await, [(*one, 7), (*two, 10)], "there is room again");
        verified(&store, *one, 7).await;
        assert_eq!(commit!(store, |tx| batches::close_full(tx, 1, 10)), 1);
        assert_eq!(rooms(&store, 20).await, [(*two, 20)], "a full batch takes no more");
        assert_eq!(rooms(&store, u64::MAX).await[0].1, i64::MAX as u64);
    }
}

#[tokio::test]
async fn the_oldest_batch_that_is_large_enough_is_next_and_belongs_to_one_collection() {
    for (_database, store) in stores().await {
        for number in [3, 1, 2] {
            let batch = &batch(number);
            commit!(store, |tx| batches::begin(tx, 1, batch, 100));
        }
        let next = async |least| commit!(store, |tx| batches::next_ready(tx, 1, least));
        assert_eq!(next(1).await, None);
        verified(&store, batch(3), 4).await;
        verified(&store, batch(1), 5).await;
        assert_eq!(next(5).await, Some(batch(1)));
        assert_eq!((next(4).await, next(6).await, next(u64::MAX).await), (Some(batch(3)), None, None));
        let (three, asks, other) = (&batch(3), &collection(1), &collection(2));
        assert!(commit!(store, |tx| batches::associate(tx, 1, three, asks)));
        assert!(!commit!(store, |tx| batches::associate(tx, 1, three, other)));
        assert_eq!(next(4).await, Some(batch(1)));
        assert!(rooms(&store, 10).await.iter().all(|(batch, _)| batch != three), "it takes no more reports");
        assert!(commit!(store, |tx| batches::give_back(tx, 1, three)));
        assert!(!commit!(store, |tx| batches::give_back(tx, 1, three)));
        assert_eq!((next(4).await, rooms(&store, 10).await[0]), (Some(*three), (*three, 6)));
        assert!(commit!(store, |tx| batches::associate(tx, 1, three, other)));
        assert!(commit!(store, |tx| batches::set_collected(tx, 1, three)));
        assert!(!commit!(store, |tx| batches::give_back(tx, 1, three)), "it is over");
        let states = commit!(store, |tx| batches::of_task(tx, 1, 9));
        let states: Vec<_> = states.iter().map(|row| (row.batch, row.state, row.collection)).collect();
        assert_eq!(states[0], (*three, BatchState::Collected, Some(*other)));
        assert_eq!(states[1], (batch(1), BatchState::Open, None));
    }
}

#[tokio::test]
async fn a_batch_that_was_refused_comes_after_the_others_and_one_that_failed_never_again() {
    for (_database, store) in stores().await {
        for number in [1, 2] {
            let batch = &batch(number);
            commit!(store, |tx| batches::begin(tx, 1, batch, 100));
            verified(&store, *batch, 5).await;
        }
        let next = async || commit!(store, |tx| batches::next_ready(tx, 1, 5));
        let (one, two) = (&batch(1), &batch(2));
        for asks in [&collection(1), &collection(2)] {
            let picked = &next().await.expect("one is ready");
            assert!(commit!(store, |tx| batches::associate(tx, 1, picked, asks)));
            assert!(commit!(store, |tx| batches::give_back_refused(tx, 1, picked, 0, "busy")));
        }
        assert_eq!(next().await, Some(*one), "each had its turn");
        commit!(store, |tx| batches::associate(tx, 1, one, &collection(3)));
        assert!(commit!(store, |tx| batches::give_back_refused(tx, 1, one, 6, "too small")));
        assert_eq!(rooms(&store, 5).await, [(*one, 1)], "it is topped up");
        commit!(store, |tx| batches::associate(tx, 1, two, &collection(4)));
        assert!(commit!(store, |tx| batches::fail(tx, 1, two, "mismatch")));
        assert_eq!(next().await, None);
        verified(&store, *one, 1).await;
        assert_eq!(next().await, Some(*one));
        let rows = commit!(store, |tx| batches::of_task(tx, 1, 9));
        assert_eq!(
            (rows[0].needs, rows[0].refusals, rows[0].last_problem.as_deref()),
            (6, 2, Some("too small"))
        );
        assert_eq!((rows[1].state, rows[1].last_problem.as_deref()), (BatchState::Failed, Some("mismatch")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_eight_who_pick_at_once_each_gets_another_batch() {
    for (_database, store) in stores().await {
        for number in 1..=8 {
            let batch = &batch(number);
            commit!(store, |tx| batches::begin(tx, 1, batch, 100));
            verified(&store, *batch, 5).await;
        }
        let picked = at_once(|number| {
            let store = store.clone();
            async move {
                let picked = store.tx("pick", |mut tx| async move {
                    batches::lock_batches(&mut tx, 1).await?;
                    let batch = batches::next_ready(&mut tx, 1, 5).await?.expect("enough for all");
                    assert!(batches::associate(&mut tx, 1, &batch, &collection(number)).await?);
                    Ok((tx, batch))
                });
                picked.await.expect("nobody is in the way")
            }
        });
        let mut picked = picked.await;
        picked.sort_unstable();
        picked.dedup();
        assert_eq!(picked.len(), 8);
    }
}

#[tokio::test]
async fn a_batch_that_a_job_is_under_way_for_comes_after_those_that_are_complete() {
    for (_database, store) in stores().await {
        for number in [1, 2] {
            let batch = &batch(number);
            commit!(store, |tx| batches::begin(tx, 1, batch, 100));
            verified(&store, *batch, 5).await;
        }
        let (one, two) = (&batch(1), &batch(2));
        let next = async || commit!(store, |tx| batches::next_ready(tx, 1, 5));
        let stuck = commit!(store, |tx| aggregation_jobs::create(tx, 1, Some(one), 7, 100));
        assert_eq!(next().await, Some(*two), "nothing is under way for it");
        commit!(store, |tx| batches::associate(tx, 1, two, &collection(1)));
        assert_eq!(next().await, Some(*one), "better than none");
        commit!(store, |tx| batches::give_back(tx, 1, two));
        commit!(store, |tx| aggregation_jobs::lease(tx, 1, lease(100, 1))).unwrap();
        assert!(commit!(store, |tx| aggregation_jobs::finish(tx, stuck, token(1))));
        assert_eq!(next().await, Some(*one), "the oldest first");
    }
}

#[tokio::test]
async fn a_batch_whose_collection_is_over_without_a_release_is_given_back() {
    for (_database, store) in stores().await {
        let (one, two) = (&batch(1), &batch(2));
        for (number, request) in [(1, b"a"), (2, b"b")] {
            let (batch, id) = (&batch(number), collection(number));
            let job = &NewCollectionJob { id, task: 1, request: request.to_vec(), fence: 0, created_at: 100 };
            commit!(store, |tx| batches::begin(tx, 1, batch, 100));
            commit!(store, |tx| collection_jobs::insert(tx, job));
            assert!(commit!(store, |tx| batches::associate(tx, 1, batch, &id)));
        }
        assert!(!commit!(store, |tx| batches::any_orphaned(tx, 1)));
        assert_eq!(commit!(store, |tx| batches::give_back_orphans(tx, 1)), 0);
        assert!(commit!(store, |tx| collection_jobs::delete(tx, 1, &collection(1))));
        assert!(commit!(store, |tx| batches::any_orphaned(tx, 1)));
        assert!(!commit!(store, |tx| batches::any_orphaned(tx, 2)));
        assert_eq!(commit!(store, |tx| batches::give_back_orphans(tx, 1)), 1);
        let rows = commit!(store, |tx| batches::of_task(tx, 1, 9));
        let states: Vec<_> = rows.iter().map(|row| (row.batch, row.state, row.collection)).collect();
        assert_eq!(
            states,
            [(*one, BatchState::Open, None), (*two, BatchState::Collecting, Some(collection(2)))]
        );
    }
}
