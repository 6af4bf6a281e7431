//! The task bundle: everything an app must be told to report, in one document that `mica task export` writes.
//!
//! It holds no secret. The task configuration is bound into every report byte for byte, so it travels as bytes and
//! not as parameters that somebody could type differently.

use mica_dap::Draft;
use mica_dap::id::{TaskId, from_base64url, to_base64url};
use mica_dap::task::TaskConfiguration;
use mica_envelope::KeyConfigList;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// One task as its clients are told of it.
#[derive(Clone)]
pub struct TaskBundle {
    /// The task.
    pub task_id: TaskId,
    /// The draft it speaks.
    pub draft: Draft,
    /// What all parties agreed, byte for byte.
    pub configuration: TaskConfiguration,
    /// Where sealed requests are posted to.
    pub relay: String,
    /// The gateway's key configurations.
    pub ohttp_keys: KeyConfigList,
}

/// Why a text is not a task bundle.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("this is not a task bundle: {0}; write one with `mica task export`")]
pub struct BundleError(String);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    version: u32,
    task_id: String,
    task_config: String,
    draft: String,
    relay: String,
    ohttp_keys: String,
}

impl TaskBundle {
    /// Reads a bundle.
    ///
    /// # Errors
    /// When the text is not JSON of this version, or a part of it does not decode.
    pub fn from_json(text: &str) -> Result<Self, BundleError> {
        let raw: Text = serde_json::from_str(text).map_err(|error| BundleError(error.to_string()))?;
        if raw.version != VERSION {
            return Err(BundleError(format!("it has version {}, this program reads {VERSION}", raw.version)));
        }
        let wrong = |what: &str| BundleError(format!("its {what} does not decode"));
        let draft = raw.draft.parse().map_err(|_| wrong("draft"))?;
        let configuration = from_base64url(&raw.task_config)
            .and_then(|bytes| TaskConfiguration::parse(&bytes, draft).ok())
            .ok_or_else(|| wrong("task_config"))?;
        let ohttp_keys = from_base64url(&raw.ohttp_keys)
            .and_then(|bytes| KeyConfigList::parse(bytes).ok())
            .ok_or_else(|| wrong("ohttp_keys"))?;
        Ok(Self {
            task_id: raw.task_id.parse().map_err(|_| wrong("task_id"))?,
            draft,
            configuration,
            relay: raw.relay,
            ohttp_keys,
        })
    }

    /// Writes the bundle.
    ///
    /// # Panics
    /// Never: strings and numbers are always JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let text = Text {
            version: VERSION,
            task_id: self.task_id.to_string(),
            task_config: to_base64url(self.configuration.bytes()),
            draft: self.draft.to_string(),
            relay: self.relay.clone(),
            ohttp_keys: to_base64url(self.ohttp_keys.encoded()),
        };
        serde_json::to_string_pretty(&text).expect("strings and numbers are always JSON")
    }
}

const VERSION: u32 = 1;
