//! Talking to leader and helper, always through relay and gateway.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use mica_dap::codec::Encode as _;
use mica_dap::hpke_config::{HpkeConfig, HpkeConfigList};
use mica_dap::id::ReportId;
use mica_dap::media::Media;
use mica_dap::problem::{Problem, ProblemDocument};
use mica_dap::report::{Report, UploadErrors, UploadRequest};
use mica_dap::report_error::ReportError;
use mica_dap::resource::Resource;
use mica_dap::taskprov;
use mica_dap::vdaf::Measurement;
use mica_envelope::history::{self, History, HistoryError};
use mica_envelope::{ClientEnvelope, InnerRequest, InnerResponse, KeyConfigList, media};
use mica_tls::Peers;

use crate::keys::{self, Keys};
use crate::patience::{Again, Failed, Patience};
use crate::transport::Transport;
use crate::{ClientError, ReportBuilder, TaskBundle};

/// Reports for one task. Clones share connections and the gateway's keys.
#[derive(Clone)]
pub struct Client {
    bundle: TaskBundle,
    transport: Transport,
    keys: Arc<Keys>,
    patience: Duration,
}

/// What the leader said about an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadOutcome {
    /// How many reports were taken.
    pub accepted: usize,
    /// The others, with the leader's reasons, in the order of the upload.
    pub rejected: Vec<(ReportId, ReportError)>,
}

impl Client {
    /// A client for the task of `bundle`.
    #[must_use]
    pub fn new(bundle: TaskBundle) -> Self {
        let keys = Arc::new(Keys::of(&bundle));
        Self { bundle, transport: Transport::new(&Peers::default()), keys, patience: PATIENCE }
    }

    /// Connects to the relay as `peers` says, in place of believing the authorities of the operating system.
    #[must_use]
    pub fn with_peers(mut self, peers: &Peers) -> Self {
        self.transport = Transport::new(peers);
        self
    }

    /// How long the attempts of one request may wait for each other in all, twenty seconds unless said otherwise: a request
    /// that nobody has acted on, or that is told to come back, is sent again up to twice, in a fresh envelope. With zero,
    /// each is tried once.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The bundle with the newest keys of the gateway that this client knows. An app that keeps it in place of its own
    /// starts with them the next time.
    pub async fn bundle(&self) -> TaskBundle {
        TaskBundle { ohttp_keys: self.keys.current(&self.transport).await, ..self.bundle.clone() }
    }

    /// Fetches the HPKE configurations of both aggregators through the relay and prepares to make reports.
    ///
    /// # Errors
    /// When they cannot be fetched or read, or hold no key that this client can seal to (DAP 4.4.1).
    pub async fn builder(&self) -> Result<ReportBuilder, ClientError> {
        let leader = self.hpke_config("leader", self.bundle.configuration.leader_url()).await?;
        let helper = self.hpke_config("helper", self.bundle.configuration.helper_url()).await?;
        ReportBuilder::new(&self.bundle, leader, helper)
    }

    /// Makes a report of `measurement` and uploads it. If the leader has a newer key by now, that is fetched and the
    /// report is sealed to it anew, once.
    ///
    /// It is the same report, under the same identifier: DAP 4.4.2.2 advises to make a fresh one, but then a leader that
    /// keeps the first and calls it outdated would have two of one measurement, which an honest helper could not tell from
    /// those of two, and a client that sends one report a day would lose as much as one that sends two.
    ///
    /// # Errors
    /// When the report cannot be made, or nothing is known of its upload. A report that the leader refused is no error.
    pub async fn report(
        &self,
        measurement: &Measurement,
        unix_seconds: u64,
    ) -> Result<UploadOutcome, ClientError> {
        let builder = self.builder().await?;
        let (report_id, sharded) = builder.shard(measurement)?;
        let time = builder.time_of(unix_seconds);
        let first = self.upload(&[builder.seal(report_id, time, &sharded)?]).await?;
        let outdated = |(_, error): &(ReportId, ReportError)| {
            matches!(error, ReportError::OutdatedConfig | ReportError::HpkeUnknownConfigId)
        };
        if first.rejected.iter().any(outdated) {
            let anew = self.builder().await?.seal(report_id, time, &sharded)?;
            return self.upload(&[anew]).await;
        }
        Ok(first)
    }

    /// Uploads reports in one request (DAP 4.4.2) and reads the leader's verdict on each. May be called again with the
    /// same reports: none is counted twice, and the envelope is a fresh one each time.
    ///
    /// # Errors
    /// When nothing is known of the upload, or the request was refused as a whole.
    pub async fn upload(&self, reports: &[Report]) -> Result<UploadOutcome, ClientError> {
        let body = UploadRequest { reports: reports.to_vec() }.encoded();
        let url = Resource::Reports(self.bundle.task_id).url(self.bundle.configuration.leader_url());
        let mut headers = vec![("content-type".to_owned(), Media::UploadReq.header().as_bytes().to_vec())];
        let first = self.ask("POST", &url, headers.clone(), body.clone()).await;
        let response = match (first, self.advertisement()) {
            // A leader that has not heard of the task yet is told of it, once.
            (Err(refusal), Some(task)) if is_unrecognized(&refusal) => {
                headers.push((taskprov::HEADER.to_owned(), task.into_bytes()));
                self.ask("POST", &url, headers, body).await?
            }
            (first, _) => first?,
        };
        if response.body.is_empty() {
            return Ok(UploadOutcome { accepted: reports.len(), rejected: Vec::new() });
        }
        let errors: UploadErrors = decode(&response, Media::UploadErrors)?;
        let rejected: Vec<(ReportId, ReportError)> = errors
            .statuses
            .into_iter()
            .map(|status| (status.report_id, ReportError::from_code(status.error, self.bundle.draft)))
            .collect();
        let accepted = reports.len().checked_sub(rejected.len());
        let accepted =
            accepted.ok_or_else(|| ClientError::Answer("it refuses more than was sent".to_owned()))?;
        Ok(UploadOutcome { accepted, rejected })
    }

    /// The header that tells of the task, if it can be told.
    fn advertisement(&self) -> Option<String> {
        taskprov::advertisement(&self.bundle.task_id, &self.bundle.configuration)
    }

    async fn hpke_config(&self, whose: &'static str, endpoint: &str) -> Result<HpkeConfig, ClientError> {
        let accept = vec![("accept".to_owned(), Media::HpkeConfigList.header().as_bytes().to_vec())];
        let response = self.ask("GET", &Resource::HpkeConfig.url(endpoint), accept, Vec::new()).await?;
        let list: HpkeConfigList = decode(&response, Media::HpkeConfigList)?;
        // In decreasing order of preference: the first that can be used.
        list.configs()
            .iter()
            .find(|config| config.is_supported())
            .cloned()
            .ok_or(ClientError::NoUsableKey(whose))
    }

    /// One request, tried again only where that is allowed; the answer if it is a success. Keys that the gateway does not
    /// know are replaced once.
    async fn ask(
        &self,
        method: &str,
        url: &str,
        headers: Vec<(String, Vec<u8>)>,
        body: Vec<u8>,
    ) -> Result<InnerResponse, ClientError> {
        let request = inner(method, url, headers, body)?;
        let mut keys = self.keys.current(&self.transport).await;
        let (mut patience, mut is_replaced) = (Patience::new(self.patience), false);
        loop {
            let Failed { error, again } = match Box::pin(self.attempt(&keys, &request)).await {
                Ok(response) => return Ok(response),
                Err(failed) => failed,
            };
            match (&error, patience.pause(again)) {
                (ClientError::StaleOhttpKey(_), _) if !is_replaced => {
                    let other = self.keys.instead_of(&keys, &self.transport).await;
                    (keys, is_replaced) = (other.map_err(ClientError::StaleOhttpKey)?, true);
                }
                (_, Some(pause)) => tokio::time::sleep(pause).await,
                (_, None) => return Err(error),
            }
        }
    }

    /// The request once, inside an envelope of its own.
    async fn attempt(&self, keys: &KeyConfigList, request: &InnerRequest) -> Result<InnerResponse, Failed> {
        let never = |error| Failed { error, again: Again::Never };
        let (sealed, opener) = ClientEnvelope::seal(keys, request)
            .map_err(|error| never(ClientError::Task(error.to_string())))?;
        let outer = self.transport.post(&self.bundle.relay, media::OHTTP_REQUEST, sealed).await?;
        let is_sealed = outer
            .headers()
            .get(http::header::CONTENT_TYPE)
            .is_some_and(|value| media::is(value.as_bytes(), media::OHTTP_RESPONSE));
        if !outer.status().is_success() || !is_sealed {
            let status = outer.status().as_u16();
            let again = Again::outside(status, outer.headers());
            return Err(Failed { error: outer_refusal(status, outer.body()), again });
        }
        let response =
            opener.open(outer.body()).map_err(|error| never(ClientError::Answer(error.to_string())))?;
        if (200..300).contains(&response.status) {
            return Ok(response);
        }
        let again = Again::refused(response.status, response.header("retry-after"), response.header("date"));
        let problem = ProblemDocument::from_json(&response.body).map(Box::new);
        Err(Failed { error: ClientError::Refused { status: response.status, problem }, again })
    }
}

/// Fetches the key configurations that a gateway publishes, for a task bundle: at `url`, or at the well-known place where
/// that is an origin alone (RFC 9540 5). This request is not hidden: it is made once, by whoever writes the bundle, and not
/// by its clients.
///
/// # Errors
/// When they cannot be fetched or read.
pub async fn fetch_ohttp_keys(url: &str, peers: &Peers) -> Result<KeyConfigList, ClientError> {
    let url = keys::place(url);
    let response = Transport::new(peers).get(&url, media::OHTTP_KEYS, None, LARGEST).await?;
    if !response.status().is_success() {
        return Err(ClientError::Answer(format!("the gateway answered {}", response.status())));
    }
    KeyConfigList::parse(response.into_body()).map_err(|error| ClientError::Answer(error.to_string()))
}

/// Fetches the history of the configurations that a gateway has published, checked; nothing where it keeps none. Not hidden
/// either.
///
/// # Errors
/// When it cannot be fetched or read, or does not hold.
pub async fn fetch_history(url: &str, peers: &Peers) -> Result<Option<History>, ClientError> {
    let uri: Uri = url.parse().unwrap_or_default();
    let origin = (uri.scheme_str().unwrap_or_default(), uri.authority().map_or("", |host| host.as_str()));
    let url = format!("{}://{}{}", origin.0, origin.1, history::PATH);
    let response = Transport::new(peers).get(&url, "application/json", None, LARGEST).await?;
    if !response.status().is_success() {
        return Ok(None);
    }
    let wrong =
        |error: HistoryError| ClientError::Answer(format!("the history of the gateway's keys: {error}"));
    let history = History::from_json(response.body()).map_err(wrong)?;
    history.verify().map_err(wrong)?;
    Ok(Some(history))
}

fn inner(
    method: &str,
    url: &str,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
) -> Result<InnerRequest, ClientError> {
    let unusable = || ClientError::Task(format!("`{url}` is not a URL that can be asked"));
    let uri: Uri = url.parse().map_err(|_| unusable())?;
    let authority = uri.authority().ok_or_else(unusable)?.as_str().to_ascii_lowercase();
    Ok(InnerRequest {
        method: method.to_owned(),
        scheme: uri.scheme_str().ok_or_else(unusable)?.to_owned(),
        authority,
        path: uri.path_and_query().ok_or_else(unusable)?.as_str().to_owned(),
        headers,
        body: Bytes::from(body),
    })
}

fn is_unrecognized(refusal: &ClientError) -> bool {
    let urn = Problem::UnrecognizedTask.urn();
    matches!(refusal, ClientError::Refused { problem: Some(problem), .. } if problem.type_ == urn)
}

fn outer_refusal(status: u16, body: &[u8]) -> ClientError {
    match ProblemDocument::from_json(body) {
        Some(problem) if problem.type_ == media::PROBLEM_OHTTP_KEY => {
            ClientError::StaleOhttpKey("not the one that the relay shows now either".to_owned())
        }
        _ => ClientError::Relay(status),
    }
}

fn decode<M: mica_dap::codec::Decode>(response: &InnerResponse, expected: Media) -> Result<M, ClientError> {
    let media = response.header("content-type").and_then(|value| std::str::from_utf8(value).ok());
    if !media.is_some_and(|media| expected.matches(media)) {
        return Err(ClientError::Answer("it has another media type than asked for".to_owned()));
    }
    M::decoded(&response.body).map_err(|error| ClientError::Answer(error.to_string()))
}

const PATIENCE: Duration = Duration::from_secs(20);
/// Of what a gateway publishes.
const LARGEST: usize = 4 << 20;
