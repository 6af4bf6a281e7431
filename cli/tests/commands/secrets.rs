//! What is secret is its owner's alone to read, whatever the shell says of new files.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::world::{Folder, POLICY, Ran, aggregator, free_port};

/// Everybody may do everything with new files.
const OPEN: &str = "umask 0";

/// What the program writes and is no secret: who holds a database, how far a ledger had come, logs, and policies.
const NO_SECRETS: [&str; 4] = [".lock", ".mark", ".log", ".policy.toml"];

/// Every file below `folder` by its path from there, and who may do what with it.
fn walk(folder: &Path) -> BTreeMap<String, u32> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).expect("a folder of our own") {
            let path = entry.expect("a folder of our own").path();
            // A server that works removes files of its database now and then.
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            if metadata.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("it is below").display().to_string();
                found.insert(name, metadata.permissions().mode() & 0o777);
            }
        }
    }
    found
}

fn ok(ran: &Ran) {
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
}

/// A policy, the configurations of three servers, and what nobody has made yet: tasks, keys, databases.
fn prepared() -> Folder {
    let folder = Folder::new();
    folder.write("policy.toml", POLICY);
    let (leader, helper) = (free_port(), free_port());
    for (role, port) in [("leader", leader), ("helper", helper)] {
        folder.write(&format!("{role}.toml"), &aggregator(role, port, ""));
    }
    let gateway = free_port();
    folder.write(
        "gateway.toml",
        &format!("role = \"gateway\"\nlisten = \"127.0.0.1:{gateway}\"\ndatabase = \"sqlite:gateway.db\"\n"),
    );
    let urls = [format!("http://127.0.0.1:{leader}/"), format!("http://127.0.0.1:{helper}/")];
    let urls = ["--leader", &urls[0], "--helper", &urls[1]];
    ok(&folder.mica_under(OPEN, &Folder::of_new_task("task", &urls)));
    let agreed = ["--taskprov", "task/collector.task.json", "--task-interval", "3600:36000"];
    ok(&folder.mica_under(OPEN, &Folder::of_new_task("agreed", &[&urls[..], &agreed].concat())));
    folder
}

#[test]
fn every_file_with_a_secret_is_its_owners_alone_to_read() {
    let folder = prepared();
    let ours = walk(&folder.path("."));
    let ours: Vec<&String> = ours.keys().filter(|name| !name.contains('/')).collect();
    let mut seen = BTreeMap::new();
    let mut look = || {
        for (name, mode) in walk(&folder.path(".")) {
            if !ours.contains(&&name) && !NO_SECRETS.iter().any(|end| name.ends_with(end)) {
                assert_eq!(mode, 0o600, "{name} is {mode:o}");
                seen.insert(name, mode);
            }
        }
    };
    // Each makes a database of its own where there is none.
    for role in ["leader", "helper", "gateway"] {
        ok(&folder.mica_under(OPEN, &["keys", "rotate", "--config", &format!("{role}.toml")]));
    }
    look();
    let servers = ["leader", "helper", "gateway"].map(|role| folder.serve_under(OPEN, role));
    let dev = folder.develop_under(OPEN);
    ok(&folder.mica_under(OPEN, &["demo", "--once", "--clients", "10", "--keep", "shown"]));
    look();
    for server in servers.into_iter().chain([dev]) {
        assert_eq!(server.terminate(), Some(0));
    }
    look();
    let databases =
        ["leader.db", "helper.db", "gateway.db", "dev.leader.db", "dev.helper.db", "dev.gateway.db"];
    let expected = databases.iter().flat_map(|file| ["", "-wal", "-shm"].map(|end| format!("{file}{end}")));
    let others = [
        "task/leader.task.toml",
        "task/helper.task.toml",
        "task/collector.task.json",
        "agreed/collector.task.json",
        "dev.state.json",
        "shown/leader.db",
        "shown/helper.db",
        "shown/gateway.db",
    ];
    for name in expected.chain(others.map(str::to_owned)) {
        assert!(seen.contains_key(&name), "{name} was not written: {:?}", seen.keys());
    }
}
