//! Five parties over TLS, each with the files its operator would write: every hop with its certificate checked, the relay
//! known to the gateway, the leader to the helper and the collector to the leader by certificate.

use std::process::{Command, Output};
use std::time::Duration;

use mica_dp::Policy;
use mica_service::testing::{Authority, Folder};
use mica_tests::{Process, eventually, free_port, mica};

struct World {
    folder: Folder,
    /// Relay, gateway, leader, helper.
    ports: [u16; 4],
}

impl World {
    /// Certificates of all parties, a task, and a configuration for each server.
    fn new() -> Self {
        let (folder, authority) = (Folder::new(), Authority::new());
        folder.write("ca.pem", &authority.pem());
        for name in ["relay", "gateway", "leader", "helper", "collector", "stranger"] {
            let host = format!("{name}.example");
            folder.identity(name, &authority.issue(&["localhost", &host]));
        }
        folder.write("policy.toml", &Policy::for_release_without_dp("a test compares sums", "2099-12-31"));
        let world = Self { folder, ports: [(); 4].map(|()| free_port()) };
        let [.., leader, helper] = world.ports.map(|port| format!("https://localhost:{port}/"));
        let made = world.mica(&[
            "task",
            "new",
            "--label",
            "t",
            "--vdaf",
            "sum",
            "--max",
            "100",
            "--policy",
            "policy.toml",
            "--min-batch-size",
            "3",
            "--time-precision",
            "1h",
            "--leader",
            &leader,
            "--helper",
            &helper,
            "--out",
            "task",
        ]);
        assert!(made.status.success(), "{}", err(&made));
        world.write_configurations();
        world
    }

    fn write_configurations(&self) {
        let [relay, gateway, leader, helper] = self.ports;
        self.expect_certificate("helper", "peer_certificates", "leader.example");
        self.expect_certificate("leader", "collector_certificates", "collector.example");
        self.configure("relay", relay, &format!("gateway_url = \"https://localhost:{gateway}/\"\n"), "");
        let database = |role| format!("database = \"sqlite:{role}.db\"\n");
        let only_the_relay = "client_roots = \"ca.pem\"\nrequire_client_certificate = true\n";
        self.configure("gateway", gateway, &database("gateway"), only_the_relay);
        let route = |method, port, path, media: &str| {
            format!(
                "[[routes]]\nmethod = \"{method}\"\nauthority = \"localhost:{port}\"\npath = \"{path}\"\n{media}\
                 target = \"https://localhost:{port}\"\n"
            )
        };
        let upload = "content_type = \"application/ppm-dap;message=upload-req\"\n";
        let routes = [
            route("POST", leader, "/tasks/{task}/reports", upload),
            route("GET", leader, "/hpke_config", ""),
            route("GET", helper, "/hpke_config", ""),
        ];
        self.append("gateway.toml", &routes.concat());
        for (role, port) in [("leader", leader), ("helper", helper)] {
            let more = format!(
                "{}policy = \"policy.toml\"\npolicy_allow = [\"W045\"]\ntasks = [\"task/{role}.task.toml\"]\n",
                database(role)
            );
            self.configure(role, port, &more, "client_roots = \"ca.pem\"\n");
        }
    }

    fn configure(&self, role: &str, port: u16, more: &str, listen: &str) {
        let text = format!(
            "role = \"{role}\"\nlisten = \"127.0.0.1:{port}\"\n{more}\
             [tls]\ncertificate = \"{role}.pem\"\nprivate_key = \"{role}.key\"\n{listen}\
             [peer_tls]\nroots = \"ca.pem\"\ncertificate = \"{role}.pem\"\nprivate_key = \"{role}.key\"\n"
        );
        self.folder.write(&format!("{role}.toml"), &text);
    }

    /// Beside the token, a peer has to show a certificate with this name.
    fn expect_certificate(&self, role: &str, key: &str, name: &str) {
        self.append(&format!("task/{role}.task.toml"), &format!("{key} = [\"name:{name}\"]\n"));
    }

    fn append(&self, file: &str, text: &str) {
        let old = std::fs::read_to_string(self.folder.path(file)).expect("it was written");
        // A new file beside it would not have the folder of a task.
        std::fs::write(self.folder.path(file), old + text).expect("a file in a folder of our own");
    }

    async fn start(&self) -> Vec<Process> {
        let mut started = Vec::new();
        for role in ["helper", "leader", "gateway", "relay"] {
            let config = format!("{role}.toml");
            let process = Process::start(role, &self.folder.path(""), [role, "--config", config.as_str()]);
            eventually("a server to listen", Duration::from_secs(20), async || {
                process.log_text().contains("listening").then_some(())
            })
            .await;
            started.push(process);
        }
        started
    }

    fn mica(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(mica());
        command.args(arguments).current_dir(self.folder.path("")).env_remove("MICA_ROOTS");
        command.output().expect("the program runs")
    }

    /// The same, and what it prints.
    fn says(&self, arguments: &[&str]) -> String {
        let output = self.mica(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", err(&output));
        String::from_utf8(output.stdout).expect("it is text")
    }

    /// The same, to fail with this exit code and these words.
    fn fails(&self, arguments: &[&str], code: i32, words: &str) {
        let output = self.mica(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", err(&output));
        assert!(err(&output).contains(words), "{arguments:?}: {}", err(&output));
    }
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const AS_COLLECTOR: [&str; 6] =
    ["--roots", "ca.pem", "--certificate", "collector.pem", "--private-key", "collector.key"];

#[tokio::test(flavor = "multi_thread")]
async fn five_parties_over_tls_collect_what_was_measured() {
    let world = World::new();
    let _servers = world.start().await;
    let [relay, gateway, ..] = world.ports;
    let (relay, keys) =
        (format!("https://localhost:{relay}/"), format!("https://localhost:{gateway}/ohttp-keys"));
    let export = ["task", "export", "task", "--relay", &relay, "--ohttp-keys", &keys];
    // The gateway speaks with nobody who has no certificate, and the client believes nobody it was not told to.
    world.fails(&[&export[..], &["--roots", "ca.pem"]].concat(), 7, "client certificate");
    world.fails(&export, 6, &format!("the certificate of localhost:{gateway} is not valid"));
    let bundle = world.says(&[&export[..], &AS_COLLECTOR].concat());
    world.folder.write("t.mica", &bundle);

    for value in ["1", "20", "100"] {
        assert_eq!(world.says(&["report", "t.mica", value, "--roots", "ca.pem"]), "accepted\n");
    }
    world.fails(&["report", "t.mica", "1"], 6, "is not valid: it is not signed by an authority");

    let collect = ["collect", "task/collector.task.json", "--last", "1h", "--include-running", "-o", "json"];
    world.fails(&[&collect[..], &["--roots", "ca.pem"]].concat(), 7, "");
    let stranger = AS_COLLECTOR.map(|word| word.replace("collector", "stranger"));
    let stranger: Vec<&str> = collect.into_iter().chain(stranger.iter().map(String::as_str)).collect();
    world.fails(&stranger, 7, "");
    let result = world.says(&[&collect[..], &AS_COLLECTOR].concat());
    let result: serde_json::Value = serde_json::from_str(&result).expect("it is JSON");
    assert_eq!((&result["report_count"], &result["values"][0]), (&3.into(), &121.into()), "{result}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_makes_a_server_read_its_certificate_again() {
    let world = World::new();
    let authority = Authority::new();
    let mut servers = world.start().await;
    let relay = servers.pop().expect("the relay was started last");
    world.folder.identity("relay", &authority.issue(&["localhost"]));
    relay.signal("HUP");
    eventually("the relay to read its files", Duration::from_secs(20), async || {
        relay.log_text().contains("certificates were read again").then_some(())
    })
    .await;
    // A broken file changes nothing and is told of.
    world.folder.write("relay.pem", "no certificate");
    relay.signal("HUP");
    eventually("the relay to complain", Duration::from_secs(20), async || {
        relay.log_text().contains("the old ones stay in use").then_some(())
    })
    .await;
    assert!(relay.terminate(Duration::from_secs(30)).success());
}
