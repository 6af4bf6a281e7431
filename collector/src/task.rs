//! What the collector is told of a task, and the key that only it has.

use mica_dap::Draft;
use mica_dap::codec::{Decode as _, Encode as _};
use mica_dap::hpke::{HpkeKeypair, HpkePrivateKey};
use mica_dap::hpke_config::HpkeConfig;
use mica_dap::id::{TaskId, from_base64url, to_base64url};
use mica_dap::task::TaskConfiguration;
use mica_dap::vdaf::{parameter_of, prefixes_of};
use mica_dp::Mechanism;
use mica_service::secret::Secret;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::Guarantee;

/// One task as its collector is told of it, `collector.task.json`.
pub struct CollectorTask {
    /// The task.
    pub task_id: TaskId,
    /// The draft it speaks.
    pub draft: Draft,
    /// What all parties agreed, byte for byte.
    pub configuration: TaskConfiguration,
    /// Shown to the leader.
    pub token: Secret<String>,
    /// What both aggregate shares are sealed to.
    pub keypair: HpkeKeypair,
    /// The noise that each aggregator adds by the release statement; none for a task that is released as it is.
    pub mechanism: Option<Mechanism>,
    /// What is promised of every result; none for a task that is released as it is, or whose file does not say.
    pub guarantee: Option<Guarantee>,
    /// The aggregation parameter of all batches, the same as the leader's, encoded; empty where the VDAF takes none.
    pub aggregation_parameter: Vec<u8>,
}

/// Why a text is not the collector's file of a task.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("this is not a collector's task file: {0}; write one with `mica task new`")]
pub struct CollectorTaskError(String);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    version: u32,
    task_id: String,
    task_config: String,
    draft: String,
    token: String,
    hpke_config: String,
    private_key: String,
    mechanism: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    guarantee: Option<Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    prefixes: Vec<String>,
}

impl CollectorTask {
    /// Reads the file's text.
    ///
    /// # Errors
    /// When it is not JSON of this version, or a part of it does not decode. Secrets are never quoted.
    pub fn from_json(text: &str) -> Result<Self, CollectorTaskError> {
        // The message of the JSON reader could quote the text around a secret; the position is enough.
        let raw: Text = serde_json::from_str(text).map_err(|error| {
            CollectorTaskError(format!("it does not read at line {} column {}", error.line(), error.column()))
        })?;
        if raw.version != VERSION {
            return Err(CollectorTaskError(format!(
                "it has version {}, this program reads {VERSION}",
                raw.version
            )));
        }
        let wrong = |what: &str| CollectorTaskError(format!("its {what} does not decode"));
        let draft = raw.draft.parse().map_err(|_| wrong("draft"))?;
        let configuration = from_base64url(&raw.task_config)
            .and_then(|bytes| TaskConfiguration::parse(&bytes, draft).ok())
            .ok_or_else(|| wrong("task_config"))?;
        let config = from_base64url(&raw.hpke_config)
            .and_then(|bytes| HpkeConfig::decoded(&bytes).ok())
            .ok_or_else(|| wrong("hpke_config"))?;
        let private_key = from_base64url(&raw.private_key)
            .map(Zeroizing::new)
            .and_then(|bytes| HpkePrivateKey::from_bytes(&bytes).ok())
            .ok_or_else(|| wrong("private_key"))?;
        let aggregation_parameter = parameter_of(configuration.vdaf(), &raw.prefixes)
            .map_err(|error| CollectorTaskError(error.to_string()))?;
        let guarantee = match raw.guarantee {
            Some(value) => Some(Guarantee::of(value, &configuration).ok_or_else(other_guarantee)?),
            None => None,
        };
        Ok(Self {
            task_id: raw.task_id.parse().map_err(|_| wrong("task_id"))?,
            draft,
            configuration,
            token: Secret::new(raw.token),
            keypair: HpkeKeypair::from_parts(config, private_key).map_err(|_| wrong("private_key"))?,
            mechanism: raw.mechanism.map(|text| text.parse().map_err(|_| wrong("mechanism"))).transpose()?,
            guarantee,
            aggregation_parameter,
        })
    }

    /// The prefixes that are counted, in the order of the results; none where the VDAF counts none.
    #[must_use]
    pub fn prefixes(&self) -> Vec<String> {
        prefixes_of(self.configuration.vdaf(), &self.aggregation_parameter)
    }

    /// The text of the file. It holds secrets: write it for its owner's eyes only.
    ///
    /// # Panics
    /// Never: strings and numbers are always JSON.
    #[must_use]
    pub fn to_json(&self) -> Zeroizing<String> {
        let text = Text {
            version: VERSION,
            task_id: self.task_id.to_string(),
            task_config: to_base64url(self.configuration.bytes()),
            draft: self.draft.to_string(),
            token: self.token.expose().clone(),
            hpke_config: to_base64url(&self.keypair.config.encoded()),
            private_key: to_base64url(&*self.keypair.private_key.to_bytes()),
            mechanism: self.mechanism.as_ref().map(ToString::to_string),
            guarantee: self.guarantee.as_ref().map(|guarantee| guarantee.json().clone()),
            prefixes: self.prefixes(),
        };
        Zeroizing::new(serde_json::to_string_pretty(&text).expect("strings and numbers are always JSON"))
    }
}

fn other_guarantee() -> CollectorTaskError {
    CollectorTaskError(
        "its guarantee is about another release statement than the task is bound to".to_owned(),
    )
}

const VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use super::CollectorTask;

    #[test]
    fn a_broken_file_is_refused_without_being_quoted() {
        let text = "{\"version\":1,\"private_key\":\"c2VjcmV0\", oops}";
        let Err(error) = CollectorTask::from_json(text) else { panic!("it is broken") };
        assert!(!error.to_string().contains("c2VjcmV0"), "{error}");
    }
}
