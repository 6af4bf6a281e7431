//! Reporting and collecting: each way to fail has its number.

use std::io::Read as _;
use std::net::TcpListener;

use mica_envelope::{GatewayKey, GatewayKeys, Kem};

use crate::world::{Folder, POLICY, Ran, free_port};

/// The published keys of some gateway, in hexadecimal digits.
pub(crate) fn gateway_keys() -> String {
    let key = GatewayKey::generate(1, Kem::X25519HkdfSha256).expect("a key");
    hex::encode(GatewayKeys::new(vec![key]).expect("one key").config_list())
}

/// A folder with a bundle whose relay does not exist.
fn with_bundle() -> Folder {
    bundle_to(free_port())
}

/// A folder with a bundle whose relay is at this port.
fn bundle_to(relay: u16) -> Folder {
    let folder = Folder::with_task(1, 2);
    let relay = format!("http://127.0.0.1:{relay}/");
    let ran = folder.mica(&["task", "export", "task", "--relay", &relay, "--ohttp-keys", &gateway_keys()]);
    folder.write("app.mica", &ran.out);
    folder
}

#[test]
fn a_measurement_that_is_none_of_the_tasks_is_a_usage_error() {
    let ran = with_bundle().mica(&["report", "app.mica", "7"]);
    assert!(ran.one_line(2).contains("a count takes true, false, 1 or 0"), "{}", ran.err);
}

#[test]
fn a_relay_that_does_not_answer_is_unreachable() {
    let ran = with_bundle().mica(&["report", "app.mica", "true"]);
    assert!(ran.one_line(6).starts_with("cannot reach http://127.0.0.1:"), "{}", ran.err);
}

/// A place for a relay that answers nobody, and whether anybody came.
fn silent_relay() -> (u16, impl Fn() -> bool) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    listener.set_nonblocking(true).expect("it can be asked without waiting");
    let port = listener.local_addr().expect("it is bound").port();
    // What is accepted is closed at once.
    (port, move || listener.accept().is_ok())
}

#[test]
fn under_another_statement_than_the_pinned_one_nothing_is_sent() {
    let (relay, somebody_came) = silent_relay();
    let folder = bundle_to(relay);
    let other = "ab".repeat(32);
    let ran = folder.mica(&["report", "app.mica", "true", "--pin", &other]);
    let line = ran.one_line(4);
    assert!(line.contains(&format!("{other} is pinned; nothing is reported; read what the task promises at http://127.0.0.1:1/dp/statement/")), "{line}");
    assert!(ran.out.is_empty() && !somebody_came(), "{}", ran.out);
    let ran = folder.mica(&["report", "app.mica", "true", "--pin", "abc"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("64 hexadecimal digits") && !somebody_came(), "{}", ran.err);
}

#[test]
fn a_task_without_noise_meets_no_pin() {
    let (relay, somebody_came) = silent_relay();
    let folder = bundle_to(relay);
    let open = "action = \"release_without_dp\"\njustification = \"open data\"\nexpires = 2199-12-31";
    let policy =
        POLICY.replace("label = \"counter\"", "label = \"none\"").replace("action = \"refuse\"", open);
    folder.write("policy.toml", &policy);
    let made =
        folder.new_task("plain", &["--leader", "http://127.0.0.1:1/", "--helper", "http://127.0.0.1:2/"]);
    assert_eq!(made.code, 0, "{}", made.err);
    let relay = format!("http://127.0.0.1:{relay}/");
    let ran = folder.mica(&["task", "export", "plain", "--relay", &relay, "--ohttp-keys", &gateway_keys()]);
    folder.write("plain.mica", &ran.out);
    let ran = folder.mica(&["report", "plain.mica", "true", "--pin", &"ab".repeat(32)]);
    let line = ran.one_line(4);
    assert!(line.contains("bound to no release statement") && line.contains("leave without noise"), "{line}");
    assert!(!somebody_came());
}

#[test]
fn under_the_pinned_statement_the_report_goes_to_the_relay() {
    let relay = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let folder = bundle_to(relay.local_addr().expect("it is bound").port());
    let shown = folder.mica(&["task", "show", "task", "-o", "json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown.out).expect("it is JSON");
    let hash = shown["statement_sha256"].as_str().expect("the task has noise").to_owned();
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = relay.accept().expect("somebody comes");
        let mut first = [0; 64];
        let read = stream.read(&mut first).expect("something was sent");
        String::from_utf8_lossy(&first[..read]).into_owned()
    });
    let ran = folder.mica(&["report", "app.mica", "true", "--pin", &hash]);
    // This relay hangs up, which is what the command has to say of it; it was asked, and that is the point.
    assert_eq!(ran.code, 6, "{}", ran.err);
    assert!(asked.join().expect("the relay").starts_with("POST / HTTP/1.1"));
}

#[test]
fn a_gateway_that_does_not_answer_is_unreachable() {
    let url = format!("http://127.0.0.1:{}/ohttp-keys", free_port());
    let folder = Folder::with_task(1, 2);
    let ran =
        folder.mica(&["task", "export", "task", "--relay", "http://127.0.0.1:3/", "--ohttp-keys", &url]);
    assert!(ran.one_line(6).starts_with("cannot reach"), "{}", ran.err);
    assert!(ran.out.is_empty());
}

#[test]
fn a_file_that_is_no_bundle_says_how_to_make_one() {
    let folder = Folder::new();
    folder.write("app.mica", "{}");
    let ran = folder.mica(&["report", "app.mica", "1"]);
    assert!(ran.one_line(3).contains("mica task export"), "{}", ran.err);
}

fn collect(folder: &Folder, file: &str) -> Ran {
    folder.mica(&["collect", file, "--last", "1h"])
}

#[test]
fn a_batch_of_time_must_be_named_and_there_is_no_next_one() {
    let folder = Folder::with_task(free_port(), 2);
    let file = "task/collector.task.json";
    let ran = folder.mica(&["collect", file]);
    assert!(ran.one_line(2).contains("add --last 24h"), "{}", ran.err);
    for next in [&["collect", file, "--next"][..], &["collect", file, "--keep", "--last", "1h"]] {
        assert!(folder.mica(next).one_line(2).contains("are intervals of time"));
    }
}

#[test]
fn a_leader_that_does_not_answer_is_unreachable() {
    let folder = Folder::with_task(free_port(), 2);
    let ran = collect(&folder, "task/collector.task.json");
    assert!(ran.one_line(6).starts_with("cannot reach http://127.0.0.1:"), "{}", ran.err);
}

#[test]
fn too_few_reports_are_not_ready_and_a_wrong_token_is_not_authorised() {
    let folder = Folder::with_task(free_port(), free_port());
    let _helper = folder.serve("helper");
    let _leader = folder.serve("leader");
    for how in [&["--no-wait"][..], &["--timeout", "100ms"]] {
        let ran = folder.mica(&[&["collect", "task/collector.task.json", "--last", "1h"], how].concat());
        assert!(ran.one_line(5).contains("not ready yet"), "{}", ran.err);
    }
    let text = folder.read("task/collector.task.json");
    let mut task: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    task["token"] = "another-token".into();
    folder.write("other.json", &task.to_string());
    let ran = collect(&folder, "other.json");
    assert!(ran.one_line(7).contains("does not accept this collector's token"), "{}", ran.err);
}
