//! The tasks of an aggregator as its operator meets them: by commands on the database, and through the admin listener.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::tasks::value;
use crate::world::{Folder, aggregator, free_port};

/// A leader whose configuration names no task, with an admin listener, and the files of a task beside it.
fn leader_without_tasks() -> (Folder, String) {
    let [port, admin] = [free_port(), free_port()];
    let folder = Folder::with_task(port, 2);
    folder.write("admin.token", "operator-token\n");
    let further = format!("admin_listen = \"127.0.0.1:{admin}\"\nadmin_token_file = \"admin.token\"\n");
    let config = aggregator("leader", port, &further).replace("\"task/leader.task.toml\"", "");
    folder.write("leader.toml", &config);
    (folder, format!("http://127.0.0.1:{admin}/"))
}

fn json(folder: &Folder, args: &[&str]) -> Value {
    let ran = folder.mica(&[args, &["-o", "json"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    serde_json::from_str(&ran.out).expect("it is JSON")
}

#[test]
fn a_task_goes_in_is_looked_at_and_ended_by_commands_on_the_database() {
    let (folder, _) = leader_without_tasks();
    let at = ["--config", "leader.toml"];
    let run = |args: &[&str]| folder.mica(&[&["task"], args, &at].concat());
    assert_eq!(json(&folder, &["task", "list", "--config", "leader.toml"])["tasks"], serde_json::json!([]));
    assert_eq!(run(&["import", "task/leader.task.toml"]).code, 0);
    assert_eq!(run(&["import", "task/leader.task.toml"]).code, 0, "the same task is the same task");
    assert!(
        run(&["import", "task/helper.task.toml"]).one_line(4).contains("give it to the other aggregator")
    );
    let list = run(&["list"]);
    assert!(list.out.contains("counter") && list.out.contains("active"), "{}", list.out);
    let leader = folder.read("task/leader.task.toml");
    let secret = |key| value(&leader, key).expect("the file has it");
    let (id, key, token) = (secret("task_id"), secret("verify_key"), secret("peer_token"));
    for name in ["counter", id.as_str()] {
        let shown = run(&["show", name]);
        assert!(
            shown.out.contains(&id) && !shown.out.contains(&key) && !shown.out.contains(&token),
            "{}",
            shown.out
        );
        let shown = run(&["show", name, "--secrets"]);
        assert!(shown.out.contains(&key) && shown.out.contains(&token), "{}", shown.out);
    }
    for nothing in ["nothing", "-identifier-that-begins-with-a-hyphen"] {
        assert!(run(&["show", nothing]).one_line(3).contains("mica task list"));
    }
    assert_eq!(run(&["export", "counter", "--role", "helper", "--out", "again.toml"]).code, 0);
    assert_eq!(folder.read("again.toml"), folder.read("task/helper.task.toml"));
    let mode = std::fs::metadata(folder.path("again.toml")).expect("it was written").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let keys = crate::collecting::gateway_keys();
    let bundle = |args: &[&str]| {
        let ran = folder.mica(&[args, &["--relay", "http://127.0.0.1:3/", "--ohttp-keys", &keys]].concat());
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran.out
    };
    let from_database = bundle(&["task", "export", "counter", "--config", "leader.toml"]);
    assert_eq!(from_database, bundle(&["task", "export", "task"]));
    for _ in 0..2 {
        assert!(run(&["retire", "counter"]).out.contains("retired"));
    }
    assert!(run(&["list"]).out.contains("retired"));
}

#[test]
fn the_admin_listener_of_a_running_leader_does_the_same_and_no_log_holds_a_secret() {
    let (folder, url) = leader_without_tasks();
    let server = folder.serve("leader");
    let at = ["--admin", url.as_str(), "--token-file", "admin.token"];
    let run = |args: &[&str]| folder.mica(&[&["task"], args, &at, &["--log", "trace"]].concat());
    assert_eq!(run(&["import", "task/leader.task.toml"]).code, 0);
    let shown = run(&["show", "counter", "--secrets"]);
    let leader = folder.read("task/leader.task.toml");
    let secrets = ["verify_key", "peer_token"].map(|key| value(&leader, key).expect("the file has it"));
    assert!(secrets.iter().all(|secret| shown.out.contains(secret)), "{}", shown.out);
    let listed = json(&folder, &[&["task", "list"][..], &at].concat());
    assert_eq!(listed["tasks"][0]["state"], "active");
    // The database says the same, beside the running server.
    let beside = json(&folder, &["task", "list", "--config", "leader.toml"]);
    assert_eq!(listed, beside);
    assert!(run(&["retire", "counter"]).out.contains("retired"));
    assert!(
        run(&["import", "task/helper.task.toml"]).one_line(4).contains("give it to the other aggregator")
    );
    folder.write("wrong.token", "another-token");
    let wrong = folder.mica(&["task", "list", "--admin", &url, "--token-file", "wrong.token"]);
    assert_eq!(wrong.code, 7, "{}", wrong.err);
    assert_eq!(server.terminate(), Some(0));
    let log = folder.read("leader.log") + &shown.err;
    for secret in secrets.iter().map(String::as_str).chain(["operator-token", "another-token"]) {
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn a_leader_that_runs_serves_a_task_soon_after_it_is_imported() {
    let (folder, _) = leader_without_tasks();
    let _server = folder.serve("leader");
    assert_eq!(folder.mica(&["task", "import", "task/leader.task.toml", "--config", "leader.toml"]).code, 0);
    let collect = ["collect", "task/collector.task.json", "--last", "1h", "--include-running", "--no-wait"];
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        let ran = folder.mica(&collect);
        // 5: the task is known and has no report yet.
        if ran.code == 5 {
            break;
        }
        assert!(ran.err.contains("unrecognizedTask") || ran.code == 4, "{}", ran.err);
        assert!(Instant::now() < deadline, "{}", ran.err);
    }
}

#[test]
fn a_task_file_that_others_may_read_is_refused() {
    let folder = Folder::with_task(1, 2);
    let path = folder.path("task/leader.task.toml");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("it is ours");
    for args in [
        &["task", "import", "task/leader.task.toml", "--config", "leader.toml"][..],
        &["config", "check", "leader.toml"],
    ] {
        assert!(folder.mica(args).one_line(3).contains("chmod 600"));
    }
}

#[test]
fn an_admin_listener_without_a_token_or_without_tls_in_the_open_is_refused() {
    let folder = Folder::with_task(1, 2);
    for (further, says) in [
        ("admin_listen = \"127.0.0.1:9\"\n", "needs a token"),
        ("admin_listen = \"0.0.0.0:9\"\nadmin_token_sha256 = \"00\"\n", "no TLS"),
        ("admin_listen = \"127.0.0.1:9\"\nadmin_token_sha256 = \"00\"\n", "not the hash of a token"),
    ] {
        folder.write("leader.toml", &aggregator("leader", 1, further));
        let line = folder.mica(&["config", "check", "leader.toml"]);
        assert!(line.one_line(3).contains(says), "{}", line.err);
    }
}

#[test]
fn a_task_command_wants_to_know_whose_tasks() {
    let folder = Folder::with_task(1, 2);
    assert!(folder.mica(&["task", "list"]).one_line(2).contains("--config"));
    assert_eq!(folder.mica(&["task", "show", "task", "--secrets"]).code, 2);
    folder.write(
        "relay.toml",
        "role = \"relay\"\nlisten = \"127.0.0.1:1\"\ngateway_url = \"http://127.0.0.1:2/\"\n",
    );
    assert!(folder.mica(&["task", "list", "--config", "relay.toml"]).one_line(3).contains("has no tasks"));
}

#[test]
fn the_budgets_behind_the_admin_listener_are_those_in_the_database() {
    let (folder, admin) = leader_without_tasks();
    let _leader = folder.serve("leader");
    let show = |at: &[&str], format: &str| {
        let ran = folder.mica(&[&["budget", "show"][..], at, &["-o", format]].concat());
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran.out
    };
    let (here, there) =
        (["--config", "leader.toml"], ["--admin", admin.as_str(), "--token-file", "admin.token"]);
    for format in ["json", "csv", "table"] {
        assert_eq!(show(&here, format), show(&there, format));
    }
    let shown: Value = serde_json::from_str(&show(&there, "json")).expect("it is JSON");
    assert_eq!(
        (&shown["budgets"][0]["budget"], &shown["budgets"][0]["remaining"]),
        (&"lifetime".into(), &"10".into())
    );
    let nobody = folder.mica(&["budget", "show"]);
    assert!(nobody.one_line(2).contains("whose budgets? add --config FILE"), "{}", nobody.err);
    folder.write("wrong.token", "another\n");
    let wrong = folder.mica(&["budget", "show", "--admin", &admin, "--token-file", "wrong.token"]);
    assert_eq!(wrong.code, 7, "{}", wrong.err);
}
