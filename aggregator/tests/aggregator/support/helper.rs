//! A helper that follows the protocol until a test tells it otherwise, and remembers everything it was sent.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mica_dap::aggregation::{AggregationJobResp, VerifyResp};
use mica_dap::codec::Encode as _;
use mica_dap::hpke::HpkeKeypair;
use mica_dap::id::{AggregateShareId, AggregationJobId};
use mica_dap::media::Media;
use mica_dap::problem::{Problem, ProblemDocument};
use mica_dap::resource::Resource;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::TestTask;
use super::honest::Honest;

/// What the helper does with one request.
pub(crate) enum Act {
    Honest,
    /// Does its part; then the connection breaks before the answer.
    LoseAnswer,
    /// Does its part and never answers.
    Hang,
    /// Does nothing but answer this.
    Say(Answer),
    /// Does its part and answers something else.
    Change(Box<dyn FnOnce(Answer) -> Answer + Send>),
}

/// An answer of the helper.
#[derive(Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) media: Option<String>,
    pub(crate) location: Option<String>,
    pub(crate) retry_after: Option<u64>,
    pub(crate) body: Vec<u8>,
}

/// A request as the helper got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) authorization: Option<String>,
    pub(crate) media: Option<String>,
    pub(crate) body: Bytes,
}

pub(crate) struct ScriptedHelper {
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    task: TestTask,
    honest: Mutex<Honest>,
    script: Mutex<VecDeque<Act>>,
    received: Mutex<Vec<Received>>,
}

impl Act {
    pub(crate) fn status(status: u16) -> Self {
        Self::Say(Answer { status, ..Answer::default() })
    }

    pub(crate) fn busy(status: u16, retry_after: u64) -> Self {
        Self::Say(Answer { status, retry_after: Some(retry_after), ..Answer::default() })
    }

    pub(crate) fn problem(problem: Problem) -> Self {
        let body = ProblemDocument::new(problem).to_json();
        let media = Some("application/problem+json".to_owned());
        Self::Say(Answer { status: problem.status(), media, body, ..Answer::default() })
    }

    pub(crate) fn change(change: impl FnOnce(&mut Answer) + Send + 'static) -> Self {
        Self::Change(Box::new(|mut answer| {
            change(&mut answer);
            answer
        }))
    }

    /// Does its part, and says that it takes a while.
    pub(crate) fn defer(retry_after: u64) -> Self {
        Self::change(move |answer| answer.defer(retry_after))
    }

    /// Does its part of a job, and tells something else about it.
    pub(crate) fn tamper(tamper: impl FnOnce(&mut Vec<VerifyResp>) + Send + 'static) -> Self {
        Self::change(|answer| {
            let mut resp = AggregationJobResp::decode_limited(&answer.body, 10_000).expect("its own answer");
            tamper(&mut resp.verify_resps);
            answer.body = resp.encoded();
        })
    }
}

impl Answer {
    pub(crate) fn defer(&mut self, retry_after: u64) {
        self.body.clear();
        self.media = None;
        self.retry_after = Some(retry_after);
        self.location = self.location.take().map(|location| format!("{location}?step=0"));
    }
}

impl ScriptedHelper {
    /// Serves `task`, whose configuration names the address of `listener`.
    pub(crate) fn serve(listener: TcpListener, task: &TestTask, keypair: HpkeKeypair) -> Self {
        let shared = Arc::new(Shared {
            task: task.clone(),
            honest: Mutex::new(Honest::new(task, keypair)),
            script: Mutex::default(),
            received: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { shared, accepting }
    }

    /// What it does with the next requests; after that it is honest.
    pub(crate) fn will(&self, acts: impl IntoIterator<Item = Act>) {
        self.shared.script.lock().expect("nobody panics").extend(acts);
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.shared.received.lock().expect("nobody panics").clone()
    }

    /// The bodies of the requests to one kind of resource, in the order they came.
    pub(crate) fn posted(&self, resource: &str) -> Vec<Bytes> {
        let posts = self.received().into_iter().filter(|received| received.method == Method::POST);
        posts.filter(|received| received.target.ends_with(resource)).map(|received| received.body).collect()
    }

    pub(crate) fn honest(&self) -> MutexGuard<'_, Honest> {
        self.shared.honest.lock().expect("nobody panics")
    }
}

impl Drop for ScriptedHelper {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        let service = service_fn(move |request| answer(Arc::clone(&shared), request));
        // A connection that breaks is a thing that tests want.
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, io::Error> {
    let (head, body) = request.into_parts();
    let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let received = Received {
        target: head.uri.to_string(),
        authorization: text(header::AUTHORIZATION),
        media: text(header::CONTENT_TYPE),
        method: head.method.clone(),
        body: body.collect().await.map_err(io::Error::other)?.to_bytes(),
    };
    shared.received.lock().expect("nobody panics").push(received.clone());
    let act = shared.script.lock().expect("nobody panics").pop_front().unwrap_or(Act::Honest);
    let answer = match act {
        Act::Say(answer) => answer,
        Act::Honest => shared.serve(&received),
        Act::Change(change) => change(shared.serve(&received)),
        Act::LoseAnswer => {
            shared.serve(&received);
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Act::Hang => {
            shared.serve(&received);
            pending().await
        }
    };
    Ok(answer.into_response())
}

impl Shared {
    fn serve(&self, received: &Received) -> Answer {
        let endpoint = self.task.configuration.helper_url();
        let jobs = Resource::AggregationJobs(self.task.id).absolute_path(endpoint);
        let shares = Resource::AggregateShares(self.task.id).absolute_path(endpoint);
        let media = received.media.as_deref().unwrap_or_default();
        let mut honest = self.honest.lock().expect("nobody panics");
        if received.method == Method::POST && received.target == jobs {
            assert!(Media::AggregationJobInitReq.matches(media), "{media}");
            let (at, body) = honest.aggregate(&received.body);
            let resource = Resource::AggregationJob(self.task.id, job_id(at), None);
            return Answer::ready(Media::AggregationJobResp, body, resource.absolute_path(endpoint));
        }
        if received.method == Method::POST && received.target == shares {
            assert!(Media::AggregateShareReq.matches(media), "{media}");
            return match honest.share(&received.body) {
                Ok((at, body)) => {
                    let id = AggregateShareId::new(*job_id(at).as_bytes());
                    let resource = Resource::AggregateShare(self.task.id, id);
                    Answer::ready(Media::AggregateShare, body, resource.absolute_path(endpoint))
                }
                Err(problem) => match Act::problem(problem) {
                    Act::Say(answer) => answer,
                    _ => unreachable!("a problem is said"),
                },
            };
        }
        let found = (0..honest.jobs()).find(|at| {
            let resource = Resource::AggregationJob(self.task.id, job_id(*at), Some(0));
            received.method == Method::GET && received.target == resource.absolute_path(endpoint)
        });
        match found.and_then(|at| honest.job(at)) {
            Some(body) => Answer::ready(Media::AggregationJobResp, body, String::new()),
            None => Answer { status: 404, ..Answer::default() },
        }
    }
}

impl Answer {
    fn ready(media: Media, body: Vec<u8>, location: String) -> Self {
        let location = Some(location).filter(|location| !location.is_empty());
        Self { status: 200, media: Some(media.header().to_owned()), location, retry_after: None, body }
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::builder().status(self.status);
        let retry_after = self.retry_after.map(|seconds| seconds.to_string());
        let headers = [
            (header::CONTENT_TYPE, self.media),
            (header::LOCATION, self.location),
            (header::RETRY_AFTER, retry_after),
        ];
        for (name, value) in headers {
            if let Some(value) = value {
                response = response.header(name, value);
            }
        }
        response.body(Full::new(Bytes::from(self.body))).expect("headers of a test are valid")
    }
}

fn job_id(at: usize) -> AggregationJobId {
    let mut id = [7; 16];
    id[0] = u8::try_from(at).expect("few jobs");
    AggregationJobId::new(id)
}
