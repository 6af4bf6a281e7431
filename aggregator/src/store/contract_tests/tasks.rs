//! Tasks, keys, and the lock between those who add and those who collect.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mica_dap::Draft;
use mica_dap::id::TaskId;
use mica_service::store::Dialect;
use tokio::sync::Barrier;
use zeroize::Zeroizing;

use super::{attempt, commit, stores};
use crate::store::tasks::{
    NewTask, Origin, Role, Stored, all_tasks, insert_task, lock_task, share_task, task_by_id,
};
use crate::store::{StoreError, migrator};

fn new_task(number: u8) -> NewTask {
    NewTask {
        task_id: TaskId::new([number; 32]),
        role: Role::Helper,
        draft: Draft::V19,
        configuration: vec![0, 1, 255],
        verify_key: Zeroizing::new(vec![7; 32]),
        verification_key_id: 3,
        collector_hpke_config: vec![9; 40],
        peer_token: None,
        peer_token_hash: Some([1; 32]),
        batch_target_size: None,
        aggregation_parameter: Vec::new(),
        collector_token_hash: None,
        peer_certificates: Some("name:leader.example".to_owned()),
        collector_certificates: None,
        origin: Origin::Operator,
        expires_at: None,
        created_at: 1_000,
    }
}

#[tokio::test]
async fn a_stored_task_comes_back_as_it_was() {
    for (_database, store) in stores().await {
        let helper = &new_task(1);
        let leader = &NewTask {
            role: Role::Leader,
            draft: Draft::V18,
            peer_token: Some(Zeroizing::new("secret".to_owned())),
            peer_token_hash: None,
            collector_token_hash: Some([2; 32]),
            aggregation_parameter: vec![0, 0, 255],
            peer_certificates: None,
            collector_certificates: Some("name:collector.example".to_owned()),
            ..new_task(2)
        };
        let first = commit!(store, |tx| insert_task(tx, helper)).key;
        let second = commit!(store, |tx| insert_task(tx, leader)).key;
        let stored = commit!(store, |tx| task_by_id(tx, &leader.task_id)).unwrap();
        assert!(stored.key == second && stored.task == *leader);
        let all = commit!(store, |tx| all_tasks(tx));
        assert!(all.iter().map(|row| row.key).eq([first, second]) && all[0].task == *helper);
        assert!(commit!(store, |tx| task_by_id(tx, &TaskId::new([3; 32]))).is_none());
    }
}

#[tokio::test]
async fn a_task_given_twice_is_one_task_and_another_of_its_name_is_refused() {
    for (_database, store) in stores().await {
        let task = &new_task(1);
        let key = commit!(store, |tx| insert_task(tx, task)).key;
        let again = &NewTask { created_at: 2_000, ..task.clone() };
        assert_eq!(commit!(store, |tx| insert_task(tx, again)), Stored { key, is_new: false });
        let other = &NewTask { configuration: vec![0, 1, 254], ..task.clone() };
        let counting = &NewTask { aggregation_parameter: vec![1], ..task.clone() };
        for other in [other, counting] {
            let refused = attempt!(store, |tx| insert_task(tx, other));
            assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
        }
        assert_eq!(commit!(store, |tx| all_tasks(tx)).len(), 1);
    }
}

#[tokio::test]
async fn a_database_is_opened_again_with_what_is_in_it() {
    for (database, store) in stores().await {
        let task = &new_task(1);
        let key = commit!(store, |tx| insert_task(tx, task)).key;
        store.close().await;
        let store = database.open(migrator()).await.unwrap();
        assert_eq!(commit!(store, |tx| insert_task(tx, task)).key, key);
    }
}

#[tokio::test]
async fn a_number_that_no_column_holds_is_refused() {
    for (_database, store) in stores().await {
        let task = &NewTask { verification_key_id: u64::MAX, ..new_task(1) };
        assert_eq!(attempt!(store, |tx| insert_task(tx, task)), Err(StoreError::OutOfRange));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_collects_waits_for_whoever_adds() {
    for (_database, store) in stores().await {
        let adding = Arc::new(Barrier::new(2));
        let added = Arc::new(AtomicBool::new(false));
        let transaction = tokio::spawn({
            let (store, adding, added) = (store.clone(), adding.clone(), added.clone());
            async move {
                let (adding, added) = (&adding, &added);
                store
                    .tx("add", |mut tx| async move {
                        share_task(&mut tx, 1).await?;
                        adding.wait().await;
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                        added.store(true, Ordering::SeqCst);
                        Ok((tx, ()))
                    })
                    .await
            }
        });
        adding.wait().await;
        commit!(store, |tx| lock_task(tx, 1));
        assert!(added.load(Ordering::SeqCst));
        transaction.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_add_do_not_wait_for_each_other_nor_for_another_task() {
    for (_database, store) in stores().await {
        if store.dialect() == Dialect::Sqlite {
            continue;
        }
        let together = Arc::new(Barrier::new(3));
        let transactions = [(1, false), (1, false), (2, true)].map(|(task, collects)| {
            let (store, together) = (store.clone(), together.clone());
            tokio::spawn(async move {
                let together = &together;
                store
                    .tx("meet", |mut tx| async move {
                        if collects {
                            lock_task(&mut tx, task).await?;
                        } else {
                            share_task(&mut tx, task).await?;
                        }
                        together.wait().await;
                        Ok((tx, ()))
                    })
                    .await
            })
        });
        for transaction in transactions {
            transaction.await.unwrap().unwrap();
        }
    }
}
