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
    process: Process,
}

/// A running program; dropping it kills it.
pub(crate) struct Process {
    pub(crate) pid: u32,
    name: String,
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
        let mut command = Command::new(program);
        command.arg(role.name()).arg("--config").arg(parties.config(role));
        let health = format!("{}health", parties.url(role)?);
        let process = Process::start(command, role.name(), parties.folder(), &health).await?;
        Ok(Self { role, pid: process.pid, process })
    }

    pub(crate) fn usage(&self) -> Result<Usage> {
        self.process.usage()
    }

    /// Asks the process to drain, and waits for its end.
    pub(crate) async fn stop(self) -> Result<()> {
        self.process.stop().await
    }
}

impl Process {
    /// Starts `command` in a folder, with its log there, and waits until the URL `health` is answered with a success.
    pub(crate) async fn start(mut command: Command, name: &str, folder: &Path, health: &str) -> Result<Self> {
        let log_path = folder.join(format!("{name}.log"));
        let log = File::create(&log_path).context("cannot write a log")?;
        let mut child = command
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot write a log")?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start the {name}"))?;
        let http = HttpClient::new(HttpOptions::default());
        let started = Instant::now();
        loop {
            if let Some(status) = child.try_wait().context("cannot wait for a process")? {
                let log = std::fs::read_to_string(&log_path).unwrap_or_default();
                bail!("the {name} ended with {status} while it started:\n{}", log.trim_end());
            }
            if healthy(&http, health).await {
                let pid = child.id().with_context(|| format!("the {name} has ended"))?;
                return Ok(Self { pid, name: name.to_owned(), child });
            }
            if started.elapsed() > START_PATIENCE {
                bail!("the {name} is not ready after {START_PATIENCE:?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn usage(&self) -> Result<Usage> {
        Ok(Usage { cpu: procfs::cpu_time(self.pid)?, written: procfs::written(self.pid)? })
    }

    /// Asks the process to drain, and waits for its end.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let Self { name, pid, .. } = &self;
        let pid = i32::try_from(*pid).ok().and_then(Pid::from_raw).context("a process has no number")?;
        kill_process(pid, Signal::TERM).with_context(|| format!("cannot stop the {name}"))?;
        match tokio::time::timeout(STOP_PATIENCE, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => bail!("the {} ended with {status}", self.name),
            Ok(Err(error)) => Err(error).context("cannot wait for a process"),
            Err(_) => bail!("the {} does not drain within {STOP_PATIENCE:?}", self.name),
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
