//! Report identifiers, segments, and the jobs of both roles.

use mica_dap::id::ReportId;
use mica_dap::time::Time;

use super::{at_once, commit, interval, lease, stores, token};
use crate::store::aggregation_jobs::{self as jobs, JobState};
use crate::store::segments::{self, NewSegment};
use crate::store::{Store, job_limits, report_ids};

fn report(number: u32) -> ReportId {
    let mut bytes = [0; 16];
    // Spread over the whole range, as random identifiers are.
    bytes[..4].copy_from_slice(&number.wrapping_mul(2_654_435_761).to_le_bytes());
    bytes[12..].copy_from_slice(&number.to_be_bytes());
    ReportId::new(bytes)
}

fn segment(task: i64, times: (u64, u64)) -> NewSegment {
    NewSegment {
        task,
        report_count: 2,
        min_time: Time(times.0),
        max_time: Time(times.1),
        reports: vec![0xab; 300],
        created_at: 5,
    }
}

#[tokio::test]
async fn a_report_identifier_is_new_once_per_task() {
    for (_database, store) in stores().await {
        let [one, two, three] = [1, 2, 3].map(report);
        let first = &[two, one, two, two];
        assert_eq!(commit!(store, |tx| report_ids::insert_new(tx, 1, first)), [true, true, false, false]);
        let then = &[three, one];
        assert_eq!(commit!(store, |tx| report_ids::insert_new(tx, 1, then)), [true, false]);
        assert_eq!(commit!(store, |tx| report_ids::insert_new(tx, 2, then)), [true, true]);
        assert!(commit!(store, |tx| report_ids::insert_new(tx, 1, &[])).is_empty());
    }
}

#[tokio::test]
async fn many_thousand_identifiers_are_remembered_at_once() {
    for (_database, store) in stores().await {
        let ids = &(0..9_000).map(report).collect::<Vec<_>>();
        let half = &ids[2_000..7_000];
        assert!(commit!(store, |tx| report_ids::insert_new(tx, 1, half)).iter().all(|new| *new));
        let all = commit!(store, |tx| report_ids::insert_new(tx, 1, ids));
        assert!(all.iter().enumerate().all(|(number, new)| *new != (2_000..7_000).contains(&number)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_eight_who_bring_the_same_reports_each_report_is_new_to_one() {
    for (_database, store) in stores().await {
        let found = at_once(|number| {
            let store = store.clone();
            async move {
                // Everybody has another order and lacks others, and takes them in two statements.
                let ids = (0..2_000).map(|n| (n * 7 + u32::from(number) * 311) % 2_000);
                let ids = &ids.filter(|n| n % 8 != u32::from(number)).collect::<Vec<_>>();
                let reports = &ids.iter().copied().map(report).collect::<Vec<_>>();
                let (early, late) = reports.split_at(900);
                let early = commit!(store, |tx| report_ids::insert_new(tx, 1, early));
                let late = commit!(store, |tx| report_ids::insert_new(tx, 1, late));
                let new = early.into_iter().chain(late).zip(ids);
                new.filter_map(|(new, id)| new.then_some(*id)).collect::<Vec<_>>()
            }
        });
        let mut new = found.await.concat();
        new.sort_unstable();
        assert!(new.into_iter().eq(0..2_000));
    }
}

#[tokio::test]
async fn segments_wait_in_order_until_a_job_takes_them() {
    for (_database, store) in stores().await {
        let (one, other) = (&segment(1, (10, 12)), &segment(2, (10, 12)));
        let mut ids = Vec::new();
        for _ in 0..3 {
            ids.push(commit!(store, |tx| segments::insert_segment(tx, one)));
        }
        commit!(store, |tx| segments::insert_segment(tx, other));
        assert_eq!(commit!(store, |tx| segments::tasks_with_unassigned(tx)), [1, 2]);
        let waiting = commit!(store, |tx| segments::unassigned(tx, 1, 50, 2));
        assert_eq!(waiting.iter().map(|head| head.id).collect::<Vec<_>>(), ids[..2]);
        assert_eq!((waiting[0].bytes, waiting[0].report_count, waiting[0].max_time), (300, 2, Time(12)));

        let taken = &[ids[1], ids[0]];
        assert_eq!(commit!(store, |tx| segments::assign(tx, 77, taken)), 2);
        assert_eq!(commit!(store, |tx| segments::assign(tx, 78, &ids_of(taken, 3))), 0);
        let of_job = commit!(store, |tx| segments::of_job(tx, 77));
        assert_eq!(of_job.iter().map(|segment| segment.id).collect::<Vec<_>>(), ids[..2]);
        assert!(of_job[0].reports == one.reports);
        assert_eq!(commit!(store, |tx| segments::unassigned(tx, 1, 50, 9)).len(), 1);

        assert_eq!(commit!(store, |tx| segments::delete_of_job(tx, 77)), 2);
        assert!(commit!(store, |tx| segments::of_job(tx, 77)).is_empty());
        assert_eq!(commit!(store, |tx| segments::unassigned(tx, 1, 50, 9)).len(), 1);

        let last = ids[2];
        commit!(store, |tx| segments::postpone(tx, last, 60));
        assert!(commit!(store, |tx| segments::unassigned(tx, 1, 59, 9)).is_empty());
        assert_eq!(commit!(store, |tx| jobs::tasks_with_work(tx, 59)), [2]);
        assert_eq!(commit!(store, |tx| segments::unassigned(tx, 1, 60, 9)).len(), 1);
        assert_eq!(commit!(store, |tx| jobs::tasks_with_work(tx, 60)).len(), 2);
    }
}

/// `taken` several times over: what is asked for twice is given once.
fn ids_of(taken: &[i64], times: usize) -> Vec<i64> {
    taken.repeat(times)
}

#[tokio::test]
async fn an_interval_is_unsettled_while_a_segment_may_touch_it() {
    for (_database, store) in stores().await {
        let pending = &segment(1, (10, 12));
        commit!(store, |tx| segments::insert_segment(tx, pending));
        for (asked, unsettled) in [
            (interval(0, 10), false),
            (interval(0, 11), true),
            (interval(11, 1), true),
            (interval(12, 1), true),
            (interval(13, 1), false),
            (interval(0, u64::MAX), true),
        ] {
            assert_eq!(commit!(store, |tx| segments::unsettled(tx, 1, asked)), unsettled, "{asked:?}");
            assert!(!commit!(store, |tx| segments::unsettled(tx, 2, asked)));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_eight_who_form_a_job_one_gets_the_segments() {
    for (_database, store) in stores().await {
        let new = &segment(1, (1, 1));
        let mut ids = Vec::new();
        for _ in 0..50 {
            ids.push(commit!(store, |tx| segments::insert_segment(tx, new)));
        }
        let got = at_once(|number| {
            let (store, ids) = (store.clone(), ids.clone());
            async move {
                let ids = &ids;
                commit!(store, |tx| segments::assign(tx, i64::from(number), ids))
            }
        });
        let mut got = got.await;
        got.sort_unstable();
        assert_eq!(got, [0, 0, 0, 0, 0, 0, 0, 50]);
    }
}

#[tokio::test]
async fn a_job_belongs_to_who_took_it_up_last() {
    for (_database, store) in stores().await {
        let id = commit!(store, |tx| jobs::create(tx, 1, None, 9, 100));
        let taken = commit!(store, |tx| jobs::lease(tx, 1, lease(100, 1))).unwrap();
        assert_eq!((taken.id, taken.task, taken.report_count, taken.attempts), (id, 1, 9, 1));
        assert_eq!((taken.state, taken.lease_until), (JobState::Active, 115));
        assert!(commit!(store, |tx| jobs::lease(tx, 1, lease(114, 2))).is_none());
        assert_eq!(commit!(store, |tx| jobs::lease(tx, 1, lease(115, 2))).unwrap().attempts, 2);

        assert!(!commit!(store, |tx| jobs::freeze(tx, id, token(1), &[1])));
        assert!(!commit!(store, |tx| jobs::remember(tx, id, token(1), (Some("/a"), None))));
        assert!(!commit!(store, |tx| jobs::fail_attempt(tx, id, token(1), failure("late", 0))));
        assert!(!commit!(store, |tx| jobs::finish(tx, id, token(1))));

        assert!(commit!(store, |tx| jobs::freeze(tx, id, token(2), &[0b101])));
        assert!(!commit!(store, |tx| jobs::freeze(tx, id, token(2), &[0b111])));
        commit!(store, |tx| jobs::inherit(tx, id, &[0b111]));
        let frozen = commit!(store, |tx| jobs::by_id(tx, id)).unwrap();
        assert_eq!((frozen.included.as_deref(), frozen.in_doubt), (Some([0b101].as_slice()), false));
        assert!(commit!(store, |tx| jobs::remember(tx, id, token(2), (Some("/a"), Some(b"b")))));
        assert!(commit!(store, |tx| jobs::fail_attempt(tx, id, token(2), failure("timeout", 130))));
        assert!(!commit!(store, |tx| jobs::finish(tx, id, token(2))));

        assert!(commit!(store, |tx| jobs::lease(tx, 1, lease(129, 3))).is_none());
        let again = commit!(store, |tx| jobs::lease(tx, 1, lease(130, 3))).unwrap();
        assert_eq!(again.included.as_deref(), Some([0b101].as_slice()));
        assert_eq!(
            (again.helper_location.as_deref(), again.last_error.as_deref()),
            (Some("/a"), Some("timeout"))
        );
        assert_eq!((again.answers.as_deref(), again.in_doubt), (Some(b"b".as_slice()), true));
        let untouched = jobs::Failure { in_doubt: false, ..failure("busy", 140) };
        assert!(commit!(store, |tx| jobs::fail_attempt(tx, id, token(3), untouched)));
        assert!(!commit!(store, |tx| jobs::lease(tx, 1, lease(140, 4))).unwrap().in_doubt);
        assert!(!commit!(store, |tx| jobs::set_in_doubt(tx, id, token(3))));
        assert!(commit!(store, |tx| jobs::set_in_doubt(tx, id, token(4))));
        assert!(commit!(store, |tx| jobs::by_id(tx, id)).unwrap().in_doubt);
    }
}

fn failure(why: &str, retry_at: u64) -> jobs::Failure<'_> {
    jobs::Failure { reason: "unreachable", why, now: retry_at.saturating_sub(1), retry_at, in_doubt: true }
}

#[tokio::test]
async fn what_was_learnt_of_the_size_of_jobs_is_the_smallest_and_doubles_every_ten_minutes() {
    for (_database, store) in stores().await {
        assert_eq!(commit!(store, |tx| job_limits::of_task(tx, 1, 100_000)), None);
        for bytes in [500, 900, 300] {
            commit!(store, |tx| job_limits::learn(tx, 1, bytes, 100_000));
        }
        for (now, bytes) in
            [(99_000, 300), (100_599, 300), (100_600, 600), (101_200, 1_200), (102_400, 4_800)]
        {
            assert_eq!(commit!(store, |tx| job_limits::of_task(tx, 1, now)), Some(bytes), "{now}");
        }
        assert_eq!(commit!(store, |tx| job_limits::of_task(tx, 1, 186_400)), None, "it is beyond all sizes");
        assert_eq!(commit!(store, |tx| job_limits::of_task(tx, 2, 100_000)), None);
        commit!(store, |tx| job_limits::learn(tx, 1, 700, 200_000));
        assert_eq!(
            commit!(store, |tx| job_limits::of_task(tx, 1, 200_000)),
            Some(700),
            "the old one is stale"
        );
    }
}

#[tokio::test]
async fn a_job_is_finished_once() {
    for (_database, store) in stores().await {
        let id = commit!(store, |tx| jobs::create(tx, 1, None, 9, 100));
        commit!(store, |tx| jobs::create(tx, 2, None, 9, 100));
        assert_eq!(commit!(store, |tx| jobs::lease(tx, 1, lease(100, 1))).unwrap().id, id);
        assert!(commit!(store, |tx| jobs::freeze(tx, id, token(1), &[1])));
        assert_eq!(commit!(store, |tx| jobs::active_count(tx, 1)), 1);
        assert!(commit!(store, |tx| jobs::finish(tx, id, token(1))));
        assert!(!commit!(store, |tx| jobs::finish(tx, id, token(1))));
        assert_eq!(commit!(store, |tx| jobs::active_count(tx, 1)), 0);
        assert_eq!(commit!(store, |tx| jobs::active_count(tx, 2)), 1);
        let stored = commit!(store, |tx| jobs::by_id(tx, id)).unwrap();
        assert!(stored.state == JobState::Finished && stored.included.is_none());
        assert_eq!(commit!(store, |tx| jobs::sweep_finished(tx, 100, 10)), 0);
        assert_eq!(commit!(store, |tx| jobs::sweep_finished(tx, 101, 10)), 1);
        assert!(commit!(store, |tx| jobs::by_id(tx, id)).is_none());
    }
}

#[tokio::test]
async fn a_process_that_is_alone_ends_the_leases_of_the_dead() {
    for (_database, store) in stores().await {
        let id = commit!(store, |tx| jobs::create(tx, 1, None, 9, 100));
        commit!(store, |tx| jobs::lease(tx, 1, lease(100, 1))).unwrap();
        assert_eq!(commit!(store, |tx| jobs::release_all_leases(tx)), 1);
        assert!(!commit!(store, |tx| jobs::finish(tx, id, token(1))));
        assert_eq!(commit!(store, |tx| jobs::lease(tx, 1, lease(101, 2))).unwrap().id, id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_eight_workers_each_job_is_taken_up_by_one() {
    for (_database, store) in stores().await {
        for reports in 0..40 {
            commit!(store, |tx| jobs::create(tx, 1, None, reports, 100));
        }
        commit!(store, |tx| jobs::create(tx, 2, None, 1, 100));
        assert_eq!(commit!(store, |tx| jobs::tasks_with_work(tx, 100)), [1, 2]);
        let taken = at_once(|number| {
            let store = store.clone();
            async move {
                let mut taken = Vec::new();
                while let Some(job) = commit!(store, |tx| jobs::lease(tx, 1, lease(100, number))) {
                    taken.push(job.report_count);
                }
                taken
            }
        });
        let mut taken = taken.await.concat();
        taken.sort_unstable();
        assert!(taken.into_iter().eq(0..40));
        assert_eq!(
            commit!(store, |tx| jobs::tasks_with_work(tx, 100)),
            [2],
            "another task's job is left alone"
        );
    }
}

#[tokio::test]
async fn no_row_is_left_behind_by_a_settled_job() {
    for (_database, store) in stores().await {
        for round in 0..20 {
            let new = &segment(1, (round, round));
            let id = commit!(store, |tx| segments::insert_segment(tx, new));
            let job = commit!(store, |tx| jobs::create(tx, 1, None, 2, 100));
            let ids = &[id];
            commit!(store, |tx| segments::assign(tx, job, ids));
            commit!(store, |tx| jobs::lease(tx, 1, lease(100, 1))).unwrap();
            assert!(commit!(store, |tx| jobs::finish(tx, job, token(1))));
            commit!(store, |tx| segments::delete_of_job(tx, job));
            commit!(store, |tx| jobs::sweep_finished(tx, 101, 100));
        }
        assert_eq!(rows(&store).await, 0);
    }
}

async fn rows(store: &Store) -> i64 {
    let count = |mut tx: crate::store::Tx| async move {
        let query = "SELECT CAST((SELECT COUNT(*) FROM segments) + (SELECT COUNT(*) FROM aggregation_jobs) AS BIGINT)";
        let rows: i64 = sqlx::query_scalar(query).fetch_one(tx.connection()).await?;
        Ok((tx, rows))
    };
    store.read("rows", count).await.unwrap()
}
