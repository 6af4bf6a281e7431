//! The drivers' work, one step at a time, for a test that decides when each is taken. Behind the feature `testing`.

use std::sync::Arc;

use mica_service::shutdown::Shutdown;
use mica_service::store::StoreError;

use super::driver::{self, Kind};
use super::{Outcome, collections, leftovers};
use crate::shared::Shared;

/// Takes up one aggregation job of each task that has one which is due, forming it if need be. Whether there was any.
pub(crate) async fn aggregate(shared: &Arc<Shared>) -> Result<bool, StoreError> {
    let mut worked = false;
    for task in driver::tasks_with_work(shared, Kind::Aggregation).await? {
        worked |= driver::step_aggregation(shared, task).await? == Outcome::Worked;
    }
    Ok(worked)
}

/// Steps every collection that is due once, then tells the helper what it may forget. Whether there was any task with a
/// collection.
pub(crate) async fn collect(shared: &Arc<Shared>) -> Result<bool, StoreError> {
    shared.looks.forget();
    let tasks = driver::tasks_with_work(shared, Kind::Collection).await?;
    for task in &tasks {
        collections::step_all(shared, *task, &Shutdown::new()).await?;
    }
    for task in driver::tasks_with_work(shared, Kind::Leftovers).await? {
        leftovers::clear(shared, task, &Shutdown::new()).await?;
    }
    Ok(!tasks.is_empty())
}
