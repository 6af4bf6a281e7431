//! Defects made on purpose. A simulation that cannot fail shows nothing.

use mica_service::store::Store;

use crate::actions;
use crate::plan::{Action, Sabotage, Sending};
use crate::world::World;

/// Damages the system.
pub(crate) async fn commit(world: &mut World, sabotage: Sabotage) {
    match sabotage {
        Sabotage::LieAboutOneReport => world.around.wires.lie(),
        Sabotage::LoseSegments => {
            execute(&world.records.leader, "DELETE FROM segments").await;
        }
        Sabotage::FreezeJobs => {
            execute(&world.records.leader, "UPDATE aggregation_jobs SET lease_until = 9000000000000").await;
        }
        Sabotage::SealAnew => {
            execute(&world.records.helper, "UPDATE releases SET sealed_share = share_id").await;
        }
        Sabotage::ForgetIdentifiers => {
            for store in [&world.records.leader, &world.records.helper] {
                execute(store, "DELETE FROM report_ids").await;
            }
            let again = Action::Upload { leader: 0, reports: vec![Sending::Again { which: 0 }] };
            if let Some(doing) = actions::begin(world, &again) {
                world.drive(doing).await;
            }
        }
    }
}

async fn execute(store: &Store, statement: &'static str) {
    let done = store.tx("sabotage", move |mut tx| async move {
        sqlx::query(statement).execute(tx.connection()).await?;
        Ok((tx, ()))
    });
    done.await.expect("a statement that fits the schema");
}
