//! Executes what docs/operating.md tells an operator to type: five processes by hand, from a policy to a noised count.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The blocks of a page that are for a shell, in order, as one script.
fn script(page: &str) -> String {
    let mut script = String::new();
    let mut inside = false;
    for line in page.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            line if inside => script.extend([line, "\n"]),
            _ => {}
        }
    }
    script
}

/// Ports that nobody used a moment ago, all different.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("loopback has free ports"));
    listeners.each_ref().map(|listener| listener.local_addr().expect("it is bound").port())
}

/// The page collects the last hour twice: it means the same hours unless one of them ends in between.
#[expect(
    clippy::disallowed_methods,
    reason = "the programs that are tested live by the clock of the machine"
)]
fn stay_clear_of_the_full_hour() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs();
    let left = 3600 - now % 3600;
    if left < 30 {
        std::thread::sleep(Duration::from_secs(left));
    }
}

#[test]
fn the_walk_with_five_processes_by_hand_does_what_the_page_says() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operating.md");
    let script = script(&fs::read_to_string(page).expect("the page is there"));
    assert!(script.contains("mica collect"), "the page has blocks for a shell");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = Path::new(env!("CARGO_BIN_EXE_mica")).parent().expect("it is in a folder");
    let path = std::env::var("PATH").expect("there is a path");
    let ports = free_ports::<4>();
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", &script]).current_dir(folder.path()).stdin(Stdio::null());
    bash.env("PATH", format!("{}:{path}", program.display())).env("LC_ALL", "C.UTF-8").env_remove("MICA_LOG");
    for (name, port) in ["LEADER_PORT", "HELPER_PORT", "GATEWAY_PORT", "RELAY_PORT"].iter().zip(ports) {
        bash.env(name, port.to_string());
    }
    stay_clear_of_the_full_hour();
    let output = bash.output().expect("there is a bash");
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{out}\n{err}\n{}", logs(folder.path()));

    assert_eq!(out.lines().filter(|line| *line == "accepted").count(), 8, "{out}");
    let value = out.lines().find(|line| line.trim_start().starts_with("value")).expect("a value was printed");
    assert!(value.contains('±') && value.contains("95 % confidence"), "{value}");
    let first = value.split_whitespace().nth(1).expect("a number");
    assert!(first.parse::<i64>().is_ok(), "{value}");
    assert!(out.contains("reports  8 "), "{out}");
    let json = &out[out.find("\n{\n").expect("the result as JSON")..];
    let mut values = serde_json::Deserializer::from_str(json).into_iter::<serde_json::Value>();
    let again = values.next().expect("a value").expect("it is JSON");
    assert_eq!(again["values"][0].to_string(), first, "the same batch again is the same answer");
    assert!(out.contains("refused with exit code 4") && err.contains("batchOverlap"), "{out}\n{err}");

    for role in ["leader", "helper"] {
        let log = fs::read_to_string(folder.path().join(role).join(format!("{role}.log"))).expect("its log");
        assert!(log.contains("the policy was read again and is in force"), "the release for one task: {log}");
    }
    for port in ports {
        let free = TcpListener::bind(("127.0.0.1", port));
        assert!(free.is_ok(), "everything is stopped: {free:?}\n{}", logs(folder.path()));
    }
}

fn logs(folder: &Path) -> String {
    let log =
        |role: &str| fs::read_to_string(folder.join(role).join(format!("{role}.log"))).unwrap_or_default();
    ["helper", "leader", "gateway", "relay"].map(log).join("\n")
}
