//! What is sent: real reports of one task, made once, and sealed anew for every measurement.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::Uri;
use mica_client::{ReportBuilder, TaskBundle};
use mica_dap::Draft;
use mica_dap::hpke::HpkeKeypair;
use mica_dap::media::Media;
use mica_dap::resource::Resource;
use mica_dap::task::{BatchMode, TaskParameters};
use mica_dap::time::TimePrecision;
use mica_dap::vdaf_config::VdafConfig;
use mica_envelope::{GatewayKey, GatewayKeys, Kem, KeyConfigList, Opener};
use mica_service::clock::Clock;
use std::net::SocketAddr;

use crate::load::{Http, Target};
use crate::parties::Task;
use crate::workload;

/// The task and its reports.
pub(super) struct Work {
    pub(super) task: Task,
    pub(super) reports: Vec<Bytes>,
    pub(super) request_bytes: usize,
}

impl Work {
    /// So many reports of a histogram of a hundred buckets, for a leader at this address.
    pub(super) fn new(leader: SocketAddr, count: u32) -> Result<Self> {
        let draft = Draft::default();
        let parameters = TaskParameters {
            task_info: b"bench".to_vec(),
            leader_url: format!("http://{leader}/"),
            helper_url: "http://127.0.0.1:9/".to_owned(),
            time_precision: TimePrecision::new(3_600).context("an hour is not zero")?,
            min_batch_size: 100,
            batch_mode: BatchMode::TimeInterval,
            vdaf: VdafConfig::histogram(100),
            task_interval: None,
        };
        let configuration = parameters.build(draft).context("cannot make the task")?;
        let task =
            Task { id: configuration.derived_task_id(), draft, configuration, time: Clock::system().now() };
        let keys = GatewayKeys::new(vec![GatewayKey::generate(1, Kem::X25519HkdfSha256)?])?;
        let keys = KeyConfigList::parse(keys.config_list().to_vec())?;
        let bundle = TaskBundle {
            task_id: task.id,
            draft,
            configuration: task.configuration.clone(),
            relay: String::new(),
            ohttp_keys: keys.clone(),
            history_key: None,
        };
        let mut rng = rand::rng();
        let [leader, helper] = [1, 2].map(|id| HpkeKeypair::generate(id, &mut rng).config);
        let reports = workload::reports(&ReportBuilder::new(&bundle, leader, helper)?, &task, count)?;
        let one = workload::envelopes(reports.get(..1).context("no report")?, &task, &keys)?;
        let request_bytes = one.first().map_or(0, |(sealed, _)| sealed.len());
        Ok(Self { task, reports, request_bytes })
    }

    /// The first `count` of them inside fresh envelopes, over again from the first if there are fewer.
    pub(super) fn sealed(&self, keys: &KeyConfigList, count: usize) -> Result<(Vec<Bytes>, Vec<Opener>)> {
        let reports: Vec<Bytes> = self.reports.iter().cycle().take(count).cloned().collect();
        Ok(workload::envelopes(&reports, &self.task, keys)?.into_iter().unzip())
    }

    /// Where reports go that go straight to the target.
    pub(super) fn direct(&self, address: SocketAddr, http: Http) -> Result<Target> {
        let path: Uri =
            format!("/{}", Resource::Reports(self.task.id)).parse().context("a path is no path")?;
        Ok(Target { address, path, media: Media::UploadReq.header(), http })
    }
}
