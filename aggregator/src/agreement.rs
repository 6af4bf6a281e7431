//! Whether the two aggregators promise the same: each shows its release statement, and the leader compares.
//!
//! What binds them is the hash of the statement in the task's configuration, and with it in every share: who has another
//! statement cannot open anything. This only says so early, in words, and before a batch is asked for. A helper of another
//! make has no such resource; that it adds noise at all cannot be verified of any helper. What is read of the helper is
//! shown to people, so little of it is taken, and spelt again.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{RawPathParams, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use mica_dap::id::TaskId;
use mica_dap::problem::Problem;
use mica_dp::{Decision, Statement, statement_differences};
use mica_service::http::HttpClient;
use mica_service::shutdown::Shutdown;

use crate::error::{self, Abort, ServerError};
use crate::extract::Authorized;
use crate::leader::peer;
use crate::shared::Shared;
use crate::task::Task;

/// What is known of the helper's statement of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// The task is released without noise, so that there is no statement.
    NoStatement,
    /// The same, to the letter.
    Agrees,
    /// Another one: what is different, field by field.
    Differs(Vec<String>),
    /// The helper shows none: one of another make, or one that does not serve the task.
    NotVerified,
    /// The helper could not be asked.
    Unknown(String),
}

impl Agreement {
    /// In one word, as the leader's answer says it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::NoStatement => "none",
            Self::Agrees => "agrees",
            Self::Differs(_) => "differs",
            Self::NotVerified | Self::Unknown(_) => "not-verified",
        }
    }
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoStatement => f.write_str("the task is released without noise by written exception"),
            Self::Agrees => f.write_str("both aggregators have the same release statement"),
            Self::Differs(lines) => {
                write!(f, "the helper has another release statement: {}", lines.join("; "))
            }
            Self::NotVerified => {
                f.write_str("peer noise not verified: the helper shows no release statement of this task")
            }
            Self::Unknown(why) => write!(f, "peer noise not verified: the helper could not be asked ({why})"),
        }
    }
}

/// Asks the helper for its statement of `task`, and compares.
pub async fn compare(http: &HttpClient, task: &Task) -> Agreement {
    let Some(ours) = statement(task) else { return Agreement::NoStatement };
    let endpoint = task.configuration.helper_url().trim_end_matches('/');
    let url = format!("{endpoint}/dp/statement/{}", task.id);
    let Ok(request) = peer::request(task, Method::GET, &url).body(Bytes::new()) else {
        return Agreement::Unknown("its endpoint is not a URL that can be asked".to_owned());
    };
    let answer: http::Response<Bytes> = match http.send(request).await {
        Ok(answer) => answer,
        Err(error) => return Agreement::Unknown(error.to_string()),
    };
    let status = answer.status();
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return Agreement::Unknown(format!("it answered {status}"));
    }
    let theirs = Some(answer.body()).filter(|body| status.is_success() && body.len() <= LARGEST_STATEMENT);
    let Some(theirs) = theirs else { return Agreement::NotVerified };
    if theirs[..] == *ours.canonical_json().as_bytes() {
        return Agreement::Agrees;
    }
    // Something else altogether is no statement: a page of another server, for one.
    statement_differences(ours.canonical_json(), theirs).map_or(Agreement::NotVerified, Agreement::Differs)
}

/// What was found out, and when.
#[derive(Default)]
pub(crate) struct Agreements(Mutex<HashMap<TaskId, (Agreement, Instant)>>);

impl Agreements {
    fn known(&self, task: &Task) -> Option<Agreement> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (agreement, since) = known.get(&task.id)?;
        // What agrees does so for good: the statement is in the configuration. The rest may be mended at the helper.
        (*agreement == Agreement::Agrees || since.elapsed() < ASK_AGAIN).then(|| agreement.clone())
    }

    fn keep(&self, task: &Task, agreement: &Agreement) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(task.id, (agreement.clone(), Instant::now()));
    }
}

/// The same, asked once and then remembered.
pub(crate) async fn of(shared: &Shared, task: &Task) -> Agreement {
    if let Some(known) = shared.agreements.known(task) {
        return known;
    }
    let agreement = compare(&shared.http, task).await;
    shared.agreements.keep(task, &agreement);
    match &agreement {
        Agreement::NoStatement | Agreement::Agrees => {}
        Agreement::Differs(_) => tracing::error!(task = %task.id, "{agreement}; it is not collected"),
        Agreement::NotVerified | Agreement::Unknown(_) => tracing::warn!(task = %task.id, "{agreement}"),
    }
    agreement
}

/// Why a task cannot be collected; nothing when it can.
pub(crate) async fn objection(shared: &Shared, task: &Task) -> Option<Abort> {
    let differs = of(shared, task).await;
    matches!(differs, Agreement::Differs(_)).then(|| {
        let title = "The aggregators promise different things.";
        let detail = format!("{differs}. Nothing was charged; make the task anew under one statement");
        Abort::named(error::STATEMENT_MISMATCH, title, StatusCode::FORBIDDEN, detail).in_task(&task.id)
    })
}

/// Compares all tasks once, when the leader starts.
pub(crate) async fn at_start(shared: Arc<Shared>, shutdown: Shutdown) {
    let all = async {
        for task in shared.tasks.all().iter().filter(|task| !task.is_retired()) {
            of(&shared, task).await;
        }
    };
    tokio::select! {
        () = all => {}
        () = shutdown.wait() => {}
    }
}

/// `GET /dp/statement/{task}` at the leader: to everybody who knows the task, as with reports.
pub(crate) async fn of_leader(
    State(shared): State<Arc<Shared>>,
    params: RawPathParams,
) -> Result<Response, ServerError> {
    let id = params.iter().find(|(name, _)| *name == "task").and_then(|(_, id)| id.parse::<TaskId>().ok());
    let task = match &id {
        Some(id) => shared.tasks.find(id).await?,
        None => None,
    };
    let task = task.ok_or_else(|| Abort::new(Problem::UnrecognizedTask, "there is no such task here"))?;
    let mut answer = shown(&task)?;
    let word = shared.agreements.known(&task).unwrap_or(Agreement::NotVerified).word();
    answer.headers_mut().insert(PEER_STATEMENT, HeaderValue::from_static(word));
    Ok(answer)
}

/// The same at the helper: to the leader of the task. A helper tells nobody else that a task is there.
pub(crate) async fn of_helper(Authorized(task): Authorized) -> Result<Response, ServerError> {
    shown(&task)
}

/// The bytes that are hashed.
fn shown(task: &Task) -> Result<Response, ServerError> {
    let none = || Abort::plain(StatusCode::NOT_FOUND, "the task has no release statement").in_task(&task.id);
    let statement = statement(task).ok_or_else(none)?;
    let mut response = Response::new(statement.canonical_json().to_owned().into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

fn statement(task: &Task) -> Option<&Statement> {
    match &task.decision {
        Decision::Release(plan) => Some(plan.statement()),
        Decision::WithoutDp(_) => None,
    }
}

/// Beside the leader's statement: what is known of the helper's.
pub const PEER_STATEMENT: &str = "mica-peer-statement";

/// A statement has some 600 bytes.
const LARGEST_STATEMENT: usize = 16 << 10;

/// A helper that did not agree is asked again after so long, if a batch is to be collected.
const ASK_AGAIN: Duration = Duration::from_mins(1);
