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
    /// The public key that the gateway signs the history of its configurations with, if it keeps one: what an audit holds
    /// the gateway to.
    pub history_key: Option<[u8; 32]>,
}

/// Why a text is not a task bundle.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("this is not a task bundle: {0}; write one with `mica task export`")]
pub struct BundleError(String);

/// The task of a bundle is bound to another release statement than was pinned.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the task is bound to {}, and {} is pinned; nothing is reported", bound_to(.found.as_ref()), hex::encode(.pinned))]
pub struct PinError {
    /// What was asked for.
    pub pinned: [u8; 32],
    /// What the task is bound to.
    pub found: Option<[u8; 32]>,
}

fn bound_to(hash: Option<&[u8; 32]>) -> String {
    hash.map_or_else(
        || "no release statement".to_owned(),
        |hash| format!("the release statement {}", hex::encode(hash)),
    )
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    version: u32,
    task_id: String,
    task_config: String,
    draft: String,
    relay: String,
    ohttp_keys: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    history_key: Option<String>,
    /// SHA-256 of the release statement, for people to compare; the configuration says the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    statement_sha256: Option<String>,
}

impl TaskBundle {
    /// SHA-256 of the release statement that every report of the task is bound to: what is promised of the noise. Nothing
    /// where the task promises none.
    #[must_use]
    pub fn statement_sha256(&self) -> Option<[u8; 32]> {
        let (rest, hash) = self.configuration.task_info().split_last_chunk::<32>()?;
        rest.ends_with(STATEMENT_MARK).then_some(*hash)
    }

    /// The bundle, if its task is bound to this release statement. An app that has reviewed a statement pins it so, and
    /// reports under no other.
    ///
    /// # Errors
    /// When the task is bound to another statement, or to none.
    pub fn pinned(self, statement_sha256: &[u8; 32]) -> Result<Self, PinError> {
        match self.statement_sha256() {
            Some(hash) if hash == *statement_sha256 => Ok(self),
            other => Err(PinError { pinned: *statement_sha256, found: other }),
        }
    }

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
        let digits = |text: String| {
            let mut key = [0; 32];
            hex::decode_to_slice(text, &mut key).map(|()| key).map_err(|_| wrong("history_key"))
        };
        let bundle = Self {
            task_id: raw.task_id.parse().map_err(|_| wrong("task_id"))?,
            draft,
            configuration,
            relay: raw.relay,
            ohttp_keys,
            history_key: raw.history_key.map(digits).transpose()?,
        };
        if raw.statement_sha256.is_some_and(|said| bundle.statement_sha256().map(hex::encode) != Some(said)) {
            return Err(BundleError("its statement_sha256 is not that of its task_config".to_owned()));
        }
        Ok(bundle)
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
            history_key: self.history_key.map(hex::encode),
            statement_sha256: self.statement_sha256().map(hex::encode),
        };
        serde_json::to_string_pretty(&text).expect("strings and numbers are always JSON")
    }
}

const VERSION: u32 = 1;

/// What stands before the hash of the statement at the end of `task_info`.
const STATEMENT_MARK: &[u8] = b"\0dp1";

#[cfg(test)]
mod tests {
    use mica_dap::task::{BatchMode, TaskParameters};
    use mica_dap::time::TimePrecision;
    use mica_dap::vdaf_config::VdafConfig;
    use mica_envelope::{GatewayKey, GatewayKeys, Kem};

    use super::*;

    fn bundle(task_info: &[u8]) -> TaskBundle {
        let parameters = TaskParameters {
            task_info: task_info.to_vec(),
            leader_url: "https://leader.example/".to_owned(),
            helper_url: "https://helper.example/".to_owned(),
            time_precision: TimePrecision::new(60).expect("not zero"),
            min_batch_size: 10,
            batch_mode: BatchMode::TimeInterval,
            vdaf: VdafConfig::Count,
            task_interval: None,
        };
        let key = GatewayKey::generate(1, Kem::X25519HkdfSha256).expect("a key");
        let keys = GatewayKeys::new(vec![key]).expect("one key");
        TaskBundle {
            task_id: TaskId::new([1; 32]),
            draft: Draft::V18,
            configuration: parameters.build(Draft::V18).expect("a configuration"),
            relay: "https://relay.example/".to_owned(),
            ohttp_keys: KeyConfigList::parse(keys.config_list().to_vec()).expect("its own list"),
            history_key: None,
        }
    }

    #[test]
    fn a_task_is_refused_that_is_bound_to_another_statement_than_is_pinned() {
        let bound = bundle(&[b"opened".as_slice(), b"\0dp1", &[7; 32]].concat());
        assert_eq!(bound.statement_sha256(), Some([7; 32]));
        assert!(bound.clone().pinned(&[7; 32]).is_ok());
        let Err(error) = bound.pinned(&[8; 32]) else { panic!("it promises something else") };
        assert!(error.to_string().contains("nothing is reported"), "{error}");
        let Err(error) = bundle(b"opened").pinned(&[7; 32]) else { panic!("it promises nothing") };
        assert_eq!(error.found, None);
        assert!(error.to_string().starts_with("the task is bound to no release statement"), "{error}");
    }

    #[test]
    fn a_bundle_says_which_statement_its_task_is_bound_to_and_cannot_say_another() {
        let text = bundle(&[b"opened".as_slice(), b"\0dp1", &[7; 32]].concat()).to_json();
        assert_eq!(TaskBundle::from_json(&text).expect("its own text").statement_sha256(), Some([7; 32]));
        let said = "07".repeat(32);
        assert!(text.contains(&said));
        let Err(error) = TaskBundle::from_json(&text.replace(&said, &"08".repeat(32))) else {
            panic!("a lie")
        };
        assert!(error.to_string().contains("statement_sha256"), "{error}");
        assert!(!bundle(b"opened").to_json().contains("statement_sha256"), "nothing is promised");
    }

    #[test]
    fn a_bundle_keeps_the_key_that_the_gateways_history_is_signed_with() {
        let signed = TaskBundle { history_key: Some([9; 32]), ..bundle(b"opened") };
        let text = signed.to_json();
        assert_eq!(TaskBundle::from_json(&text).expect("its own text").history_key, Some([9; 32]));
        let Err(error) = TaskBundle::from_json(&text.replace(&"09".repeat(32), "09")) else {
            panic!("too short")
        };
        assert!(error.to_string().contains("history_key"), "{error}");
        assert!(!bundle(b"opened").to_json().contains("history_key"), "of a gateway without one");
    }
}
