//! Where the tasks are that a command is about: in the database that a configuration names, or behind the admin API of a
//! running aggregator. Either way it is the same [`Desk`] that answers.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use mica_aggregator::admin::{Desk, DeskError, Page, TaskDetail, TaskExport, TaskList, TaskSummary};
use mica_aggregator::auth::Bearer;
use mica_aggregator::budget::BudgetList;
use mica_aggregator::high_water::HighWater;
use mica_aggregator::{Config, Role, TaskFile};
use mica_dap::id::TaskId;
use mica_dap::problem::ProblemDocument;
use mica_service::clock::Clock;
use mica_service::http::{HttpClient, HttpOptions};
use mica_service::store::Store;
use mica_service::tls::{PeerTls, Peers};
use serde::de::DeserializeOwned;

use crate::args::PeerArgs;
use crate::exit::{Exit, Failure};
use crate::files;
use crate::settings::{RoleName, Settings};

/// Which aggregator a command is about.
#[derive(clap::Args)]
pub(crate) struct At {
    /// The configuration file of the leader or helper: works on its database, whether it runs or not
    #[arg(long, value_name = "FILE", conflicts_with = "admin")]
    config: Option<PathBuf>,
    /// The admin listener of a running leader or helper
    #[arg(long, value_name = "URL", requires = "token_file")]
    admin: Option<String>,
    /// The file with its admin token
    #[arg(long, value_name = "FILE", requires = "admin")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) peers: PeerArgs,
}

/// An aggregator whose tasks can be asked about.
pub(crate) enum Tasks {
    Database(Box<Desk>),
    Api { origin: String, token: Bearer, http: Box<HttpClient> },
}

impl At {
    /// Whether the command line names an aggregator.
    pub(crate) fn is_given(&self) -> bool {
        self.config.is_some() || self.admin.is_some()
    }

    /// The configuration that the command line names.
    pub(crate) fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// The aggregator that the command line names.
    pub(crate) async fn open(&self) -> Result<Tasks, Failure> {
        match (&self.config, &self.admin, &self.token_file) {
            (Some(config), ..) => Ok(Tasks::Database(Box::new(desk(config).await?))),
            (None, Some(url), Some(file)) => {
                let text = files::read(file, "admin token")?;
                let token = Bearer::new(text.trim()).ok_or_else(|| {
                    Failure::invalid(format!("there is no token in {}; it is one line", file.display()))
                })?;
                let peers = self.peers.peers()?;
                let http = Box::new(HttpClient::new(HttpOptions { peers, ..HttpOptions::default() }));
                Ok(Tasks::Api { origin: url.trim_end_matches('/').to_owned(), token, http })
            }
            _ => Err(Failure::usage("whose tasks? add --config FILE, or --admin URL and --token-file FILE")),
        }
    }
}

async fn desk(config: &Path) -> Result<Desk, Failure> {
    let settings = Settings::read(config)?;
    let role = match settings.role() {
        RoleName::Leader => Role::Leader,
        RoleName::Helper => Role::Helper,
        other => {
            let what = format!("{} is the configuration of a {other}, which has no tasks", config.display());
            return Err(Failure::invalid(what));
        }
    };
    let config = settings.load::<Config>()?.config.relative_to(settings.folder());
    // Nobody is asked from here, so the files of [peer_tls] are left alone.
    let peers = Peers::load(&PeerTls::default(), config.insecure_peers).map_err(Failure::invalid)?;
    Ok(Desk {
        role,
        policy: files::policy(&config.policy)?.into(),
        min_batch_size_floor: config.limits().min_batch_size_floor,
        http: HttpClient::new(HttpOptions { peers, ..HttpOptions::default() }),
        store: Store::open(&config.database, mica_aggregator::store::migrator()).await?,
        clock: Clock::system(),
        high_water: HighWater::default(),
        paces: None,
    })
}

impl Tasks {
    /// All of them.
    pub(super) async fn list(&self) -> Result<Vec<TaskSummary>, Failure> {
        let mut all = Vec::new();
        let mut after = 0;
        loop {
            let page: TaskList = match self {
                Self::Database(desk) => desk.list(Page { after, most: PAGE }).await?,
                Self::Api { .. } => {
                    self.ask(Method::GET, &format!("tasks?after={after}&limit={PAGE}"), None).await?
                }
            };
            all.extend(page.tasks);
            match page.next.map(|next| next.parse::<i64>()) {
                Some(Ok(next)) if next > after => after = next,
                _ => return Ok(all),
            }
        }
    }

    /// The identifier of the task that somebody calls so: by its identifier, or by a label that only one has.
    pub(super) async fn named(&self, name: &str) -> Result<TaskId, Failure> {
        if let Ok(id) = name.parse() {
            return Ok(id);
        }
        let all = self.list().await?;
        let mut named = all.iter().filter(|task| task.label == name);
        match (named.next(), named.next()) {
            (Some(one), None) => {
                one.id.parse().map_err(|_| Failure::unexpected("a task has an unreadable identifier"))
            }
            (Some(_), Some(_)) => Err(Failure::invalid(format!(
                "several tasks are called \"{name}\"; use the identifier that `mica task list` shows"
            ))),
            (None, _) => Err(Failure::invalid(format!(
                "there is no task \"{name}\" here; `mica task list` shows those there are"
            ))),
        }
    }

    /// What is spent and left of its budgets.
    pub(crate) async fn budgets(&self) -> Result<BudgetList, Failure> {
        match self {
            Self::Database(desk) => Ok(desk.budgets().await?),
            Self::Api { .. } => self.ask(Method::GET, "budgets", None).await,
        }
    }

    pub(super) async fn show(&self, task: &TaskId, secrets: bool) -> Result<TaskDetail, Failure> {
        match self {
            Self::Database(desk) => Ok(desk.show(task, secrets).await?),
            Self::Api { .. } => self.ask(Method::GET, &format!("tasks/{task}?secrets={secrets}"), None).await,
        }
    }

    pub(super) async fn create(&self, file: &TaskFile) -> Result<TaskDetail, Failure> {
        match self {
            Self::Database(desk) => Ok(desk.create(file).await?.0),
            Self::Api { .. } => {
                let body = serde_json::to_vec(&file.to_text()).map_err(Failure::unexpected)?;
                self.ask(Method::POST, "tasks", Some(body)).await
            }
        }
    }

    pub(super) async fn retire(&self, task: &TaskId) -> Result<TaskDetail, Failure> {
        match self {
            Self::Database(desk) => Ok(desk.retire(task).await?),
            Self::Api { .. } => self.ask(Method::POST, &format!("tasks/{task}/retire"), None).await,
        }
    }

    pub(super) async fn export(&self, task: &TaskId, secrets: bool) -> Result<TaskExport, Failure> {
        match self {
            Self::Database(desk) => Ok(desk.export(task, secrets).await?),
            Self::Api { .. } => {
                self.ask(Method::GET, &format!("tasks/{task}/export?secrets={secrets}"), None).await
            }
        }
    }

    /// One request to the admin API; `rest` is what follows `/admin/v1/`.
    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        rest: &str,
        body: Option<Vec<u8>>,
    ) -> Result<T, Failure> {
        let Self::Api { origin, token, http } = self else {
            return Err(Failure::unexpected("a database is not asked over HTTP"));
        };
        let url = format!("{origin}/admin/v1/{rest}");
        let mut request =
            Request::builder().method(method).uri(&url).header(header::AUTHORIZATION, token.header());
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(Bytes::from(body.unwrap_or_default()))
            .map_err(|_| Failure::usage(format!("{origin} is not a URL that can be asked")))?;
        let response = http.send(request).await?;
        if !response.status().is_success() {
            return Err(refused(response.status(), response.body()));
        }
        serde_json::from_slice(response.body())
            .map_err(|_| Failure::unexpected("the admin listener gave an answer that is none of mica's"))
    }
}

fn refused(status: StatusCode, body: &[u8]) -> Failure {
    let detail = ProblemDocument::from_json(body).and_then(|problem| problem.detail);
    let detail = detail.unwrap_or_else(|| format!("the admin listener answered {status}"));
    let exit = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => {
            Exit::Unauthorized
        }
        StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY => Exit::Refused,
        status if status.is_client_error() => Exit::Invalid,
        _ => Exit::Unreachable,
    };
    Failure::new(exit, detail)
}

impl From<DeskError> for Failure {
    fn from(error: DeskError) -> Self {
        match error {
            DeskError::Store(error) => error.into(),
            DeskError::Unknown(_) | DeskError::UnknownPolicy(_) => Self::invalid(error),
            DeskError::Enrol(error) => error.into(),
        }
    }
}

const PAGE: u32 = 500;
