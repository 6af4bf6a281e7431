//! The four parties before they run: a folder each role reads its files from, free ports, and one task.
//!
//! The policy releases without noise, so that a total can be checked to the last digit. Noise costs microseconds per
//! release and nothing per report.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use mica_aggregator::auth::{Bearer, TokenHash};
use mica_aggregator::task_file::{TaskFile, Tokens};
use mica_collector::CollectorTask;
use mica_dap::Draft;
use mica_dap::hpke::HpkeKeypair;
use mica_dap::id::{TaskId, to_base64url};
use mica_dap::media::Media;
use mica_dap::task::{BatchMode, TaskConfiguration, TaskParameters};
use mica_dap::time::TimePrecision;
use mica_dap::vdaf::VerifyKey;
use mica_dap::vdaf_config::VdafConfig;
use mica_dp::Policy;
use mica_service::clock::Clock;
use mica_service::secret::Secret;
use serde::Serialize;
use tempfile::TempDir;
use zeroize::Zeroizing;

/// The processes that are measured, in the order in which they are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    Leader,
    Helper,
    Gateway,
    Relay,
}

/// The one task.
pub(crate) struct Task {
    pub(crate) id: TaskId,
    pub(crate) draft: Draft,
    pub(crate) configuration: TaskConfiguration,
    /// When all of its reports are made, in seconds since 1970: one bucket, as within one hour in earnest.
    pub(crate) time: u64,
}

/// Everything that is written before the first process starts; dropping it removes the files.
pub(crate) struct Parties {
    pub(crate) task: Task,
    folder: TempDir,
    ports: Vec<(Role, SocketAddr)>,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Helper => "helper",
            Self::Gateway => "gateway",
            Self::Relay => "relay",
        }
    }
}

impl Parties {
    /// Chooses ports and a folder, and the task that follows from them.
    pub(crate) fn new(roles: &[Role], vdaf: VdafConfig) -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("mica-bench-").tempdir().context("cannot make a folder")?;
        // All are held until all are known, so that no port is given out twice.
        let listeners: Vec<TcpListener> = roles
            .iter()
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on 127.0.0.1"))
            .collect::<Result<_>>()?;
        let ports = roles
            .iter()
            .zip(&listeners)
            .map(|(role, listener)| Ok((*role, listener.local_addr().context("a listener has no address")?)))
            .collect::<Result<Vec<_>>>()?;
        let url = |role| url_of(&ports, role);
        let draft = Draft::default();
        let parameters = TaskParameters {
            task_info: LABEL.as_bytes().to_vec(),
            leader_url: url(Role::Leader)?,
            helper_url: url(Role::Helper)?,
            time_precision: TimePrecision::new(PRECISION_SECONDS).context("an hour is not zero")?,
            min_batch_size: 100,
            batch_mode: BatchMode::TimeInterval,
            vdaf,
            task_interval: None,
        };
        let configuration = parameters.build(draft).context("cannot make the task")?;
        let task =
            Task { id: configuration.derived_task_id(), draft, configuration, time: Clock::system().now() };
        Ok(Self { task, folder, ports })
    }

    /// Where the files of the roles are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The address that a role listens on.
    pub(crate) fn address(&self, role: Role) -> Result<SocketAddr> {
        address_of(&self.ports, role)
    }

    /// The URL that a role is reached at.
    pub(crate) fn url(&self, role: Role) -> Result<String> {
        url_of(&self.ports, role)
    }

    /// The configuration file of a role.
    pub(crate) fn config(&self, role: Role) -> PathBuf {
        self.folder.path().join(format!("{}.toml", role.name()))
    }

    /// Writes what each role reads; gives back what the collector is told.
    pub(crate) fn write(&self, database: impl Fn(Role) -> String) -> Result<CollectorTask> {
        let mut rng = rand::rng();
        let verify_key = VerifyKey::random(&mut rng);
        let collector = HpkeKeypair::generate(1, &mut rng);
        let (to_helper, to_leader) = (token(), token());
        let file = |role, tokens| TaskFile {
            role,
            task_id: self.task.id,
            draft: self.task.draft,
            configuration: self.task.configuration.clone(),
            verify_key: Zeroizing::new(*verify_key.as_bytes()),
            verification_key_id: 0,
            collector: collector.config.clone(),
            tokens,
            batch_target_size: None,
            aggregation_parameter: Vec::new(),
        };
        let bearer = Bearer::new(&to_helper).context("a token is not a token")?;
        let of_leader =
            Tokens::Leader { to_helper: Some(bearer), of_collector: TokenHash::of(&to_leader).into() };
        let of_helper = Tokens::Helper { of_leader: TokenHash::of(&to_helper).into() };
        self.put("leader.task.toml", &file(mica_aggregator::Role::Leader, of_leader).to_toml())?;
        self.put("helper.task.toml", &file(mica_aggregator::Role::Helper, of_helper).to_toml())?;
        self.put(
            "policy.toml",
            &Policy::for_release_without_dp("a benchmark with invented clients", "2199-01-01"),
        )?;
        for (role, _) in &self.ports {
            self.put(&format!("{}.toml", role.name()), &self.config_text(*role, &database(*role))?)?;
        }
        Ok(CollectorTask {
            task_id: self.task.id,
            draft: self.task.draft,
            configuration: self.task.configuration.clone(),
            token: Secret::new(to_leader),
            keypair: collector,
            mechanism: None,
            guarantee: None,
            aggregation_parameter: Vec::new(),
        })
    }

    fn config_text(&self, role: Role, database: &str) -> Result<String> {
        let head = format!("role = \"{}\"\nlisten = \"{}\"\n", role.name(), self.address(role)?);
        Ok(match role {
            Role::Leader | Role::Helper => format!(
                "{head}database = \"{database}\"\npolicy = \"policy.toml\"\npolicy_allow = [\"W045\"]\ntasks = [\"{}.task.toml\"]\n",
                role.name()
            ),
            Role::Gateway => {
                let leader = self.address(Role::Leader)?;
                format!(
                    "{head}database = \"{database}\"\n\
                     replay = {{ max_requests = 1000000 }}\n\n\
                     [[routes]]\nmethod = \"POST\"\nauthority = \"{leader}\"\npath = \"/tasks/{{task}}/reports\"\n\
                     content_type = \"{}\"\ntarget = \"http://{leader}/\"\n",
                    Media::UploadReq.header()
                )
            }
            Role::Relay => format!("{head}gateway_url = \"{}\"\n", self.url(Role::Gateway)?),
        })
    }

    fn put(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.path().join(name);
        // For the eyes of its owner, or the roles would not take what is in it.
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let written = options.open(&path).and_then(|mut file| file.write_all(text.as_bytes()));
        written.with_context(|| format!("cannot write {}", path.display()))
    }
}

fn address_of(ports: &[(Role, SocketAddr)], role: Role) -> Result<SocketAddr> {
    let found = ports.iter().find(|(known, _)| *known == role);
    found.map(|(_, address)| *address).with_context(|| format!("there is no {} in this run", role.name()))
}

fn url_of(ports: &[(Role, SocketAddr)], role: Role) -> Result<String> {
    Ok(format!("http://{}/", address_of(ports, role)?))
}

fn token() -> String {
    to_base64url(&rand::random::<[u8; 32]>())
}

const LABEL: &str = "bench";
const PRECISION_SECONDS: u64 = 3_600;
