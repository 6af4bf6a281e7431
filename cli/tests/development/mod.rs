//! Starts `mica dev`, reads what it prints, and plays client and collector with that and nothing else.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mica_client::{Client, ReportBuilder, TaskBundle};
use mica_collector::{Collector, CollectorTask, Outcome};
use mica_dap::Draft;
use mica_dap::codec::{Decode as _, Encode as _};
use mica_dap::hpke::{HpkeKeypair, HpkePrivateKey};
use mica_dap::hpke_config::{HpkeConfig, HpkeConfigList};
use mica_dap::id::to_base64url;
use mica_dap::media::Media;
use mica_dap::report::UploadRequest;
use mica_dap::resource::Resource;
use mica_dap::task::TaskConfiguration;
use mica_dap::time::{Interval, Time};
use mica_dap::vdaf::Measurement;
use mica_envelope::KeyConfigList;
use mica_service::clock::Clock;
use mica_service::http::{HttpClient, HttpOptions};
use mica_service::secret::Secret;
use serde_json::Value;

/// A running `mica dev`.
pub(crate) struct Dev {
    child: Child,
    /// What it printed.
    pub(crate) sheet: Value,
}

impl Dev {
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::spawn(command(flags), flags)
    }

    /// The same with another place for the state of the user.
    pub(crate) fn start_at_home(home: &Path, flags: &[&str]) -> Self {
        let mut command = command(flags);
        command.env("XDG_STATE_HOME", home);
        Self::spawn(command, flags)
    }

    fn spawn(mut command: Command, flags: &[&str]) -> Self {
        let mut child = command.arg("--json").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let sheet =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{flags:?}: {error}: `{line}`"));
        Self { child, sheet }
    }

    /// The exit code and the words of a command line that is refused.
    pub(crate) fn refused(flags: &[&str]) -> (i32, String) {
        let output = command(flags).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    /// What is on the screen without `--json`.
    pub(crate) fn screen(patience: Duration) -> String {
        let mut child = command(&[]).stdout(Stdio::piped()).spawn().unwrap();
        let started = Instant::now();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        while !text.contains("Ctrl-C") && started.elapsed() < patience {
            assert!(lines.read_line(&mut text).unwrap() > 0, "{text}");
        }
        signal(&child, "-INT");
        assert!(child.wait().unwrap().success());
        text
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM: it drains and ends well.
    pub(crate) fn stop(&mut self) {
        signal(&self.child, "-TERM");
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn bundle_configuration(&self) -> TaskConfiguration {
        TaskConfiguration::parse(&self.hex(&["task", "config"]), self.draft()).unwrap()
    }

    /// Reports these measurements through the relay, now. Returns the batch they are in.
    pub(crate) async fn report(&self, measurements: &[&str]) -> Interval {
        let time = self.bundle_configuration().time_precision().time_of(Clock::system().now());
        self.report_at(time, measurements).await;
        Interval::unit(time).unwrap()
    }

    /// The same at another time.
    pub(crate) async fn report_at(&self, time: Time, measurements: &[&str]) {
        let bundle = self.bundle();
        let seconds = bundle.configuration.time_precision().start_of(time);
        let vdaf = bundle.configuration.vdaf().clone();
        let client = Client::new(bundle);
        for measurement in measurements {
            let measurement = Measurement::parse(&vdaf, measurement).unwrap();
            let outcome = client.report(&measurement, seconds).await.unwrap();
            assert_eq!((outcome.accepted, outcome.rejected.len()), (1, 0));
        }
    }

    pub(crate) async fn collect(&self, batch: Interval) -> Outcome {
        let collector = Collector::new(self.collector(), HttpClient::new(HttpOptions::default())).hurried();
        let collection = collector.collect(batch).await.unwrap();
        let waiting = collector.wait(&collection, || {});
        // On a database server, the lease of a process that was killed must run out first.
        tokio::time::timeout(Duration::from_mins(3), waiting).await.expect("ready in time").unwrap()
    }

    fn bundle(&self) -> TaskBundle {
        TaskBundle {
            task_id: self.text(&["task", "id"]).parse().unwrap(),
            draft: self.draft(),
            configuration: self.bundle_configuration(),
            relay: self.text(&["relay"]).to_owned(),
            ohttp_keys: KeyConfigList::parse(self.hex(&["gateway", "key_config"])).unwrap(),
            history_key: None,
        }
    }

    fn collector(&self) -> CollectorTask {
        let private_key = HpkePrivateKey::from_bytes(&self.hex(&["collector", "private_key"])).unwrap();
        CollectorTask {
            task_id: self.text(&["task", "id"]).parse().unwrap(),
            draft: self.draft(),
            configuration: self.bundle_configuration(),
            token: Secret::new(self.text(&["auth", "collector_to_leader"]).to_owned()),
            keypair: HpkeKeypair::from_parts(self.collector_config(), private_key).unwrap(),
            mechanism: None,
            guarantee: None,
            aggregation_parameter: Vec::new(),
        }
    }

    fn collector_config(&self) -> HpkeConfig {
        HpkeConfig::decoded(&self.hex(&["collector", "hpke_config"])).unwrap()
    }

    fn draft(&self) -> Draft {
        self.sheet["task"]["draft"].to_string().parse().unwrap()
    }

    fn text(&self, path: &[&str]) -> &str {
        text(&self.sheet, path)
    }

    fn hex(&self, path: &[&str]) -> Vec<u8> {
        hex::decode(self.text(path)).unwrap()
    }
}

impl Drop for Dev {
    /// After a failed test.
    fn drop(&mut self) {
        drop(self.child.kill());
    }
}

/// A leader of its own, as `mica leader --config` runs it, for the task of a helper that somebody else runs.
pub(crate) struct Leader {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Leader {
    pub(crate) fn start(sheet: &Value, port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let base64url = |path: &[&str]| to_base64url(&hex::decode(text(sheet, path)).unwrap());
        let token_hash = mica_aggregator::auth::TokenHash::of(text(sheet, &["auth", "collector_to_leader"]));
        let task = format!(
            "schema = \"mica-task/1\"\nrole = \"leader\"\ntask_id = \"{}\"\ntask_config = \"{}\"\ndraft = \"{}\"\n\
             verify_key = \"{}\"\nverification_key_id = {}\ncollector_hpke_config = \"{}\"\npeer_token = \"{}\"\n\
             collector_token_sha256 = \"{}\"\n",
            text(sheet, &["task", "id"]),
            base64url(&["task", "config"]),
            sheet["task"]["draft"],
            base64url(&["task", "verify_key"]),
            sheet["task"]["verification_key_id"],
            base64url(&["collector", "hpke_config"]),
            text(sheet, &["auth", "leader_to_helper"]),
            token_hash.to_hex(),
        );
        let policy = mica_dp::Policy::for_release_without_dp("a test", "2099-12-31");
        let config = format!(
            "role = \"leader\"\nlisten = \"127.0.0.1:{port}\"\ndatabase = \"sqlite:leader.db\"\n\
             policy = \"policy.toml\"\npolicy_allow = [\"W045\"]\ntasks = [\"leader.task.toml\"]\n"
        );
        for (name, content) in [("leader.task.toml", task), ("policy.toml", policy), ("leader.toml", config)]
        {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(&path, private).unwrap();
        }
        let child = Command::new(env!("CARGO_BIN_EXE_mica"))
            .args(["leader", "--config"])
            .arg(folder.path().join("leader.toml"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, _folder: folder }
    }

    /// Uploads numbers straight to this leader, for there is no relay here.
    pub(crate) async fn upload(&self, helper: &Dev, numbers: &[u64]) -> Interval {
        let http = HttpClient::new(HttpOptions::default());
        let configuration = helper.bundle_configuration();
        let keys = async |endpoint: &str| {
            let url = Resource::HpkeConfig.url(endpoint);
            let started = Instant::now();
            loop {
                let request = http::Request::get(&url).body(Bytes::new()).unwrap();
                match http.send(request).await {
                    Ok(answer) => {
                        return HpkeConfigList::decoded(answer.body()).unwrap().configs()[0].clone();
                    }
                    Err(error) => assert!(started.elapsed() < Duration::from_secs(20), "{error}"),
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let bundle = TaskBundle {
            task_id: helper.text(&["task", "id"]).parse().unwrap(),
            draft: helper.draft(),
            configuration: configuration.clone(),
            relay: String::new(),
            ohttp_keys: KeyConfigList::parse(hex::decode(KEY_CONFIG).unwrap()).unwrap(),
            history_key: None,
        };
        let leader_key = keys(configuration.leader_url()).await;
        let helper_key = keys(configuration.helper_url()).await;
        let builder = ReportBuilder::new(&bundle, leader_key, helper_key).unwrap();
        let now = Clock::system().now();
        let reports = numbers
            .iter()
            .map(|number| builder.report(&Measurement::Integer(*number), now).unwrap())
            .collect();
        let url = Resource::Reports(bundle.task_id).url(configuration.leader_url());
        let request = http::Request::post(url)
            .header("content-type", Media::UploadReq.header())
            .body(Bytes::from(UploadRequest { reports }.encoded()))
            .unwrap();
        let answer = http.send(request).await.unwrap();
        assert!(answer.status().is_success() && answer.body().is_empty(), "{}", answer.status());
        Interval::unit(configuration.time_precision().time_of(now)).unwrap()
    }

    pub(crate) fn stop(&mut self) {
        signal(&self.child, "-TERM");
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        drop(self.child.kill());
    }
}

/// A port that nobody listens on right now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn text<'a>(sheet: &'a Value, path: &[&str]) -> &'a str {
    let found = path.iter().fold(sheet, |value, key| &value[key]);
    found.as_str().unwrap_or_else(|| panic!("{path:?} is not in {sheet}"))
}

fn command(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mica"));
    command.arg("dev").args(flags).args(["--log", "warn"]);
    command
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// Some gateway's key: a bundle must have one, also when no relay is used.
const KEY_CONFIG: &str =
    "002df7002019956b5874d309d1e2d2bb6d0afc941ffc78ce179ce7c3fdd1411db4b200255d00080001000100010003";
