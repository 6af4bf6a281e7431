//! What the helper remembers of the leader's requests.

use mica_dap::batch::BucketId;
use mica_dap::id::{AggregateShareId, AggregationJobId, BatchId, ReportId};
use mica_dap::time::{Duration, Interval, Time};
use zeroize::Zeroizing;

use super::{commit, stores};
use crate::store::helper_jobs::{self, HelperJobRow, HelperJobState};
use crate::store::helper_shares::HelperShareState;
use crate::store::helper_states::HelperStatesRow;
use crate::store::helper_work::{NewWork, WorkKind};
use crate::store::lease::{LeaseRequest, LeaseToken};
use crate::store::{Scope, bucket_parameters, helper_shares, helper_states, helper_work, report_ids};

fn waiting_job() -> HelperJobRow {
    HelperJobRow::new(1, AggregationJobId::new([1; 16]), [2; 32], Vec::new(), 9)
}

#[tokio::test]
async fn the_same_request_is_one_job_of_the_helper_also_after_it_is_deleted() {
    for (_database, store) in stores().await {
        let job = &waiting_job();
        let same = &HelperJobRow { id: AggregationJobId::new([3; 16]), ..job.clone() };
        let elsewhere = &HelperJobRow { id: AggregationJobId::new([4; 16]), task: 2, ..job.clone() };
        assert!(commit!(store, |tx| helper_jobs::insert(tx, job)));
        assert!(!commit!(store, |tx| helper_jobs::insert(tx, same)));
        assert!(commit!(store, |tx| helper_jobs::insert(tx, elsewhere)));
        assert!(commit!(store, |tx| helper_jobs::set_ready(tx, &job.id, b"answer")));
        assert!(!commit!(store, |tx| helper_jobs::set_ready(tx, &job.id, b"another")));
        let stored = commit!(store, |tx| helper_jobs::by_digest(tx, 1, &[2; 32])).unwrap();
        assert!(stored.id == job.id && stored.response == b"answer" && stored.created_at == 9);
        assert!(commit!(store, |tx| helper_jobs::by_id(tx, 1, &job.id)).is_some());
        assert!(commit!(store, |tx| helper_jobs::by_id(tx, 2, &job.id)).is_none());
        assert!(!commit!(store, |tx| helper_jobs::delete(tx, 2, &job.id)));
        assert!(commit!(store, |tx| helper_jobs::delete(tx, 1, &job.id)));
        assert!(!commit!(store, |tx| helper_jobs::delete(tx, 1, &job.id)));
        let left = commit!(store, |tx| helper_jobs::by_digest(tx, 1, &[2; 32])).unwrap();
        assert_eq!((left.state, left.response), (HelperJobState::Deleted, Vec::new()));
        assert!(!commit!(store, |tx| helper_jobs::insert(tx, same)));
        assert!(!commit!(store, |tx| helper_jobs::advance(tx, &job.id, 0, &[5; 32], b"next")));
    }
}

#[tokio::test]
async fn a_step_of_a_job_is_taken_once_and_only_from_the_one_before() {
    for (_database, store) in stores().await {
        let job = &waiting_job();
        assert!(commit!(store, |tx| helper_jobs::insert(tx, job)));
        assert!(!commit!(store, |tx| helper_jobs::advance(tx, &job.id, 0, &[5; 32], b"one")), "it waits");
        assert!(commit!(store, |tx| helper_jobs::set_ready(tx, &job.id, b"zero")));
        assert!(!commit!(store, |tx| helper_jobs::advance(tx, &job.id, 1, &[5; 32], b"two")));
        assert!(commit!(store, |tx| helper_jobs::advance(tx, &job.id, 0, &[5; 32], b"one")));
        assert!(!commit!(store, |tx| helper_jobs::advance(tx, &job.id, 0, &[6; 32], b"other")));
        assert!(commit!(store, |tx| helper_jobs::advance(tx, &job.id, 1, &[7; 32], b"")));
        let stored = commit!(store, |tx| helper_jobs::by_id(tx, 1, &job.id)).unwrap();
        assert_eq!(
            (stored.state, stored.step, stored.step_digest),
            (HelperJobState::Waiting, 2, Some([7; 32]))
        );
        assert!(commit!(store, |tx| helper_jobs::set_failed(tx, job.id.as_bytes(), "{}")));
        assert!(!commit!(store, |tx| helper_jobs::set_failed(tx, job.id.as_bytes(), "{1}")));
        let stored = commit!(store, |tx| helper_jobs::by_id(tx, 1, &job.id)).unwrap();
        assert_eq!(stored.problem.as_deref(), Some("{}"));
    }
}

#[tokio::test]
async fn work_of_the_helper_is_done_by_whoever_holds_its_lease() {
    for (_database, store) in stores().await {
        let work = &NewWork { id: [1; 16], task: 1, kind: WorkKind::Share, request: b"bytes", created_at: 9 };
        let later = &NewWork { id: [2; 16], kind: WorkKind::Init, created_at: 10, ..*work };
        commit!(store, |tx| helper_work::insert(tx, later));
        commit!(store, |tx| helper_work::insert(tx, work));
        assert_eq!(commit!(store, |tx| helper_work::waiting(tx, 1)), 2);
        assert_eq!(commit!(store, |tx| helper_work::tasks_with_work(tx, 8)), Vec::<i64>::new());
        assert_eq!(commit!(store, |tx| helper_work::tasks_with_work(tx, 10)), [1]);
        let (mine, other) = (LeaseToken::new([7; 16]), LeaseToken::new([8; 16]));
        let request = |now, token| LeaseRequest { now, seconds: 15, token };
        let row = commit!(store, |tx| helper_work::lease(tx, 1, request(9, mine))).unwrap();
        assert_eq!(
            (row.id, row.kind, row.request.as_slice(), row.attempts),
            ([1; 16], WorkKind::Share, &b"bytes"[..], 1)
        );
        assert!(commit!(store, |tx| helper_work::lease(tx, 1, request(9, other))).is_none());
        assert!(!commit!(store, |tx| helper_work::renew(tx, &[1; 16], request(20, other))));
        assert!(commit!(store, |tx| helper_work::renew(tx, &[1; 16], request(20, mine))));
        let taken = commit!(store, |tx| helper_work::lease(tx, 1, request(35, other))).unwrap();
        assert_eq!((taken.id, taken.attempts), ([2; 16], 1), "it was taken in later, but waits since before");
        let taken = commit!(store, |tx| helper_work::lease(tx, 1, request(35, other))).unwrap();
        assert_eq!((taken.id, taken.attempts), ([1; 16], 2), "the lease has run out");
        assert!(!commit!(store, |tx| helper_work::finish(tx, &[1; 16], mine)));
        assert!(commit!(store, |tx| helper_work::fail_attempt(tx, &[1; 16], other, (99, true))));
        assert_eq!(commit!(store, |tx| helper_work::tasks_with_work(tx, 98)), [1], "the other is due");
        assert_eq!(commit!(store, |tx| helper_work::release_all_leases(tx)), 2);
        commit!(store, |tx| helper_work::cancel(tx, &[2; 16]));
        let row = commit!(store, |tx| helper_work::lease(tx, 1, request(1, mine))).unwrap();
        assert!(commit!(store, |tx| helper_work::finish(tx, &row.id, mine)));
        assert_eq!(commit!(store, |tx| helper_work::waiting(tx, 1)), 0);
    }
}

#[tokio::test]
async fn a_share_that_failed_makes_room_for_the_same_request() {
    for (_database, store) in stores().await {
        let (first, second) = (AggregateShareId::new([1; 16]), AggregateShareId::new([2; 16]));
        assert!(commit!(store, |tx| helper_shares::insert(tx, 1, &first, &[3; 32], 9)));
        assert!(!commit!(store, |tx| helper_shares::insert(tx, 1, &second, &[3; 32], 9)));
        assert!(commit!(store, |tx| helper_shares::set_failed(tx, &first, "{}")));
        assert!(commit!(store, |tx| helper_shares::waiting(tx, 1, &[3; 32])).is_none());
        assert!(commit!(store, |tx| helper_shares::insert(tx, 1, &second, &[3; 32], 9)));
        let waiting = commit!(store, |tx| helper_shares::waiting(tx, 1, &[3; 32])).unwrap();
        assert!(waiting.id == second && waiting.state == HelperShareState::Waiting);
        let failed = commit!(store, |tx| helper_shares::by_id(tx, 1, &first)).unwrap();
        assert_eq!((failed.state, failed.problem.as_deref()), (HelperShareState::Failed, Some("{}")));
        assert!(!commit!(store, |tx| helper_shares::delete(tx, 2, &first)));
        assert!(commit!(store, |tx| helper_shares::delete(tx, 1, &first)));
        assert!(commit!(store, |tx| helper_shares::by_id(tx, 1, &first)).is_none());
    }
}

#[tokio::test]
async fn states_are_kept_until_the_next_step_and_gone_after_the_last() {
    for (_database, store) in stores().await {
        let job = AggregationJobId::new([1; 16]);
        let row = |states: &[u8], batch| HelperStatesRow {
            parameter: vec![6],
            batch,
            states: Zeroizing::new(states.to_vec()),
        };
        let (first, second) = (&row(b"one", Some(BatchId::new([9; 32]))), &row(b"two", None));
        commit!(store, |tx| helper_states::put(tx, &job, first));
        commit!(store, |tx| helper_states::put(tx, &job, second));
        let kept = commit!(store, |tx| helper_states::of_job(tx, &job)).unwrap();
        assert!(kept.states.as_slice() == b"two" && kept.parameter == [6]);
        assert!(kept.batch == Some(BatchId::new([9; 32])), "a job stays in its batch");
        commit!(store, |tx| helper_states::delete(tx, &job));
        assert!(commit!(store, |tx| helper_states::of_job(tx, &job)).is_none());
    }
}

#[tokio::test]
async fn a_bucket_belongs_to_the_first_parameter() {
    for (_database, store) in stores().await {
        let hour = |time| BucketId::TimeInterval(Time(time));
        let batch = BatchId::new([9; 32]);
        assert!(commit!(store, |tx| bucket_parameters::claim(tx, 1, hour(7), b"one")));
        assert!(commit!(store, |tx| bucket_parameters::claim(tx, 1, hour(7), b"one")));
        assert!(!commit!(store, |tx| bucket_parameters::claim(tx, 1, hour(7), b"two")));
        assert!(commit!(store, |tx| bucket_parameters::claim(tx, 1, hour(8), b"two")));
        assert!(commit!(store, |tx| bucket_parameters::claim(tx, 2, hour(7), b"two")));
        assert!(commit!(store, |tx| bucket_parameters::claim(
            tx,
            1,
            BucketId::LeaderSelected(batch),
            b"two"
        )));
        let within = |start, units| Interval::new(Time(start), Duration(units)).unwrap();
        for (scope, parameter, all) in [
            (Scope::Interval(within(7, 1)), b"one", true),
            (Scope::Interval(within(7, 1)), b"two", false),
            (Scope::Interval(within(7, 2)), b"one", false),
            (Scope::Interval(within(9, 9)), b"one", true),
            (Scope::Batch(batch), b"two", true),
            (Scope::Batch(batch), b"one", false),
        ] {
            assert_eq!(
                commit!(store, |tx| bucket_parameters::all_under(tx, 1, scope, parameter)),
                all,
                "{scope:?}"
            );
        }
    }
}

#[tokio::test]
async fn which_reports_are_known_is_told_without_taking_any() {
    for (_database, store) in stores().await {
        let ids: &[ReportId] = &[0, 1, 2, 3, 4].map(|n| ReportId::new([n; 16]));
        commit!(store, |tx| report_ids::insert_new(tx, 1, &ids[..2]));
        commit!(store, |tx| report_ids::insert_new(tx, 2, &ids[2..3]));
        for _ in 0..2 {
            let known = commit!(store, |tx| report_ids::known(tx, 1, ids));
            assert!(known.len() == 2 && known.contains(&ids[0]) && known.contains(&ids[1]));
        }
        assert!(commit!(store, |tx| report_ids::known(tx, 1, &[])).is_empty());
    }
}
