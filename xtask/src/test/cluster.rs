//! A PostgreSQL cluster of our own: made for one run of the tests, reachable over loopback only, removed after it.
//!
//! It is as durable as in production (fsync on): tests that kill processes must find what a commit promised.

use std::net::TcpListener;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::home::Home;
use crate::process;

/// The superuser of the cluster; it has a random password.
pub(super) const USER: &str = "mica";

/// Someone else may take our port between the moment we find it free and the moment the server binds it.
const ATTEMPTS: usize = 5;

const START_PATIENCE: Duration = Duration::from_mins(1);

const STOP_PATIENCE: Duration = Duration::from_secs(5);

const POLL: Duration = Duration::from_millis(20);

/// A running cluster; dropping it stops the server and removes every file.
pub(crate) struct Cluster {
    // Fields are dropped in this order: the server must be gone before its files are.
    _server: Server,
    _home: Home,
    url: String,
}

impl Cluster {
    /// Makes and starts a cluster with the programs in the folder `programs`.
    pub(crate) fn start(programs: &Path) -> Result<Self> {
        let home = Home::create()?;
        let password = random_password()?;
        home.initialise(programs, &password)?;
        for _ in 0..ATTEMPTS {
            let port = free_port()?;
            let mut server = Server(home.spawn_server(programs, port)?);
            if server.wait_until_ready(&home)? {
                eprintln!("== PostgreSQL from {} on port {port} of 127.0.0.1", programs.display());
                let url = format!("postgres://{USER}:{password}@127.0.0.1:{port}/postgres");
                return Ok(Self { _server: server, _home: home, url });
            }
        }
        bail!("PostgreSQL found each of {ATTEMPTS} free ports taken by the time it started");
    }

    /// The URL of a database in which tests may create others.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

/// The postmaster; dropping it ends it.
struct Server(Child);

impl Server {
    /// Whether the server came up; if not, its port was taken. Any other reason is an error.
    fn wait_until_ready(&mut self, home: &Home) -> Result<bool> {
        let start = Instant::now();
        while start.elapsed() < START_PATIENCE {
            process::check_interrupted()?;
            if let Some(status) = self.0.try_wait().context("cannot wait for PostgreSQL")? {
                let log = home.log();
                if log.contains("Address already in use") {
                    return Ok(false);
                }
                bail!("PostgreSQL ended with {status} while it started:\n{log}");
            }
            if home.server_is_ready() {
                return Ok(true);
            }
            std::thread::sleep(POLL);
        }
        bail!("PostgreSQL did not start within {} s:\n{}", START_PATIENCE.as_secs(), home.log());
    }

    fn ends_after(&mut self, signal: Signal) -> bool {
        // It may be gone already, and then there is no one to receive the signal.
        let _ = kill_process(Pid::from_child(&self.0), signal);
        let start = Instant::now();
        while start.elapsed() < STOP_PATIENCE {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return true;
            }
            std::thread::sleep(POLL);
        }
        false
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // PostgreSQL's "fast" and "immediate" shutdown, and then no more asking.
        let stopped =
            [Signal::INT, Signal::QUIT, Signal::KILL].into_iter().any(|signal| self.ends_after(signal));
        if !stopped {
            eprintln!("warning: PostgreSQL (process {}) does not end", self.0.id());
        }
    }
}

fn random_password() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).context("the operating system gives no random bytes")?;
    Ok(hex::encode(bytes))
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("cannot listen on 127.0.0.1")?;
    Ok(listener.local_addr().context("the listener has no address")?.port())
}
