//! One role as a process of its own: started, watched, stopped.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::Request;
use mica_service::http::{HttpClient, HttpOptions};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::parties::{Parties, Role};
use crate::procfs;

/// A running role; dropping it kills the process.
pub(crate) struct Server {
    pub(crate) role: Role,
    pub(crate) pid: u32,
    child: Child,
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    pub(crate) written: u64,
}

impl Server {
    /// Starts a role and waits until it says that it is well.
    pub(crate) async fn start(program: &Path, role: Role, parties: &Parties) -> Result<Self> {
        let log_path = parties.folder().join(format!("{}.log", role.name()));
        let log = File::create(&log_path).context("cannot write a log")?;
        let mut child = Command::new(program)
            .arg(role.name())
            .arg("--config")
            .arg(parties.config(role))
            .current_dir(parties.folder())
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot write a log")?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let http = HttpClient::new(HttpOptions::default());
        let health = format!("{}health", parties.url(role)?);
        let started = Instant::now();
        loop {
            if let Some(status) = child.try_wait().context("cannot wait for a process")? {
                let log = std::fs::read_to_string(&log_path).unwrap_or_default();
                bail!("the {} ended with {status} while it started:\n{}", role.name(), log.trim_end());
            }
            if healthy(&http, &health).await {
                let pid = child.id().with_context(|| format!("the {} has ended", role.name()))?;
                return Ok(Self { role, pid, child });
            }
            if started.elapsed() > START_PATIENCE {
                bail!("the {} is not ready after {START_PATIENCE:?}", role.name());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn usage(&self) -> Result<Usage> {
        Ok(Usage { cpu: procfs::cpu_time(self.pid)?, written: procfs::written(self.pid)? })
    }

    /// Asks the process to drain, and waits for its end.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).context("a process has no number")?;
        kill_process(pid, Signal::TERM).with_context(|| format!("cannot stop the {}", self.role.name()))?;
        match tokio::time::timeout(STOP_PATIENCE, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => bail!("the {} ended with {status}", self.role.name()),
            Ok(Err(error)) => Err(error).context("cannot wait for a process"),
            Err(_) => bail!("the {} does not drain within {STOP_PATIENCE:?}", self.role.name()),
        }
    }
}

/// Not while nobody listens yet, and not while a listener has nobody behind it.
async fn healthy(http: &HttpClient, url: &str) -> bool {
    let Ok(request) = Request::get(url).body(Bytes::new()) else { return false };
    http.send(request).await.is_ok_and(|response| response.status().is_success())
}

const START_PATIENCE: Duration = Duration::from_secs(30);
const STOP_PATIENCE: Duration = Duration::from_secs(30);
