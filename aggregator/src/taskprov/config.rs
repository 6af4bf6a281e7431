//! The table `[taskprov]` of a configuration file, and the files that it names.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mica_dap::codec::Decode as _;
use mica_dap::hpke_config::HpkeConfig;
use mica_dap::id::from_base64url;
use mica_service::config::duration;
use serde::Deserialize;
use thiserror::Error;
use zeroize::Zeroizing;

use super::Taskprov;
use super::opt_in::Pace;
use crate::auth::{Bearer, TokenHash};
use crate::credential::Credential;
use crate::task::Role;
use crate::task_file::Tokens;

/// Lets an aggregator take part in tasks that come with a request. Everything here is agreed with the other aggregator
/// and the collector beforehand, and holds for all such tasks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskprovConfig {
    /// This aggregator's endpoint, byte for byte as configurations must spell it.
    pub endpoint: String,
    /// The endpoints of the other aggregator that it works with.
    pub peers: Vec<String>,
    /// The file of the secret that both aggregators derive verification keys from: 32 bytes, or 64 hexadecimal digits.
    pub verify_key_init_file: PathBuf,
    /// Leader: the file of the token it shows to the helper.
    #[serde(default)]
    pub peer_token_file: Option<PathBuf>,
    /// Helper: SHA-256 of the token it expects from the leader, hexadecimal.
    #[serde(default)]
    pub peer_token_sha256: Option<String>,
    /// Leader: SHA-256 of the token it expects from the collector, hexadecimal.
    #[serde(default)]
    pub collector_token_sha256: Option<String>,
    /// The collector's HPKE configuration, base64url.
    pub collector_hpke_config: String,
    /// The draft of DAP that these tasks speak.
    #[serde(default = "draft")]
    pub draft: String,
    /// The VDAFs that are taken, such as `prio3-count`; all there are if none is named.
    #[serde(default)]
    pub vdafs: Vec<String>,
    /// No task with a smaller minimum batch size is taken.
    #[serde(default = "hundred")]
    pub min_batch_size_floor: u64,
    /// No task is taken that ends later than this from now, or never.
    #[serde(default = "quarter", deserialize_with = "duration")]
    pub max_lifetime: Duration,
    /// Whether tasks are taken whose totals leave without noise. The policy must allow it too.
    #[serde(default)]
    pub without_noise: bool,
    /// How many new tasks are taken in a minute.
    #[serde(default = "sixty")]
    pub max_tasks_per_minute: u64,
    /// How many tasks are taken in all; those that are over for a month do not count.
    #[serde(default = "ten_thousand")]
    pub max_tasks: u64,
    /// Leader: how many of the new tasks in a minute may come with uploads, which need no credential; a tenth of all
    /// unless it is set, none if it is 0.
    #[serde(default)]
    pub max_upload_tasks_per_minute: Option<u64>,
    /// Leader: how many of all tasks may have come with uploads; a tenth unless it is set.
    #[serde(default)]
    pub max_upload_tasks: Option<u64>,
}

/// What is wrong with the table: the key, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{key}: {what}; {fix}")]
pub struct TaskprovError {
    /// The key, with the table in front.
    pub key: &'static str,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub fix: &'static str,
}

impl TaskprovConfig {
    /// The same with relative paths taken from `folder`.
    #[must_use]
    pub fn relative_to(mut self, folder: &Path) -> Self {
        self.verify_key_init_file = folder.join(&self.verify_key_init_file);
        self.peer_token_file = self.peer_token_file.map(|file| folder.join(file));
        self
    }

    /// Reads the files and checks every value.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn load(&self, role: Role) -> Result<Taskprov, TaskprovError> {
        let wrong = |key, what: &str, fix| Err(TaskprovError { key, what: what.to_owned(), fix });
        let collector = from_base64url(&self.collector_hpke_config)
            .and_then(|bytes| HpkeConfig::decoded(&bytes).ok())
            .filter(HpkeConfig::is_supported);
        let Some(collector) = collector else {
            let what = "this is not an HPKE configuration that this version can seal to";
            return wrong("taskprov.collector_hpke_config", what, "write it in base64url");
        };
        let Ok(draft) = self.draft.parse() else {
            return wrong("taskprov.draft", "there is no such draft", "write \"18\" or \"19\"");
        };
        if self.min_batch_size_floor < 2 {
            let what = "a batch of one report is that report";
            return wrong("taskprov.min_batch_size_floor", what, "write 2 or more");
        }
        let tenth = |all: u64| (all / 10).max(1);
        let upload_pace =
            self.max_upload_tasks_per_minute.unwrap_or_else(|| tenth(self.max_tasks_per_minute));
        Ok(Taskprov {
            endpoint: self.endpoint.clone(),
            peers: self.peers.clone(),
            secret: self.secret()?,
            tokens: self.tokens(role)?,
            collector,
            draft,
            vdafs: self.vdafs.clone(),
            min_batch_size_floor: self.min_batch_size_floor,
            max_lifetime_seconds: self.max_lifetime.as_secs(),
            without_noise: self.without_noise,
            max_tasks: self.max_tasks,
            pace: Pace::new(self.max_tasks_per_minute),
            max_upload_tasks: self.max_upload_tasks.unwrap_or_else(|| tenth(self.max_tasks)),
            upload_pace: Pace::new(upload_pace),
        })
    }

    fn secret(&self) -> Result<Zeroizing<[u8; 32]>, TaskprovError> {
        let key = "taskprov.verify_key_init_file";
        let fix = "write 32 random bytes, or 64 hexadecimal digits, the same at both aggregators";
        let file = std::fs::read(&self.verify_key_init_file).map_err(|error| TaskprovError {
            key,
            what: format!("cannot read {}: {error}", self.verify_key_init_file.display()),
            fix,
        })?;
        let file = Zeroizing::new(file);
        let mut secret = Zeroizing::new([0; 32]);
        if file.len() == secret.len() {
            secret.copy_from_slice(&file);
            return Ok(secret);
        }
        hex::decode_to_slice(file.trim_ascii(), secret.as_mut_slice()).map_err(|_| TaskprovError {
            key,
            what: "the secret is not 32 bytes long".to_owned(),
            fix,
        })?;
        Ok(secret)
    }

    fn tokens(&self, role: Role) -> Result<Tokens, TaskprovError> {
        let hash = |key, text: &Option<String>| {
            text.as_deref().and_then(TokenHash::from_hex).map(Credential::from).ok_or_else(|| TaskprovError {
                key,
                what: "the hash of a token is missing, or is none".to_owned(),
                fix: "write the 64 digits of its SHA-256",
            })
        };
        if role == Role::Helper {
            let of_leader = hash("taskprov.peer_token_sha256", &self.peer_token_sha256)?;
            return Ok(Tokens::Helper { of_leader });
        }
        let token = self.peer_token_file.as_ref().and_then(|file| std::fs::read_to_string(file).ok());
        let token = token.map(Zeroizing::new);
        let to_helper =
            token.as_ref().and_then(|token| Bearer::new(token.trim())).ok_or_else(|| TaskprovError {
                key: "taskprov.peer_token_file",
                what: "the token for the helper is missing, cannot be read, or is none".to_owned(),
                fix: "write the path of a file with the token alone",
            })?;
        let of_collector = hash("taskprov.collector_token_sha256", &self.collector_token_sha256)?;
        Ok(Tokens::Leader { to_helper: Some(to_helper), of_collector })
    }
}

fn draft() -> String {
    mica_dap::Draft::default().to_string()
}

fn hundred() -> u64 {
    100
}

fn quarter() -> Duration {
    Duration::from_hours(90 * 24)
}

fn sixty() -> u64 {
    60
}

fn ten_thousand() -> u64 {
    10_000
}
