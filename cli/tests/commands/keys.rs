//! `mica keys`: what it prints in each format, and never a private key.

use serde_json::Value;

use crate::world::{Folder, aggregator};

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
