//! The exchange of one job with the helper: which request comes next, where it goes, and what is remembered between two
//! attempts, so that a crash at any point repeats the same bytes (DAP 4.5.3.1, 4.5.4.4).

use bytes::Bytes;
use mica_dap::aggregation::AggregationJobResp;
use mica_dap::codec::Reader;
use mica_dap::media::Media;
use mica_dap::resource::{self, Resource};
use mica_service::store::StoreError;

use super::peer::{self, Answer};
use crate::jobs::{Doubt, Held, JobError, Reason};
use crate::shared::Shared;
use crate::store;
use crate::store::aggregation_jobs::JobRow;
use crate::task::Task;

/// One job and its helper.
pub(super) struct Exchange<'e> {
    shared: &'e Shared,
    task: &'e Task,
    job: &'e Held<JobRow>,
    doubt: &'e Doubt,
    /// What the job begins with.
    init: Bytes,
    /// Where the helper keeps the job; with the step in its query while the helper works on that step.
    location: Option<String>,
    /// The answers to the steps so far.
    answers: Vec<Vec<u8>>,
    /// What of both is in the job's row.
    stored: (Option<String>, Option<Vec<u8>>),
    /// Whether the row says that the helper may have counted reports.
    in_doubt: bool,
}

impl<'e> Exchange<'e> {
    /// The exchange as far as it has got.
    pub(super) fn of(
        shared: &'e Shared,
        task: &'e Task,
        (job, doubt): (&'e Held<JobRow>, &'e Doubt),
        init: Bytes,
    ) -> Result<Self, StoreError> {
        let corrupt = |_| StoreError::corrupt("aggregation_jobs", "answers");
        let mut answers = Vec::new();
        let mut stored = Reader::new(job.row.answers.as_deref().unwrap_or_default());
        while !stored.is_empty() {
            answers.push(stored.opaque32(1).map_err(corrupt)?.to_vec());
        }
        let in_doubt = job.row.in_doubt;
        let location = job.row.helper_location.clone();
        let stored = (location.clone(), job.row.answers.clone());
        Ok(Self { shared, task, job, doubt, init, location, answers, stored, in_doubt })
    }

    /// The helper's answer to a step. Nothing: the request is larger than it takes.
    pub(super) async fn step(
        &mut self,
        step: u16,
        request: Bytes,
        reports: usize,
    ) -> Result<Option<AggregationJobResp>, JobError> {
        let told = self.answers.get(usize::from(step)).cloned();
        let body = match told {
            Some(body) => body,
            None => match self.ask(step, request).await? {
                Some(body) => body,
                None => return Ok(None),
            },
        };
        let response = AggregationJobResp::decode_limited(&body, reports)
            .map_err(|error| JobError::retry(format!("the helper's answer: {error}")))?;
        if self.answers.len() == usize::from(step) {
            self.answers.push(body);
        }
        Ok(Some(response))
    }

    /// Remembers the answers so far: the next step may begin only then, because the helper gives each but once.
    pub(super) async fn keep(&mut self) -> Result<(), JobError> {
        // What follows is sent to the job itself, whatever step it was last at.
        let next = u16::try_from(self.answers.len()).unwrap_or(u16::MAX);
        self.location = self
            .location
            .take()
            .map(|url| if resource::names_step(&url, next) { url } else { without_query(&url).to_owned() });
        self.remember().await
    }

    /// Where the helper keeps the job, as far as it said so.
    pub(super) fn place(&self) -> Option<String> {
        self.location.as_deref().map(|url| without_query(url).to_owned())
    }

    /// Posts the step, or polls for it where the helper deferred it in an earlier attempt.
    async fn ask(&mut self, step: u16, request: Bytes) -> Result<Option<Vec<u8>>, JobError> {
        if step > 0 && self.location.is_none() {
            self.find(step).await?;
        }
        if let Some(url) = self.location.clone().filter(|url| resource::names_step(url, step)) {
            let answer = peer::poll(self.shared, self.task, &url, Media::AggregationJobResp).await?;
            return self.hear(step, answer).await;
        }
        let (answer, location) = match (step, self.location.clone()) {
            (0, _) => self.begin().await?,
            (_, Some(url)) => self.post(&url, (Media::AggregationJobContinueReq, request)).await?,
            (_, None) => return Err(nowhere()),
        };
        if let Some(location) = location {
            self.location = Some(location);
        }
        self.hear(step, answer).await
    }

    /// Asks where the helper keeps a job that it has answered before: the same bytes are the same job. What it says
    /// about the job now may be another step's answer, and is known already if it is not.
    async fn find(&mut self, step: u16) -> Result<(), JobError> {
        let (answer, location) = self.begin().await?;
        match answer {
            Answer::Ready(_) => {
                self.location = Some(without_query(&location.ok_or_else(nowhere)?).to_owned());
                self.remember().await
            }
            Answer::Deferred { location, .. }
                if location.as_ref().is_some_and(|url| resource::names_step(url, step)) =>
            {
                self.location = location;
                self.remember().await
            }
            Answer::Deferred { seconds, .. } => Err(JobError::Deferred(seconds)),
            Answer::TooLarge => Err(JobError::because(
                Reason::TooLarge,
                "the helper takes no job of this size any more, and has begun it when it did",
            )),
            answer => self.hear(step, answer).await.map(drop),
        }
    }

    async fn begin(&mut self) -> Result<(Answer, Option<String>), JobError> {
        let url = Resource::AggregationJobs(self.task.id).url(self.task.configuration.helper_url());
        let init = self.init.clone();
        self.post(&url, (Media::AggregationJobInitReq, init)).await
    }

    /// Posts something over which the helper may count reports, unless its answer says that it has not.
    async fn post(
        &mut self,
        url: &str,
        message: (Media, Bytes),
    ) -> Result<(Answer, Option<String>), JobError> {
        self.doubt().await?;
        let before = self.doubt.get();
        self.doubt.set(true);
        let posted = peer::post(self.shared, self.task, url, message, Media::AggregationJobResp).await;
        let untouched = match &posted {
            Ok((answer, _)) => matches!(answer, Answer::TooLarge | Answer::Refused(_)),
            Err(error) => error.left_untouched(),
        };
        if untouched {
            self.doubt.set(before);
        }
        posted
    }

    async fn hear(&mut self, step: u16, answer: Answer) -> Result<Option<Vec<u8>>, JobError> {
        match answer {
            Answer::Ready(body) => Ok(Some(body.to_vec())),
            Answer::TooLarge if step == 0 => Ok(None),
            Answer::TooLarge => {
                Err(JobError::because(Reason::TooLarge, "the helper takes no continuation of this size"))
            }
            Answer::Gone => {
                // Posted again, the same bytes find what the helper made of them, or make it. Its answers stay: a
                // helper that is further by now than this step gives none of them again.
                self.location = None;
                self.remember().await?;
                Err(JobError::because(Reason::Gone, "the helper does not know the job any more"))
            }
            // Its type only: what a peer writes beside it could name a report.
            Answer::Refused(abort) => Err(JobError::because(
                Reason::Refused,
                format!("the helper refused the job: {}", abort.known_type()),
            )),
            Answer::Deferred { location, seconds } => {
                if let Some(url) = location.or_else(|| self.location.clone()) {
                    self.location = Some(resource::with_step(&url, step));
                    self.remember().await?;
                }
                Err(JobError::Deferred(seconds))
            }
        }
    }

    /// From here on the helper may count reports of the job.
    async fn doubt(&mut self) -> Result<(), JobError> {
        if self.in_doubt {
            return Ok(());
        }
        let (job, token) = (self.job.row.id, self.job.token);
        let held = self
            .shared
            .store
            .tx("set_in_doubt", move |mut tx| async move {
                let held = store::aggregation_jobs::set_in_doubt(&mut tx, job, token).await?;
                Ok((tx, held))
            })
            .await?;
        self.in_doubt = true;
        if held { Ok(()) } else { Err(JobError::LeaseLost) }
    }

    /// What the next attempt goes on from.
    async fn remember(&mut self) -> Result<(), JobError> {
        let with_length = |answer: &Vec<u8>| {
            let length = u32::try_from(answer.len()).expect("an answer is far shorter than 4 GiB");
            [&length.to_be_bytes(), answer.as_slice()].concat()
        };
        let answers = self.answers.iter().map(with_length).collect::<Vec<_>>().concat();
        let answers = Some(answers).filter(|answers| !answers.is_empty());
        let next = (self.location.clone(), answers);
        if next == self.stored {
            return Ok(());
        }
        self.stored = next;
        let (job, token) = (self.job.row.id, self.job.token);
        let (location, kept) = (self.stored.0.as_deref(), self.stored.1.as_deref());
        let held = self
            .shared
            .store
            .tx("remember_exchange", move |mut tx| async move {
                let held = store::aggregation_jobs::remember(&mut tx, job, token, (location, kept)).await?;
                Ok((tx, held))
            })
            .await?;
        if held { Ok(()) } else { Err(JobError::LeaseLost) }
    }
}

fn nowhere() -> JobError {
    JobError::retry("the helper does not say where it keeps the job")
}

fn without_query(url: &str) -> &str {
    url.split_once('?').map_or(url, |(path, _)| path)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use http::{Response, header};
    use mica_dap::aggregation::{VerifyResp, VerifyResult};
    use mica_dap::codec::Encode as _;
    use mica_dap::id::ReportId;
    use mica_dap::vdaf::encode_prefixes;
    use mica_dp::Policy;
    use mica_service::clock::Clock;
    use mica_service::compute::ComputePool;
    use mica_service::http::HttpClient;
    use mica_service::testing::{Network, TestDatabase, sqlite};

    use super::*;
    use crate::Role;
    use crate::aggregator::{Aggregator, Options};
    use crate::release::tests::string_task;
    use crate::shared::Limits;
    use crate::store::lease::{LeaseRequest, LeaseToken};

    /// What the helper was asked: the last part of the path, and the body.
    type Asked = Arc<Mutex<Vec<(String, Bytes)>>>;

    fn verdicts(code: u8) -> Vec<u8> {
        let resp = VerifyResp { report_id: ReportId::new([1; 16]), result: VerifyResult::Reject(code) };
        AggregationJobResp { verify_resps: vec![resp] }.encoded()
    }

    fn ready(location: &str, code: u8) -> Response<Bytes> {
        let response = Response::builder()
            .header(header::CONTENT_TYPE, Media::AggregationJobResp.header())
            .header(header::LOCATION, location);
        response.body(Bytes::from(verdicts(code))).expect("a response")
    }

    async fn leader(database: &TestDatabase, answers: Vec<Response<Bytes>>) -> (Arc<Shared>, Asked) {
        let asked = Asked::default();
        let (seen, answers) = (Arc::clone(&asked), Mutex::new(VecDeque::from(answers)));
        let network = Network::new(move |request| {
            let resource = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            seen.lock().expect("nobody panics").push((resource, request.into_body()));
            let answer = answers.lock().expect("nobody panics").pop_front().expect("it was expected");
            Box::pin(async move { Ok(answer) })
        });
        let without = Policy::for_release_without_dp("these are tests", "2199-01-01");
        let options = Options {
            role: Role::Leader,
            store: database.open(store::migrator()).await.expect("a fresh database"),
            clock: Clock::manual(1_000),
            compute: ComputePool::with_threads(1),
            http: HttpClient::through(network),
            policy: Policy::parse("policy.toml", &without).expect("a policy"),
            tasks: Vec::new(),
            limits: Limits::default(),
        };
        (Aggregator::build(options).await.expect("it starts").shared, asked)
    }

    /// Takes up the only job, with what is left of earlier attempts.
    async fn taken_up(shared: &Shared, now: u64) -> Held<JobRow> {
        let token = LeaseToken::random(&mut rand::rng());
        let leased = shared.store.tx("lease", move |mut tx| async move {
            let request = LeaseRequest { now, seconds: 15, token };
            let row = store::aggregation_jobs::lease(&mut tx, 1, request).await?;
            Ok((tx, row))
        });
        Held { row: leased.await.expect("the database answers").expect("it is due"), token }
    }

    async fn begun(shared: &Shared, location: &'static str) {
        let created = shared.store.tx("create", |mut tx| async move {
            store::aggregation_jobs::create(&mut tx, 1, None, 1, 100).await?;
            Ok((tx, ()))
        });
        created.await.expect("the database answers");
        let job = taken_up(shared, 200).await;
        let first = verdicts(9);
        let length = u32::try_from(first.len()).expect("short").to_be_bytes();
        let answers = [length.as_slice(), &first].concat();
        let (id, token, answers) = (job.row.id, job.token, answers.as_slice());
        let kept = shared.store.tx("keep", move |mut tx| async move {
            assert!(store::aggregation_jobs::freeze(&mut tx, id, token, &[1]).await?);
            assert!(store::aggregation_jobs::set_in_doubt(&mut tx, id, token).await?);
            let kept = (Some(location), Some(answers));
            assert!(store::aggregation_jobs::remember(&mut tx, id, token, kept).await?);
            Ok((tx, ()))
        });
        kept.await.expect("the database answers");
    }

    /// The helper is at the second step by now, so that it cannot give its answer to the first again.
    #[tokio::test]
    async fn the_answers_of_earlier_rounds_outlive_a_place_that_is_gone() {
        let database = sqlite();
        let nothing = Response::builder().status(404).body(Bytes::new()).expect("a response");
        let (shared, asked) =
            leader(&database, vec![nothing, ready("aggregation_jobs/new", 7), ready("?step=1", 8)]).await;
        let task = string_task(4, encode_prefixes(4, &["00"]).expect("a prefix"));
        begun(&shared, "https://helper.example/old").await;
        let (init, next) = (Bytes::from_static(b"init"), Bytes::from_static(b"next"));

        let job = taken_up(&shared, 300).await;
        let doubt = Doubt::left_by(job.row.in_doubt);
        let mut exchange = Exchange::of(&shared, &task, (&job, &doubt), init.clone()).expect("what was kept");
        let first = exchange.step(0, init.clone(), 1).await.expect("it is known").expect("it is small");
        let gone = exchange.step(1, next.clone(), 1).await.expect_err("nothing is there");
        assert_eq!(gone.reason(), Reason::Gone);

        let job = taken_up(&shared, 400).await;
        assert!(job.row.in_doubt && job.row.helper_location.is_none());
        let mut exchange = Exchange::of(&shared, &task, (&job, &doubt), init.clone()).expect("what was kept");
        let again = exchange.step(0, init.clone(), 1).await.expect("it is known").expect("it is small");
        assert_eq!(again.encoded(), first.encoded());
        let second = exchange.step(1, next.clone(), 1).await.expect("an answer").expect("it is small");
        assert_eq!(second.encoded(), verdicts(8));
        let expected = [("old", &next), ("aggregation_jobs", &init), ("new", &next)];
        let expected = expected.map(|(resource, body)| (resource.to_owned(), body.clone()));
        assert_eq!(*asked.lock().expect("nobody panics"), expected);
    }
}
