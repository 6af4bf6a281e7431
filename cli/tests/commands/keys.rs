//! `mica keys`: what it prints in each format, and never a private key; and an audit of a gateway that runs.

use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::{Connection as _, SqliteConnection};

use crate::world::{Folder, Ran, aggregator, free_port};

fn leader() -> Folder {
    let folder = Folder::with_task(8481, 8482);
    folder.write("leader.toml", &aggregator("leader", 8481, ""));
    folder
}

fn json(folder: &Folder, args: &[&str]) -> Vec<Value> {
    let ran = folder.mica(&[args, &["--config", "leader.toml", "-o", "json"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    let printed: Value = serde_json::from_str(&ran.out).expect("it is JSON");
    assert_eq!(printed.as_object().expect("an object").len(), 1, "{printed}");
    printed["keys"].as_array().expect("a list").clone()
}

/// The rows below the heading.
fn csv(folder: &Folder) -> Vec<Vec<String>> {
    let ran = folder.mica(&["keys", "list", "--config", "leader.toml", "-o", "csv"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let mut rows = ran.out.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(rows.next().expect("a heading"), ["id", "suite", "state", "made", "until"]);
    rows.collect()
}

#[test]
fn keys_are_listed_for_programs_with_the_same_facts_in_each_format() {
    let folder = leader();
    assert_eq!(json(&folder, &["keys", "list"]), [] as [Value; 0], "nobody has made one yet");
    assert_eq!(csv(&folder), [] as [Vec<String>; 0]);
    let made = json(&folder, &["keys", "rotate"]);
    assert_eq!(made.len(), 1, "what was made beside the first one");
    let listed = json(&folder, &["keys", "list"]);
    assert_eq!((listed.len(), &listed[0]), (2, &made[0]));
    assert_eq!(listed[1]["state"], "advertised");
    let mut fields: Vec<&str> =
        listed[0].as_object().expect("an object").keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["id", "made", "state", "suite", "until"], "and no private key");
    assert_eq!((&listed[0]["suite"], &listed[0]["state"]), (&"x25519-aes128gcm".into(), &"pending".into()));
    let text = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let rows: Vec<Vec<String>> = listed
        .iter()
        .map(|key| ["id", "suite", "state", "made", "until"].map(|name| text(&key[name])).to_vec())
        .collect();
    assert_eq!(csv(&folder), rows);
}

/// A gateway, and a relay that mirrors its keys.
fn gateway() -> (Folder, String, String) {
    let (folder, gateway, relay) = (Folder::with_task(8481, 8482), free_port(), free_port());
    let listen = |port: u16| format!("listen = \"127.0.0.1:{port}\"\n");
    let keys = "[keys]\nkems = [\"x25519\", \"x-wing\"]\n";
    folder.write(
        "gateway.toml",
        &format!("role = \"gateway\"\n{}database = \"sqlite:gateway.db\"\n{keys}", listen(gateway)),
    );
    let url = format!("gateway_url = \"http://127.0.0.1:{gateway}/\"\n[mirror]\n");
    folder.write("relay.toml", &format!("role = \"relay\"\n{}{url}", listen(relay)));
    (folder, format!("http://127.0.0.1:{gateway}/"), format!("http://127.0.0.1:{relay}/"))
}

fn audit(folder: &Folder, args: &[&str]) -> (Ran, Value) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let ran = folder.mica(&[&["keys", "audit", "-o", "json"], args].concat());
        // A relay that has just started has no copy yet.
        if ran.code != 6 || Instant::now() > deadline {
            let printed = serde_json::from_str(&ran.out).unwrap_or_default();
            return (ran, printed);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn the_keys_of_a_gateway_are_listed_and_rotated_by_their_kem() {
    let (folder, ..) = gateway();
    let keys = |args: &[&str]| {
        let ran = folder.mica(&[&["keys"], args, &["--config", "gateway.toml", "-o", "json"]].concat());
        assert_eq!(ran.code, 0, "{}", ran.err);
        let printed: Value = serde_json::from_str(&ran.out).expect("it is JSON");
        printed["keys"].as_array().expect("a list").clone()
    };
    assert_eq!(keys(&["list"]), [] as [Value; 0], "nobody has made one yet");
    let made = keys(&["rotate", "--kem", "x-wing"]);
    assert_eq!((made.len(), &made[0]["kem"], &made[0]["state"]), (1, &"x-wing".into(), &"pending".into()));
    assert_eq!(keys(&["rotate", "--kem", "x-wing"]), made, "it is on its way");
    let listed = keys(&["list"]);
    assert_eq!(listed.len(), 3);
    let mut fields: Vec<&str> =
        listed[0].as_object().expect("an object").keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["id", "kem", "made", "state", "until"], "and no secret");
    let table = folder.mica(&["keys", "list", "--config", "gateway.toml"]);
    assert!(table.out.starts_with("id"), "{}", table.out);
    for (args, says) in [
        (["rotate", "--suite", "x25519-aes128gcm", "--config", "gateway.toml"], "use --kem"),
        (["rotate", "--kem", "x25519", "--config", "leader.toml"], "use --suite"),
        (["rotate", "--kem", "p-256", "--config", "gateway.toml"], "does not name p-256"),
        (["list", "--config", "relay.toml", "--log", "info"], "a relay, which has no keys"),
    ] {
        let ran = folder.mica(&[&["keys"], &args[..]].concat());
        assert!(ran.code == 2 && ran.err.contains(says), "{} {}", ran.code, ran.err);
    }
    folder.write(
        "gateway.toml",
        &folder.read("gateway.toml").replace("[keys]", "[keys]\nrotate_every = \"2d\""),
    );
    let ran = folder.mica(&["config", "check", "gateway.toml"]);
    assert!(
        ran.code == 3 && ran.err.contains("gateway.toml:5:16:") && ran.err.contains("three times"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn an_audit_agrees_with_an_honest_gateway_and_finds_a_history_that_was_changed() {
    let (folder, gateway, relay) = gateway();
    let server = folder.serve("gateway");
    let mirror = folder.serve("relay");
    let keys = format!("{gateway}ohttp-keys");
    let exported =
        folder.mica(&["task", "export", "task/leader.task.toml", "--relay", &relay, "--ohttp-keys", &keys]);
    assert_eq!(exported.code, 0, "{}", exported.err);
    folder.write("task.mica", &exported.out);
    let everything =
        [gateway.as_str(), "--mirror", &relay, "--bundle", "task.mica", "--seen", "gateway.seen"];
    for _ in 0..2 {
        let (ran, printed) = audit(&folder, &everything);
        assert_eq!(
            (ran.code, &printed["agrees"], &printed["entries"]),
            (0, &true.into(), &1.into()),
            "{}",
            ran.err
        );
        let agrees = printed["paths"].as_array().expect("a list").iter().map(|path| &path["agrees"]);
        assert!(agrees.clone().count() >= 7 && agrees.clone().all(|agrees| *agrees == true), "{printed}");
    }
    let key = audit(&folder, &[&gateway]).1["history_key"].as_str().expect("a key").to_owned();
    assert!(exported.out.contains(&key), "the bundle says by which key it is to be judged: {}", exported.out);
    let table = folder.mica(&["keys", "audit", &keys, "--history-key", &key]);
    assert!(table.code == 0 && table.out.starts_with("path") && table.out.contains(&key), "{}", table.out);
    let (ran, _) = audit(&folder, &[&gateway, "--history-key", &"00".repeat(32)]);
    assert!(ran.code == 4 && ran.err.contains("not the same everywhere: history"), "{}", ran.err);

    assert_eq!(server.terminate(), Some(0));
    let mut database = SqliteConnection::connect(&format!("sqlite:{}", folder.path("gateway.db").display()))
        .await
        .expect("the database");
    let changed =
        sqlx::query("UPDATE gateway_key_history SET since = since - 1").execute(&mut database).await;
    assert_eq!(changed.expect("it is there").rows_affected(), 1);
    drop(database);
    let _server = folder.serve("gateway");
    let (ran, printed) = audit(&folder, &everything);
    assert!(ran.code == 4 && printed["agrees"] == false, "{}", ran.out);
    assert!(ran.out.contains("entry 1 was changed"), "{}", ran.out);
    assert_eq!(mirror.terminate(), Some(0));
    let ran = folder.mica(&["keys", "audit", &relay]);
    assert_eq!(ran.code, 6, "{}", ran.err);
}
