//! The network between leader and helper, which can lose a request, lose an answer, deliver twice, or keep silent.

use std::collections::VecDeque;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http::{Method, Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use mica_service::http::{HttpClient, HttpOptions};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What happens to one exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The helper never hears of it.
    LoseRequest,
    /// The helper answers, and the leader never hears of it.
    LoseAnswer,
    /// The helper answers, and the leader waits for ever.
    HoldAnswer,
    /// The helper hears it twice; the leader gets the second answer.
    Repeat,
}

/// One exchange that came by.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// What was asked of the path.
    pub method: Method,
    /// The path that was asked.
    pub path: String,
    /// The content of the request.
    pub request: Bytes,
    /// What the helper said, as often as it was asked: status and content.
    pub answers: Vec<(u16, Bytes)>,
    /// What was done to it.
    pub fault: Option<Fault>,
}

/// Listens where the task says the helper is, and passes on.
pub struct Proxy {
    state: Arc<State>,
    server: JoinHandle<()>,
}

struct State {
    http: HttpClient,
    target: u16,
    faults: Mutex<VecDeque<(String, Fault)>>,
    seen: Mutex<Vec<Exchange>>,
    under_way: Mutex<Vec<String>>,
}

impl Proxy {
    /// Listens on `port` and passes on to `target`.
    pub async fn start(port: u16, target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("a free port");
        let http = HttpClient::new(HttpOptions::default());
        let state = Arc::new(State {
            http,
            target,
            faults: Mutex::default(),
            seen: Mutex::default(),
            under_way: Mutex::default(),
        });
        let server = tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { state, server }
    }

    /// The next POST to a path that holds `part` fails like this. Called again, the one after it.
    pub fn fail(&self, part: &str, fault: Fault) {
        lock(&self.state.faults).push_back((part.to_owned(), fault));
    }

    /// POSTs to paths that hold `part`, in the order in which they ended.
    #[must_use]
    pub fn posted(&self, part: &str) -> Vec<Exchange> {
        self.seen(part).into_iter().filter(|exchange| exchange.method == Method::POST).collect()
    }

    /// Whether the helper is being asked for something whose path holds `part`, and has not answered.
    #[must_use]
    pub fn is_asking(&self, part: &str) -> bool {
        lock(&self.state.under_way).iter().any(|path| path.contains(part))
    }

    /// Exchanges whose path holds `part`, in the order in which they ended.
    #[must_use]
    pub fn seen(&self, part: &str) -> Vec<Exchange> {
        lock(&self.state.seen).iter().filter(|exchange| exchange.path.contains(part)).cloned().collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, Arc::clone(&state)));
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { state.exchange(request).await }
    });
    // An error of the service breaks the connection, which is what a broken network looks like.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

impl State {
    async fn exchange(&self, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let path = head.uri.path().to_owned();
        let fault = if head.method == Method::POST { self.next_fault(&path) } else { None };
        let (method, request) = (head.method.clone(), body.clone());
        let mut exchange = Exchange { method, path, request, answers: Vec::new(), fault };
        let times = match fault {
            Some(Fault::LoseRequest) => 0,
            Some(Fault::Repeat) => 2,
            _ => 1,
        };
        let mut answer = Err(io::Error::other("lost"));
        for _ in 0..times {
            lock(&self.under_way).push(exchange.path.clone());
            answer = self.forward(&head, &body).await;
            let mut under_way = lock(&self.under_way);
            under_way.iter().position(|path| *path == exchange.path).map(|at| under_way.swap_remove(at));
            drop(under_way);
            if let Ok(answer) = &answer {
                exchange.answers.push((answer.status().as_u16(), answer.body().clone()));
            }
        }
        lock(&self.seen).push(exchange);
        match fault {
            Some(Fault::LoseAnswer) => Err(io::Error::other("lost")),
            Some(Fault::HoldAnswer) => std::future::pending().await,
            _ => answer.map(|answer| answer.map(Full::new)),
        }
    }

    fn next_fault(&self, path: &str) -> Option<Fault> {
        let mut faults = lock(&self.faults);
        let at = faults.iter().position(|(part, _)| path.contains(part.as_str()))?;
        faults.remove(at).map(|(_, fault)| fault)
    }

    async fn forward(&self, head: &http::request::Parts, body: &Bytes) -> io::Result<Response<Bytes>> {
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let uri: Uri = format!("http://127.0.0.1:{}{path}", self.target).parse().map_err(io::Error::other)?;
        let mut request = Request::builder().method(&head.method).uri(uri);
        for name in [header::AUTHORIZATION, header::CONTENT_TYPE, header::ACCEPT] {
            if let Some(value) = head.headers.get(&name) {
                request = request.header(name, value);
            }
        }
        let request = request.body(body.clone()).map_err(io::Error::other)?;
        let mut answer = self.http.send(request).await.map_err(io::Error::other)?;
        for name in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION] {
            answer.headers_mut().remove(name);
        }
        *answer.version_mut() = head.version;
        Ok(answer)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it holds this lock")
}
