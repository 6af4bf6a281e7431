//! A helper without a database or manners: it counts what it is sent, at once or when it is asked again, and refuses what
//! a test tells it to refuse.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body_util::BodyExt as _;
use mica_dap::aggregation::{
    AggregationJobInitReq, AggregationJobResp, VerifyInit, VerifyResp, VerifyResult,
};
use mica_dap::codec::{Decode as _, Encode as _};
use mica_dap::collection::{AggregateShare, AggregateShareReq, SelectedBatch};
use mica_dap::hpke::{
    self, AggregateShareAad, HpkeKeypair, InputShareAad, Label, NoisedShare, Role, seal_aggregate_share,
};
use mica_dap::id::{BatchId, ReportId};
use mica_dap::media::Media;
use mica_dap::problem::{Problem, ProblemDocument};
use mica_dap::report::PlaintextInputShare;
use mica_dap::report_error::ReportError;
use mica_dap::time::Time;
use mica_dap::vdaf::{HelperStep, InputShareRef, OutputShare, VerifyKey, vdaf_context};
use mica_service::listener::{self, Limits};
use mica_service::shutdown::Shutdown;

use crate::{Task, checksum};

/// Serves as long as the test runs.
pub struct LoneHelper {
    /// Where it is.
    pub endpoint: String,
    book: Arc<Mutex<Book>>,
}

/// What it knows. There is one answer to the same bytes, unless they were refused.
struct Book {
    keypair: HpkeKeypair,
    deferred: bool,
    task: Option<Task>,
    exchanges: Vec<Exchange>,
    counted: Vec<Counted>,
    released: Vec<Vec<ReportId>>,
    refused_reports: Vec<ReportId>,
    refused_shares: VecDeque<Problem>,
    asked_for: Vec<BatchId>,
}

struct Exchange {
    request: Bytes,
    answer: Result<(Media, Bytes), Problem>,
    polls: usize,
}

struct Counted {
    id: ReportId,
    time: Time,
    batch: Option<BatchId>,
    output: OutputShare,
}

/// A total as it is: the tasks of these tests are released without noise.
struct Exact(Vec<u8>);

impl NoisedShare for Exact {
    fn for_sealing(&self) -> &[u8] {
        &self.0
    }
}

impl LoneHelper {
    /// Listens on a port of its own. A deferred one answers nothing at once.
    pub async fn start(deferred: bool) -> Self {
        let book = Arc::new(Mutex::new(Book {
            keypair: HpkeKeypair::generate(9, &mut rand::rng()),
            deferred,
            task: None,
            exchanges: Vec::new(),
            counted: Vec::new(),
            released: Vec::new(),
            refused_reports: Vec::new(),
            refused_shares: VecDeque::new(),
            asked_for: Vec::new(),
        }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}/", listener.local_addr().expect("it is bound"));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&book));
        tokio::spawn(listener::serve(listener, router, Limits::default(), Shutdown::new()));
        Self { endpoint, book }
    }

    /// Tells it of its task. Before, it is too busy for everything but its keys.
    pub fn learn(&self, task: &Task) {
        self.book().task = Some(task.clone());
    }

    /// From now on it takes no job that holds this report.
    pub fn will_refuse_jobs_with(&self, report: ReportId) {
        self.book().refused_reports.push(report);
    }

    /// Refuses the next request for an aggregate share that it has not answered yet.
    pub fn will_refuse_a_share(&self, problem: Problem) {
        self.book().refused_shares.push_back(problem);
    }

    /// The reports of each batch that it gave its share of, in that order.
    #[must_use]
    pub fn released(&self) -> Vec<Vec<ReportId>> {
        self.book().released.clone()
    }

    /// Which batch each request for a share named that was not a repeated one.
    #[must_use]
    pub fn asked_for(&self) -> Vec<BatchId> {
        self.book().asked_for.clone()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("nobody panics")
    }
}

async fn answer(State(book): State<Arc<Mutex<Book>>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = body.collect().await.expect("the whole request").to_bytes();
    let mut book = book.lock().expect("nobody panics");
    let path = head.uri.path();
    if path.ends_with("/hpke_config") {
        let config = book.keypair.config.encoded();
        let length = u16::try_from(config.len()).expect("one configuration is short");
        return message(Media::HpkeConfigList, [&length.to_be_bytes(), config.as_slice()].concat().into());
    }
    let Some(task) = book.task.clone() else { return later(StatusCode::SERVICE_UNAVAILABLE, None) };
    let shown = head.headers.get(header::AUTHORIZATION).map(|shown| shown.as_bytes().to_vec());
    assert_eq!(shown, Some(format!("Bearer {}", task.leader_to_helper).into_bytes()));
    if head.method == Method::POST {
        return book.post(&task, path, body);
    }
    let place = path.rsplit('/').next().and_then(|at| at.parse::<usize>().ok());
    // It knows the protocol and nothing beside it.
    let Some(place) = place.filter(|at| *at < book.exchanges.len()) else {
        return plain(StatusCode::NOT_FOUND);
    };
    // What was answered is not asked for again, so that it may be forgotten without a trace.
    if head.method == Method::DELETE { plain(StatusCode::NO_CONTENT) } else { book.poll(path, place) }
}

impl Book {
    fn post(&mut self, task: &Task, path: &str, request: Bytes) -> Response {
        let known = |it: &Exchange| it.request == request && it.answer.is_ok();
        let at = self.exchanges.iter().position(known).unwrap_or_else(|| {
            let answer = if path.ends_with("/aggregation_jobs") {
                self.job(task, &request).map(|answer| (Media::AggregationJobResp, answer))
            } else {
                assert!(path.ends_with("/aggregate_shares"), "{path}");
                self.share(task, &request).map(|answer| (Media::AggregateShare, answer))
            };
            self.exchanges.push(Exchange { request, answer, polls: 0 });
            self.exchanges.len() - 1
        });
        let place = format!("{path}/{at}");
        if self.deferred { later(StatusCode::CREATED, Some(&place)) } else { self.conclude(at, &place) }
    }

    fn poll(&mut self, path: &str, at: usize) -> Response {
        let exchange = &mut self.exchanges[at];
        exchange.polls += 1;
        // Every other one is not ready when it is first asked for.
        if exchange.polls == 1 && at % 2 == 1 {
            return later(StatusCode::OK, Some(path));
        }
        self.conclude(at, path)
    }

    fn conclude(&self, at: usize, place: &str) -> Response {
        match &self.exchanges[at].answer {
            Ok((media, body)) => {
                let mut reply = message(*media, body.clone());
                reply.headers_mut().insert(header::LOCATION, place.parse().expect("a path"));
                reply
            }
            Err(problem) => {
                let mut reply = plain(StatusCode::from_u16(problem.status()).expect("a status"));
                *reply.body_mut() = Body::from(ProblemDocument::new(*problem).to_json());
                let media = Media::Problem.header().parse().expect("a media type");
                reply.headers_mut().insert(header::CONTENT_TYPE, media);
                reply
            }
        }
    }

    fn job(&mut self, task: &Task, request: &[u8]) -> Result<Bytes, Problem> {
        let job = AggregationJobInitReq::decode_limited(request, 10_000).expect("a job that can be read");
        let batch = job.batch_id(task.configuration.batch_mode()).expect("the extensions of its batch mode");
        let refused =
            |init: &VerifyInit| self.refused_reports.contains(&init.report_share.metadata.report_id);
        if job.verify_inits.iter().any(refused) {
            return Err(Problem::InvalidMessage);
        }
        let verify_resps = job.verify_inits.iter().map(|init| {
            let result = match self.count(task, init, batch) {
                Ok(message) => VerifyResult::Continue(message),
                Err(error) => VerifyResult::Reject(error.code(task.draft)),
            };
            VerifyResp { report_id: init.report_share.metadata.report_id, result }
        });
        let verify_resps = verify_resps.collect();
        Ok(AggregationJobResp { verify_resps }.encoded().into())
    }

    fn count(
        &mut self,
        task: &Task,
        init: &VerifyInit,
        batch: Option<BatchId>,
    ) -> Result<Vec<u8>, ReportError> {
        let share = &init.report_share;
        let id = share.metadata.report_id;
        if self.counted.iter().any(|report| report.id == id) {
            return Err(ReportError::ReportReplayed);
        }
        let aad = InputShareAad {
            task_id: &task.id,
            task_configuration: task.configuration.bytes(),
            metadata: &share.metadata.encoded(),
            public_share: &share.public_share,
        };
        let info = Label::InputShare(Role::Helper).info(task.draft);
        let opened = hpke::open(&self.keypair, &info, &aad.encoded(), &share.encrypted_input_share)
            .map_err(|_| ReportError::HpkeDecryptError)?;
        let opened = PlaintextInputShare::decoded(&opened).map_err(|_| ReportError::InvalidMessage)?;
        let input =
            InputShareRef { nonce: &id, public_share: &share.public_share, input_share: &opened.payload };
        let vdaf = task.vdaf().instantiate().expect("the VDAF of a test");
        let context = vdaf_context(task.draft, &task.id);
        match vdaf.helper_init(&VerifyKey::new(task.verify_key), &context, &[], &input, &init.payload) {
            Ok(HelperStep::Finished { output, message }) => {
                self.counted.push(Counted { id, time: share.metadata.time, batch, output });
                Ok(message)
            }
            _ => Err(ReportError::VdafVerifyError),
        }
    }

    /// The share of what was counted, if the leader counts the same.
    fn share(&mut self, task: &Task, request: &[u8]) -> Result<Bytes, Problem> {
        let asked = AggregateShareReq::decoded(request).expect("a request that can be read");
        let (_, selected) = asked.batch(task.configuration.batch_mode())?;
        if let SelectedBatch::LeaderSelected(batch) = selected {
            self.asked_for.push(batch);
        }
        if let Some(problem) = self.refused_shares.pop_front() {
            return Err(problem);
        }
        let within = |report: &&Counted| match selected {
            SelectedBatch::TimeInterval(interval) => interval.contains(report.time),
            SelectedBatch::LeaderSelected(batch) => report.batch == Some(batch),
        };
        let batch: Vec<&Counted> = self.counted.iter().filter(within).collect();
        let ids: Vec<ReportId> = batch.iter().map(|report| report.id).collect();
        if (asked.report_count, asked.checksum) != (ids.len() as u64, checksum(&ids)) {
            return Err(Problem::BatchMismatch);
        }
        let outputs: Vec<&OutputShare> = batch.iter().map(|report| &report.output).collect();
        let vdaf = task.vdaf().instantiate().expect("the VDAF of a test");
        let total = Exact(vdaf.aggregate(&[], None, &outputs).expect("shares of one task"));
        let aad = AggregateShareAad {
            task_id: &task.id,
            task_configuration: task.configuration.bytes(),
            collection_job_req: asked.collection_job_req.bytes(),
        };
        let sealed =
            seal_aggregate_share(&task.collector.config, Role::Helper, task.draft, &aad.encoded(), &total);
        let encrypted_aggregate_share = sealed.expect("a key that can be sealed to");
        self.released.push(ids);
        Ok(AggregateShare { encrypted_aggregate_share }.encoded().into())
    }
}

/// Ask again in a second, there.
fn later(status: StatusCode, place: Option<&str>) -> Response {
    let mut later = plain(status);
    later.headers_mut().insert(header::RETRY_AFTER, http::HeaderValue::from_static("1"));
    if let Some(place) = place {
        later.headers_mut().insert(header::LOCATION, place.parse().expect("a path"));
    }
    later
}

fn message(media: Media, body: Bytes) -> Response {
    let mut reply = Response::new(Body::from(body));
    reply.headers_mut().insert(header::CONTENT_TYPE, media.header().parse().expect("a media type"));
    reply
}

fn plain(status: StatusCode) -> Response {
    let mut reply = Response::new(Body::empty());
    *reply.status_mut() = status;
    reply
}
