//! A process that serves until it is dropped: one of ours, or a peer.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process;

/// A running server.
pub(super) struct Server {
    pub(super) port: u16,
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts `command`, which is to listen on `port`, and waits until it does.
    pub(super) fn start(command: &mut Command, name: &str, port: u16, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let same = file.try_clone().context("cannot write a log")?;
        let child = clean(command)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(same)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let mut server = Self { port, child, log };
        server.wait(name)?;
        Ok(server)
    }

    fn wait(&mut self, name: &str) -> Result<()> {
        let since = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            process::check_interrupted()?;
            if let Some(status) = self.child.try_wait().context("cannot look after a process")? {
                bail!("{name} ended with {status}: {}", self.last_words());
            }
            if since.elapsed() > PATIENCE {
                bail!("{name} does not listen after {} s: {}", PATIENCE.as_secs(), self.last_words());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// All that it has said.
    pub(super) fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn last_words(&self) -> String {
        self.log().lines().last().unwrap_or("it said nothing").to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody used a moment ago.
pub(super) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr().context("cannot tell the port")?.port())
}

/// Runs a program to its end and gives what it said.
pub(super) fn output(command: &mut Command) -> Result<Output> {
    process::check_interrupted()?;
    let name = command.get_program().to_string_lossy().into_owned();
    clean(command).stdin(Stdio::null()).output().with_context(|| format!("cannot run {name}"))
}

/// Keeps what the environment says to mica, or about logs and proxies, from the process.
fn clean(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        let shown = name.to_string_lossy().to_ascii_lowercase();
        if shown.starts_with("mica_") || shown.ends_with("_proxy") || shown == "rust_log" {
            command.env_remove(name);
        }
    }
    command
}

/// Far longer than it takes.
const PATIENCE: Duration = Duration::from_mins(1);
