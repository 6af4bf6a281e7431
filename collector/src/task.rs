//! What the collector is told of a task, and the key that only it has.

use mica_dap::Draft;
use mica_dap::codec::{Decode as _, Encode as _};
use mica_dap::hpke::{HpkeKeypair, HpkePrivateKey};
use mica_dap::hpke_config::HpkeConfig;
use mica_dap::id::{TaskId, from_base64url, to_base64url};
use mica_dap::task::TaskConfiguration;
use mica_dap::vdaf::{parameter_of, prefixes_of};
use mica_dp::{Mechanism, parse_task_info};
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
    /// What is promised of every result; none for a task that is released as it is. A file with a mechanism has it.
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
            Some(value) => {
                let guarantee = Guarantee::of(value, &configuration);
                Some(guarantee.map_err(|error| CollectorTaskError(error.to_string()))?)
            }
            None => None,
        };
        let mechanism: Option<Mechanism> =
            raw.mechanism.map(|text| text.parse().map_err(|_| wrong("mechanism"))).transpose()?;
        check_mechanism(mechanism.as_ref(), guarantee.as_ref(), &configuration)?;
        Ok(Self {
            task_id: raw.task_id.parse().map_err(|_| wrong("task_id"))?,
            draft,
            configuration,
            token: Secret::new(raw.token),
            keypair: HpkeKeypair::from_parts(config, private_key).map_err(|_| wrong("private_key"))?,
            mechanism,
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
            guarantee: self.guarantee.as_ref().map(|guarantee| guarantee.written().clone()),
            prefixes: self.prefixes(),
        };
        Zeroizing::new(serde_json::to_string_pretty(&text).expect("strings and numbers are always JSON"))
    }
}

/// The noise that a file names is that of the statement, which its guarantee shows, and a task has noise if it is bound to
/// a statement, and only then: otherwise results would be printed as exact, as noised, or with another interval than they
/// have.
fn check_mechanism(
    mechanism: Option<&Mechanism>,
    guarantee: Option<&Guarantee>,
    task: &TaskConfiguration,
) -> Result<(), CollectorTaskError> {
    let wrong = |what: &str| Err(CollectorTaskError(what.to_owned()));
    let is_bound = parse_task_info(task.task_info()).is_some();
    match (mechanism, guarantee) {
        (None, None) if !is_bound => Ok(()),
        (None, _) => {
            wrong("its mechanism is null, and the task is bound to a release statement, which has one")
        }
        (Some(_), None) if is_bound => wrong(
            "it has no guarantee, which would show that its mechanism is that of the release statement which the task is \
             bound to",
        ),
        (Some(_), None) => {
            wrong("it names a mechanism, and the task is bound to no release statement: its values are exact")
        }
        (Some(named), Some(guarantee)) if named != guarantee.mechanism() => {
            wrong("its mechanism is not that of the release statement which the task is bound to")
        }
        (Some(_), Some(_)) => Ok(()),
    }
}

const VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use mica_dap::Draft;
    use mica_dap::hpke::HpkeKeypair;
    use mica_dap::id::TaskId;
    use mica_service::secret::Secret;
    use serde_json::{Value, json};

    use super::CollectorTask;
    use crate::Guarantee;
    use crate::fixtures::{plan, task};

    #[test]
    fn a_broken_file_is_refused_without_being_quoted() {
        let text = "{\"version\":1,\"private_key\":\"c2VjcmV0\", oops}";
        let Err(error) = CollectorTask::from_json(text) else { panic!("it is broken") };
        assert!(!error.to_string().contains("c2VjcmV0"), "{error}");
    }

    /// The file of a task that is bound to the statement of a policy.
    fn file() -> Value {
        file_of(true)
    }

    /// The same, or that of a task that is bound to nothing.
    fn file_of(is_bound: bool) -> Value {
        let plan = plan("1/2");
        let configuration = if is_bound {
            task(&plan.statement().task_info("t").expect("a short label"))
        } else {
            task(b"t")
        };
        let task = CollectorTask {
            task_id: TaskId::new([1; 32]),
            draft: Draft::V18,
            guarantee: is_bound
                .then(|| Guarantee::of(plan.export(), &configuration).expect("it is the task's")),
            configuration,
            token: Secret::new("a token".to_owned()),
            keypair: HpkeKeypair::generate(1, &mut rand::rng()),
            mechanism: is_bound.then(|| plan.mechanism().clone()),
            aggregation_parameter: Vec::new(),
        };
        serde_json::from_str(&task.to_json()).expect("JSON")
    }

    #[test]
    fn a_mechanism_that_is_not_that_of_the_bound_statement_is_refused() {
        assert!(CollectorTask::from_json(&file().to_string()).is_ok());
        for (mechanism, guarantee, said) in [
            (Value::Null, true, "its mechanism is null"),
            (Value::Null, false, "its mechanism is null"),
            (json!("discrete_laplace(scale=200)"), true, "not that of the release statement"),
            (json!("discrete_laplace(scale=200)"), false, "it has no guarantee"),
            // The right one too: nothing in such a file shows that it is.
            (file()["mechanism"].clone(), false, "it has no guarantee"),
        ] {
            let mut file = file();
            file["mechanism"] = mechanism;
            if !guarantee {
                file["guarantee"] = Value::Null;
            }
            let Err(error) = CollectorTask::from_json(&file.to_string()) else { panic!("{said}") };
            assert!(error.to_string().contains(said), "{error}");
        }
    }

    #[test]
    fn a_file_without_a_guarantee_is_refused_also_where_the_key_is_left_out() {
        let mut file = file();
        file.as_object_mut().expect("an object").remove("guarantee").expect("it has one");
        let Err(error) = CollectorTask::from_json(&file.to_string()) else { panic!("it has no guarantee") };
        assert!(error.to_string().contains("it has no guarantee"), "{error}");
    }

    #[test]
    fn a_task_that_is_bound_to_nothing_is_never_said_to_have_noise() {
        let exact = file_of(false);
        let task = CollectorTask::from_json(&exact.to_string());
        assert!(task.is_ok_and(|task| task.mechanism.is_none() && task.guarantee.is_none()));
        for (guarantee, said) in [
            (Value::Null, "its values are exact"),
            (file()["guarantee"].clone(), "bound to no release statement"),
        ] {
            let mut lying = exact.clone();
            lying["mechanism"] = json!("discrete_laplace(scale=2)");
            lying["guarantee"] = guarantee;
            let Err(error) = CollectorTask::from_json(&lying.to_string()) else { panic!("{said}") };
            assert!(error.to_string().contains(said), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_read_and_written_again_is_the_same() {
        for file in [file(), file_of(false)] {
            let task = CollectorTask::from_json(&file.to_string());
            let again = task.map(|task| task.to_json());
            let again: Value = serde_json::from_str(&again.expect("it reads")).expect("JSON");
            assert_eq!(again, file);
        }
    }
}
