//! Asking the leader (DAP 4.6.1), polling (DAP 3.1), opening and adding (DAP 4.6.6, 4.6.7).

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use mica_dap::codec::Decode as _;
use mica_dap::collection::{CollectionJobReq, CollectionJobResp, QueriedBatch, Query};
use mica_dap::hpke::{self, AggregateShareAad, Label, Role};
use mica_dap::hpke_config::HpkeCiphertext;
use mica_dap::media::Media;
use mica_dap::problem::ProblemDocument;
use mica_dap::resource::{self, Resource};
use mica_dap::task::TaskConfiguration;
use mica_dap::taskprov;
use mica_dap::time::Interval;
use mica_dp::accountant::Span;
use mica_service::clock::Clock;
use mica_service::http::{HttpClient, PeerError};
use mica_service::retry_after::retry_after;

use crate::{CollectError, CollectorTask, Outcome};

/// Collects the batches of one task.
pub struct Collector {
    task: CollectorTask,
    http: HttpClient,
    hurried: bool,
}

/// A collection job at the leader, and the request that made it: the shares are bound to its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collection {
    url: String,
    request: Vec<u8>,
    /// What the leader said at once: it need not say it again (DAP 3.1).
    answer: Option<Bytes>,
    /// For how many seconds the leader wants to be left alone before it is asked.
    patience: u64,
}

/// Where a collection is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Poll {
    /// The result.
    Ready(Outcome),
    /// Not yet; worth asking again after this many seconds.
    Waiting {
        /// The leader's own estimate.
        seconds: u64,
    },
}

impl Collection {
    /// The name of the collection job at the leader.
    #[must_use]
    pub fn id(&self) -> &str {
        self.url.rsplit('/').next().unwrap_or_default()
    }
}

impl Collector {
    /// A collector for `task`.
    #[must_use]
    pub fn new(task: CollectorTask, http: HttpClient) -> Self {
        Self { task, http, hurried: false }
    }

    /// The same, but [`Collector::wait`] asks a leader again within a second, whatever it says. For leaders of one's own,
    /// in a demonstration or a test: others ask to be left alone for a reason (DAP 3.1).
    #[must_use]
    pub fn hurried(self) -> Self {
        Self { hurried: true, ..self }
    }

    /// The task.
    #[must_use]
    pub fn task(&self) -> &CollectorTask {
        &self.task
    }

    /// Asks for the batch of all reports in `interval`. Asking again for the same interval is the same collection,
    /// until it is deleted.
    ///
    /// # Errors
    /// When the leader refuses or cannot be reached.
    pub async fn collect(&self, interval: Interval) -> Result<Collection, CollectError> {
        self.ask(Query::time_interval(interval)).await
    }

    /// Asks for the next batch that the leader selects (DAP 5.2). All such requests are the same bytes, so that asking
    /// again is the same collection; whoever has its result in safety deletes it, and then the next batch can be asked
    /// for.
    ///
    /// # Errors
    /// As [`Collector::collect`].
    pub async fn collect_next(&self) -> Result<Collection, CollectError> {
        self.ask(Query::leader_selected()).await
    }

    async fn ask(&self, query: Query) -> Result<Collection, CollectError> {
        let parameter = self.task.aggregation_parameter.clone();
        let request = CollectionJobReq::new(query, parameter).bytes().to_vec();
        let url = Resource::CollectionJobs(self.task.task_id).url(self.task.configuration.leader_url());
        let response = self.send_patiently(Method::POST, &url, request.clone()).await?;
        let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let endpoint = self.task.configuration.leader_url();
        let url = location
            .and_then(|location| resource::follow(endpoint, &self.task.task_id, (&url, location)))
            .ok_or_else(|| CollectError::Answer("it does not say where the collection is".to_owned()))?;
        let answer = (!response.body().is_empty()).then(|| checked(&response)).transpose()?;
        let patience = retry_after(response.headers(), Clock::system().now()).unwrap_or(0);
        Ok(Collection { url, request, answer, patience })
    }

    /// Asks whether a collection is ready, and opens it if it is.
    ///
    /// # Errors
    /// When it failed, and as [`Collector::collect`]. A failed collection can be asked for again later.
    pub async fn poll(&self, collection: &Collection) -> Result<Poll, CollectError> {
        let answer = if let Some(answer) = &collection.answer {
            answer.clone()
        } else {
            let response = match self.send(Method::GET, &collection.url, Vec::new()).await {
                Err(CollectError::Busy(seconds)) => return Ok(Poll::Waiting { seconds }),
                other => other?,
            };
            if response.body().is_empty() {
                return Ok(Poll::Waiting { seconds: patience(&response) });
            }
            checked(&response)?
        };
        let response =
            CollectionJobResp::decoded(&answer).map_err(|error| CollectError::Answer(error.to_string()))?;
        self.open(collection, &response).map(Poll::Ready)
    }

    /// Polls until the collection is ready; `progress` is called after each poll that was not. The leader is left alone
    /// for as long as it says each time (DAP 3.1), though never for more than an hour; for a second where it says nothing.
    ///
    /// # Errors
    /// As [`Collector::poll`].
    pub async fn wait(
        &self,
        collection: &Collection,
        mut progress: impl FnMut(),
    ) -> Result<Outcome, CollectError> {
        let mut hurry = SHORTEST_PAUSE;
        let mut pause = |seconds: u64| {
            let hurried = hurry;
            hurry = (hurry * 2).min(Duration::from_secs(1));
            tokio::time::sleep(if self.hurried { hurried } else { Duration::from_secs(seconds) })
        };
        if collection.answer.is_none() {
            pause(collection.patience).await;
        }
        loop {
            match self.poll(collection).await? {
                Poll::Ready(outcome) => return Ok(outcome),
                Poll::Waiting { seconds } => {
                    progress();
                    pause(seconds).await;
                }
            }
        }
    }

    /// Gives up a collection (DAP 4.6.3). What was released stays released.
    ///
    /// # Errors
    /// As [`Collector::collect`].
    pub async fn delete(&self, collection: &Collection) -> Result<(), CollectError> {
        self.send_patiently(Method::DELETE, &collection.url, Vec::new()).await.map(drop)
    }

    /// Opens both shares with this collector's own view of the task and the request, and adds them.
    fn open(&self, collection: &Collection, response: &CollectionJobResp) -> Result<Outcome, CollectError> {
        let task = &self.task;
        let request = check(&task.configuration, &collection.request, response)?;
        check_length(task, &request)?;
        let aad = AggregateShareAad {
            task_id: &task.task_id,
            task_configuration: task.configuration.bytes(),
            collection_job_req: &collection.request,
        }
        .encoded();
        let share = |role: Role, name: &'static str, sealed: &HpkeCiphertext| {
            let info = Label::AggregateShare(role).info(task.draft);
            hpke::open(&task.keypair, &info, &aad, sealed).map_err(|_| CollectError::Share(name))
        };
        let leader = share(Role::Leader, "leader", &response.leader_encrypted_agg_share)?;
        let helper = share(Role::Helper, "helper", &response.helper_encrypted_agg_share)?;
        let vdaf =
            task.configuration.vdaf().instantiate().map_err(|error| CollectError::Task(error.to_string()))?;
        let values = vdaf
            .unshard_signed(request.agg_param(), &leader, &helper, response.report_count)
            .map_err(|error| CollectError::Sum(error.to_string()))?;
        Ok(Outcome { report_count: response.report_count, interval: response.interval, values })
    }

    /// As [`Self::send`], again and again while the leader has too much to do, for a minute or so. Each request that is
    /// sent this way has the same effect if it is sent twice.
    async fn send_patiently(
        &self,
        method: Method,
        url: &str,
        body: Vec<u8>,
    ) -> Result<Response<Bytes>, CollectError> {
        let begun = Instant::now();
        loop {
            match self.send(method.clone(), url, body.clone()).await {
                Err(CollectError::Busy(seconds))
                    if begun.elapsed() + Duration::from_secs(seconds) < PATIENCE =>
                {
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                }
                other => return other,
            }
        }
    }

    async fn send(&self, method: Method, url: &str, body: Vec<u8>) -> Result<Response<Bytes>, CollectError> {
        let bearer = header::HeaderValue::from_str(&format!("Bearer {}", self.task.token.expose()));
        let mut bearer =
            bearer.map_err(|_| CollectError::Task("its token cannot be written in a header".to_owned()))?;
        bearer.set_sensitive(true);
        let mut request = Request::builder().method(method).uri(url).header(header::AUTHORIZATION, bearer);
        if let Some(task) = taskprov::advertisement(&self.task.task_id, &self.task.configuration) {
            request = request.header(taskprov::HEADER, task);
        }
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, Media::CollectionJobReq.header());
        }
        let request = request
            .body(Bytes::from(body))
            .map_err(|_| PeerError::BadUrl(format!("`{url}` is not a URL that can be asked")))?;
        let response = self.http.send(request).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(refusal(&response))
    }
}

/// The body of a success that has one, if it is what was asked for.
fn checked(response: &Response<Bytes>) -> Result<Bytes, CollectError> {
    let media = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if media.is_some_and(|media| Media::CollectionJobResp.matches(media)) {
        return Ok(response.body().clone());
    }
    Err(CollectError::Answer("it has another media type than asked for".to_owned()))
}

/// For how many seconds the leader wants to be left alone, within reason.
fn patience(response: &Response<Bytes>) -> u64 {
    retry_after(response.headers(), Clock::system().now()).unwrap_or(1)
}

fn refusal(response: &Response<Bytes>) -> CollectError {
    let status = response.status();
    if [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS].contains(&status) {
        return CollectError::Busy(patience(response));
    }
    let said = ProblemDocument::from_json(response.body());
    let detail = said.as_ref().and_then(|said| said.detail.clone().or_else(|| said.title.clone()));
    match said.filter(|problem| problem.type_ != "about:blank") {
        _ if status == StatusCode::UNAUTHORIZED => CollectError::Unauthorized,
        Some(problem) if status.is_client_error() => CollectError::Refused(Box::new(problem)),
        // Who has the right token and is refused all the same is told why, by name.
        None if status == StatusCode::FORBIDDEN => CollectError::Unauthorized,
        _ => CollectError::Failed { status: status.as_u16(), detail },
    }
}

/// Whether the answer is about the batch that was asked for, and about as many reports as the task demands: a leader
/// that answers with fewer shows more of each than was agreed.
/// What was asked, if the answer is one to it.
fn check(
    task: &TaskConfiguration,
    request: &[u8],
    response: &CollectionJobResp,
) -> Result<CollectionJobReq, CollectError> {
    let wrong = |why: &str| Err(CollectError::Answer(why.to_owned()));
    let request = CollectionJobReq::decoded(request).map_err(|why| CollectError::Task(why.to_string()))?;
    match request.query().queried(task.batch_mode()) {
        Ok(QueriedBatch::TimeInterval(query)) if !query.contains_interval(&response.interval) => {
            return wrong("it is about another interval than was asked for");
        }
        Ok(_) => {}
        Err(_) => return Err(CollectError::Task("the query is not one of this task".to_owned())),
    }
    if response.report_count < task.min_batch_size() {
        return wrong("it is about fewer reports than the task demands");
    }
    Ok(request)
}

/// Whether a batch is no longer than its noise was made for: in a longer one a client that keeps its caps may have more
/// reports. Aggregators refuse it before they charge anything; of those who do not, no result is told.
fn check_length(task: &CollectorTask, request: &CollectionJobReq) -> Result<(), CollectError> {
    let Some(guarantee) = &task.guarantee else { return Ok(()) };
    let Ok(QueriedBatch::TimeInterval(query)) = request.query().queried(task.configuration.batch_mode())
    else {
        return Ok(());
    };
    let precision = task.configuration.time_precision();
    let batch = Span::of_reports(precision.start_of(query.start()), precision.start_of(query.end()));
    let within = guarantee.within();
    if batch.is_ok_and(|batch| within.holds(batch)) {
        return Ok(());
    }
    Err(CollectError::Answer(format!("its noise is for batches within {within}, and this one is longer")))
}

/// How long a leader that has too much to do is asked again.
const PATIENCE: Duration = Duration::from_mins(1);

/// The first pauses between polls in a hurry: a batch that is complete takes some milliseconds.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);

#[cfg(test)]
#[path = "collect_tests.rs"]
mod tests;
