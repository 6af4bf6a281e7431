//! Servers that cannot start say why in one sentence; those that can stop when they are asked to.

use std::fs::File;
use std::net::TcpListener;

use sqlx::{Connection as _, SqliteConnection};

use crate::world::{Folder, POLICY, aggregator, free_port};

fn relay(port: u16) -> String {
    format!("role = \"relay\"\nlisten = \"127.0.0.1:{port}\"\ngateway_url = \"http://127.0.0.1:1/\"\n")
}

fn gateway(port: u16, database: &str) -> String {
    format!("role = \"gateway\"\nlisten = \"127.0.0.1:{port}\"\ndatabase = \"{database}\"\n")
}

/// The last line of what a server said that could not start: what came before are log lines.
fn last_words(folder: &Folder, role: &str) -> String {
    let ran = folder.mica(&[role, "--config", &format!("{role}.toml"), "--log", "error"]);
    ran.one_line(3).to_owned()
}

#[test]
fn a_port_in_use_is_one_sentence() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let port = taken.local_addr().expect("it is bound").port();
    let folder = Folder::with_task(port, 0);
    folder.write("helper.toml", &aggregator("helper", port, ""));
    folder.write("relay.toml", &relay(port));
    folder.write("gateway.toml", &gateway(port, "sqlite:gateway.db"));
    for role in ["relay", "gateway", "leader", "helper"] {
        let said = last_words(&folder, role);
        let start = format!("cannot listen on 127.0.0.1:{port}: address already in use; ");
        assert!(said.starts_with(&start), "{said}");
    }
}

#[test]
fn a_database_that_cannot_be_written_is_one_sentence() {
    // Nobody can make a file here, not even root.
    let database = "sqlite:/proc/mica.db";
    let folder = Folder::with_task(0, 1);
    folder.write("gateway.toml", &gateway(0, database));
    for role in ["leader", "helper"] {
        let text = aggregator(role, 0, "").replace(&format!("sqlite:{role}.db"), database);
        folder.write(&format!("{role}.toml"), &text);
    }
    for role in ["gateway", "leader", "helper"] {
        let said = last_words(&folder, role);
        assert!(said.contains("cannot write the database /proc/mica.db"), "{said}");
    }
}

/// Each would take the leases of the other for those of a process that has died.
#[test]
fn a_second_leader_on_one_file_is_refused_until_the_first_has_ended() {
    let folder = Folder::with_task(free_port(), 1);
    let first = folder.serve("leader");
    folder.write("leader.toml", &aggregator("leader", free_port(), ""));
    let said = last_words(&folder, "leader");
    assert!(said.contains("another server works on leader.db"), "{said}");
    assert_eq!(folder.mica(&["keys", "list", "--config", "leader.toml"]).code, 0, "commands may look");
    assert_eq!(first.terminate(), Some(0));
    assert_eq!(folder.mica_briefly("leader"), Some(0));
}

#[test]
fn a_second_gateway_on_one_file_is_refused_until_the_first_has_ended() {
    let folder = Folder::new();
    folder.write("gateway.toml", &gateway(free_port(), "sqlite:gateway.db"));
    let first = folder.serve("gateway");
    folder.write("gateway.toml", &gateway(free_port(), "sqlite:gateway.db"));
    let said = last_words(&folder, "gateway");
    assert!(said.contains("another server works on") && said.contains("gateway.db"), "{said}");
    // However it ended.
    drop(first);
    assert_eq!(folder.mica_briefly("gateway"), Some(0));
}

/// One of a newer version would change the tables under the one that runs.
#[test]
fn a_server_that_is_not_alone_leaves_the_database_as_it_is() {
    let folder = Folder::with_task(free_port(), free_port());
    folder.write("gateway.toml", &gateway(free_port(), "sqlite:gateway.db"));
    for role in ["leader", "helper", "gateway"] {
        let other =
            File::create(folder.path(&format!("{role}.db.lock"))).expect("a file in a folder of our own");
        other.try_lock().expect("nobody else has it");
        let said = last_words(&folder, role);
        assert!(said.contains("another server works on"), "{said}");
        assert!(!folder.path(&format!("{role}.db")).exists(), "{role}: it was opened, and migrated");
        drop(other);
        assert_eq!(folder.mica_briefly(role), Some(0));
    }
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_one_sentence() {
    let folder = Folder::with_task(free_port(), free_port());
    folder.write("gateway.toml", &gateway(free_port(), "sqlite:gateway.db"));
    for role in ["gateway", "leader", "helper"] {
        let server = folder.mica_briefly(role);
        assert_eq!(server, Some(0), "{role} stops when it is asked to");
        let url = format!("sqlite://{}", folder.path(&format!("{role}.db")).display());
        let mut database = SqliteConnection::connect(&url).await.expect("the database of the server");
        sqlx::query(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES (9999, 'from the future', 1, x'00', 0)",
        )
        .execute(&mut database)
        .await
        .expect("the table of migrations");
        database.close().await.expect("nothing is open");
        let said = last_words(&folder, role);
        assert!(said.contains("schema version 9999") && said.contains("run the newer program"), "{said}");
    }
}

#[test]
fn a_server_says_where_it_listens_and_stops_when_asked() {
    let folder = Folder::with_task(free_port(), free_port());
    let port = free_port();
    folder.write("relay.toml", &relay(port));
    assert_eq!(folder.mica_briefly("relay"), Some(0));
    assert!(folder.read("relay.log").contains(&format!("127.0.0.1:{port}")), "{}", folder.read("relay.log"));
}

#[test]
fn a_server_takes_a_policy_with_warnings_when_each_is_allowed_and_logs_it() {
    let folder = Folder::new();
    let clients = POLICY.replace("privacy_unit = \"report\"", "privacy_unit = \"client\"").replace(
        "charge = [",
        "contribution = { max_reports_per_batch = 1, batch_window = \"30d\", max_reports_per_window = 9, enforced_by = \"client\" }\ncharge = [",
    );
    folder.write("policy.toml", &clients);
    let urls = ["--leader", "http://127.0.0.1:1/", "--helper", "http://127.0.0.1:2/"];
    assert_eq!(folder.new_task("task", &urls).code, 0);
    let port = free_port();
    folder.write("helper.toml", &aggregator("helper", port, ""));
    let checked = folder.mica(&["config", "check", "helper.toml"]);
    let said = checked.one_line(3);
    assert!(said.contains(": W032: ") && said.contains("add W032 to policy_allow"), "{said}");
    assert_eq!(last_words(&folder, "helper"), said);
    folder.write("helper.toml", &aggregator("helper", port, "policy_allow = [\"W032\"]\n"));
    assert_eq!(folder.mica(&["config", "check", "helper.toml"]).code, 0);
    assert_eq!(folder.mica_briefly("helper"), Some(0));
    let log = folder.read("helper.log");
    assert!(log.contains("policy.toml:") && log.contains(": W032: "), "{log}");
    folder.write("helper.toml", &aggregator("helper", port, "policy_allow = [\"W032\", \"E014\"]\n"));
    let checked = folder.mica(&["config", "check", "helper.toml"]);
    let said = checked.one_line(3);
    assert!(said.contains("E014 is an error and cannot be allowed"), "{said}");
}
