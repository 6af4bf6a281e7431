//! The network between the parties: it carries, loses, doubles and delays messages as it is told, and remembers what was
//! answered, because the same question must get the same answer.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use mica_dap::aggregation::{AggregationJobInitReq, AggregationJobResp, VerifyResult};
use mica_dap::codec::Encode as _;
use mica_dap::id::{AggregateShareId, ReportId};
use mica_dap::media::Media;
use mica_dap::report::UploadRequest;
use mica_service::http::{HttpClient, PeerError, Sent};
use mica_service::testing::Network;
use tower::ServiceExt as _;

use crate::plan::{Fault, Party};

/// Where a leader is asked.
pub(crate) const LEADER: &str = "http://leader.test/dap/";
/// Where the helper is asked.
pub(crate) const HELPER: &str = "http://helper.test/";

/// A process that can be asked.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) router: Router,
    pub(crate) alive: Arc<AtomicBool>,
}

/// All that is between the parties.
#[derive(Default)]
pub(crate) struct Wires {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    doors: BTreeMap<Party, Door>,
    /// Which leader answers clients and collector.
    front: usize,
    faults: VecDeque<Fault>,
    late: Vec<(Party, Request<Bytes>)>,
    answers: BTreeMap<Vec<u8>, Bytes>,
    /// The aggregate shares that the helper gave, by the last part of their paths.
    shares: BTreeMap<String, Bytes>,
    /// The requests that began jobs, by the last part of the paths that those got.
    begun: BTreeMap<String, Request<Bytes>>,
    /// The same of jobs that the helper has answered, with its first answers.
    jobs: Vec<(Request<Bytes>, Bytes)>,
    /// How often a leader was handed a report of this name.
    uploads: BTreeMap<ReportId, u32>,
    contradictions: Vec<String>,
    lying: bool,
}

impl Wires {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }

    /// From now on `party` answers behind this door.
    pub(crate) fn connect(&self, party: Party, door: Door) {
        self.state().doors.insert(party, door);
    }

    /// Forgets everybody: the processes know these wires and the wires know the processes, so that neither would go.
    pub(crate) fn disconnect_all(&self) {
        self.state().doors.clear();
    }

    /// What becomes of the next messages, and which leader stands in front.
    pub(crate) fn prepare(&self, front: usize, faults: &[Fault]) {
        let mut state = self.state();
        state.front = front;
        state.faults = faults.iter().copied().collect();
    }

    /// From now on the helper's answers are changed on the way.
    pub(crate) fn lie(&self) {
        self.state().lying = true;
    }

    /// Questions that were answered in two ways.
    pub(crate) fn contradictions(&self) -> Vec<String> {
        self.state().contradictions.clone()
    }

    /// The aggregate share that the helper gave under this identifier. It forgets those that the leader has stored.
    pub(crate) fn share(&self, id: &AggregateShareId) -> Option<Bytes> {
        self.state().shares.get(&id.to_string()).cloned()
    }

    /// Whether a leader was handed a report of this name more than once.
    pub(crate) fn was_repeated(&self, name: &ReportId) -> bool {
        self.state().uploads.get(name).is_some_and(|times| *times > 1)
    }

    /// The request that began one of the jobs that the helper has answered, and its answer.
    pub(crate) fn job(&self, which: usize) -> Option<(Request<Bytes>, Bytes)> {
        let state = self.state();
        which.checked_rem(state.jobs.len()).map(|at| state.jobs[at].clone())
    }

    /// A message that is still on its way.
    pub(crate) fn take_late(&self, which: usize) -> Option<(Party, Request<Bytes>)> {
        let late = &mut self.state().late;
        if late.is_empty() { None } else { Some(late.remove(which % late.len())) }
    }

    /// The client of somebody who may die; what the dead send or are sent is lost.
    pub(crate) fn client(self: &Arc<Self>, sender: &Arc<AtomicBool>) -> HttpClient {
        let (wires, sender) = (Arc::clone(self), Arc::clone(sender));
        HttpClient::through(Network::new(move |request| {
            let (wires, sender) = (Arc::clone(&wires), Arc::clone(&sender));
            Box::pin(async move {
                if !sender.load(Ordering::SeqCst) {
                    return Err(unreachable("the sender is dead"));
                }
                let answer = wires.carry(request).await;
                if sender.load(Ordering::SeqCst) { answer } else { Err(unreachable("the sender is dead")) }
            })
        }))
    }

    async fn carry(&self, request: Request<Bytes>) -> Result<Response<Bytes>, PeerError> {
        let (fault, to) = {
            let mut state = self.state();
            let helper = request.uri().host() == Some("helper.test");
            let to = if helper { Party::Helper } else { Party::Leader(state.front) };
            (state.faults.pop_front().unwrap_or(Fault::None), to)
        };
        let keep = || self.state().late.push((to, request.clone()));
        match fault {
            Fault::None => self.deliver(to, request).await,
            Fault::Lost => Err(unreachable("lost on the way")),
            Fault::Torn => Err(broken("it broke off before all of it had left", Sent::Part)),
            Fault::AnswerLost => {
                let _ = self.deliver(to, request).await;
                Err(unreachable("the answer was lost"))
            }
            Fault::Twice => {
                let _ = self.deliver(to, request.clone()).await;
                self.deliver(to, request).await
            }
            Fault::Late => {
                keep();
                Err(unreachable("not there yet"))
            }
            Fault::Echo => {
                keep();
                self.deliver(to, request).await
            }
            Fault::Busy => Ok(busy()),
        }
    }

    /// Hands a message over, now.
    pub(crate) async fn deliver(
        &self,
        to: Party,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, PeerError> {
        let door = self.state().doors.get(&to).cloned();
        let Some(door) = door.filter(|door| door.alive.load(Ordering::SeqCst)) else {
            return Err(unreachable("nobody is there"));
        };
        let (question, path) = (question(&request), request.uri().path().to_owned());
        let began = begins_a_job(&request).then(|| request.clone());
        self.note_upload(&request);
        let answer = door.router.oneshot(request.map(Body::from)).await;
        let (head, body) = answer.unwrap_or_else(|never| match never {}).into_parts();
        let body = body.collect().await.map_err(|_| unreachable("the answer broke off"))?.to_bytes();
        if !door.alive.load(Ordering::SeqCst) {
            return Err(unreachable("it died over it"));
        }
        let mut response = Response::from_parts(head, body);
        self.compare(question, &response);
        if to == Party::Helper && response.status().is_success() {
            self.note_job(&path, began, &response);
            self.note_share(&path, &response);
        }
        if to == Party::Helper && self.state().lying {
            reject_one(&mut response);
        }
        Ok(response)
    }

    fn note_upload(&self, request: &Request<Bytes>) {
        if !request.uri().path().ends_with("/reports") {
            return;
        }
        let reports = UploadRequest::decode_reports(request.body(), MANY).expect("clients know the format");
        for sent in reports {
            *self.state().uploads.entry(sent.report.metadata.report_id).or_default() += 1;
        }
    }

    fn note_share(&self, path: &str, response: &Response<Bytes>) {
        if path.contains("/aggregate_shares") && !response.body().is_empty() {
            self.state().shares.insert(name(path, response), response.body().clone());
        }
    }

    fn note_job(&self, path: &str, began: Option<Request<Bytes>>, response: &Response<Bytes>) {
        let (mut state, id) = (self.state(), name(path, response));
        if let Some(request) = began {
            state.begun.entry(id.clone()).or_insert(request);
        }
        if !path.contains("/aggregation_jobs") || response.body().is_empty() {
            return;
        }
        if let Some(request) = state.begun.get(&id).cloned()
            && state.jobs.iter().all(|(job, _)| job.body() != request.body())
        {
            state.jobs.push((request, response.body().clone()));
        }
    }

    /// Where an answer is a result, it must be the one that was given before.
    fn compare(&self, question: Option<Vec<u8>>, response: &Response<Bytes>) {
        let Some(question) = question else { return };
        if response.status() != StatusCode::OK || response.body().is_empty() {
            return;
        }
        let mut state = self.state();
        let first = state.answers.entry(question).or_insert_with(|| response.body().clone()).clone();
        if first != response.body() {
            let length = response.body().len();
            state.contradictions.push(format!("the same question got two answers, one of {length} bytes"));
        }
    }
}

/// What a request asks, if the answer is a result: for the helper the bytes of the request, for a resource its path and
/// the step of a job.
fn question(request: &Request<Bytes>) -> Option<Vec<u8>> {
    let path = request.uri().path();
    if request.method() == Method::GET && path.contains("/tasks/") {
        let whole = request.uri().path_and_query().map(|whole| whole.as_str().as_bytes().to_vec());
        return Some([whole.unwrap_or_default(), request.body().to_vec()].concat());
    }
    // A job of two rounds is one job with two answers: the latest is the answer to what began it.
    let is_job = begins_a_job(request) && !of_two_rounds(request.body());
    let is_share = request.method() == Method::POST && path.ends_with("/aggregate_shares");
    (is_job || is_share).then(|| request.body().to_vec())
}

/// The last part of the path of a resource: where it is said to be, or where it was asked for.
fn name(path: &str, response: &Response<Bytes>) -> String {
    let place =
        response.headers().get(header::LOCATION).and_then(|place| place.to_str().ok()).unwrap_or(path);
    let place = place.split('?').next().unwrap_or_default();
    place.rsplit('/').next().unwrap_or_default().to_owned()
}

fn begins_a_job(request: &Request<Bytes>) -> bool {
    request.method() == Method::POST && request.uri().path().ends_with("/aggregation_jobs")
}

fn of_two_rounds(body: &[u8]) -> bool {
    AggregationJobInitReq::decode_limited(body, MANY).is_ok_and(|request| !request.agg_param.is_empty())
}

/// For longer than a collector would wait in real time.
fn busy() -> Response<Bytes> {
    Response::builder()
        .status(StatusCode::SERVICE_UNAVAILABLE)
        .header(header::RETRY_AFTER, "90")
        .body(Bytes::new())
        .expect("a response")
}

/// Turns the helper's first yes into a no.
fn reject_one(response: &mut Response<Bytes>) {
    let media = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !media.is_some_and(|media| Media::AggregationJobResp.matches(media)) {
        return;
    }
    let Ok(mut answer) = AggregationJobResp::decode_limited(response.body(), MANY) else { return };
    let yes = answer.verify_resps.iter_mut().find(|resp| matches!(resp.result, VerifyResult::Continue(_)));
    if let Some(resp) = yes {
        resp.result = VerifyResult::Reject(6);
    }
    *response.body_mut() = Bytes::from(answer.encoded());
}

fn unreachable(why: &str) -> PeerError {
    broken(why, Sent::All)
}

fn broken(why: &str, sent: Sent) -> PeerError {
    PeerError::Unreachable { origin: "the simulated network".to_owned(), why: why.to_owned(), sent }
}

/// More reports than a job has.
pub(crate) const MANY: usize = 1_000;
