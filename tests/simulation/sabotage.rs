//! Defects made on purpose. A simulation that cannot fail shows nothing.

use mica_dap::codec::{Decode as _, Encode as _};
use mica_dap::hpke::{self, Label, NoisedShare, Role};
use mica_dap::hpke_config::HpkeCiphertext;
use mica_service::store::Store;

use crate::actions;
use crate::oracle;
use crate::plan::{Action, Party, Sabotage, Sending};
use crate::records;
use crate::task::BUCKETS;
use crate::world::World;

/// Damages the system.
pub(crate) async fn commit(world: &mut World, sabotage: Sabotage) {
    let (leader, helper) = (&world.records.leader, &world.records.helper);
    match sabotage {
        Sabotage::LieAboutOneReport => world.around.wires.lie(),
        Sabotage::LoseSegments => execute(leader, "DELETE FROM segments").await,
        Sabotage::FreezeJobs => {
            execute(leader, "UPDATE aggregation_jobs SET lease_until = 9000000000000 WHERE state = 'active'")
                .await;
        }
        Sabotage::DrawAgain(party) => draw_again(world, party).await,
        Sabotage::ForgetAtHelper => execute(helper, "DELETE FROM report_ids").await,
        Sabotage::ForgetIdentifiers => {
            for store in [leader, helper] {
                execute(store, "DELETE FROM report_ids").await;
            }
            let again = Action::Upload { leader: 0, reports: vec![Sending::Again { which: 0 }] };
            if let Some(doing) = actions::begin(world, &again) {
                world.drive(doing).await;
            }
        }
    }
}

/// A statement that changes something, or the sabotage is none.
async fn execute(store: &Store, statement: &'static str) {
    let done = store.tx("sabotage", move |mut tx| async move {
        let done = sqlx::query(statement).execute(tx.connection()).await?;
        Ok((tx, done.rows_affected()))
    });
    let changed = done.await.expect("a statement that fits the schema");
    assert!(changed > 0, "`{statement}` changes nothing");
}

/// Opens the stored share of the only release, adds to each bucket what another draw may differ by, and stores it sealed
/// as the first was.
async fn draw_again(world: &World, party: Party) {
    let (store, role) = match party {
        Party::Leader(_) => (&world.records.leader, Role::Leader),
        Party::Helper => (&world.records.helper, Role::Helper),
    };
    let task = &world.around.task;
    let request = records::released(&world.records.leader).await.remove(0).request;
    let mut first = records::released(store).await.remove(0);
    // The helper was told to forget what the leader has stored; then it is in no row any more.
    if let Some(given) = first.share_id.as_ref().and_then(|id| world.around.wires.share(id)) {
        first.sealed_share = given.into();
    }
    let (aad, info) = (oracle::aad(task, &request), Label::AggregateShare(role).info(task.draft));
    let sealed = HpkeCiphertext::decoded(&first.sealed_share).expect("a sealed share");
    let share = hpke::open(&task.collector, &info, &aad, &sealed).expect("sealed to the collector");
    let differs: Vec<_> = (0..BUCKETS).map(|bucket| (bucket % 3).into()).collect();
    let drawn = Drawn(task.vdaf.add_noise(&share, &differs).expect("as many as there are buckets"));
    let sealed = hpke::seal_aggregate_share(&task.collector.config, role, task.draft, &aad, &drawn)
        .expect("it can be sealed")
        .encoded();
    let stored = store.tx("sabotage", move |mut tx| {
        let sealed = sealed.clone();
        async move {
            sqlx::query("UPDATE releases SET sealed_share = $1")
                .bind(sealed)
                .execute(tx.connection())
                .await?;
            Ok((tx, ()))
        }
    });
    stored.await.expect("a statement that fits the schema");
}

struct Drawn(Vec<u8>);

impl NoisedShare for Drawn {
    fn for_sealing(&self) -> &[u8] {
        &self.0
    }
}
