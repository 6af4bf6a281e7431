//! What the verification of a ledger finds where releases and their entries do not say the same.

use std::collections::HashMap;

use mica_dap::codec::Encode as _;
use mica_dap::time::TimePrecision;
use mica_dp::accountant::Span;
use mica_dp::{BudgetState, ChainHead, ChargeRequest, ReleaseKey};

use super::*;
use crate::budget::paid::{Unpaid, verify};
use crate::store::releases::{NewRelease, ReleaseState};

impl World {
    fn verify(&self, entries: &[LedgerEntry], releases: &[&NewRelease]) -> Result<(), Unpaid> {
        let releases: Vec<_> = releases.iter().map(|release| (self.task.id, (*release).clone())).collect();
        let precision = TimePrecision::new(60).expect("not zero");
        verify(entries, &releases, &HashMap::from([(self.task.id, precision)]))
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
