//! Budgets and the ledger, charged with the real state machine.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

use mica_dap::vdaf_config::VdafConfig;
use mica_dp::accountant::Span;
use mica_dp::ledger::{self as machine, ChargeError, verify_chain};
use mica_dp::{BudgetState, ChainHead, ChargeRequest, Decision, Policy, ReleaseKey, ReleasePlan, TaskFacts};

use super::{at_once, attempt, commit, stores};
use crate::store::{StoreError, Tx, ledger, ledger_uses};

/// A plan that charges this budget, which lasts for ten releases.
fn plan(budget: &str) -> ReleasePlan {
    let text = Policy::for_demo_with_clients("demo", &VdafConfig::Count, 100, "1/10");
    let policy = Policy::parse("demo.toml", &text.replace("demo-lifetime", budget)).expect("it is valid");
    let facts = TaskFacts::new("demo", &VdafConfig::Count, 100);
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
    let head = ledger::head(tx).await?;
    let mut states = Vec::new();
    for charge in plan.charges() {
        let uses = ledger_uses::of_budget(tx, &charge.budget_id, Span::ALL.from()).await?;
        states.push(BudgetState { budget_id: charge.budget_id.clone(), uses });
    }
    let data = Span::of_reports(u64::from(batch) * 3600, u64::from(batch) * 3600 + 3600).unwrap();
    let request = ChargeRequest { key: key(batch), report_count: 100, data, now: 5 };
    let charged = match machine::charge(plan, request, &states, head) {
        Ok(charged) => charged,
        Err(ChargeError::Exhausted(_)) => return Ok(false),
        Err(other) => panic!("{other}"),
    };
    for (entry, usage) in charged.entries().iter().zip(charged.uses()) {
        ledger_uses::add(tx, usage).await?;
        ledger::append(tx, entry).await?;
    }
    let stored = ledger::entries_of(tx, &key(batch)).await?;
    assert_eq!(charged.recorded(&stored).expect("it is recorded").key(), &key(batch));
    Ok(true)
}

/// That the entries follow from each other, and that what is kept is what they add up to.
macro_rules! verified {
    ($store:expr) => {{
        let entries = commit!($store, |tx| ledger::entries(tx));
        let books = verify_chain(&entries).expect("the chain is whole");
        let kept = commit!($store, |tx| ledger_uses::all(tx));
        let derived: Vec<_> = books.iter().flat_map(|book| book.uses.clone()).collect();
        assert_eq!(derived.len(), kept.len());
        assert!(derived.iter().all(|usage| kept.contains(usage)), "{derived:?} {kept:?}");
        (entries, books)
    }};
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
        let (entries, books) = verified!(store);
        assert_eq!(entries.len(), 20);
        assert_eq!(books.iter().map(|book| book.fullest().spent).collect::<Vec<_>>(), [1_000_000_000_000; 2]);
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
            let usage = &entry.usage();
            assert!(commit!(store, |tx| ledger_uses::take_back(tx, usage)));
            commit!(store, |tx| ledger::append(tx, entry));
        }
        assert_eq!(verified!(store).1[0].fullest().spent, 100_000_000_000);
        assert!(commit!(store, |tx| charge(tx, plan, 1)));
        let (entries, books) = verified!(store);
        assert_eq!((entries.len(), books[0].fullest().spent), (4, 200_000_000_000));
    }
}

#[tokio::test]
async fn what_counts_alike_is_one_row_and_no_row_is_overdrawn() {
    for (_database, store) in stores().await {
        let plan = &plan("lifetime");
        let charge = &plan.charges()[0];
        let hour = |hour: u64| Span::of_reports(hour * 3600, hour * 3600 + 3600).unwrap();
        let usage = &plan.account(charge).usage(&plan.proposal(charge, [1; 32], hour(1)));
        for _ in 0..3 {
            commit!(store, |tx| ledger_uses::add(tx, usage));
        }
        let kept = commit!(store, |tx| ledger_uses::all(tx));
        assert_eq!((kept.len(), kept[0].releases), (1, 3));
        let other = &mica_dp::accountant::Use { task: [2; 32], epsilon_units: None, ..usage.clone() };
        commit!(store, |tx| ledger_uses::add(tx, other));
        assert!(commit!(store, |tx| ledger_uses::take_back(tx, other)));
        assert!(!commit!(store, |tx| ledger_uses::take_back(tx, other)), "it is gone");
        assert_eq!(commit!(store, |tx| ledger_uses::all(tx)), kept);
        let none = commit!(store, |tx| ledger_uses::of_budget(tx, "lifetime", Span::ALL.to()));
        assert_eq!(none, []);
        assert_eq!(commit!(store, |tx| ledger_uses::of_budget(tx, "another", Span::ALL.from())), []);
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
        let entries = commit!(store, |tx| ledger::entries(tx));
        assert_eq!(entries.len(), 2);
        let before = commit!(store, |tx| ledger::page(tx, 2, 10));
        assert_eq!(before, entries[..1]);
        assert_eq!(commit!(store, |tx| ledger::newest_by_budget(tx)), entries[1..]);
    }
}

/// Two programs, as two replicas are, or a server and a command beside it.
#[tokio::test(flavor = "multi_thread")]
async fn two_processes_that_charge_at_once_spend_what_there_is_and_write_one_chain() {
    for (database, store) in stores().await {
        let mut children: Vec<Child> = (1..=2).map(|number| charging(number, &database.url)).collect();
        // Both are there before either begins.
        let mut said: Vec<_> = children
            .iter_mut()
            .map(|child| BufReader::new(child.stdout.take().expect("it is a pipe")).lines())
            .collect();
        for lines in &mut said {
            assert!(lines.any(|line| line.is_ok_and(|line| line.contains(READY))), "{}", database.kind);
        }
        for child in &mut children {
            child.stdin.take().expect("it is a pipe").write_all(b"go\n").expect("it waits");
        }
        let mut granted = Vec::new();
        for (child, lines) in children.iter_mut().zip(&mut said) {
            let told = lines.find_map(|line| line.ok()?.strip_prefix(GRANTED)?.parse::<u32>().ok());
            granted.push(told.expect("it tells how many it was granted"));
            assert!(child.wait().expect("it ends").success(), "{}", database.kind);
        }
        assert_eq!(granted.iter().sum::<u32>(), 10, "{}: {granted:?}", database.kind);
        let (entries, books) = verified!(store);
        assert_eq!(entries.len(), 10, "{}", database.kind);
        assert_eq!(books[0].fullest().spent, 1_000_000_000_000);
    }
}

fn charging(number: u32, url: &str) -> Child {
    Command::new(std::env::current_exe().expect("this is a program"))
        .args(["--exact", "store::contract_tests::budgets::charges_in_a_process_of_its_own", "--nocapture"])
        .env(CHARGER, format!("{number} {url}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs")
}

/// One of the processes of the test above; by itself it has nothing to do.
#[tokio::test]
async fn charges_in_a_process_of_its_own() {
    let Ok(told) = std::env::var(CHARGER) else { return };
    let (number, url) = told.split_once(' ').expect("a number and a URL");
    let number: u32 = number.parse().expect("a number");
    let store = crate::store::Store::open(url, crate::store::migrator()).await.expect("it is there");
    let plan = &plan("lifetime");
    println!("{READY}");
    std::io::stdin().read_line(&mut String::new()).expect("the other end waits for us");
    let mut granted = 0;
    for batch in 0..10 {
        granted += u32::from(commit!(store, |tx| charge(tx, plan, number * 100 + batch)));
    }
    println!("\n{GRANTED}{granted}");
}

const CHARGER: &str = "MICA_TEST_CHARGER";
const READY: &str = "ready to charge";
const GRANTED: &str = "granted ";
