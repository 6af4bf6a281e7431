//! A helper that follows the protocol until a test tells it otherwise, and remembers everything it was sent.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http::{HeaderName, Method, Request, Response, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mica_dap::hpke::HpkeKeypair;
use mica_dap::id::{AggregateShareId, AggregationJobId};
use mica_dap::media::Media;
use mica_dap::resource::Resource;
use mica_dap::taskprov;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::TestTask;
use super::act::{Act, Answer, Spoken};
use super::honest::Honest;

/// A request as the helper got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) authorization: Option<String>,
    /// The task that comes with the request.
    pub(crate) advertisement: Option<String>,
    pub(crate) media: Option<String>,
    pub(crate) body: Bytes,
}

pub(crate) struct ScriptedHelper {
    shared: Arc<Shared>,
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

struct Shared {
    task: TestTask,
    honest: Mutex<Honest>,
    script: Mutex<VecDeque<Act>>,
    /// The largest request it takes.
    limit: Mutex<usize>,
    /// The largest that it reads, and whether it says so of a larger one.
    reads: Mutex<(usize, bool)>,
    received: Mutex<Vec<Received>>,
    /// What it was told to forget.
    deleted: Mutex<Vec<Received>>,
    /// What it says to that; once it has said all, it does.
    reluctance: Mutex<VecDeque<u16>>,
    /// Its release statement; one of another make has none.
    statement: Mutex<Option<Vec<u8>>>,
}

impl ScriptedHelper {
    /// Serves `task`, whose configuration names the address of `listener`.
    pub(crate) fn serve(listener: TcpListener, task: &TestTask, keypair: HpkeKeypair) -> Self {
        let shared = Arc::new(Shared {
            task: task.clone(),
            honest: Mutex::new(Honest::new(task, keypair)),
            script: Mutex::default(),
            limit: Mutex::new(usize::MAX),
            reads: Mutex::new((usize::MAX, true)),
            received: Mutex::default(),
            deleted: Mutex::default(),
            reluctance: Mutex::default(),
            statement: Mutex::default(),
        });
        let address = listener.local_addr().expect("it is bound");
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { shared, address, accepting }
    }

    /// From now on it refuses connections.
    pub(crate) async fn leave(&mut self) {
        self.accepting.abort();
        // Only then is the listener closed.
        let _ = (&mut self.accepting).await;
    }

    /// It accepts connections again.
    pub(crate) async fn come_back(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("its own address");
        self.accepting = tokio::spawn(accept(listener, Arc::clone(&self.shared)));
    }

    /// What it does with the next requests; after that it is honest.
    pub(crate) fn will(&self, acts: impl IntoIterator<Item = Act>) {
        self.shared.script.lock().expect("nobody panics").extend(acts);
    }

    /// From now on it takes no request of more bytes.
    pub(crate) fn takes_at_most(&self, bytes: usize) {
        *self.shared.limit.lock().expect("nobody panics") = bytes;
    }

    /// With what status it answers the next requests to forget something.
    pub(crate) fn will_not_forget(&self, statuses: impl IntoIterator<Item = u16>) {
        self.shared.reluctance.lock().expect("nobody panics").extend(statuses);
    }

    /// The requests to forget something.
    /// Shows this as its release statement.
    pub(crate) fn shows(&self, statement: Vec<u8>) {
        *self.shared.statement.lock().expect("nobody panics") = Some(statement);
    }

    pub(crate) fn deleted(&self) -> Vec<Received> {
        self.shared.deleted.lock().expect("nobody panics").clone()
    }

    /// All other requests: those to forget something come when it suits the leader.
    /// From now on it refuses a request that announces more bytes without reading them, and closes: the connection is
    /// reset, and its answer may be lost over it. If it does not answer, it surely is.
    pub(crate) fn reads_at_most(&self, bytes: usize, answers: bool) {
        *self.shared.reads.lock().expect("nobody panics") = (bytes, answers);
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
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
        );
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Spoken>, io::Error> {
    let (head, body) = request.into_parts();
    let (most, answers) = *shared.reads.lock().expect("nobody panics");
    if body.size_hint().lower() > most as u64 {
        let refusal = Answer { status: 413, ..Answer::default() };
        return if answers {
            Ok(refusal.into_response())
        } else {
            Err(io::ErrorKind::ConnectionReset.into())
        };
    }
    let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let received = Received {
        target: head.uri.to_string(),
        authorization: text(header::AUTHORIZATION),
        advertisement: text(HeaderName::from_static(taskprov::HEADER)),
        media: text(header::CONTENT_TYPE),
        method: head.method.clone(),
        body: body.collect().await.map_err(io::Error::other)?.to_bytes(),
    };
    if received.method == Method::DELETE {
        shared.deleted.lock().expect("nobody panics").push(received);
        let status = shared.reluctance.lock().expect("nobody panics").pop_front().unwrap_or(204);
        return Ok(Answer { status, ..Answer::default() }.into_response());
    }
    if received.target.contains("/dp/statement/") {
        let shown = shared.statement.lock().expect("nobody panics").clone();
        let status = if shown.is_some() { 200 } else { 404 };
        return Ok(Answer { status, body: shown.unwrap_or_default(), ..Answer::default() }.into_response());
    }
    shared.received.lock().expect("nobody panics").push(received.clone());
    if received.body.len() > *shared.limit.lock().expect("nobody panics") {
        return Ok(Answer { status: 413, ..Answer::default() }.into_response());
    }
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
        let job = (0..honest.jobs()).find(|at| {
            let resource = Resource::AggregationJob(self.task.id, job_id(*at), None);
            received.method == Method::POST && received.target == resource.absolute_path(endpoint)
        });
        if job.is_some() {
            assert!(Media::AggregationJobContinueReq.matches(media), "{media}");
            let body = honest.proceed(&received.body);
            return Answer::ready(Media::AggregationJobResp, body, String::new());
        }
        if received.method == Method::POST && received.target == shares {
            assert!(Media::AggregateShareReq.matches(media), "{media}");
            return match honest.share(&received.body) {
                Ok((at, body)) => {
                    let id = AggregateShareId::new(*job_id(at).as_bytes());
                    let resource = Resource::AggregateShare(self.task.id, id);
                    Answer::ready(Media::AggregateShare, body, resource.absolute_path(endpoint))
                }
                Err(problem) => Answer::problem(problem),
            };
        }
        let found = (0..honest.jobs()).find(|at| {
            let resource = Resource::AggregationJob(self.task.id, job_id(*at), Some(0));
            received.method == Method::GET && received.target == resource.absolute_path(endpoint)
        });
        let share = (0..=u8::MAX).find(|at| {
            let id = AggregateShareId::new(*job_id(usize::from(*at)).as_bytes());
            let resource = Resource::AggregateShare(self.task.id, id);
            received.method == Method::GET && received.target == resource.absolute_path(endpoint)
        });
        if let Some(body) = share.and_then(|at| honest.given_share(usize::from(at))) {
            return Answer::ready(Media::AggregateShare, body, String::new());
        }
        match found.and_then(|at| honest.job(at)) {
            Some(body) => Answer::ready(Media::AggregationJobResp, body, String::new()),
            None => Answer { status: 404, ..Answer::default() },
        }
    }
}

fn job_id(at: usize) -> AggregationJobId {
    let mut id = [7; 16];
    id[0] = u8::try_from(at).expect("few jobs");
    AggregationJobId::new(id)
}
