//! Reporting and collecting: each way to fail has its number.

use mica_envelope::{GatewayKey, GatewayKeys, Kem};

use crate::world::{Folder, Ran, free_port};

/// The published keys of some gateway, in hexadecimal digits.
pub(crate) fn gateway_keys() -> String {
    let key = GatewayKey::generate(1, Kem::X25519HkdfSha256).expect("a key");
    hex::encode(GatewayKeys::new(vec![key]).expect("one key").config_list())
}

/// A folder with a bundle whose relay does not exist.
fn with_bundle() -> Folder {
    let folder = Folder::with_task(1, 2);
    let relay = format!("http://127.0.0.1:{}/", free_port());
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
