//! From a measurement to a report (DAP 4.4.2.1): shard, seal each share to its aggregator, bind the task to both.

use std::sync::Arc;

use mica_dap::Draft;
use mica_dap::codec::Encode as _;
use mica_dap::hpke::{self, InputShareAad, Role};
use mica_dap::hpke_config::{HpkeCiphertext, HpkeConfig};
use mica_dap::id::{ReportId, TaskId};
use mica_dap::report::{PlaintextInputShare, Report, ReportMetadata};
use mica_dap::task::TaskConfiguration;
use mica_dap::time::Time;
use mica_dap::vdaf::{Measurement, Sharded, Vdaf, vdaf_context};

use crate::{ClientError, TaskBundle};

/// Makes reports for one task; needs no network and keeps nothing.
#[derive(Clone)]
pub struct ReportBuilder {
    task_id: TaskId,
    draft: Draft,
    configuration: TaskConfiguration,
    vdaf: Arc<dyn Vdaf>,
    leader: HpkeConfig,
    helper: HpkeConfig,
}

impl ReportBuilder {
    /// A builder that seals to these keys of the aggregators.
    ///
    /// # Errors
    /// When the VDAF of the task cannot be run with its parameters.
    pub fn new(bundle: &TaskBundle, leader: HpkeConfig, helper: HpkeConfig) -> Result<Self, ClientError> {
        let vdaf = bundle
            .configuration
            .vdaf()
            .instantiate()
            .map_err(|error| ClientError::Task(error.to_string()))?;
        Ok(Self {
            task_id: bundle.task_id,
            draft: bundle.draft,
            configuration: bundle.configuration.clone(),
            vdaf,
            leader,
            helper,
        })
    }

    /// A report of `measurement`, made at `unix_seconds`, under a fresh random identifier.
    ///
    /// # Errors
    /// When the measurement does not fit the task.
    pub fn report(&self, measurement: &Measurement, unix_seconds: u64) -> Result<Report, ClientError> {
        let (report_id, sharded) = self.shard(measurement)?;
        self.seal(report_id, self.time_of(unix_seconds), &sharded)
    }

    /// The shares of `measurement` for both aggregators, and the fresh identifier that they are bound to. Sealed under
    /// several keys they remain one report: no helper counts an identifier twice.
    pub(crate) fn shard(&self, measurement: &Measurement) -> Result<(ReportId, Sharded), ClientError> {
        let broken = |error: &dyn std::fmt::Display| ClientError::Measurement(error.to_string());
        measurement.check(self.configuration.vdaf()).map_err(|error| broken(&error))?;
        let report_id = ReportId::random(&mut rand::rng());
        let context = vdaf_context(self.draft, &self.task_id);
        let sharded = self.vdaf.shard(&context, measurement, &report_id).map_err(|error| broken(&error))?;
        Ok((report_id, sharded))
    }

    /// The time that a report of this second has.
    pub(crate) fn time_of(&self, unix_seconds: u64) -> Time {
        self.configuration.time_precision().time_of(unix_seconds)
    }

    /// Seals shares into a report.
    ///
    /// # Errors
    /// When a key of an aggregator cannot be sealed to.
    pub fn seal(&self, report_id: ReportId, time: Time, sharded: &Sharded) -> Result<Report, ClientError> {
        let metadata = ReportMetadata { report_id, time, public_extensions: Vec::new() };
        let aad = InputShareAad {
            task_id: &self.task_id,
            task_configuration: self.configuration.bytes(),
            metadata: &metadata.encoded(),
            public_share: &sharded.public_share,
        }
        .encoded();
        let [leader_share, helper_share] = &sharded.input_shares;
        let leader = self.seal_share(Role::Leader, &self.leader, &aad, leader_share)?;
        let helper = self.seal_share(Role::Helper, &self.helper, &aad, helper_share)?;
        Ok(Report {
            metadata,
            public_share: sharded.public_share.clone(),
            leader_encrypted_input_share: leader,
            helper_encrypted_input_share: helper,
        })
    }

    fn seal_share(
        &self,
        to: Role,
        config: &HpkeConfig,
        aad: &[u8],
        share: &[u8],
    ) -> Result<HpkeCiphertext, ClientError> {
        let plaintext = PlaintextInputShare { private_extensions: Vec::new(), payload: share.to_vec() };
        hpke::seal_input_share(config, to, self.draft, aad, &plaintext.encoded())
            .map_err(|error| ClientError::Task(error.to_string()))
    }
}
