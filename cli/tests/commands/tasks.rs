//! Tasks: every party gets its own secrets and no other's, and a terminal gets none.

use std::os::unix::fs::PermissionsExt as _;

use mica_dp::Policy;
use serde_json::Value;

use crate::world::{Folder, POLICY, Ran};

const FILES: [&str; 3] = ["leader.task.toml", "helper.task.toml", "collector.task.json"];

/// The value of a key in a task file.
pub(crate) fn value(text: &str, key: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(&format!("{key} = ")))?;
    line.split('"').nth(1).map(ToOwned::to_owned)
}

#[test]
fn task_files_are_for_their_owners_eyes() {
    let folder = Folder::with_task(1, 2);
    for file in FILES {
        let path = folder.path(&format!("task/{file}"));
        let mode = std::fs::metadata(path).expect("it was written").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[test]
fn no_party_gets_the_secret_of_another() {
    let folder = Folder::with_task(1, 2);
    let [leader, helper, collector] = FILES.map(|file| folder.read(&format!("task/{file}")));
    let of_collector: Value = serde_json::from_str(&collector).expect("it is JSON");
    let secret = |key: &str| of_collector[key].as_str().expect("a text").to_owned();
    let verify_key = value(&leader, "verify_key").expect("the leader verifies");
    let peer_token = value(&leader, "peer_token").expect("the leader shows a token");
    assert_eq!(value(&helper, "verify_key"), Some(verify_key.clone()));
    for (whose, file, secrets) in [
        ("leader", &leader, vec![secret("private_key"), secret("token")]),
        ("helper", &helper, vec![secret("private_key"), secret("token"), peer_token.clone()]),
        ("collector", &collector, vec![verify_key, peer_token]),
    ] {
        assert!(secrets.iter().all(|secret| !secret.is_empty() && !file.contains(secret)), "{whose}");
    }
}

#[test]
fn nothing_that_is_printed_is_secret() {
    let folder = Folder::new();
    folder.write("policy.toml", POLICY);
    let new = "task new --label counter --vdaf count --policy policy.toml --min-batch-size 3 --time-precision 1h \
               --leader http://127.0.0.1:1/ --helper http://127.0.0.1:2/ -o json --out task";
    let made = folder.mica(&new.split_whitespace().collect::<Vec<_>>());
    assert_eq!(made.code, 0, "{}", made.err);
    let mut printed = made.out + &made.err;
    for path in ["task", "task/leader.task.toml", "task/helper.task.toml", "task/collector.task.json"] {
        let shown = folder.mica(&["task", "show", path]);
        assert_eq!(shown.code, 0, "{}", shown.err);
        printed += &shown.out;
    }
    let leader = folder.read("task/leader.task.toml");
    let collector: Value =
        serde_json::from_str(&folder.read("task/collector.task.json")).expect("it is JSON");
    let secrets = [
        value(&leader, "verify_key"),
        value(&leader, "peer_token"),
        collector["token"].as_str().map(ToOwned::to_owned),
        collector["private_key"].as_str().map(ToOwned::to_owned),
    ];
    for secret in secrets {
        assert!(!printed.contains(&secret.expect("the file has it")));
    }
    let task_id = value(&leader, "task_id").expect("every task has one");
    assert!(printed.contains(&task_id));
}

#[test]
fn a_task_is_never_written_over() {
    let folder = Folder::with_task(1, 2);
    let before = folder.read("task/leader.task.toml");
    let new = "task new --label counter --vdaf count --policy policy.toml --min-batch-size 3 --time-precision 1h \
               --leader http://127.0.0.1:1/ --helper http://127.0.0.1:2/ --out task";
    let ran = folder.mica(&new.split_whitespace().collect::<Vec<_>>());
    assert!(ran.one_line(3).contains("exists already"), "{}", ran.err);
    assert_eq!(folder.read("task/leader.task.toml"), before);
}

#[test]
fn a_task_that_the_policy_does_not_cover_is_refused() {
    let folder = Folder::new();
    folder.write("policy.toml", POLICY);
    let new = |label: &str, vdaf: &str, size: &str| {
        let command = format!(
            "task new --label {label} --vdaf {vdaf} --policy policy.toml --min-batch-size {size} --time-precision 1h \
             --leader http://127.0.0.1:1/ --helper http://127.0.0.1:2/ --out task"
        );
        folder.mica(&command.split_whitespace().collect::<Vec<_>>())
    };
    assert!(new("other", "count", "3").one_line(4).contains("add a [[release]]"));
    assert!(new("counter", "count", "4").one_line(4).contains("min_batch_size"));
    assert!(new("counter", "sum --max 3", "3").one_line(4).contains("vdaf"));
    assert_eq!(new("counter", "sum", "3").code, 2, "a sum needs its largest number");
    assert_eq!(new("counter", "histogram --length 0", "3").code, 2);
    assert!(!folder.path("task").exists());
}

#[test]
fn a_bundle_holds_no_secret() {
    let folder = Folder::with_task(1, 2);
    let keys = crate::collecting::gateway_keys();
    let export = ["task", "export", "task", "--relay", "http://127.0.0.1:3/", "--ohttp-keys", &keys];
    let ran = folder.mica(&export);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let bundle: Value = serde_json::from_str(&ran.out).expect("it is JSON");
    assert_eq!(bundle["relay"], "http://127.0.0.1:3/");
    let leader = folder.read("task/leader.task.toml");
    for key in ["verify_key", "peer_token"] {
        assert!(!ran.out.contains(&value(&leader, key).expect("the leader has it")), "{key}");
    }
    let ran = folder.mica(&["task", "export", "task", "--relay", "relay", "--ohttp-keys", &keys]);
    assert_eq!(ran.code, 2, "{}", ran.err);
}

/// A task of strings with these flags, under a policy that covers it.
fn strings(folder: &Folder, flags: &str) -> Ran {
    folder.write("exact.toml", &Policy::for_release_without_dp("a test", "2099-12-31"));
    let new = "task new --label words --policy exact.toml --min-batch-size 3 --time-precision 1h \
               --leader http://127.0.0.1:1/ --helper http://127.0.0.1:2/ --out words";
    folder.mica(&new.split_whitespace().chain(flags.split_whitespace()).collect::<Vec<_>>())
}

#[test]
fn what_a_task_of_strings_counts_is_told_to_the_leader_and_the_collector() {
    let folder = Folder::new();
    let made = strings(&folder, "--vdaf poplar1 --bits 4 --prefixes 11,00,10");
    assert_eq!(made.code, 0, "{}", made.err);
    assert!(folder.read("words/leader.task.toml").contains("\nprefixes = [\"00\", \"10\", \"11\"]\n"));
    assert!(!folder.read("words/helper.task.toml").contains("prefixes"));
    let collector: Value = serde_json::from_str(&folder.read("words/collector.task.json")).expect("JSON");
    assert_eq!(collector["prefixes"], serde_json::json!(["00", "10", "11"]));
    for file in ["leader.task.toml", "collector.task.json"] {
        let shown = folder.mica(&["task", "show", &format!("words/{file}")]);
        assert!(shown.out.contains("00,10,11"), "{} {}", shown.out, shown.err);
    }
}

#[test]
fn a_task_that_does_not_say_what_it_counts_is_not_made() {
    let folder = Folder::new();
    for (flags, why) in [
        ("--vdaf poplar1 --bits 4", "--prefixes"),
        ("--vdaf count --prefixes 0,1", "--prefixes"),
        ("--vdaf poplar1 --bits 4 --prefixes 0,11", "same length"),
        ("--vdaf poplar1 --bits 4 --prefixes 01010", "from 1 to 4 bits"),
    ] {
        let ran = strings(&folder, flags);
        assert!(ran.one_line(2).contains(why), "{flags}: {}", ran.err);
    }
}
