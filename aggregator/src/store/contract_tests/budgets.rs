//! Budgets and the ledger, charged with the real state machine.

use mica_dap::vdaf_config::VdafConfig;
use mica_dp::ledger::{self as machine, ChargeError, verify_chain};
use mica_dp::{BudgetState, ChainHead, ChargeRequest, Decision, Policy, ReleaseKey, ReleasePlan, TaskFacts};

use super::{at_once, attempt, commit, stores};
use crate::store::ledger::{self, BudgetRow};
use crate::store::{StoreError, Tx};

/// A plan that charges this budget, which lasts for ten releases.
fn plan(budget: &str) -> ReleasePlan {
    let text = Policy::for_demo("demo", &VdafConfig::Count, 100, "1/10").replace("demo-lifetime", budget);
    let policy = Policy::parse("demo.toml", &text).expect("the policy of the demonstration is valid");
    let facts = TaskFacts { label: "demo", vdaf: &VdafConfig::Count, min_batch_size: 100 };
    match policy.release_for(&facts).expect("it covers its task") {
        Decision::Release(plan) => *plan,
        Decision::WithoutDp(_) => panic!("it releases with noise"),
    }
}

fn key(batch: u32) -> ReleaseKey {
    ReleaseKey::new([1; 32], &batch.to_be_bytes(), &[])
}

/// What a release does to the ledger: whether it is granted.
async fn charge(tx: &mut Tx, plan: &ReleasePlan, batch: u32) -> Result<bool, StoreError> {
    let budgets: Vec<(&str, i64)> =
        plan.charges().iter().map(|it| (it.budget_id.as_str(), it.limit)).collect();
    let states = ledger::budget_states(tx, &budgets).await?;
    let states = states.into_iter().map(state).collect::<Vec<_>>();
    let head = ledger::head(tx).await?;
    let request = ChargeRequest { key: key(batch), report_count: 100, now: 5 };
    let charged = match machine::charge(plan, request, &states, head) {
        Ok(charged) => charged,
        Err(ChargeError::Exhausted(_)) => return Ok(false),
        Err(other) => panic!("{other}"),
    };
    for entry in charged.entries() {
        assert!(ledger::debit(tx, &entry.budget_id, entry.units, entry.limit).await?);
        ledger::append(tx, entry).await?;
    }
    let stored = ledger::entries_of(tx, &key(batch)).await?;
    assert_eq!(charged.recorded(&stored).expect("it is recorded").key(), &key(batch));
    Ok(true)
}

fn state(row: BudgetRow) -> BudgetState {
    BudgetState { budget_id: row.budget_id, limit: row.limit, spent: row.spent }
}

#[tokio::test]
async fn budgets_come_in_the_order_they_were_asked_for() {
    for (_database, store) in stores().await {
        let asked = &[("weekly", 50), ("daily", 10)];
        let states = commit!(store, |tx| ledger::budget_states(tx, asked));
        assert_eq!(states.iter().map(|row| row.budget_id.as_str()).collect::<Vec<_>>(), ["weekly", "daily"]);
        assert!(commit!(store, |tx| ledger::debit(tx, "daily", 4, 10)));
        let raised = &[("daily", 20)];
        let states = commit!(store, |tx| ledger::budget_states(tx, raised));
        assert_eq!(states, [BudgetRow { budget_id: "daily".to_owned(), limit: 20, spent: 4 }]);
        let all = commit!(store, |tx| ledger::budgets(tx));
        assert_eq!(all.iter().map(|row| (row.limit, row.spent)).collect::<Vec<_>>(), [(10, 4), (50, 0)]);
    }
}

#[tokio::test]
async fn a_budget_is_never_overdrawn_nor_overfilled() {
    for (_database, store) in stores().await {
        let budget = &[("b", 10)];
        commit!(store, |tx| ledger::budget_states(tx, budget));
        for (units, limit, granted) in [
            (11, 10, false),
            (-1, 10, false),
            (i64::MIN, 10, false),
            (i64::MAX, i64::MAX, true),
            (1, i64::MAX, false),
            (0, i64::MAX, true),
        ] {
            assert_eq!(commit!(store, |tx| ledger::debit(tx, "b", units, limit)), granted, "{units} {limit}");
        }
        assert!(!commit!(store, |tx| ledger::credit(tx, "b", -1)));
        assert!(commit!(store, |tx| ledger::credit(tx, "b", i64::MAX)));
        assert!(!commit!(store, |tx| ledger::credit(tx, "b", 1)));
        assert!(!commit!(store, |tx| ledger::debit(tx, "unknown", 1, 10)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_debits_the_ten_that_fit_succeed() {
    for (_database, store) in stores().await {
        let budget = &[("b", 10)];
        commit!(store, |tx| ledger::budget_states(tx, budget));
        let granted = at_once(|_| {
            let store = store.clone();
            async move {
                let mut granted = 0;
                for _ in 0..13 {
                    granted += i32::from(commit!(store, |tx| ledger::debit(tx, "b", 1, 10)));
                }
                granted
            }
        });
        assert_eq!(granted.await.into_iter().sum::<i32>(), 10);
        assert_eq!(commit!(store, |tx| ledger::budgets(tx))[0].spent, 10);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_who_charge_at_once_write_one_chain_and_spend_what_there_is() {
    for (_database, store) in stores().await {
        let granted = at_once(|worker| {
            // Two budgets, so that it is not the budget alone that keeps the chargers apart.
            let (store, plan) = (store.clone(), plan(if worker % 2 == 0 { "even" } else { "odd" }));
            async move {
                let plan = &plan;
                let mut granted = 0;
                for round in 0..13 {
                    let batch = u32::from(worker) * 100 + round;
                    granted += i32::from(commit!(store, |tx| charge(tx, plan, batch)));
                }
                granted
            }
        });
        assert_eq!(granted.await.into_iter().sum::<i32>(), 20);
        let entries = commit!(store, |tx| ledger::entries(tx));
        assert_eq!(entries.len(), 20);
        let derived = verify_chain(&entries).expect("the chain is whole");
        let stored: Vec<_> = commit!(store, |tx| ledger::budgets(tx)).into_iter().map(state).collect();
        assert_eq!(derived, stored);
    }
}

#[tokio::test]
async fn a_charge_that_is_refunded_can_be_made_again() {
    for (_database, store) in stores().await {
        let plan = &plan("lifetime");
        assert_eq!(commit!(store, |tx| ledger::head(tx)), ChainHead::EMPTY);
        assert!(commit!(store, |tx| charge(tx, plan, 1)));
        assert!(commit!(store, |tx| charge(tx, plan, 2)));
        let recorded = commit!(store, |tx| ledger::entries_of(tx, &key(1)));
        assert_eq!(recorded.len(), 1);
        let head = commit!(store, |tx| ledger::head(tx));
        let refunds = &machine::refund(&recorded, 9, head).unwrap();
        for entry in refunds {
            assert!(commit!(store, |tx| ledger::credit(tx, &entry.budget_id, -entry.units)));
            commit!(store, |tx| ledger::append(tx, entry));
        }
        assert!(commit!(store, |tx| charge(tx, plan, 1)));
        let entries = commit!(store, |tx| ledger::entries(tx));
        let derived = verify_chain(&entries).expect("the chain is whole");
        let stored: Vec<_> = commit!(store, |tx| ledger::budgets(tx)).into_iter().map(state).collect();
        assert_eq!((entries.len(), derived), (4, stored));
    }
}

#[tokio::test]
async fn an_entry_has_one_successor() {
    for (_database, store) in stores().await {
        let plan = &plan("lifetime");
        commit!(store, |tx| charge(tx, plan, 1));
        commit!(store, |tx| charge(tx, plan, 2));
        let mut fork = commit!(store, |tx| ledger::entries(tx)).pop().unwrap();
        fork.sequence = 3;
        fork.entry_hash = [9; 32];
        let fork = &fork;
        let refused = attempt!(store, |tx| ledger::append(tx, fork));
        assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
        assert_eq!(commit!(store, |tx| ledger::entries(tx)).len(), 2);
    }
}
