//! The task file: all that one aggregator must be told about one task, and no more than it.
//!
//! `mica task new` writes one for the leader and one for the helper. Each holds the verification key, which
//! clients must never learn, and only the tokens of its own role; the collector's private key is in neither.

use std::path::Path;

use mica_dap::Draft;
use mica_dap::codec::{Decode, Encode};
use mica_dap::hpke_config::HpkeConfig;
use mica_dap::id::{TaskId, from_base64url, to_base64url};
use mica_dap::task::{BatchMode, TaskConfiguration};
use mica_dap::vdaf::{parameter_of, prefixes_of};
use mica_diagnostic::{Diagnostic, Severity, parse_toml};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::Role;
use crate::auth::{Bearer, TokenHash};
use crate::credential::{Credential, KnownCertificate};
use crate::store::tasks::{NewTask, Origin};

/// The `schema` line every task file begins with.
pub const SCHEMA: &str = "mica-task/1";

/// One task as one aggregator is told of it.
#[derive(Clone)]
pub struct TaskFile {
    /// The side this file is for.
    pub role: Role,
    /// The task.
    pub task_id: TaskId,
    /// The draft the task speaks.
    pub draft: Draft,
    /// The configuration, byte for byte as every party binds it.
    pub configuration: TaskConfiguration,
    /// The key of the verification; secret from clients.
    pub verify_key: Zeroizing<[u8; 32]>,
    /// The name of that key on the wire.
    pub verification_key_id: u8,
    /// Where aggregate shares are sealed to.
    pub collector: HpkeConfig,
    /// What this side knows of the tokens.
    pub tokens: Tokens,
    /// Leader, where it selects the batches: how many reports it puts in one; the minimum when left out.
    pub batch_target_size: Option<u64>,
    /// Leader: the aggregation parameter of all batches, encoded; empty where the VDAF takes none.
    pub aggregation_parameter: Vec<u8>,
}

/// The tokens of a task as each side holds them: a secret to present, or only what is expected of a peer.
#[derive(Clone)]
pub enum Tokens {
    /// Leader: the token it presents to the helper, and the hash of the collector's.
    Leader {
        /// Sent to the helper; nothing where it knows the leader by a certificate alone.
        to_helper: Option<Bearer>,
        /// Expected of the collector.
        of_collector: Credential,
    },
    /// Helper: the hash of the leader's token.
    Helper {
        /// Expected of the leader.
        of_leader: Credential,
    },
}

impl Tokens {
    /// The token for the helper, what is expected of the leader, what is expected of the collector.
    fn parts(&self) -> (Option<&Bearer>, Option<&Credential>, Option<&Credential>) {
        match self {
            Self::Leader { to_helper, of_collector } => (to_helper.as_ref(), None, Some(of_collector)),
            Self::Helper { of_leader } => (None, Some(of_leader), None),
        }
    }
}

/// What a task file says, word for word. It holds secrets.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskText {
    /// `mica-task/1`.
    schema: String,
    /// `leader` or `helper`.
    role: String,
    /// The task, base64url.
    task_id: String,
    /// The task configuration, base64url.
    task_config: String,
    /// The draft of DAP that the task speaks: `18` or `19`.
    draft: String,
    /// The key of the verification, base64url. Secret.
    verify_key: String,
    /// The name of that key on the wire.
    verification_key_id: u8,
    /// The collector's HPKE configuration, base64url.
    collector_hpke_config: String,
    /// Leader: the token it shows to the helper; left out where the helper knows it by its certificate alone. Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    peer_token: Option<String>,
    /// Helper: SHA-256 of the token it expects from the leader, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    peer_token_sha256: Option<String>,
    /// Leader: SHA-256 of the token it expects from the collector, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    collector_token_sha256: Option<String>,
    /// Helper: the certificates it knows the leader by, `sha256:HEX` or `name:NAME`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    peer_certificates: Vec<String>,
    /// Leader: the certificates it knows the collector by, `sha256:HEX` or `name:NAME`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    collector_certificates: Vec<String>,
    /// Leader of a leader-selected task: how many reports it puts into a batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    batch_target_size: Option<u64>,
    /// Leader of a Poplar1 task: the prefixes that are counted, texts of zeros and ones of one length.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    prefixes: Vec<String>,
}

impl Drop for TaskText {
    fn drop(&mut self) {
        self.verify_key.zeroize();
        self.peer_token.zeroize();
    }
}

impl TaskFile {
    /// Reads a task file.
    ///
    /// # Errors
    /// A finding with file, line and column, when it cannot be read or is not a task of `mica-task/1`.
    pub fn load(path: &Path) -> Result<Self, Box<Diagnostic>> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| {
            Box::new(finding(
                &name,
                &format!("cannot read the task file: {error}"),
                "write it with `mica task new`",
            ))
        })?;
        check_readers(path, &name)?;
        Self::parse(&name, &text)
    }

    /// Reads the text of a task file called `name`.
    ///
    /// # Errors
    /// As [`TaskFile::load`].
    pub fn parse(name: &str, text: &str) -> Result<Self, Box<Diagnostic>> {
        let raw: TaskText = parse_toml(name, text, "T001")?;
        resolve(&raw).map_err(|what| {
            let at = text.lines().position(|line| line.starts_with(what.key)).unwrap_or(0);
            let mut finding = finding(name, &what.why, "write the file with `mica task new`");
            finding.line = at + 1;
            Box::new(finding)
        })
    }

    /// The task of a row of the database.
    ///
    /// # Errors
    /// Which part of the row makes no sense, in words.
    pub fn from_row(row: NewTask) -> Result<Self, String> {
        let configuration =
            TaskConfiguration::parse(&row.configuration, row.draft).map_err(|error| error.to_string())?;
        let verify_key = <[u8; 32]>::try_from(row.verify_key.as_slice())
            .map_err(|_| "its verification key is not 32 bytes long".to_owned())?;
        let verification_key_id = u8::try_from(row.verification_key_id)
            .map_err(|_| "the number of its verification key is above 255".to_owned())?;
        let collector = HpkeConfig::decoded(&row.collector_hpke_config)
            .map_err(|_| "the collector's HPKE configuration does not decode".to_owned())?;
        let tokens = match (row.role, row.peer_token) {
            (Role::Leader, token) => {
                let is_none = token.is_none();
                let to_helper = token.and_then(|token| Bearer::new(&token));
                stored(row.collector_token_hash, row.collector_certificates.as_deref())
                    .filter(|_| is_none || to_helper.is_some())
                    .map(|of_collector| Tokens::Leader { to_helper, of_collector })
            }
            (Role::Helper, _) => stored(row.peer_token_hash, row.peer_certificates.as_deref())
                .map(|of_leader| Tokens::Helper { of_leader }),
        };
        Ok(Self {
            role: row.role,
            task_id: row.task_id,
            draft: row.draft,
            configuration,
            verify_key: Zeroizing::new(verify_key),
            verification_key_id,
            collector,
            tokens: tokens.ok_or("its tokens are missing")?,
            batch_target_size: row.batch_target_size,
            aggregation_parameter: row.aggregation_parameter,
        })
    }

    /// The row of the database that holds the task.
    pub(crate) fn to_row(&self, origin: Origin, expires_at: Option<u64>, now: u64) -> NewTask {
        let (peer_token, of_leader, of_collector) = self.tokens.parts();
        let hash = |expected: Option<&Credential>| expected?.token().map(|hash| *hash.as_bytes());
        let certificates = |expected: Option<&Credential>| expected?.certificates_text();
        NewTask {
            task_id: self.task_id,
            role: self.role,
            draft: self.draft,
            configuration: self.configuration.bytes().to_vec(),
            verify_key: Zeroizing::new(self.verify_key.to_vec()),
            verification_key_id: u64::from(self.verification_key_id),
            collector_hpke_config: self.collector.encoded(),
            peer_token: peer_token.map(|token| Zeroizing::new(token.expose().to_owned())),
            peer_token_hash: hash(of_leader),
            collector_token_hash: hash(of_collector),
            peer_certificates: certificates(of_leader),
            collector_certificates: certificates(of_collector),
            batch_target_size: self.batch_target_size,
            aggregation_parameter: self.aggregation_parameter.clone(),
            origin,
            expires_at,
            created_at: now,
        }
    }

    /// The text of the file. It holds secrets: write it for its owner's eyes only.
    #[must_use]
    pub fn to_toml(&self) -> Zeroizing<String> {
        let text = toml::to_string(&self.to_text()).expect("strings and small numbers are always TOML");
        Zeroizing::new(text)
    }

    /// The task that `text` spells.
    ///
    /// # Errors
    /// Which part of it makes no sense, in words.
    pub fn from_text(text: &TaskText) -> Result<Self, String> {
        resolve(text).map_err(|wrong| wrong.why)
    }

    /// What the file says.
    #[must_use]
    pub fn to_text(&self) -> TaskText {
        let (peer_token, of_leader, of_collector) = self.tokens.parts();
        let hash = |expected: Option<&Credential>| expected?.token().map(TokenHash::to_hex);
        let certificates = |expected: Option<&Credential>| {
            expected.map_or(&[][..], Credential::certificates).iter().map(ToString::to_string).collect()
        };
        TaskText {
            schema: SCHEMA.to_owned(),
            role: self.role.to_string(),
            task_id: self.task_id.to_string(),
            task_config: to_base64url(self.configuration.bytes()),
            draft: self.draft.to_string(),
            verify_key: to_base64url(&*self.verify_key),
            verification_key_id: self.verification_key_id,
            collector_hpke_config: to_base64url(&self.collector.encoded()),
            peer_token: peer_token.map(|token| token.expose().to_owned()),
            peer_token_sha256: hash(of_leader),
            collector_token_sha256: hash(of_collector),
            peer_certificates: certificates(of_leader),
            collector_certificates: certificates(of_collector),
            batch_target_size: self.batch_target_size,
            prefixes: self.prefixes(),
        }
    }

    /// The prefixes that are counted, in the order of the results; none where the VDAF counts none, and at the helper.
    #[must_use]
    pub fn prefixes(&self) -> Vec<String> {
        prefixes_of(self.configuration.vdaf(), &self.aggregation_parameter)
    }

    /// The same task as the other aggregator is told of it; only the leader knows enough to tell, and only where it has a
    /// token: the helper must be told by which certificate it knows the leader.
    #[must_use]
    pub fn for_helper(&self) -> Option<Self> {
        let Tokens::Leader { to_helper: Some(to_helper), .. } = &self.tokens else { return None };
        let of_leader = TokenHash::of(to_helper.expose()).into();
        let tokens = Tokens::Helper { of_leader };
        let told = Self { batch_target_size: None, aggregation_parameter: Vec::new(), ..self.clone() };
        Some(Self { role: Role::Helper, tokens, ..told })
    }
}

struct Wrong {
    key: &'static str,
    why: String,
}

fn wrong(key: &'static str, why: &str) -> Wrong {
    Wrong { key, why: format!("{key} {why}") }
}

fn resolve(raw: &TaskText) -> Result<TaskFile, Wrong> {
    if raw.schema != SCHEMA {
        return Err(wrong("schema", &format!("is \"{}\", this version reads \"{SCHEMA}\"", raw.schema)));
    }
    let role: Role = raw.role.parse().map_err(|_| wrong("role", "is neither leader nor helper"))?;
    let draft: Draft = raw.draft.parse().map_err(|_| wrong("draft", "is neither \"18\" nor \"19\""))?;
    let task_id =
        raw.task_id.parse().map_err(|_| wrong("task_id", "is not a task identifier in base64url"))?;
    let configuration = from_base64url(&raw.task_config)
        .and_then(|bytes| TaskConfiguration::parse(&bytes, draft).ok())
        .ok_or_else(|| wrong("task_config", "is not a task configuration in base64url"))?;
    let verify_key = from_base64url(&raw.verify_key)
        .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
        .ok_or_else(|| wrong("verify_key", "is not 32 bytes in base64url"))?;
    let collector = from_base64url(&raw.collector_hpke_config)
        .and_then(|bytes| HpkeConfig::decoded(&bytes).ok())
        .ok_or_else(|| wrong("collector_hpke_config", "is not an HPKE configuration in base64url"))?;
    Ok(TaskFile {
        role,
        task_id,
        draft,
        verify_key: Zeroizing::new(verify_key),
        verification_key_id: raw.verification_key_id,
        collector,
        tokens: tokens(raw, role)?,
        batch_target_size: batch_target_size(raw, role, &configuration)?,
        aggregation_parameter: aggregation_parameter(raw, role, &configuration)?,
        configuration,
    })
}

fn batch_target_size(
    raw: &TaskText,
    role: Role,
    configuration: &TaskConfiguration,
) -> Result<Option<u64>, Wrong> {
    let key = "batch_target_size";
    match raw.batch_target_size {
        None => Ok(None),
        Some(_) if (role, configuration.batch_mode()) != (Role::Leader, BatchMode::LeaderSelected) => {
            Err(wrong(key, "is for the leader of a task whose batches it selects; remove it"))
        }
        Some(target) if target < configuration.min_batch_size() => {
            Err(wrong(key, "is below the task's minimum batch size, so that no batch could be collected"))
        }
        Some(target) => Ok(Some(target)),
    }
}

fn aggregation_parameter(
    raw: &TaskText,
    role: Role,
    configuration: &TaskConfiguration,
) -> Result<Vec<u8>, Wrong> {
    let key = "prefixes";
    match role {
        Role::Leader => parameter_of(configuration.vdaf(), &raw.prefixes)
            .map_err(|error| Wrong { key, why: error.to_string() }),
        Role::Helper if raw.prefixes.is_empty() => Ok(Vec::new()),
        Role::Helper => Err(wrong(key, "are for the leader, who names them with every job; remove them")),
    }
}

fn tokens(raw: &TaskText, role: Role) -> Result<Tokens, Wrong> {
    match role {
        Role::Leader => Ok(Tokens::Leader {
            to_helper: raw
                .peer_token
                .as_deref()
                .map(|token| {
                    Bearer::new(token).ok_or_else(|| wrong("peer_token", "cannot be a bearer token"))
                })
                .transpose()?,
            of_collector: credential(
                ("collector_token_sha256", raw.collector_token_sha256.as_deref()),
                ("collector_certificates", &raw.collector_certificates),
            )?,
        }),
        Role::Helper => Ok(Tokens::Helper {
            of_leader: credential(
                ("peer_token_sha256", raw.peer_token_sha256.as_deref()),
                ("peer_certificates", &raw.peer_certificates),
            )?,
        }),
    }
}

fn credential(
    (token_key, token): (&'static str, Option<&str>),
    (certificates_key, certificates): (&'static str, &[String]),
) -> Result<Credential, Wrong> {
    let must = || wrong(token_key, "must be 64 hexadecimal digits");
    let token = token.map(|text| TokenHash::from_hex(text).ok_or_else(must)).transpose()?;
    let certificates: Option<_> = certificates.iter().map(|text| text.parse().ok()).collect();
    let certificates = certificates
        .ok_or_else(|| wrong(certificates_key, "has an entry that is neither sha256:HEX nor name:NAME"))?;
    Credential::new(token, certificates).ok_or_else(must)
}

/// What a row says of a peer.
fn stored(token: Option<[u8; 32]>, certificates: Option<&str>) -> Option<Credential> {
    Credential::new(token.map(TokenHash::new), KnownCertificate::list(certificates.unwrap_or_default())?)
}

fn finding(name: &str, what: &str, fix: &str) -> Diagnostic {
    Diagnostic {
        file: name.to_owned(),
        line: 1,
        col: 1,
        code: "T001".to_owned(),
        severity: Severity::Error,
        what: what.to_owned(),
        fix: fix.to_owned(),
    }
}

/// The file holds secrets: it is refused when others than its owner may read it.
fn check_readers(path: &Path, name: &str) -> Result<(), Box<Diagnostic>> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;

        if path.metadata().is_ok_and(|file| file.permissions().mode() & 0o077 != 0) {
            let what = "others than its owner may read this file, which holds secrets";
            let fix = format!("chmod 600 {name}; make a new task if others had access to it");
            return Err(Box::new(finding(name, what, &fix)));
        }
    }
    Ok(())
}
