//! What a deployment that is kept must remember: task, keys, tokens and ports, in one file for its owner's eyes only.
//!
//! It is written before the first server starts, in one step, so that a process that is killed at any moment finds either
//! nothing or everything.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use mica_aggregator::TaskFile;
use mica_collector::CollectorTask;
use mica_service::secret::Secret;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::options::{Only, Options};
use crate::deployment::Ports;
use crate::exit::Failure;
use crate::provision::Provisioned;

/// Everything that is kept.
pub(super) struct State {
    pub(super) options: Options,
    pub(super) ports: Ports,
    /// The text of a policy that was written for this task; nothing when the user's own file is used.
    pub(super) policy: Option<String>,
    pub(super) leader: TaskFile,
    pub(super) helper: TaskFile,
    pub(super) collector: CollectorTask,
    pub(super) leader_to_helper: Secret<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    schema: String,
    options: Options,
    ports: Ports,
    policy: Option<String>,
    leader: String,
    helper: String,
    collector: String,
    leader_to_helper: String,
}

impl State {
    /// What was just made.
    pub(super) fn new(options: Options, ports: Ports, policy: Option<String>, made: Provisioned) -> Self {
        let Provisioned { leader, helper, collector, leader_to_helper, .. } = made;
        Self { options, ports, policy, leader, helper, collector, leader_to_helper }
    }

    /// What the aggregator of this role is told, if it runs here.
    ///
    /// # Errors
    /// Never: what was written can be read.
    pub(super) fn task_file(&self, role: Only) -> Result<Option<TaskFile>, Failure> {
        if self.options.only.is_some_and(|only| only != role) {
            return Ok(None);
        }
        let file = match role {
            Only::Leader => &self.leader,
            Only::Helper => &self.helper,
        };
        Ok(Some(TaskFile::parse("the task file", &file.to_toml())?))
    }

    /// What is kept in `path`; nothing when there is no such file.
    ///
    /// # Errors
    /// When it cannot be read or is not what this program wrote.
    pub(super) fn load(path: &Path) -> Result<Option<Self>, Failure> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::invalid(format!("cannot read {}: {error}", path.display()))),
        };
        // What is wrong is not quoted: the file holds keys.
        Self::parse(&text).map(Some).ok_or_else(|| {
            Failure::invalid(format!(
                "{} is not what this version of mica dev keeps; move it and its databases away to begin anew",
                path.display()
            ))
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let raw: Text = serde_json::from_str(text).ok().filter(|raw: &Text| raw.schema == SCHEMA)?;
        Some(Self {
            options: raw.options,
            ports: raw.ports,
            policy: raw.policy,
            leader: TaskFile::parse("leader", &raw.leader).ok()?,
            helper: TaskFile::parse("helper", &raw.helper).ok()?,
            collector: CollectorTask::from_json(&raw.collector).ok()?,
            leader_to_helper: Secret::new(raw.leader_to_helper),
        })
    }

    /// Writes everything to `path`, all at once.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn save(&self, path: &Path) -> Result<(), Failure> {
        let text = Text {
            schema: SCHEMA.to_owned(),
            options: self.options.clone(),
            ports: self.ports,
            policy: self.policy.clone(),
            leader: self.leader.to_toml().to_string(),
            helper: self.helper.to_toml().to_string(),
            collector: self.collector.to_json().to_string(),
            leader_to_helper: self.leader_to_helper.expose().clone(),
        };
        let text = Zeroizing::new(serde_json::to_string_pretty(&text).map_err(Failure::unexpected)?);
        write(path, text.as_bytes())
            .map_err(|error| Failure::invalid(format!("cannot write {}: {error}", path.display())))
    }
}

/// Into a new file first, which then takes the place of the old one.
fn write(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let fresh = PathBuf::from(format!("{}.new", path.display()));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&fresh)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)
}

const SCHEMA: &str = "mica-dev/1";
