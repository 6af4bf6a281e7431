//! What the verification of a ledger finds where releases and their entries do not say the same.

use std::collections::HashMap;

use mica_dap::codec::Encode as _;
use mica_dp::accountant::Span;
use mica_dp::{BudgetState, ChainHead, ChargeRequest, ReleaseKey};

use super::*;
use crate::budget::paid::{Reading, Unpaid};
use crate::budget::{Unsound, Verified, in_pages, verify};
use crate::store::releases::{NewRelease, ReleaseState};
use crate::store::tasks::{self, Origin};

impl World {
    fn verify(&self, entries: &[LedgerEntry], releases: &[&NewRelease]) -> Result<(), Unpaid> {
        let configuration = self.task.configuration.clone();
        let mut reading = Reading::new(HashMap::from([(self.task.id, configuration)]));
        for entry in entries {
            reading.entry(entry);
        }
        for release in releases {
            reading.release(&self.task.id, release, &[]);
        }
        reading.finish()
    }

    /// Keeps the task and its policy, as an aggregator does that serves it.
    async fn served(&self, file: &TaskFile, policy: &Policy) {
        crate::policy::admit(&self.store, policy, 5).await.expect("the first policy");
        let stored = self.store.tx("store_task", move |mut tx| async move {
            let stored = tasks::insert_task(&mut tx, &file.to_row(Origin::Operator, None, 5)).await?;
            Ok((tx, stored))
        });
        stored.await.expect("the database answers");
    }

    /// One and the same of pages of every size.
    async fn verified(&self) -> Result<Verified, Unsound> {
        let whole = verify(&self.store, &self.high_water).await.expect("the database answers");
        for page in [1, 2, 3, 7] {
            let paged = in_pages(&self.store, &self.high_water, page).await.expect("the database answers");
            assert_eq!(paged, whole, "pages of {page}");
        }
        whole
    }

    async fn execute(&self, statement: &'static str) {
        let done = self.store.tx("execute", move |mut tx| async move {
            sqlx::query(statement).execute(tx.connection()).await?;
            Ok((tx, ()))
        });
        done.await.expect("the database takes it");
    }

    /// One more release of that batch.
    async fn released(&self, release: &NewRelease, batch: u64) {
        let query = Interval::new(Time(batch), Duration(1)).expect("an interval");
        let release = NewRelease { batch_key: query.encoded(), ..release.clone() };
        let release = &release;
        let done = self.store.tx("release", move |mut tx| async move {
            releases::insert(&mut tx, release).await?;
            Ok((tx, ()))
        });
        done.await.expect("the database takes it");
    }

    async fn look_at(&self, release: i64) -> NewRelease {
        let row = self.store.read("look_at", move |mut tx| async move {
            let row = releases::by_id(&mut tx, release).await?;
            Ok((tx, row))
        });
        row.await.expect("the database answers").expect("it is there").release
    }

    async fn written(&self) -> Vec<LedgerEntry> {
        let entries = self.store.read("entries", |mut tx| async move {
            let entries = ledger::entries(&mut tx).await?;
            Ok((tx, entries))
        });
        entries.await.expect("the database answers")
    }

    /// The charge of the batch as if its reports had been made then.
    fn charge_at(&self, data: Span) -> LedgerEntry {
        let Decision::Release(plan) = &self.task.decision else { panic!("it releases with noise") };
        let key = ReleaseKey::new(*self.task.id.as_bytes(), &self.query.encoded(), &[]);
        let states: Vec<BudgetState> = plan
            .charges()
            .iter()
            .map(|charge| BudgetState { budget_id: charge.budget_id.clone(), uses: Vec::new() })
            .collect();
        let request = ChargeRequest { key, report_count: 2, data, now: 5 };
        let charged = mica_dp::ledger::charge(plan, request, &states, ChainHead::EMPTY);
        charged.expect("the budget lasts").entries()[0].clone()
    }
}

#[tokio::test]
async fn a_release_and_its_entries_that_do_not_say_the_same_are_found() {
    for world in World::all().await {
        let release = world.reserve().await.expect("the budget lasts");
        let reserved = world.look(release).await.0.release;
        let charged = world.written().await;
        world.commit(release).await.expect("it was reserved");
        let committed = world.look(release).await.0.release;
        let settled = world.written().await;
        assert_eq!(world.verify(&charged, &[&reserved]), Ok(()));
        assert_eq!(world.verify(&settled, &[&committed]), Ok(()));
        let said = |entries, release: &NewRelease| {
            world.verify(entries, &[release]).expect_err("it differs").to_string()
        };
        assert!(said(&[], &committed).ends_with("committed, has no charge in the ledger"));
        assert!(said(&charged, &committed).ends_with("has a charge that is not settled in the ledger"));
        assert!(said(&settled, &reserved).ends_with("has a charge that is final in the ledger"));
        let refunded = NewRelease { state: ReleaseState::Refunded, ..committed.clone() };
        assert!(said(&settled, &refunded).ends_with("has a charge that is final in the ledger"));
        let other = NewRelease { mechanism: "discrete_laplace(scale=1)".to_owned(), ..committed.clone() };
        assert_eq!(said(&settled, &other), "ledger entry 2: its mechanism is not that of its release");
        let other = NewRelease { policy_version: 7, ..committed.clone() };
        assert_eq!(said(&settled, &other), "ledger entry 2: its policy is not that of its release");
        let nothing = world.verify(&settled, &[]).expect_err("it was deleted").to_string();
        assert_eq!(nothing, "ledger entry 2: there is no release that it is of");
    }
}

#[tokio::test]
async fn a_charge_that_counts_at_another_time_than_that_of_its_batch_is_found() {
    for world in World::all().await {
        let release = world.reserve().await.expect("the budget lasts");
        let reserved = world.look(release).await.0.release;
        let asked_for = Span::of_reports(9 * 60, 12 * 60).expect("three units of a minute");
        assert_eq!(world.verify(&[world.charge_at(asked_for)], &[&reserved]), Ok(()));
        for other in [Span::of_reports(10 * 60, 12 * 60).expect("two"), Span::ALL] {
            let found = world.verify(&[world.charge_at(other)], &[&reserved]);
            assert_eq!(found, Err(Unpaid::Time { sequence: 1 }));
        }
    }
}

/// Refunded again and again, so that the ledger is longer than a page and the budget lasts.
#[tokio::test]
async fn a_ledger_longer_than_a_page_is_read_to_its_end() {
    for world in World::all().await {
        let (file, policy) = file_of();
        world.served(&file, &policy).await;
        for _ in 0..6 {
            let release = world.reserve().await.expect("the budget lasts");
            world.refund(release).await.expect("it was reserved");
        }
        let release = world.reserve().await.expect("the budget lasts");
        world.commit(release).await.expect("it was reserved");
        let verified = world.verified().await.expect("all of it follows");
        assert_eq!((verified.charges, verified.refunds, verified.commits, verified.policies), (7, 6, 1, 1));
        let end = world.written().await.last().map(LedgerEntry::head);
        assert_eq!(Some(verified.head), end);
        let changes = [
            (
                "UPDATE ledger SET units = units + 1 WHERE seq = 14",
                "ledger entry 14: its content was changed",
            ),
            ("UPDATE ledger SET units = units - 1 WHERE seq = 14", ""),
            ("UPDATE ledger SET seq = 0 WHERE seq = 1", "ledger entry 0: its number does not follow"),
            ("UPDATE ledger SET seq = 1 WHERE seq = 0", ""),
            ("UPDATE ledger SET seq = 15 WHERE seq = 14", "ledger entry 15: its number does not follow"),
            ("UPDATE ledger SET seq = 14 WHERE seq = 15", ""),
            ("UPDATE releases SET state = 'refunded'", "has a charge that is final in the ledger"),
        ];
        for (change, expected) in changes {
            world.execute(change).await;
            let said = world.verified().await.map_or_else(|unsound| unsound.to_string(), |_| String::new());
            assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{change}: {said}");
        }
    }
}

#[tokio::test]
async fn a_release_without_noise_of_a_task_that_promises_it_is_found() {
    for world in World::all().await {
        let (file, policy) = file_of();
        world.served(&file, &policy).await;
        let release = world.reserve().await.expect("the budget lasts");
        world.commit(release).await.expect("it was reserved");
        world.verified().await.expect("all of it follows");
        let bare = NewRelease { mechanism: "none".to_owned(), ..world.look(release).await.0.release };
        world.released(&bare, 20).await;
        let found = world.verified().await.expect_err("nobody charged it").to_string();
        let expected =
            format!("a release of task {}, committed, is without noise: the task is bound to", file.task_id);
        assert!(found.starts_with(&expected), "{found}");
        world.execute("DELETE FROM releases WHERE id > 1").await;
        world.verified().await.expect("all of it follows");
        world.execute("UPDATE releases SET mechanism = 'none'").await;
        let found = world.verified().await.expect_err("it was charged for, and has no noise").to_string();
        assert!(found.starts_with(&expected), "{found}");
    }
}

#[tokio::test]
async fn a_release_without_noise_is_in_order_only_as_far_as_its_policy_allows_it() {
    for world in World::all().await {
        let file = leader_file(VDAF, b"t".to_vec(), Vec::new());
        let open = Policy::for_release_without_dp("these are tests", "2199-01-01");
        let policy = Policy::parse("policy.toml", &open).expect("a policy");
        world.served(&file, &policy).await;
        // As the gate writes it.
        let task = Arc::new(Task::resolve(1, file.clone(), &policy).expect("the policy covers the task"));
        let world = World { task, ..world };
        let release = world.reserve().await.expect("it is allowed");
        world.commit(release).await.expect("it was reserved");
        assert_eq!(world.verified().await.expect("it is allowed").head, ChainHead::EMPTY);
        let allowed = world.look_at(release).await;
        for batch in 20..25 {
            world.released(&allowed, batch).await;
        }
        world.verified().await.expect("it is allowed");
        let found = async |change: NewRelease| {
            world.released(&change, 30).await;
            let found = world.verified().await.expect_err("it is not allowed").to_string();
            world.execute("DELETE FROM releases WHERE id = (SELECT MAX(id) FROM releases)").await;
            found
        };
        let other = found(NewRelease { policy_version: 7, ..allowed.clone() }).await;
        assert!(other.ends_with("v7, which it names, is not kept"), "{other}");
        let other = found(NewRelease { policy_sha256: [0; 32], ..allowed.clone() }).await;
        assert!(other.ends_with("is kept with another text than it names"), "{other}");
        let late = found(NewRelease { created_at: 1 << 33, ..allowed.clone() }).await;
        assert!(late.contains("does not allow it: ") && late.contains("expired"), "{late}");
        world.verified().await.expect("it is allowed");
        let (header, _) = open.split_once("[unmatched]").expect("its only other section");
        let strict =
            format!("{header}[unmatched]\naction = \"refuse\"\n").replace("version = 1", "version = 2");
        let strict = Policy::parse("policy.toml", &strict).expect("a policy that refuses");
        crate::policy::admit(&world.store, &strict, 6).await.expect("the next version");
        let strict = NewRelease { policy_version: 2, policy_sha256: strict.sha256(), ..allowed.clone() };
        let refused = found(strict).await;
        assert!(refused.contains(" v2 does not allow it: "), "{refused}");
    }
}
