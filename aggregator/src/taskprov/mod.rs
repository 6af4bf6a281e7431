//! Tasks that come with a request (task provisioning): a configuration in the header `DAP-Taskprov`, and the opt-in that
//! decides whether this aggregator takes part.
//!
//! Off unless configured. Whoever writes such a configuration is taken for an adversary: it passes the checks of every
//! task and those of `[taskprov]`, and there are only so many a minute and in all. What was taken once stays until it is
//! over. No message repeats a key or a token.

mod config;
mod opt_in;
pub(crate) mod trial;

pub use config::{TaskprovConfig, TaskprovError};
pub(crate) use trial::vouch;

use http::HeaderMap;
use mica_dap::Draft;
use mica_dap::hpke_config::HpkeConfig;
use mica_dap::id::TaskId;
use mica_dap::task::{TaskConfiguration, TaskConfigurationError};
use mica_dap::taskprov::{HEADER, read_header};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::credential::Credential;
use crate::task::base_path;
use crate::task_file::Tokens;

use self::opt_in::Pace;

/// What an aggregator must know before it can take part in tasks that come with a request.
pub struct Taskprov {
    /// Its own endpoint, byte for byte as configurations must spell it.
    endpoint: String,
    /// The endpoints of the other aggregator that it works with.
    peers: Vec<String>,
    secret: Zeroizing<[u8; 32]>,
    tokens: Tokens,
    collector: HpkeConfig,
    draft: Draft,
    vdafs: Vec<String>,
    min_batch_size_floor: u64,
    max_lifetime_seconds: u64,
    without_noise: bool,
    max_tasks: u64,
    pace: Pace,
    max_upload_tasks: u64,
    upload_pace: Pace,
}

/// A configuration that came with a request.
pub(crate) struct Advertised {
    /// The identifier that follows from it.
    pub(crate) id: TaskId,
    /// The configuration, or why it is none that this program runs.
    configuration: Result<TaskConfiguration, TaskConfigurationError>,
}

impl Taskprov {
    /// What a request advertises; a header that holds no configuration is no advertisement.
    pub(crate) fn read(&self, headers: &HeaderMap) -> Option<Advertised> {
        let mut values = headers.get_all(HEADER).iter();
        let value = values.next().filter(|_| values.next().is_none())?;
        let bytes = read_header(value.as_bytes())?;
        let configuration = TaskConfiguration::parse(&bytes, self.draft);
        if matches!(configuration, Err(TaskConfigurationError::Malformed(_))) {
            return None;
        }
        let prefix = Sha256::digest(b"dap-taskprov task id");
        let id = Sha256::new().chain_update(prefix).chain_update(&bytes).finalize();
        Some(Advertised { id: TaskId::new(id.into()), configuration })
    }

    /// The path under which tasks that come with a request are served.
    pub(crate) fn base_path(&self) -> String {
        base_path(&self.endpoint)
    }

    /// What a caller must show before a task is made for it.
    pub(crate) fn expected(&self) -> &Credential {
        match &self.tokens {
            Tokens::Leader { of_collector, .. } => of_collector,
            Tokens::Helper { of_leader } => of_leader,
        }
    }
}

impl Advertised {
    /// Whether it is the configuration that a task was given under this identifier.
    pub(crate) fn is(&self, configuration: &TaskConfiguration) -> bool {
        self.configuration.as_ref().is_ok_and(|advertised| advertised.bytes() == configuration.bytes())
    }
}
