//! A leader that does exactly what a test tells it.

use std::time::Duration as RealTime;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use mica_dap::aggregation::{
    AggregationJobContinueReq, AggregationJobInitReq, AggregationJobResp, VerifyContinue, VerifyResult,
};
use mica_dap::batch::Checksum;
use mica_dap::codec::{Decode as _, Encode as _};
use mica_dap::collection::{AggregateShare, AggregateShareReq, BatchSelector, CollectionJobReq, Query};
use mica_dap::hpke::{AggregateShareAad, Label, Role, open};
use mica_dap::id::{BatchId, ReportId};
use mica_dap::media::Media;
use mica_dap::report_error::ReportError;
use mica_dap::time::{Duration, Interval, Time};
use mica_dap::vdaf::{Measurement, OutputShare};
use mica_service::http::{HttpClient, HttpOptions, PeerError};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::task::LEADER_TOKEN;
use super::{Crafted, Flaw, NOW, PRECISION, Server, TestTask};

pub(crate) struct ScriptedLeader {
    pub(crate) task: TestTask,
    pub(crate) token: &'static str,
    http: HttpClient,
    base: String,
    origin: String,
    hpke_configs: Vec<u8>,
}

/// What the helper answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) location: Option<String>,
    pub(crate) media: Option<String>,
    /// In seconds.
    pub(crate) retry_after: Option<u64>,
    pub(crate) body: Bytes,
}

impl Reply {
    /// The last part of the problem type of a refusal.
    pub(crate) fn problem(&self) -> String {
        assert!(self.status.is_client_error(), "{self:?}");
        assert_eq!(self.media.as_deref(), Some("application/problem+json"));
        let document: Value = serde_json::from_slice(&self.body).expect("a problem document is JSON");
        assert_eq!(document["status"], self.status.as_u16());
        let urn = document["type"].as_str().expect("it has a type");
        urn.rsplit(':').next().expect("a URN has parts").to_owned()
    }

    /// Whether it is one of a helper that answers later, and says so as it must.
    pub(crate) fn is_deferred(&self) -> bool {
        let deferred = self.status == StatusCode::OK && self.body.is_empty();
        if deferred {
            assert!(self.location.is_some(), "{self:?}");
            assert!(self.retry_after.is_some_and(|seconds| (1..=60).contains(&seconds)), "{self:?}");
            assert_eq!(self.media, None);
        }
        deferred
    }
}

impl ScriptedLeader {
    pub(crate) fn of(task: &TestTask, server: &Server) -> Self {
        Self {
            task: task.clone(),
            token: LEADER_TOKEN,
            http: HttpClient::new(HttpOptions::default()),
            base: format!("{}/api/dap/tasks/{}", server.origin, task.id),
            origin: server.origin.clone(),
            hpke_configs: server.hpke_configs.clone(),
        }
    }

    pub(crate) fn report(&self, value: u64) -> Crafted {
        Crafted::good(&self.task, &self.hpke_configs, &Measurement::Integer(value))
    }

    /// A good report of any measurement of the task.
    pub(crate) fn report_of(&self, measurement: &Measurement, time: Time) -> Crafted {
        Crafted::new(&self.task, &self.hpke_configs, measurement, time, Flaw::None)
    }

    pub(crate) fn report_at(&self, value: u64, time: Time, flaw: Flaw) -> Crafted {
        Crafted::new(&self.task, &self.hpke_configs, &Measurement::Integer(value), time, flaw)
    }

    /// A good report that is looked at under this aggregation parameter.
    pub(crate) fn report_under(&self, measurement: &Measurement, parameter: &[u8]) -> Crafted {
        Crafted::under(&self.task, &self.hpke_configs, measurement, (now(), Flaw::None), parameter)
    }

    /// A good report under an identifier that another has too.
    pub(crate) fn report_of_id(&self, id: ReportId, value: u64, time: Time) -> Crafted {
        let what = (time, Flaw::None);
        Crafted::of_id(&self.task, &self.hpke_configs, &Measurement::Integer(value), what, (id, &[]))
    }

    pub(crate) fn flawed(&self, flaw: Flaw) -> Crafted {
        self.report_at(50, now(), flaw)
    }

    pub(crate) fn reports(&self, values: &[u64]) -> Vec<Crafted> {
        values.iter().map(|value| self.report(*value)).collect()
    }

    /// Sends any bytes as an aggregation job.
    pub(crate) async fn post_job(&self, body: Vec<u8>) -> Reply {
        self.post("aggregation_jobs", Media::AggregationJobInitReq, body).await
    }

    /// Sends any bytes as a request for an aggregate share.
    pub(crate) async fn post_share(&self, body: Vec<u8>) -> Reply {
        self.post("aggregate_shares", Media::AggregateShareReq, body).await
    }

    /// The same, as often as there are too many at once: whoever is told to come back does.
    pub(crate) async fn post_share_patiently(&self, body: Vec<u8>) -> Reply {
        loop {
            let reply = self.post_share(body.clone()).await;
            if reply.status != StatusCode::SERVICE_UNAVAILABLE {
                return reply;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn post(&self, resource: &str, media: Media, body: Vec<u8>) -> Reply {
        let url = format!("{}/{resource}", self.base);
        self.send(Method::POST, &url, Some(media.header()), body).await.expect("the helper answers")
    }

    /// Goes on with the job at `location`.
    pub(crate) async fn post_step(&self, location: &str, step: u16, reports: &[VerifyContinue]) -> Reply {
        let body = AggregationJobContinueReq { step, verify_continues: reports.to_vec() }.encoded();
        self.post_next(location, body).await
    }

    /// Sends any bytes to go on with the job at `location`.
    pub(crate) async fn post_next(&self, location: &str, body: Vec<u8>) -> Reply {
        let url = format!("{}{location}", self.origin);
        let media = Media::AggregationJobContinueReq.header();
        self.send(Method::POST, &url, Some(media), body).await.expect("the helper answers")
    }

    /// Asks for what a `Location` names.
    pub(crate) async fn follow(&self, method: Method, location: &str) -> Reply {
        let url = format!("{}{location}", self.origin);
        self.send(method, &url, None, Vec::new()).await.expect("the helper answers")
    }

    /// Asks again, where it is told to, until there is an answer.
    pub(crate) async fn patiently(&self, mut reply: Reply) -> Reply {
        let deadline = Instant::now() + RealTime::from_secs(20);
        while reply.is_deferred() {
            assert!(Instant::now() < deadline, "the helper never answers");
            sleep(RealTime::from_millis(10)).await;
            let location = reply.location.expect("a deferred answer has a place");
            reply = self.follow(Method::GET, &location).await;
        }
        reply
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        url: &str,
        media: Option<&str>,
        body: Vec<u8>,
    ) -> Result<Reply, PeerError> {
        let mut request = Request::builder()
            .method(method)
            .uri(url)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token));
        if let Some(media) = media {
            request = request.header(header::CONTENT_TYPE, media);
        }
        let reply = self.http.send(request.body(Bytes::from(body)).expect("a request")).await?;
        let text = |name| reply.headers().get(name).map(|value| value.to_str().expect("plain").to_owned());
        Ok(Reply {
            status: reply.status(),
            location: text(header::LOCATION),
            media: text(header::CONTENT_TYPE),
            retry_after: text(header::RETRY_AFTER).map(|seconds| seconds.parse().expect("seconds")),
            body: reply.body().clone(),
        })
    }

    pub(crate) fn job_url(&self) -> String {
        format!("{}/aggregation_jobs", self.base)
    }

    /// Sends reports as a job and reads what became of each.
    pub(crate) async fn aggregate(&self, reports: &[Crafted]) -> Vec<VerifyResult> {
        let reply = self.patiently(self.post_job(job(reports)).await).await;
        verdicts(&reply, reports)
    }

    /// The codes with which reports were refused; none for those that count.
    pub(crate) fn errors(&self, verdicts: &[VerifyResult]) -> Vec<Option<ReportError>> {
        verdicts
            .iter()
            .map(|verdict| match verdict {
                VerifyResult::Continue(_) | VerifyResult::Finish => None,
                VerifyResult::Reject(code) => Some(ReportError::from_code(*code, self.task.draft)),
            })
            .collect()
    }

    /// Sends good reports and returns the leader's own part of them.
    pub(crate) async fn count(&self, reports: Vec<Crafted>) -> Vec<OutputShare> {
        let reply = self.patiently(self.post_job(job(&reports)).await).await;
        self.finish(&reply, reports)
    }

    /// The leader's own part of reports that the helper has counted all.
    pub(crate) fn finish(&self, reply: &Reply, reports: Vec<Crafted>) -> Vec<OutputShare> {
        let verdicts = verdicts(reply, &reports);
        let finish = |(report, verdict): (Crafted, VerifyResult)| match verdict {
            VerifyResult::Continue(message) => report.finish(&self.task, &message),
            _ => panic!("a good report is counted"),
        };
        reports.into_iter().zip(verdicts).map(finish).collect()
    }

    /// Opens the helper's share as the collector and adds it to the leader's.
    pub(crate) fn unshard(
        &self,
        share: &[u8],
        request: &AggregateShareReq,
        outputs: &[OutputShare],
    ) -> Vec<i128> {
        self.unshard_under(&[], share, request, outputs)
    }

    /// The same where the shares were made under an aggregation parameter.
    pub(crate) fn unshard_under(
        &self,
        parameter: &[u8],
        share: &[u8],
        request: &AggregateShareReq,
        outputs: &[OutputShare],
    ) -> Vec<i128> {
        let vdaf = self.task.configuration.vdaf().instantiate().expect("the VDAF of a test");
        let outputs: Vec<&OutputShare> = outputs.iter().collect();
        let leader = vdaf.aggregate(parameter, None, &outputs).expect("shares of one task");
        let helper = self.open(share, request);
        vdaf.unshard_signed(parameter, &leader, &helper, request.report_count)
            .expect("both are aggregate shares")
    }

    /// Opens the helper's share as the collector.
    pub(crate) fn open(&self, share: &[u8], request: &AggregateShareReq) -> Vec<u8> {
        let share = AggregateShare::decoded(share).expect("an aggregate share");
        let aad = AggregateShareAad {
            task_id: &self.task.id,
            task_configuration: self.task.configuration.bytes(),
            collection_job_req: request.collection_job_req.bytes(),
        };
        let info = Label::AggregateShare(Role::Helper).info(self.task.draft);
        let sealed = &share.encrypted_aggregate_share;
        open(&self.task.collector, &info, &aad.encoded(), sealed).expect("it is sealed to the collector")
    }
}

/// What became of each report, in the order in which they were sent.
pub(crate) fn verdicts(reply: &Reply, reports: &[Crafted]) -> Vec<VerifyResult> {
    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
    assert_eq!(reply.media.as_deref(), Some(Media::AggregationJobResp.header()));
    let answer = AggregationJobResp::decode_limited(&reply.body, reports.len()).expect("an answer");
    assert!(answer.answers(reports.iter().map(|report| report.id)));
    answer.verify_resps.into_iter().map(|resp| resp.result).collect()
}

pub(crate) fn now() -> Time {
    Time(NOW / PRECISION)
}

/// The encoded job of these reports.
pub(crate) fn job(reports: &[Crafted]) -> Vec<u8> {
    request(reports).encoded()
}

pub(crate) fn request(reports: &[Crafted]) -> AggregationJobInitReq {
    AggregationJobInitReq {
        verification_key_id: 0,
        agg_param: Vec::new(),
        extensions: Vec::new(),
        verify_inits: reports.iter().map(|report| report.init.clone()).collect(),
    }
}

/// The encoded job that adds these reports to a batch of the leader's choice.
pub(crate) fn job_in(batch: BatchId, reports: &[Crafted]) -> Vec<u8> {
    let extensions = AggregationJobInitReq::extensions_for(Some(batch));
    AggregationJobInitReq { extensions, ..request(reports) }.encoded()
}

pub(crate) fn ids(reports: &[Crafted]) -> Vec<ReportId> {
    reports.iter().map(|report| report.id).collect()
}

/// Asks for the share of a batch of the leader's choice.
pub(crate) fn share_of(batch: BatchId, reports: &[ReportId]) -> AggregateShareReq {
    AggregateShareReq {
        collection_job_req: CollectionJobReq::new(Query::leader_selected(), Vec::new()),
        batch_selector: BatchSelector::leader_selected(batch),
        report_count: reports.len() as u64,
        checksum: reports.iter().map(Checksum::of).collect(),
    }
}

/// Asks for the share of these reports, of so many units of time from `start`.
pub(crate) fn share_request(start: Time, units: u64, reports: &[ReportId]) -> AggregateShareReq {
    let interval = Interval::new(start, Duration(units)).expect("an interval");
    AggregateShareReq {
        collection_job_req: CollectionJobReq::new(Query::time_interval(interval), Vec::new()),
        batch_selector: BatchSelector::time_interval(interval),
        report_count: reports.len() as u64,
        checksum: reports.iter().map(Checksum::of).collect(),
    }
}
