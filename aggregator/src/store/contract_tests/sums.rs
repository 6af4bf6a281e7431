//! Buckets, what is closed, and the tallies.

use std::array::TryFromSliceError;

use mica_dap::batch::{BucketId, Checksum};
use mica_dap::id::{BatchId, ReportId};
use mica_dap::time::Time;

use super::{at_once, attempt, commit, interval, stores};
use crate::store::buckets::{self, BucketDelta, BucketRow};
use crate::store::{Scope, StoreError, closed_intervals, tallies};

/// Shares of this test are numbers.
fn plus(a: &[u8], b: &[u8]) -> Result<Vec<u8>, TryFromSliceError> {
    Ok((number(a)? + number(b)?).to_be_bytes().to_vec())
}

fn number(share: &[u8]) -> Result<u64, TryFromSliceError> {
    share.try_into().map(u64::from_be_bytes)
}

fn delta(time: u64, share: u64, report: u8) -> BucketDelta {
    BucketDelta {
        bucket: BucketId::TimeInterval(Time(time)),
        share: share.to_be_bytes().to_vec(),
        report_count: 1,
        checksum: Checksum::of(&ReportId::new([report; 16])),
        min_time: Time(time),
        max_time: Time(time),
    }
}

/// All parts of a bucket together: share, reports, checksum.
fn total(rows: &[BucketRow]) -> (u64, u64, Checksum) {
    let shares = rows.iter().filter_map(|row| row.share.as_deref()).map(number);
    let share = shares.sum::<Result<u64, _>>().expect("every share is a number");
    (share, rows.iter().map(|row| row.report_count).sum(), rows.iter().map(|row| row.checksum).collect())
}

#[tokio::test]
async fn what_is_added_is_summed_per_bucket() {
    for (_database, store) in stores().await {
        let late = BucketDelta { min_time: Time(1), max_time: Time(9), ..delta(5, 30, 3) };
        let first = &[delta(6, 1, 1), delta(5, 10, 2), late];
        commit!(store, |tx| buckets::add(tx, 1, first, plus));
        let second = &[delta(5, 100, 4)];
        commit!(store, |tx| buckets::add(tx, 1, second, plus));

        let five = commit!(store, |tx| buckets::totals(tx, 1, interval(5, 1)));
        let checksum = [2, 3, 4].map(|report| Checksum::of(&ReportId::new([report; 16])));
        assert_eq!(total(&five), (140, 3, checksum.into_iter().collect()));
        assert_eq!(five.iter().map(|row| row.min_time).min(), Some(Time(1)));
        assert_eq!(five.iter().map(|row| row.max_time).max(), Some(Time(9)));
        assert_eq!(commit!(store, |tx| buckets::report_count(tx, 1, interval(0, u64::MAX))), 4);
        assert_eq!(commit!(store, |tx| buckets::report_count(tx, 1, interval(0, 5))), 0);
        assert_eq!(commit!(store, |tx| buckets::report_count(tx, 2, interval(0, 9))), 0);
    }
}

#[tokio::test]
async fn a_chosen_batch_is_a_bucket_of_its_own() {
    for (_database, store) in stores().await {
        let batch = BatchId::new([8; 32]);
        let deltas = &[
            delta(5, 1, 1),
            BucketDelta { bucket: BucketId::LeaderSelected(batch), ..delta(5, 2, 2) },
            BucketDelta { bucket: BucketId::LeaderSelected(BatchId::new([9; 32])), ..delta(5, 4, 3) },
        ];
        commit!(store, |tx| buckets::add(tx, 1, deltas, plus));
        let rows = commit!(store, |tx| buckets::totals(tx, 1, batch));
        assert_eq!((rows.len(), total(&rows).0), (1, 2));
        assert_eq!(rows[0].bucket, BucketId::LeaderSelected(batch));
        assert_eq!(total(&commit!(store, |tx| buckets::totals(tx, 1, interval(0, 100)))).0, 1);
    }
}

#[tokio::test]
async fn a_scrubbed_bucket_keeps_no_share_and_takes_none() {
    for (_database, store) in stores().await {
        let deltas = &[delta(5, 1, 1), delta(6, 2, 2)];
        for _ in 0..4 {
            commit!(store, |tx| buckets::add(tx, 1, deltas, plus));
        }
        assert!(commit!(store, |tx| buckets::scrub(tx, 1, interval(5, 1))) >= 1);
        assert_eq!(commit!(store, |tx| buckets::scrub(tx, 1, interval(5, 1))), 0);
        let five = commit!(store, |tx| buckets::totals(tx, 1, interval(5, 1)));
        assert!(five.iter().all(|row| row.share.is_none()));
        assert_eq!(total(&five).1, 4);
        for _ in 0..20 {
            let refused = attempt!(store, |tx| buckets::add(tx, 1, deltas, plus));
            assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
        }
        assert_eq!(total(&commit!(store, |tx| buckets::totals(tx, 1, interval(6, 1)))).0, 8);
    }
}

#[tokio::test]
async fn a_share_that_cannot_be_added_is_called_corrupt() {
    for (_database, store) in stores().await {
        let deltas = &[delta(5, 1, 1), delta(5, 1, 1)];
        let refused = attempt!(store, |tx| buckets::add(tx, 1, deltas, |_: &[u8], _: &[u8]| Err(())));
        assert_eq!(refused, Err(StoreError::corrupt("buckets", "share")));
        assert!(commit!(store, |tx| buckets::totals(tx, 1, interval(0, 9))).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_eight_add_at_once() {
    for (_database, store) in stores().await {
        at_once(|worker| {
            let store = store.clone();
            async move {
                for round in 0..25 {
                    // Everybody in another order: the store sorts.
                    let mut deltas: Vec<_> = (0..6).map(|time| delta(time, 1, worker * 25 + round)).collect();
                    deltas.rotate_left(usize::from(worker) % 6);
                    let deltas = &deltas;
                    commit!(store, |tx| buckets::add(tx, 1, deltas, plus));
                    let outcomes =
                        &[("aggregated", 5), ("report_replayed", 1), ("aggregated", 1), ("none", 0)];
                    commit!(store, |tx| tallies::add(tx, 1, outcomes));
                }
            }
        })
        .await;
        let checksum: Checksum = (0..200).map(|report| Checksum::of(&ReportId::new([report; 16]))).collect();
        for time in 0..6 {
            let rows = commit!(store, |tx| buckets::totals(tx, 1, interval(time, 1)));
            assert_eq!(total(&rows), (200, 200, checksum));
            assert!(rows.len() <= 8);
        }
        let expected = [("aggregated".to_owned(), 1_200), ("report_replayed".to_owned(), 200)];
        assert_eq!(commit!(store, |tx| tallies::of_task(tx, 1)), expected);
        assert!(commit!(store, |tx| tallies::of_task(tx, 2)).is_empty());
    }
}

#[tokio::test]
async fn what_is_closed_overlaps_what_touches_it() {
    for (_database, store) in stores().await {
        commit!(store, |tx| closed_intervals::close(tx, 1, interval(10, 5), 7));
        commit!(store, |tx| closed_intervals::close(tx, 1, interval(20, 1), 8));
        for (asked, closed) in [
            (interval(0, 10), false),
            (interval(0, 11), true),
            (interval(12, 1), true),
            (interval(14, 9), true),
            (interval(15, 5), false),
            (interval(0, u64::MAX), true),
        ] {
            assert_eq!(commit!(store, |tx| closed_intervals::overlapping(tx, 1, asked)), closed, "{asked:?}");
            assert!(!commit!(store, |tx| closed_intervals::overlapping(tx, 2, asked)));
        }
        let times = |first, last| (Time(first), Time(last));
        for ((first, last), closed) in [
            (times(0, 9), vec![]),
            (times(0, 10), vec![interval(10, 5)]),
            (times(14, 20), vec![interval(10, 5), interval(20, 1)]),
            (times(15, 19), vec![]),
        ] {
            assert_eq!(commit!(store, |tx| closed_intervals::closed_times(tx, 1, first, last)), closed);
        }
        assert_eq!(commit!(store, |tx| closed_intervals::reopen(tx, 7)), 1);
        assert!(!commit!(store, |tx| closed_intervals::overlapping(tx, 1, interval(0, 20))));
    }
}

#[tokio::test]
async fn a_batch_and_an_interval_are_closed_apart() {
    for (_database, store) in stores().await {
        let batch = BatchId::new([8; 32]);
        commit!(store, |tx| closed_intervals::close(tx, 1, batch, 7));
        assert!(commit!(store, |tx| closed_intervals::overlapping(tx, 1, Scope::Batch(batch))));
        assert!(!commit!(store, |tx| closed_intervals::overlapping(tx, 1, BatchId::new([9; 32]))));
        assert!(!commit!(store, |tx| closed_intervals::overlapping(tx, 1, interval(0, 100))));
        let again = attempt!(store, |tx| closed_intervals::close(tx, 1, batch, 8));
        assert!(matches!(again, Err(StoreError::Conflict { .. })), "{again:?}");
    }
}

#[tokio::test]
async fn an_interval_without_an_end_in_sight_is_closed_to_the_last_column() {
    for (_database, store) in stores().await {
        commit!(store, |tx| closed_intervals::close(tx, 1, interval(50, u64::MAX - 50), 7));
        let far = Time(i64::MAX as u64 - 1);
        assert!(commit!(store, |tx| closed_intervals::overlapping(tx, 1, BucketId::TimeInterval(far))));
        assert!(!commit!(store, |tx| closed_intervals::overlapping(tx, 1, interval(49, 1))));
    }
}
