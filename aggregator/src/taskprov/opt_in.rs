//! The opt-in: what a task that came with a request must keep to, how many of them are taken, and the row that makes the
//! decision last.

use std::sync::{Mutex, PoisonError};

use mica_dap::problem::Problem;
use mica_dap::task::TaskConfiguration;
use mica_dap::vdaf::VerifyKey;
use mica_dp::Decision;
use zeroize::Zeroizing;

use http::StatusCode;

use super::trial::{self, TRIAL_SECONDS};
use super::{Advertised, Taskprov};
use crate::enrol::{self, EnrolError, Rules};
use crate::error::{Abort, Fault, ServerError};
use crate::shared::Shared;
use crate::store::tasks::{self, Origin};
use crate::task::{Role, Task};
use crate::task_file::TaskFile;

impl Taskprov {
    /// Takes part in a task that is not there yet, or says why not. The task is in the database and among the tasks of
    /// this process when this returns.
    ///
    /// `origin` is [`Origin::Upload`] where nobody has shown a credential: there are few of those, and one is on trial
    /// until a report of it was verified by both aggregators or somebody with the credential speaks of it.
    pub(crate) async fn opt_in(
        &self,
        shared: &Shared,
        advertised: Advertised,
        origin: Origin,
    ) -> Result<(), ServerError> {
        let id = advertised.id;
        let opt_out = |why: String| Abort::new(Problem::InvalidTask, why).in_task(&id);
        let configuration = advertised.configuration.map_err(|error| opt_out(error.to_string()))?;
        let now = shared.clock.now();
        let end = self.check(shared.role, &configuration, now).map_err(opt_out)?;
        let file = TaskFile {
            role: shared.role,
            task_id: id,
            draft: self.draft,
            verify_key: Zeroizing::new(*VerifyKey::derive_provisioned(&self.secret, &id).as_bytes()),
            verification_key_id: 0,
            collector: self.collector.clone(),
            tokens: self.tokens.clone(),
            batch_target_size: None,
            aggregation_parameter: Vec::new(),
            configuration,
        };
        let policy = shared.tasks.policy().get();
        let rules = Rules {
            role: shared.role,
            policy: &policy,
            min_batch_size_floor: self.min_batch_size_floor.max(shared.limits.min_batch_size_floor),
            http: &shared.http,
        };
        rules.check(&file).map_err(|error| opt_out(error.to_string()))?;
        if !self.without_noise {
            Self::insist_on_noise(&file, &rules).map_err(opt_out)?;
        }
        self.room(shared, origin, now).await.map_err(|error| match error {
            ServerError::Abort(abort) => abort.in_task(&id).into(),
            fault @ ServerError::Fault(_) => fault,
        })?;
        let keep =
            if origin == Origin::Upload { now.saturating_add(TRIAL_SECONDS) } else { trial::kept_until(end) };
        enrol::insert(&shared.store, &file, origin, Some(keep), now).await.map_err(|error| match error {
            EnrolError::Store(error) => ServerError::from(error),
            other => Fault::new(other).into(),
        })?;
        tracing::info!("a task that came with a request was added");
        shared.tasks.renew().await?;
        Ok(())
    }

    /// What only such a task must keep to; when it ends.
    fn check(&self, role: Role, configuration: &TaskConfiguration, now: u64) -> Result<u64, String> {
        let (ours, theirs) = match role {
            Role::Leader => (configuration.leader_url(), configuration.helper_url()),
            Role::Helper => (configuration.helper_url(), configuration.leader_url()),
        };
        if ours != self.endpoint {
            return Err("its endpoint for this aggregator is another".to_owned());
        }
        if !self.peers.iter().any(|peer| peer == theirs) {
            return Err("its other aggregator is none that this one works with".to_owned());
        }
        if !self.vdafs.is_empty() && !self.vdafs.iter().any(|vdaf| vdaf == configuration.vdaf().name()) {
            return Err(format!("{} is not taken here", configuration.vdaf().name()));
        }
        let Some(interval) = configuration.task_interval() else {
            return Err("it never ends; give it a task interval".to_owned());
        };
        let end = configuration.time_precision().start_of(interval.end());
        if end <= now {
            return Err("it has ended".to_owned());
        }
        if end - now > self.max_lifetime_seconds {
            return Err("it ends too long from now".to_owned());
        }
        Ok(end)
    }

    fn insist_on_noise(file: &TaskFile, rules: &Rules<'_>) -> Result<(), String> {
        let task = Task::resolve(0, file.clone(), rules.policy).map_err(|error| error.why)?;
        match task.decision {
            Decision::Release(_) => Ok(()),
            Decision::WithoutDp(_) => {
                Err("its totals would leave without noise, which is not taken here".to_owned())
            }
        }
    }

    /// Whether there is room for one more.
    async fn room(&self, shared: &Shared, origin: Origin, now: u64) -> Result<(), ServerError> {
        let patience = |why: &'static str, seconds| {
            ServerError::from(Abort::plain(StatusCode::TOO_MANY_REQUESTS, why).retry_after(seconds))
        };
        let is_upload = origin == Origin::Upload;
        if (is_upload && !self.upload_pace.take(now)) || !self.pace.take(now) {
            return Err(patience("too many new tasks", MINUTE));
        }
        let since = now.saturating_sub(MINUTE);
        let there = shared
            .store
            .read("count_advertised_tasks", move |mut tx| async move {
                let counts = tasks::advertised(&mut tx, now, since).await?;
                Ok((tx, counts))
            })
            .await?;
        if there.lately >= self.pace.most || (is_upload && there.uploaded_lately >= self.upload_pace.most) {
            return Err(patience("too many new tasks", MINUTE));
        }
        if there.all >= self.max_tasks || (is_upload && there.uploaded >= self.max_upload_tasks) {
            return Err(patience("there are as many tasks as this aggregator takes", HOUR));
        }
        Ok(())
    }
}

/// How many new tasks this process has tried to take in this minute: asked before the database is, so that a flood of
/// them costs it nothing.
pub(super) struct Pace {
    most: u64,
    minute: Mutex<(u64, u64)>,
}

impl Pace {
    pub(super) fn new(most: u64) -> Self {
        Self { most, minute: Mutex::new((0, 0)) }
    }

    fn take(&self, now: u64) -> bool {
        let mut minute = self.minute.lock().unwrap_or_else(PoisonError::into_inner);
        if minute.0 != now / MINUTE {
            *minute = (now / MINUTE, 0);
        }
        let free = minute.1 < self.most;
        minute.1 += u64::from(free);
        free
    }
}

pub(super) const MINUTE: u64 = 60;

pub(super) const HOUR: u64 = 3_600;
