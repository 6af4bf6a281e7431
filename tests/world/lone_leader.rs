//! A leader without a database, a clock or manners: it sends a helper what a test tells it to.

use http::Method;
use mica_dap::aggregation::{
    AggregationJobInitReq, AggregationJobResp, ReportShare, VerifyInit, VerifyResult,
};
use mica_dap::batch::Checksum;
use mica_dap::codec::{Decode as _, Encode as _};
use mica_dap::collection::{AggregateShare, AggregateShareReq};
use mica_dap::hpke::{self, AggregateShareAad, InputShareAad, Label, Role};
use mica_dap::hpke_config::HpkeConfig;
use mica_dap::id::{BatchId, ReportId};
use mica_dap::media::Media;
use mica_dap::report::{PlaintextInputShare, ReportMetadata};
use mica_dap::resource::Resource;
use mica_dap::vdaf::{InputShareRef, Measurement, OutputShare, Step, VerifyKey, VerifyState, vdaf_context};

use crate::task::hpke_config;
use crate::{Reply, Task, Wire};

/// Shows the leader's token.
pub struct LoneLeader {
    task: Task,
    wire: Wire,
    helper: HpkeConfig,
}

/// A report as the leader holds it after its first step.
pub struct Split {
    /// Its identifier.
    pub id: ReportId,
    /// What the helper gets.
    pub init: VerifyInit,
    state: VerifyState,
}

impl LoneLeader {
    /// For this task, with the keys that its helper publishes.
    pub async fn of(task: &Task) -> Self {
        let helper = hpke_config(task.configuration.helper_url()).await;
        Self { task: task.clone(), wire: Wire::default(), helper }
    }

    /// A good report of the present.
    #[must_use]
    pub fn report(&self, measurement: &Measurement) -> Split {
        let task = &self.task;
        let vdaf = task.vdaf().instantiate().expect("the VDAF of a test");
        let context = vdaf_context(task.draft, &task.id);
        let id = ReportId::random(&mut rand::rng());
        let sharded = vdaf.shard(&context, measurement, &id).expect("a measurement of the task");
        let [leader, helper] = sharded.input_shares;
        let share = InputShareRef { nonce: &id, public_share: &sharded.public_share, input_share: &leader };
        let key = VerifyKey::new(task.verify_key);
        let first = vdaf.leader_init(&key, &context, &[], &share).expect("a good share");
        let metadata =
            ReportMetadata { report_id: id, time: task.current_time(), public_extensions: Vec::new() };
        let aad = InputShareAad {
            task_id: &task.id,
            task_configuration: task.configuration.bytes(),
            metadata: &metadata.encoded(),
            public_share: &sharded.public_share,
        };
        let plaintext = PlaintextInputShare { private_extensions: Vec::new(), payload: helper }.encoded();
        let sealed =
            hpke::seal_input_share(&self.helper, Role::Helper, task.draft, &aad.encoded(), &plaintext);
        let report_share = ReportShare {
            metadata,
            public_share: sharded.public_share,
            encrypted_input_share: sealed.expect("a key that can be sealed to"),
        };
        Split { id, init: VerifyInit { report_share, payload: first.message }, state: first.state }
    }

    /// The job of these reports, in a batch where the task has them.
    #[must_use]
    pub fn job(&self, batch: Option<BatchId>, reports: &[Split]) -> AggregationJobInitReq {
        AggregationJobInitReq {
            verification_key_id: 0,
            agg_param: Vec::new(),
            extensions: AggregationJobInitReq::extensions_for(batch),
            verify_inits: reports.iter().map(|report| report.init.clone()).collect(),
        }
    }

    /// Sends any bytes as an aggregation job.
    pub async fn post_job(&self, body: Vec<u8>) -> Reply {
        let url = Resource::AggregationJobs(self.task.id).url(self.task.configuration.helper_url());
        self.wire.post_with_token(&url, Media::AggregationJobInitReq, &self.task.leader_to_helper, body).await
    }

    /// Sends any bytes as a request for an aggregate share.
    pub async fn post_share(&self, body: Vec<u8>) -> Reply {
        let url = Resource::AggregateShares(self.task.id).url(self.task.configuration.helper_url());
        self.wire.post_with_token(&url, Media::AggregateShareReq, &self.task.leader_to_helper, body).await
    }

    /// Asks for what a `Location` names.
    pub async fn follow(&self, method: Method, location: &str) -> Reply {
        let endpoint = self.task.configuration.helper_url();
        let origin = endpoint.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
        let bearer = format!("Bearer {}", self.task.leader_to_helper);
        let url = format!("{origin}{location}");
        self.wire.send(method, &url, &[("authorization", &bearer)], Vec::new()).await
    }

    /// Asks again, where and when it is told to, until there is an answer. How often it had to.
    pub async fn patiently(&self, mut reply: Reply) -> (Reply, usize) {
        for asked in 0..200 {
            if reply.status != 200 || !reply.body.is_empty() {
                return (reply, asked);
            }
            let seconds: u64 =
                reply.header("retry-after").expect("when to ask again").parse().expect("seconds");
            assert!((1..=60).contains(&seconds), "{seconds}");
            let location = reply.header("location").expect("where to ask again").to_owned();
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            reply = self.follow(Method::GET, &location).await;
        }
        panic!("the helper never answers");
    }

    /// The leader's own part of reports that the helper has counted all.
    #[must_use]
    pub fn finish(&self, reply: &Reply, reports: Vec<Split>) -> Vec<OutputShare> {
        let answer = AggregationJobResp::decode_limited(&reply.body, reports.len()).expect("an answer");
        assert!(answer.answers(reports.iter().map(|report| report.id)));
        let vdaf = self.task.vdaf().instantiate().expect("the VDAF of a test");
        let context = vdaf_context(self.task.draft, &self.task.id);
        let finish = |(report, resp): (Split, mica_dap::aggregation::VerifyResp)| {
            let VerifyResult::Continue(message) = resp.result else { panic!("a good report is counted") };
            match vdaf.leader_continued(&context, &[], report.state, &message) {
                Ok(Step::Finished(output)) => output,
                _ => panic!("one round is all it takes"),
            }
        };
        reports.into_iter().zip(answer.verify_resps).map(finish).collect()
    }

    /// What the collector reads when it opens the helper's share and adds the leader's.
    #[must_use]
    pub fn total(&self, share: &Reply, request: &AggregateShareReq, outputs: &[OutputShare]) -> Vec<i128> {
        let task = &self.task;
        let sealed =
            AggregateShare::decoded(&share.body).expect("an aggregate share").encrypted_aggregate_share;
        let aad = AggregateShareAad {
            task_id: &task.id,
            task_configuration: task.configuration.bytes(),
            collection_job_req: request.collection_job_req.bytes(),
        };
        let info = Label::AggregateShare(Role::Helper).info(task.draft);
        let helper =
            hpke::open(&task.collector, &info, &aad.encoded(), &sealed).expect("sealed to the collector");
        let vdaf = task.vdaf().instantiate().expect("the VDAF of a test");
        let outputs: Vec<&OutputShare> = outputs.iter().collect();
        let leader = vdaf.aggregate(&[], None, &outputs).expect("shares of one task");
        vdaf.unshard_signed(&[], &leader, &helper, request.report_count).expect("shares of one batch")
    }
}

/// The checksum over these reports.
#[must_use]
pub fn checksum(reports: &[ReportId]) -> Checksum {
    reports.iter().map(Checksum::of).collect()
}
