//! `mica dev`: the whole path in one process, with the task it tells of.

use std::path::Path;
use std::time::Duration;

use mica_client::Client;
use mica_collector::Outcome;
use mica_dap::report::Report;
use mica_dap::time::Interval;
use mica_dap::vdaf::Measurement;
use mica_envelope::KeyConfigList;
use mica_service::testing::{self, TestDatabase};
use serde_json::Value;
use tempfile::TempDir;

use crate::{Courier, Database, Process, Task, now};

/// A running `mica dev`. Ended when dropped.
pub struct Dev {
    process: Option<Process>,
    /// The task.
    pub task: Task,
    /// What it printed when it was ready.
    pub told: Value,
    arguments: Vec<String>,
    folder: TempDir,
    database: Option<TestDatabase>,
}

impl Dev {
    /// Starts it with these flags, on SQLite files that are kept for as long as this is.
    pub fn start<'f>(flags: impl IntoIterator<Item = &'f str>) -> Self {
        let folder = tempfile::tempdir().expect("tests need a place for temporary files");
        let database = format!("sqlite:{}", folder.path().join("state").join("mica.db").display());
        std::fs::create_dir(folder.path().join("state")).expect("a fresh folder");
        Self::with(folder, None, &database, flags)
    }

    /// The same on a PostgreSQL server, if the run has one.
    pub async fn start_on_postgres<'f>(flags: impl IntoIterator<Item = &'f str>) -> Option<Self> {
        let database = testing::postgres().await?;
        let folder = tempfile::tempdir().expect("tests need a place for temporary files");
        let url = database.url.clone();
        Some(Self::with(folder, Some(database), &url, flags))
    }

    /// Ends it as a power cut would, and starts the same command again.
    #[must_use]
    pub fn kill_and_restart(self) -> Self {
        let Self { process, folder, arguments, database, .. } = self;
        process.expect("it runs").kill();
        Self::run(folder, database, arguments)
    }

    fn with<'f>(
        folder: TempDir,
        database: Option<TestDatabase>,
        url: &str,
        flags: impl IntoIterator<Item = &'f str>,
    ) -> Self {
        let given = flags.into_iter().map(ToOwned::to_owned);
        let arguments = ["dev", "--json", "--database", url].map(ToOwned::to_owned);
        Self::run(folder, database, arguments.into_iter().chain(given).collect())
    }

    fn run(folder: TempDir, database: Option<TestDatabase>, arguments: Vec<String>) -> Self {
        let mut process = Process::start("dev", folder.path(), &arguments);
        let told = process.first_json(PATIENCE);
        Self { task: Task::of_dev(&told), process: Some(process), told, arguments, folder, database }
    }

    /// Asks it to end, and waits until it has.
    pub fn terminate(&mut self) {
        let status = self.process.take().expect("it runs").terminate(PATIENCE);
        assert!(status.success(), "{status}");
    }

    /// Where everything that this run writes is, databases on a server apart.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The database of a role.
    pub async fn database(&self, role: &str) -> Database {
        let url = self.told["databases"][role].as_str();
        Database::open(url.unwrap_or_else(|| panic!("no database of {role}: {}", self.told))).await
    }

    /// Where sealed requests go.
    #[must_use]
    pub fn relay(&self) -> &str {
        self.told["relay"].as_str().expect("the URL of the relay")
    }

    /// What clients seal to.
    #[must_use]
    pub fn ohttp_keys(&self) -> KeyConfigList {
        let keys = self.told["gateway"]["key_config"].as_str().and_then(|keys| hex::decode(keys).ok());
        KeyConfigList::parse(keys.expect("hexadecimal digits")).expect("the keys of the gateway")
    }

    /// A client of the task.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.task.bundle(self.relay(), self.ohttp_keys()))
    }

    /// A client at an address of its own.
    #[must_use]
    pub fn courier(&self, source: std::net::Ipv4Addr) -> Courier {
        Courier::new(self.relay(), &self.ohttp_keys(), source)
    }

    /// Makes a report of each measurement and uploads them through the relay, each in a request of its own.
    pub async fn report_all(&self, measurements: &[Measurement]) -> Vec<Report> {
        let client = self.client();
        let builder = client.builder().await.expect("the keys of both aggregators");
        let make = |measurement| builder.report(measurement, now()).expect("a report");
        let reports: Vec<Report> = measurements.iter().map(make).collect();
        let mut uploads = tokio::task::JoinSet::new();
        for report in reports.clone() {
            let client = client.clone();
            uploads.spawn(async move { client.upload(&[report]).await });
        }
        while let Some(outcome) = uploads.join_next().await {
            let outcome = outcome.expect("no panic").expect("the upload is answered");
            assert_eq!((outcome.accepted, outcome.rejected.len()), (1, 0), "{outcome:?}");
        }
        reports
    }

    /// Collects an interval that must be complete.
    pub async fn collect(&self, interval: Interval) -> Outcome {
        let collector = self.task.collector();
        let collection = collector.collect(interval).await.expect("the leader takes the request");
        let waiting = tokio::time::timeout(PATIENCE, collector.wait(&collection, || ()));
        waiting.await.expect("a complete batch is released soon").expect("the batch is released")
    }
}

const PATIENCE: Duration = Duration::from_secs(25);
