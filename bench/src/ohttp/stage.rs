//! Relay and gateway before the target: files, ports, processes.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{Request, Uri};
use mica_dap::media::Media;
use mica_envelope::{KeyConfigList, media};
use mica_service::http::{HttpClient, HttpOptions};
use tempfile::TempDir;
use tokio::process::Command;

use crate::database::Databases;
use crate::load::{Http, Target};
use crate::parties::Role;
use crate::procfs;
use crate::server::Process;

/// What is to be started.
pub(super) struct Plan<'p> {
    pub(super) mica: &'p Path,
    /// PostgreSQL, or nothing for an SQLite file.
    pub(super) database: Option<&'p str>,
    pub(super) target: SocketAddr,
    /// What stands between clients and the gateway.
    pub(super) relay: RelayKind<'p>,
    pub(super) gateway: GatewayKind<'p>,
    /// Further lines of the relay's configuration.
    pub(super) relay_lines: &'p str,
    /// Further lines of the gateway's only route.
    pub(super) route_lines: &'p str,
}

/// Which relay.
#[derive(Clone, Copy)]
pub(super) enum RelayKind<'p> {
    Ours,
    /// `ohttp-relay`.
    Other(&'p Path),
}

/// Which gateway.
#[derive(Clone, Copy)]
pub(super) enum GatewayKind<'p> {
    Ours,
    /// `ohttp-gateway`.
    Other(&'p Path),
}

/// All of it, running.
pub(super) struct Stage {
    pub(super) relay: Process,
    pub(super) gateway: Process,
    pub(super) keys: KeyConfigList,
    databases: Databases,
    relay_address: SocketAddr,
    gateway_address: SocketAddr,
    gateway_path: &'static str,
    _folder: TempDir,
}

/// CPU time so far.
#[derive(Clone, Copy)]
pub(super) struct Used {
    pub(super) relay: Duration,
    pub(super) gateway: Duration,
    pub(super) database: Option<Duration>,
}

impl Stage {
    pub(super) async fn start(plan: &Plan<'_>) -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("mica-bench-").tempdir().context("cannot make a folder")?;
        let (relay_address, gateway_address) = two_ports()?;
        let databases = Databases::create(plan.database, folder.path().to_path_buf()).await?;
        let gateway_path = match plan.gateway {
            GatewayKind::Ours => "",
            GatewayKind::Other(_) => "gateway",
        };
        let started = async {
            let gateway = Box::pin(start_gateway(plan, folder.path(), gateway_address, &databases)).await?;
            let before = (gateway_address, gateway_path);
            let relay = Box::pin(start_relay(plan, folder.path(), relay_address, before)).await?;
            let keys = Box::pin(keys(gateway_address, plan.gateway)).await?;
            Ok((relay, gateway, keys))
        };
        match started.await {
            Ok((relay, gateway, keys)) => Ok(Self {
                relay,
                gateway,
                keys,
                databases,
                relay_address,
                gateway_address,
                gateway_path,
                _folder: folder,
            }),
            Err(error) => {
                databases.remove().await?;
                Err(error)
            }
        }
    }

    /// What is in use, in words.
    pub(super) async fn database(&self) -> Result<String> {
        self.databases.name().await
    }

    pub(super) fn through_relay(&self, http: Http) -> Target {
        let path = Uri::from_static("/");
        Target { address: self.relay_address, path, media: media::OHTTP_REQUEST, http }
    }

    /// As a relay would.
    pub(super) fn to_gateway(&self, http: Http) -> Result<Target> {
        let path = format!("/{}", self.gateway_path).parse().context("a path is no path")?;
        Ok(Target { address: self.gateway_address, path, media: media::OHTTP_REQUEST, http })
    }

    pub(super) fn used(&self) -> Result<Used> {
        let [relay, gateway] = [&self.relay, &self.gateway].map(|process| procfs::cpu_time(process.pid));
        Ok(Used { relay: relay?, gateway: gateway?, database: self.databases.cpu_time()? })
    }

    /// Ends all of it and leaves nothing behind. What is not ours need not know how to end well.
    pub(super) async fn stop(self) -> Result<()> {
        drop(self.relay);
        drop(self.gateway);
        self.databases.remove().await
    }
}

async fn start_gateway(
    plan: &Plan<'_>,
    folder: &Path,
    address: SocketAddr,
    databases: &Databases,
) -> Result<Process> {
    let health = format!("http://{address}/health");
    let command = match plan.gateway {
        GatewayKind::Ours => {
            let config = format!(
                "role = \"gateway\"\nlisten = \"{address}\"\ndatabase = \"{}\"\n\
                 replay = {{ max_requests = 1000000, max_bytes = 1073741824 }}\n\n\
                 [[routes]]\nmethod = \"POST\"\nauthority = \"{target}\"\npath = \"/tasks/{{task}}/reports\"\n\
                 content_type = \"{}\"\ntarget = \"http://{target}/\"\n{}\n",
                databases.url(Role::Gateway),
                Media::UploadReq.header(),
                plan.route_lines,
                target = plan.target,
            );
            ours(plan.mica, Role::Gateway, folder, &config)?
        }
        GatewayKind::Other(program) => {
            let mut command = Command::new(program);
            command
                .env("PORT", address.port().to_string())
                .env("LOG_LEVEL", "error")
                .env("ALLOWED_TARGET_ORIGINS", plan.target.to_string());
            command
        }
    };
    Process::start(command, "gateway", folder, &health).await
}

async fn start_relay(
    plan: &Plan<'_>,
    folder: &Path,
    address: SocketAddr,
    (gateway, path): (SocketAddr, &str),
) -> Result<Process> {
    let health = format!("http://{address}/health");
    let command = match plan.relay {
        RelayKind::Ours => {
            let config = format!(
                "role = \"relay\"\nlisten = \"{address}\"\ngateway_url = \"http://{gateway}/{path}\"\n{}\n",
                plan.relay_lines
            );
            ours(plan.mica, Role::Relay, folder, &config)?
        }
        RelayKind::Other(program) => {
            let mut command = Command::new(program);
            command
                .env("PORT", address.port().to_string())
                .env("GATEWAY_ORIGIN", format!("http://{gateway}"))
                .env("RUST_LOG", "error");
            command
        }
    };
    Process::start(command, "relay", folder, &health).await
}

fn ours(program: &Path, role: Role, folder: &Path, config: &str) -> Result<Command> {
    let path = folder.join(format!("{}.toml", role.name()));
    std::fs::write(&path, config).with_context(|| format!("cannot write {}", path.display()))?;
    let mut command = Command::new(program);
    command.arg(role.name()).arg("--config").arg(path);
    Ok(command)
}

async fn keys(gateway: SocketAddr, kind: GatewayKind<'_>) -> Result<KeyConfigList> {
    let path = match kind {
        GatewayKind::Ours => "ohttp-keys",
        GatewayKind::Other(_) => "ohttp-configs",
    };
    let request = Request::get(format!("http://{gateway}/{path}")).body(Bytes::new());
    let answer = HttpClient::new(HttpOptions::default()).send(request.context("a URL is no URL")?).await?;
    ensure!(answer.status().is_success(), "the gateway answers {} instead of its keys", answer.status());
    KeyConfigList::parse(answer.into_body()).context("the gateway's keys are not read")
}

/// Free ones, that no neighbour is given at the same time.
fn two_ports() -> Result<(SocketAddr, SocketAddr)> {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on 127.0.0.1");
    let (one, other) = (listen()?, listen()?);
    let address = |listener: &TcpListener| listener.local_addr().context("a listener has no address");
    Ok((address(&one)?, address(&other)?))
}
