//! What an operator is shown of a task: the documents of the admin API, which the commands print too.

use std::collections::BTreeMap;

use mica_dap::codec::Encode as _;
use mica_dap::id::to_base64url;
use mica_dp::parse_task_info;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::store::tasks::Origin;
use crate::task_file::{TaskFile, TaskText, Tokens};

/// Some of the tasks of an aggregator.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct TaskList {
    /// In the order in which they came.
    pub tasks: Vec<TaskSummary>,
    /// Where to go on, as `after`; absent after the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Whether a task takes reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It does.
    Active,
    /// Its operator ended it: what was taken is still added and can be collected.
    Retired,
    /// It is in the database, and this process cannot serve it: see `unserved`.
    Unserved,
}

/// A task in one line.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct TaskSummary {
    /// The task, base64url.
    pub id: String,
    /// What people call it.
    pub label: String,
    /// Which of the two aggregators this is.
    pub role: String,
    /// The draft of DAP it speaks.
    pub draft: String,
    /// What is computed.
    pub vdaf: String,
    /// How reports are put into batches.
    pub batch_mode: String,
    /// No smaller batch is released.
    pub min_batch_size: u64,
    /// Whether it takes reports.
    pub state: State,
    /// When its operator ended it, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired_at: Option<u64>,
    /// Why it is not served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unserved: Option<String>,
    /// `operator` or `taskprov`: how it came.
    pub origin: String,
    /// When it came, in seconds since 1970.
    pub created_at: u64,
    /// How many reports met which end.
    pub reports: BTreeMap<String, u64>,
    /// What keeps its reports waiting, one line each.
    #[serde(default)]
    pub stuck: Vec<String>,
}

/// Everything about a task.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct TaskDetail {
    /// The same as in lists.
    pub summary: TaskSummary,
    /// The leader's endpoint.
    pub leader: String,
    /// The helper's endpoint.
    pub helper: String,
    /// The length of one unit of time.
    pub time_precision_seconds: u64,
    /// When reports are taken, if that is limited: the first second, and the first after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_interval: Option<[u64; 2]>,
    /// Leader of a Poplar1 task: the prefixes that are counted, in the order of the results.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<String>,
    /// The hash of the release statement that every report is bound to; absent where totals leave without noise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement_sha256: Option<String>,
    /// The configuration, byte for byte, base64url.
    pub task_config: String,
    /// The name of the verification key on the wire.
    pub verification_key_id: u8,
    /// The collector's HPKE configuration, base64url.
    pub collector_hpke_config: String,
    /// Only when they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Secrets>,
}

/// What nobody else may know.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Secrets {
    /// The key of the verification, base64url.
    pub verify_key: String,
    /// Leader: the token it shows to the helper.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_token: Option<String>,
}

/// A task to take elsewhere.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct TaskExport {
    /// The task, base64url.
    pub task_id: String,
    /// The draft of DAP it speaks.
    pub draft: String,
    /// The configuration, byte for byte, base64url: all that clients need to be told by this aggregator.
    pub task_config: String,
    /// Only when secrets were asked for: the task as it can be imported again, by role.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, TaskText>,
}

/// What the database knows besides the task itself.
pub(super) struct Circumstances {
    pub(super) origin: Origin,
    pub(super) created_at: u64,
    pub(super) retired_at: Option<u64>,
    pub(super) unserved: Option<String>,
    pub(super) reports: BTreeMap<String, u64>,
    pub(super) stuck: Vec<String>,
}

impl TaskSummary {
    pub(super) fn of(file: &TaskFile, known: Circumstances) -> Self {
        let configuration = &file.configuration;
        let info = configuration.task_info();
        let label = parse_task_info(info)
            .map_or_else(|| String::from_utf8_lossy(info).into_owned(), |(label, _)| label.to_owned());
        let state = match (&known.unserved, known.retired_at) {
            (Some(_), _) => State::Unserved,
            (None, Some(_)) => State::Retired,
            (None, None) => State::Active,
        };
        Self {
            id: file.task_id.to_string(),
            label: label.chars().filter(|letter| !letter.is_control()).collect(),
            role: file.role.to_string(),
            draft: file.draft.to_string(),
            vdaf: configuration.vdaf().name().to_owned(),
            batch_mode: configuration.batch_mode().to_string(),
            min_batch_size: configuration.min_batch_size(),
            state,
            retired_at: known.retired_at,
            unserved: known.unserved,
            origin: known.origin.as_str().to_owned(),
            created_at: known.created_at,
            reports: known.reports,
            stuck: known.stuck,
        }
    }
}

impl TaskDetail {
    pub(super) fn of(file: &TaskFile, summary: TaskSummary, with_secrets: bool) -> Self {
        let configuration = &file.configuration;
        let precision = configuration.time_precision();
        let statement = parse_task_info(configuration.task_info()).map(|(_, hash)| hex::encode(hash));
        Self {
            summary,
            leader: configuration.leader_url().to_owned(),
            helper: configuration.helper_url().to_owned(),
            time_precision_seconds: precision.seconds(),
            task_interval: configuration
                .task_interval()
                .map(|interval| [precision.start_of(interval.start()), precision.start_of(interval.end())]),
            prefixes: file.prefixes(),
            statement_sha256: statement,
            task_config: to_base64url(configuration.bytes()),
            verification_key_id: file.verification_key_id,
            collector_hpke_config: to_base64url(&file.collector.encoded()),
            secrets: with_secrets.then(|| Secrets::of(file)),
        }
    }
}

impl Secrets {
    fn of(file: &TaskFile) -> Self {
        let peer_token = match &file.tokens {
            Tokens::Leader { to_helper, .. } => to_helper.as_ref().map(|token| token.expose().to_owned()),
            Tokens::Helper { .. } => None,
        };
        Self { verify_key: to_base64url(&*file.verify_key), peer_token }
    }
}

impl TaskExport {
    pub(super) fn of(file: &TaskFile, with_secrets: bool) -> Self {
        let files = if with_secrets {
            [Some(file.clone()), file.for_helper()]
                .into_iter()
                .flatten()
                .map(|file| (file.role.to_string(), file.to_text()))
                .collect()
        } else {
            BTreeMap::new()
        };
        Self {
            task_id: file.task_id.to_string(),
            draft: file.draft.to_string(),
            task_config: to_base64url(file.configuration.bytes()),
            files,
        }
    }
}
