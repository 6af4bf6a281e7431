//! Collection jobs and releases.

use mica_dap::batch::Checksum;
use mica_dap::id::{AggregateShareId, BatchId, CollectionJobId};

use super::{at_once, attempt, commit, interval, lease, stores, token};
use crate::store::StoreError;
use crate::store::collection_jobs::{self as jobs, CollectionState, NewCollectionJob};
use crate::store::releases::{self, NewRelease, ReleaseState};
use crate::store::stuck;

fn job(id: u8, request: &[u8]) -> NewCollectionJob {
    NewCollectionJob {
        id: CollectionJobId::new([id; 16]),
        task: 1,
        request: request.to_vec(),
        fence: 0,
        created_at: 100,
    }
}

fn release(batch_key: &[u8]) -> NewRelease {
    NewRelease {
        task: 1,
        batch_key: batch_key.to_vec(),
        request: b"request".to_vec(),
        request_digest: Some([4; 32]),
        share_id: Some(AggregateShareId::new([5; 16])),
        state: ReleaseState::Reserved,
        report_count: 100,
        checksum: Checksum::new([6; 32]),
        interval: interval(10, 3),
        sealed_share: b"sealed".to_vec(),
        policy_id: "policy".to_owned(),
        policy_version: 2,
        policy_sha256: [7; 32],
        mechanism: "none".to_owned(),
        created_at: 1_000,
    }
}

#[tokio::test]
async fn the_same_request_is_one_job_while_it_lives() {
    for (_database, store) in stores().await {
        let (first, same, other) = (&job(1, b"a"), &job(2, b"a"), &job(3, b"b"));
        assert!(commit!(store, |tx| jobs::insert(tx, first)));
        assert!(!commit!(store, |tx| jobs::insert(tx, same)));
        assert!(commit!(store, |tx| jobs::insert(tx, other)));
        assert_eq!(commit!(store, |tx| jobs::live_by_request(tx, 1, b"a")).unwrap().id, first.id);
        assert!(commit!(store, |tx| jobs::live_by_request(tx, 2, b"a")).is_none());

        assert!(!commit!(store, |tx| jobs::delete(tx, 2, &first.id)));
        assert!(commit!(store, |tx| jobs::delete(tx, 1, &first.id)));
        assert!(!commit!(store, |tx| jobs::delete(tx, 1, &first.id)));
        assert!(commit!(store, |tx| jobs::live_by_request(tx, 1, b"a")).is_none());
        assert!(commit!(store, |tx| jobs::insert(tx, same)));

        let deleted = commit!(store, |tx| jobs::by_id(tx, 1, &first.id)).unwrap();
        assert_eq!(deleted.state, CollectionState::Deleted);
        assert!(commit!(store, |tx| jobs::by_id(tx, 2, &first.id)).is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_eight_who_ask_the_same_one_makes_the_job() {
    for (_database, store) in stores().await {
        let made = at_once(|number| {
            let store = store.clone();
            async move {
                let job = &job(number, b"same");
                commit!(store, |tx| jobs::insert(tx, job))
            }
        });
        assert_eq!(made.await.into_iter().filter(|made| *made).count(), 1);
    }
}

#[tokio::test]
async fn a_job_passes_its_states_in_order_and_only_for_the_lease_holder() {
    for (_database, store) in stores().await {
        let new = &job(1, b"a");
        let id = &new.id;
        commit!(store, |tx| jobs::insert(tx, new));
        assert!(commit!(store, |tx| jobs::lease(tx, id, lease(99, 1))).is_none());
        assert_eq!(commit!(store, |tx| jobs::lease(tx, id, lease(100, 1))).unwrap().attempts, 1);
        assert!(commit!(store, |tx| jobs::lease(tx, id, lease(114, 2))).is_none());
        assert!(!commit!(store, |tx| jobs::set_reserved(tx, id, token(2), 7)));
        assert!(!commit!(store, |tx| jobs::set_released(tx, id, token(1), b"early")));
        assert!(commit!(store, |tx| jobs::set_reserved(tx, id, token(1), 7)));
        assert!(!commit!(store, |tx| jobs::set_reserved(tx, id, token(1), 8)));
        assert!(!commit!(store, |tx| jobs::retry_at(tx, id, token(2), 0)));
        assert!(commit!(store, |tx| jobs::retry_at(tx, id, token(1), 120)));
        assert!(!commit!(store, |tx| jobs::set_released(tx, id, token(1), b"lost")));

        assert!(commit!(store, |tx| jobs::lease(tx, id, lease(119, 2))).is_none());
        let again = commit!(store, |tx| jobs::lease(tx, id, lease(120, 2))).unwrap();
        assert_eq!((again.state, again.release, again.attempts), (CollectionState::Reserved, Some(7), 2));
        assert!(commit!(store, |tx| jobs::set_released(tx, id, token(2), b"answer")));
        assert!(!commit!(store, |tx| jobs::set_failed(tx, id, token(2), "{}")));
        let released = commit!(store, |tx| jobs::by_id(tx, 1, id)).unwrap();
        assert_eq!(released.response.as_deref(), Some(b"answer".as_slice()));
        assert!(commit!(store, |tx| jobs::lease(tx, id, lease(9_999, 3))).is_none());
    }
}

#[tokio::test]
async fn a_job_that_only_waits_has_not_tried() {
    for (_database, store) in stores().await {
        let new = &job(1, b"a");
        commit!(store, |tx| jobs::insert(tx, new));
        for _ in 0..5 {
            assert_eq!(commit!(store, |tx| jobs::lease(tx, &new.id, lease(100, 1))).unwrap().attempts, 1);
            assert!(!commit!(store, |tx| jobs::give_back(tx, &new.id, token(2), 100)));
            assert!(commit!(store, |tx| jobs::give_back(tx, &new.id, token(1), 100)));
        }
    }
}

#[tokio::test]
async fn what_went_wrong_is_forgotten_when_a_job_only_waits() {
    for (_database, store) in stores().await {
        let new = &job(1, b"a");
        let id = &new.id;
        commit!(store, |tx| jobs::insert(tx, new));
        let fail = async |now| {
            commit!(store, |tx| jobs::lease(tx, id, lease(now, 1))).unwrap();
            assert!(commit!(store, |tx| stuck::note_collection(
                tx,
                id,
                token(1),
                ("local", "a hiccup", now)
            )));
            assert!(commit!(store, |tx| jobs::retry_at(tx, id, token(1), now)));
            assert_eq!(commit!(store, |tx| stuck::between(tx, 1, 1)).len(), 1);
        };
        fail(100).await;
        commit!(store, |tx| jobs::lease(tx, id, lease(100, 2))).unwrap();
        assert!(!commit!(store, |tx| stuck::forget_collection(tx, id, 100)), "somebody works on it");
        assert!(commit!(store, |tx| jobs::give_back(tx, id, token(2), 100)));
        assert!(commit!(store, |tx| stuck::between(tx, 1, 1)).is_empty());
        fail(100).await;
        assert!(commit!(store, |tx| stuck::forget_collection(tx, id, 100)));
        assert!(commit!(store, |tx| stuck::between(tx, 1, 1)).is_empty());
    }
}

#[tokio::test]
async fn a_helper_that_does_not_know_the_task_is_counted_from_when_it_first_says_so() {
    for (_database, store) in stores().await {
        let new = &job(1, b"a");
        let id = &new.id;
        commit!(store, |tx| jobs::insert(tx, new));
        let told = [
            ("busy", 1),
            ("busy", 2),
            ("unknown_task", 3),
            ("unknown_task", 2),
            ("busy", 3),
            ("unknown_task", 4),
        ];
        for (reason, attempts) in told {
            let row = commit!(store, |tx| jobs::lease(tx, id, lease(100, 1))).unwrap();
            assert_eq!(row.attempts, attempts, "{reason}");
            assert!(commit!(store, |tx| stuck::note_collection(tx, id, token(1), (reason, "no", 100))));
            assert!(commit!(store, |tx| jobs::retry_at(tx, id, token(1), 100)));
        }
        let row = commit!(store, |tx| jobs::by_id(tx, 1, id)).unwrap();
        assert_eq!((row.attempts, row.reason.as_deref()), (1, Some("unknown_task")));
    }
}

#[tokio::test]
async fn who_looks_at_what_is_due_takes_nothing_up() {
    for (_database, store) in stores().await {
        let (one, two, other) = (&job(1, b"a"), &job(2, b"b"), &NewCollectionJob { task: 2, ..job(3, b"c") });
        for new in [one, two, other] {
            commit!(store, |tx| jobs::insert(tx, new));
        }
        let due = async |now| {
            let due = commit!(store, |tx| jobs::due(tx, 1, now, None, 9));
            due.iter().map(|job| (job.id, job.attempts)).collect::<Vec<_>>()
        };
        assert_eq!(due(99).await, []);
        assert_eq!(due(100).await.len(), 2);
        commit!(store, |tx| jobs::lease(tx, &one.id, lease(100, 1))).unwrap();
        assert_eq!(due(100).await, [(two.id, 0)]);
        assert!(commit!(store, |tx| jobs::retry_at(tx, &one.id, token(1), 130)));
        assert_eq!(due(130).await, [(two.id, 0), (one.id, 1)], "who waits longest is first");
        let first = &commit!(store, |tx| jobs::due(tx, 1, 130, None, 1))[0];
        assert_eq!(first.id, two.id);
        let second = &commit!(store, |tx| jobs::due(tx, 1, 130, Some(&first.place()), 1))[0];
        assert_eq!(second.id, one.id, "the next page begins after the last");
        assert!(commit!(store, |tx| jobs::due(tx, 1, 130, Some(&second.place()), 1)).is_empty());
    }
}

#[tokio::test]
async fn a_collection_gets_one_batch_and_a_place_at_the_helper_only_when_it_is_asked() {
    for (_database, store) in stores().await {
        let new = &job(1, b"a");
        let (id, batch) = (&new.id, &BatchId::new([9; 32]));
        commit!(store, |tx| jobs::insert(tx, new));
        assert!(!commit!(store, |tx| jobs::set_batch(tx, id, token(1), batch)), "it is not leased");
        commit!(store, |tx| jobs::lease(tx, id, lease(100, 1))).unwrap();
        assert!(commit!(store, |tx| jobs::set_batch(tx, id, token(1), batch)));
        assert!(!commit!(store, |tx| jobs::set_batch(tx, id, token(1), batch)), "it has one");
        assert!(!commit!(store, |tx| jobs::set_location(tx, id, token(1), Some("/there"))));
        assert!(commit!(store, |tx| jobs::set_reserved(tx, id, token(1), 7)));
        assert!(commit!(store, |tx| jobs::set_location(tx, id, token(1), Some("/there"))));
        let row = commit!(store, |tx| jobs::by_id(tx, 1, id)).unwrap();
        assert_eq!((row.batch.as_ref(), row.helper_location.as_deref()), (Some(batch), Some("/there")));
        assert!(commit!(store, |tx| jobs::set_location(tx, id, token(1), None)));
        assert_eq!(commit!(store, |tx| jobs::by_id(tx, 1, id)).unwrap().helper_location, None);
    }
}

#[tokio::test]
async fn a_failed_job_makes_room_for_the_same_request() {
    for (_database, store) in stores().await {
        let (first, second) = (&job(1, b"a"), &job(2, b"a"));
        commit!(store, |tx| jobs::insert(tx, first));
        commit!(store, |tx| jobs::lease(tx, &first.id, lease(100, 1))).unwrap();
        assert!(!commit!(store, |tx| jobs::set_failed(tx, &first.id, token(2), "{}")));
        assert!(commit!(store, |tx| jobs::set_failed(tx, &first.id, token(1), "{}")));
        let failed = commit!(store, |tx| jobs::by_id(tx, 1, &first.id)).unwrap();
        assert_eq!((failed.state, failed.problem.as_deref()), (CollectionState::Failed, Some("{}")));
        assert!(commit!(store, |tx| jobs::insert(tx, second)));
    }
}

#[tokio::test]
async fn a_deleted_job_is_lost_to_whoever_works_on_it() {
    for (_database, store) in stores().await {
        let new = &job(1, b"a");
        commit!(store, |tx| jobs::insert(tx, new));
        commit!(store, |tx| jobs::lease(tx, &new.id, lease(100, 1))).unwrap();
        assert!(commit!(store, |tx| jobs::delete(tx, 1, &new.id)));
        assert!(!commit!(store, |tx| jobs::set_reserved(tx, &new.id, token(1), 7)));
        assert!(!commit!(store, |tx| jobs::retry_at(tx, &new.id, token(1), 0)));
        assert!(commit!(store, |tx| jobs::lease(tx, &new.id, lease(9_999, 2))).is_none());
    }
}

#[tokio::test]
async fn a_reserved_job_that_is_deleted_is_hidden_and_driven_to_its_end() {
    for (_database, store) in stores().await {
        let new = &job(1, b"a");
        commit!(store, |tx| jobs::insert(tx, new));
        commit!(store, |tx| jobs::lease(tx, &new.id, lease(100, 1))).unwrap();
        commit!(store, |tx| jobs::set_reserved(tx, &new.id, token(1), 7));
        assert!(commit!(store, |tx| jobs::delete(tx, 1, &new.id)));
        assert!(!commit!(store, |tx| jobs::delete(tx, 1, &new.id)), "it is deleted already");
        assert!(commit!(store, |tx| jobs::live_by_request(tx, 1, b"a")).is_none());
        commit!(store, |tx| jobs::retry_at(tx, &new.id, token(1), 0));
        let again = commit!(store, |tx| jobs::lease(tx, &new.id, lease(9_999, 2))).unwrap();
        assert_eq!((again.state, again.release), (CollectionState::Abandoned, Some(7)));
        assert!(commit!(store, |tx| jobs::set_released(tx, &new.id, token(2), b"answer")));
        let over = commit!(store, |tx| jobs::by_id(tx, 1, &new.id)).unwrap();
        assert_eq!((over.state, over.response), (CollectionState::Deleted, None));
    }
}

#[tokio::test]
async fn a_process_that_is_alone_looks_at_every_open_job_at_once() {
    for (_database, store) in stores().await {
        let (one, two) = (&job(1, b"a"), &job(2, b"b"));
        commit!(store, |tx| jobs::insert(tx, one));
        commit!(store, |tx| jobs::insert(tx, two));
        commit!(store, |tx| jobs::lease(tx, &one.id, lease(100, 1))).unwrap();
        assert_eq!(commit!(store, |tx| jobs::release_all_leases(tx)), 2);
        assert!(commit!(store, |tx| jobs::lease(tx, &one.id, lease(1, 2))).is_some());
        assert!(commit!(store, |tx| jobs::lease(tx, &two.id, lease(1, 2))).is_some());
    }
}

#[tokio::test]
async fn a_batch_is_released_once() {
    for (_database, store) in stores().await {
        let (first, other) = (&release(b"batch"), &NewRelease { share_id: None, ..release(b"other") });
        let id = commit!(store, |tx| releases::insert(tx, first));
        let again = &NewRelease { share_id: None, ..first.clone() };
        let refused = attempt!(store, |tx| releases::insert(tx, again));
        assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
        commit!(store, |tx| releases::insert(tx, other));

        let stored = commit!(store, |tx| releases::by_batch_key(tx, 1, b"batch")).unwrap();
        assert_eq!(stored.id, id);
        assert_same(&stored.release, first);
        assert!(commit!(store, |tx| releases::by_batch_key(tx, 2, b"batch")).is_none());
        assert_eq!(commit!(store, |tx| releases::by_digest(tx, 1, &[4; 32])).unwrap().id, id);
        let share = &AggregateShareId::new([5; 16]);
        assert_eq!(commit!(store, |tx| releases::by_share_id(tx, 1, share)).unwrap().id, id);
        assert!(commit!(store, |tx| releases::by_share_id(tx, 2, share)).is_none());
        assert_eq!(commit!(store, |tx| releases::by_id(tx, id)).unwrap().release.batch_key, b"batch");
    }
}

fn assert_same(stored: &NewRelease, given: &NewRelease) {
    assert_eq!((stored.task, &stored.request, stored.state), (given.task, &given.request, given.state));
    assert_eq!((stored.request_digest, stored.share_id), (given.request_digest, given.share_id));
    assert_eq!((stored.report_count, stored.checksum), (given.report_count, given.checksum));
    assert_eq!((stored.interval, &stored.sealed_share), (given.interval, &given.sealed_share));
    assert_eq!((&stored.policy_id, stored.policy_version), (&given.policy_id, given.policy_version));
    assert_eq!((stored.policy_sha256, &stored.mechanism), (given.policy_sha256, &given.mechanism));
}

#[tokio::test]
async fn only_a_refunded_release_is_replaced() {
    for (_database, store) in stores().await {
        use ReleaseState::{Committed, Refunded, Reserved};
        let first = &release(b"batch");
        let id = commit!(store, |tx| releases::insert(tx, first));
        let second =
            &NewRelease { report_count: 120, request_digest: None, share_id: None, ..release(b"batch") };
        assert_eq!(commit!(store, |tx| releases::replace_refunded(tx, second)), None);
        assert!(!commit!(store, |tx| releases::set_state(tx, id, Committed, Refunded)));
        assert!(commit!(store, |tx| releases::set_state(tx, id, Reserved, Refunded)));
        assert!(!commit!(store, |tx| releases::set_state(tx, id, Reserved, Committed)));
        assert_eq!(commit!(store, |tx| releases::replace_refunded(tx, second)), Some(id));
        assert_same(&commit!(store, |tx| releases::by_id(tx, id)).unwrap().release, second);
        assert!(commit!(store, |tx| releases::set_state(tx, id, Reserved, Committed)));
        assert_eq!(commit!(store, |tx| releases::replace_refunded(tx, second)), None);
    }
}
