//! The exchange of one job with the helper: which request comes next, where it goes, and what is remembered between two
//! attempts, so that a crash at any point repeats the same bytes (DAP 4.5.3.1, 4.5.4.4).

use mica_dap::aggregation::AggregationJobResp;
use mica_dap::codec::Reader;
use mica_dap::media::Media;
use mica_dap::resource::{self, Resource};
use mica_service::store::StoreError;

use super::peer::{self, Answer};
use crate::jobs::{Held, JobError, Reason};
use crate::shared::Shared;
use crate::store;
use crate::store::aggregation_jobs::JobRow;
use crate::task::Task;

/// One job and its helper.
pub(super) struct Exchange<'e> {
    shared: &'e Shared,
    task: &'e Task,
    job: &'e Held<JobRow>,
    /// Where the helper keeps the job; with the step in its query while the helper works on that step.
    location: Option<String>,
    /// The answers to the steps so far.
    answers: Vec<Vec<u8>>,
    /// What of both is in the job's row.
    stored: (Option<String>, Option<Vec<u8>>),
    in_doubt: bool,
}

impl<'e> Exchange<'e> {
    /// The exchange as far as it has got.
    pub(super) fn of(shared: &'e Shared, task: &'e Task, job: &'e Held<JobRow>) -> Result<Self, StoreError> {
        let corrupt = |_| StoreError::corrupt("aggregation_jobs", "answers");
        let mut answers = Vec::new();
        let mut stored = Reader::new(job.row.answers.as_deref().unwrap_or_default());
        while !stored.is_empty() {
            answers.push(stored.opaque32(1).map_err(corrupt)?.to_vec());
        }
        // Freezing has put a job in doubt that was not sent before.
        let in_doubt = job.row.in_doubt || job.row.included.is_none();
        let location = job.row.helper_location.clone();
        let stored = (location.clone(), job.row.answers.clone());
        Ok(Self { shared, task, job, location, answers, stored, in_doubt })
    }

    /// The helper's answer to a step. Nothing: the request is larger than it takes.
    pub(super) async fn step(
        &mut self,
        step: u16,
        request: Vec<u8>,
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

    /// Posts the step, or polls for it where the helper deferred it in an earlier attempt.
    async fn ask(&mut self, step: u16, request: Vec<u8>) -> Result<Option<Vec<u8>>, JobError> {
        if let Some(url) = self.location.clone().filter(|url| resource::names_step(url, step)) {
            let answer = peer::poll(self.shared, self.task, &url, Media::AggregationJobResp).await?;
            return self.hear(step, answer).await;
        }
        let (url, media) = match (step, &self.location) {
            (0, _) => {
                let jobs = Resource::AggregationJobs(self.task.id);
                (jobs.url(self.task.configuration.helper_url()), Media::AggregationJobInitReq)
            }
            (_, Some(url)) => (url.clone(), Media::AggregationJobContinueReq),
            (_, None) => return Err(JobError::retry("the helper does not say where it keeps the job")),
        };
        self.doubt().await?;
        let (answer, location) = peer::post_job(self.shared, self.task, &url, (media, request)).await?;
        if let Some(location) = location {
            self.location = Some(location);
        }
        self.hear(step, answer).await
    }

    async fn hear(&mut self, step: u16, answer: Answer) -> Result<Option<Vec<u8>>, JobError> {
        match answer {
            Answer::Ready(body) => Ok(Some(body.to_vec())),
            Answer::TooLarge if step == 0 => Ok(None),
            Answer::TooLarge => {
                Err(JobError::because(Reason::TooLarge, "the helper takes no continuation of this size"))
            }
            Answer::Gone => {
                // Posted again, the same bytes find what the helper made of them, or make it.
                self.location = None;
                self.answers.clear();
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

fn without_query(url: &str) -> &str {
    url.split_once('?').map_or(url, |(path, _)| path)
}
