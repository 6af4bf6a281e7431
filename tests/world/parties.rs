//! Leader and helper as two processes of their own, each with its configuration, task file, policy and database: what
//! can be killed and started again one by one.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use mica_aggregator::TaskFile;
use mica_client::ReportBuilder;
use mica_dap::Draft;
use mica_dap::codec::Encode as _;
use mica_dap::media::Media;
use mica_dap::report::{Report, UploadRequest};
use mica_dap::vdaf_config::VdafConfig;
use mica_dp::Policy;
use mica_service::testing;
use tempfile::TempDir;

use crate::task::LABEL;
use crate::{Database, Process, Proxy, Task, Wire, eventually, free_port, now};

/// What the task of two parties is to be.
#[derive(Clone)]
pub struct Plan {
    /// The draft it speaks.
    pub draft: Draft,
    /// What is computed.
    pub vdaf: VdafConfig,
    /// Seconds per unit of time.
    pub time_precision: u64,
    /// No smaller batch is released.
    pub min_batch_size: u64,
    /// The text of the policy of both.
    pub policy: String,
    /// The most reports in one aggregation job.
    pub max_job_reports: usize,
}

impl Plan {
    /// A task that is released as it is.
    #[must_use]
    pub fn without_dp(vdaf: VdafConfig) -> Self {
        let policy = Policy::for_release_without_dp("a test compares with plain sums", "2099-12-31");
        Self {
            draft: Draft::V18,
            vdaf,
            time_precision: 3600,
            min_batch_size: 1,
            policy,
            max_job_reports: 1000,
        }
    }

    /// A task with noise, of this epsilon per release.
    #[must_use]
    pub fn with_noise(vdaf: VdafConfig, epsilon: &str) -> Self {
        // One piece of time that ends in 2069: whatever the day is on which a test runs, no batch lies across two.
        let policy = Policy::for_demo_with_clients(LABEL, &vdaf, 1, epsilon).replace("\"30d\"", "\"36500d\"");
        Self { policy, ..Self::without_dp(vdaf) }
    }
}

/// Leader and helper, running or not, with a network between them that can be made to fail.
pub struct Parties {
    /// The task they share.
    pub task: Task,
    /// Between the leader and the helper.
    pub proxy: Proxy,
    leader: Option<Process>,
    helper: Option<Process>,
    leader_port: u16,
    helper_port: u16,
    /// The URLs of the databases of the leader and the helper.
    databases: [String; 2],
    folder: TempDir,
}

impl Parties {
    /// Writes what both need, and starts both.
    pub async fn start(plan: &Plan) -> Self {
        Self::start_on(plan, None).await
    }

    /// The same on databases of a server, if the run has one.
    pub async fn start_on_postgres(plan: &Plan) -> Option<Self> {
        let databases = [testing::postgres().await?.url, testing::postgres().await?.url];
        Some(Self::start_on(plan, Some(databases)).await)
    }

    /// Without databases of a server, each has a file.
    async fn start_on(plan: &Plan, on_server: Option<[String; 2]>) -> Self {
        let folder = tempfile::tempdir().expect("tests need a place for temporary files");
        let (leader_port, helper_port, proxy_port) = (free_port(), free_port(), free_port());
        let url = |port| format!("http://127.0.0.1:{port}/");
        let (task, leader, helper) = Task::make(plan, &url(leader_port), &url(proxy_port));
        let [of_leader, of_helper] = on_server.clone().map_or([None, None], |urls| urls.map(Some));
        write_party(folder.path(), plan, (leader_port, of_leader), &leader);
        write_party(folder.path(), plan, (helper_port, of_helper), &helper);
        let files =
            || ["leader", "helper"].map(|role| format!("sqlite:{}/{role}.db", folder.path().display()));
        let databases = on_server.unwrap_or_else(files);
        let proxy = Proxy::start(proxy_port, helper_port).await;
        let (leader, helper) = (None, None);
        let mut parties = Self { task, proxy, leader, helper, leader_port, helper_port, databases, folder };
        parties.start_helper().await;
        parties.start_leader().await;
        parties
    }

    /// Where both write.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the leader listens.
    #[must_use]
    pub fn leader_port(&self) -> u16 {
        self.leader_port
    }

    /// Starts the leader and waits until it answers.
    pub async fn start_leader(&mut self) {
        self.leader = Some(self.run("leader"));
        alive(self.task.configuration.leader_url()).await;
    }

    /// Starts the helper and waits until it answers.
    pub async fn start_helper(&mut self) {
        self.helper = Some(self.run("helper"));
        alive(&format!("http://127.0.0.1:{}/", self.helper_port)).await;
    }

    /// Runs another program as one of them, on the same configuration, and waits until it answers.
    pub async fn start_program(&mut self, role: &str, program: &Path, arguments: &[&str]) {
        let config = format!("{role}.toml");
        let arguments = std::iter::once(config.as_str()).chain(arguments.iter().copied());
        let process = Process::start_program(program, role, self.folder.path(), arguments);
        *self.place(role) = Some(process);
        let port = if role == "leader" { self.leader_port } else { self.helper_port };
        alive(&format!("http://127.0.0.1:{port}/")).await;
    }

    /// Whether one of them has ended.
    pub fn has_ended(&mut self, role: &str) -> bool {
        self.place(role).as_mut().expect("it was started").ended().is_some()
    }

    /// Ends one of them as a power cut would.
    pub fn kill(&mut self, role: &str) {
        self.place(role).take().expect("it was started").kill();
    }

    fn place(&mut self, role: &str) -> &mut Option<Process> {
        if role == "leader" { &mut self.leader } else { &mut self.helper }
    }

    /// Ends the leader as a power cut would.
    pub fn kill_leader(&mut self) {
        self.leader.take().expect("the leader runs").kill();
    }

    /// Ends the helper as a power cut would.
    pub fn kill_helper(&mut self) {
        self.helper.take().expect("the helper runs").kill();
    }

    /// Sends a signal, such as `HUP`, to one of them.
    pub fn signal(&self, role: &str, name: &str) {
        self.process(role).signal(name);
    }

    /// All that one of them wrote to its log.
    #[must_use]
    pub fn log_text(&self, role: &str) -> String {
        self.process(role).log_text()
    }

    fn process(&self, role: &str) -> &Process {
        let process = if role == "leader" { &self.leader } else { &self.helper };
        process.as_ref().expect("it runs")
    }

    /// The leader's database.
    pub async fn leader_database(&self) -> Database {
        Database::open(&self.databases[0]).await
    }

    /// The helper's database.
    pub async fn helper_database(&self) -> Database {
        Database::open(&self.databases[1]).await
    }

    /// Uploads to the leader, in one request that must be taken whole.
    pub async fn upload(&self, reports: &[Report]) {
        let body = UploadRequest { reports: reports.to_vec() }.encoded();
        let reply = Wire::default().post(&self.task.reports_url(), Media::UploadReq, body).await;
        assert_eq!((reply.status, reply.body.len()), (200, 0), "{reply:?}");
    }

    /// Makes one report of now for each measurement.
    #[must_use]
    pub fn reports(
        &self,
        builder: &ReportBuilder,
        measurements: &[mica_dap::vdaf::Measurement],
    ) -> Vec<Report> {
        let time = now();
        measurements.iter().map(|measurement| builder.report(measurement, time).expect("a report")).collect()
    }

    fn run(&self, role: &str) -> Process {
        let config = format!("{role}.toml");
        Process::start(role, self.folder.path(), [role, "--log", "debug", "--config", config.as_str()])
    }
}

/// One folder for both keeps a test small; neither reads what is the other's.
fn write_party(folder: &Path, plan: &Plan, (port, on_server): (u16, Option<String>), task: &TaskFile) {
    let role = task.role;
    // Beside a file there is a place for the mark; a server has none.
    let mark = on_server.as_ref().map_or("", |_| "[ledger]\nhigh_water_mark = \"ROLE.mark\"\n");
    let mark = mark.replace("ROLE", &role.to_string());
    let database = on_server.unwrap_or_else(|| format!("sqlite:{role}.db"));
    let config = format!(
        "role = \"{role}\"\nlisten = \"127.0.0.1:{port}\"\ndatabase = \"{database}\"\n\
         policy = \"policy.toml\"\npolicy_allow = [\"W015\", \"W032\", \"W045\"]\ntasks = [\"{role}.task.toml\"]\nmax_job_reports = {}\n\
         limits = {{ min_batch_size_floor = 1, for_tests = true }}\n{mark}",
        plan.max_job_reports
    );
    write(&folder.join(format!("{role}.toml")), &config);
    write(&folder.join(format!("{role}.task.toml")), &task.to_toml());
    write(&folder.join("policy.toml"), &plan.policy);
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("the folder can be written");
    // What has secrets is for the eyes of its owner, or it is not read.
    fs::set_permissions(path, Permissions::from_mode(0o600)).expect("the file is ours");
}

pub(crate) async fn alive(endpoint: &str) {
    let wire = Wire::default();
    let url = format!("{endpoint}health");
    eventually("a server to answer", Duration::from_secs(15), async || {
        let reply = wire.try_send(http::Method::GET, &url, &[], Vec::new()).await;
        reply.is_ok_and(|reply| reply.status == 200).then_some(())
    })
    .await;
}
