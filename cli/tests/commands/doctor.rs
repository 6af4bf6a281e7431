//! `mica doctor`: what it finds, and how it ends.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::world::{Folder, POLICY, free_port};

#[test]
fn a_leader_and_a_helper_that_are_well_are_found_well_and_a_helper_that_is_gone_is_missed() {
    let (leader, helper) = (free_port(), free_port());
    let folder = Folder::with_task(leader, helper);
    let helper = folder.serve("helper");
    let leader = folder.serve("leader");
    for role in ["leader", "helper"] {
        let well = folder.mica(&["doctor", "--config", &format!("{role}.toml"), "-o", "json"]);
        assert_eq!(well.code, 0, "{}\n{}", well.out, well.err);
        let told: Value = serde_json::from_str(&well.out).expect("one JSON object");
        let checks = told["checks"].as_array().expect("a list");
        assert!(told["ok"] == true && checks.len() >= 6, "{told}");
        let grade =
            |name| checks.iter().find(|check| check["check"] == name).map(|check| check["grade"].clone());
        for name in ["config", "database", "keys", "tasks", "server", "peer", "clock"] {
            assert_eq!(grade(name), Some("ok".into()), "{role} {name}: {told}");
        }
        // Its mark is beside its database.
        assert_eq!(grade("ledger"), Some("warn".into()), "{role}: {told}");
    }
    drop(helper);
    let missed = folder.mica(&["doctor", "--config", "leader.toml"]);
    assert_eq!(missed.code, 6, "{}", missed.out);
    assert!(missed.out.lines().any(|line| line.starts_with("fail  peer ")), "{}", missed.out);
    assert!(missed.out.lines().any(|line| line.starts_with("ok    stuck ")), "{}", missed.out);
    let none = folder.mica(&["doctor", "--config", "leader.toml", "--abandon", "7"]);
    assert!(none.one_line(4).contains("no job 7"), "{}", none.err);
    let none = folder.mica(&["doctor", "--config", "leader.toml", "--retry", "7"]);
    assert!(none.one_line(4).contains("nothing called 7"), "{}", none.err);
    let all = folder.mica(&["doctor", "--config", "leader.toml", "--retry", "all"]);
    assert!(all.code == 0 && all.out.starts_with("0 are tried again"), "{}", all.out);
    let wrong = folder.mica(&["doctor", "--config", "helper.toml", "--abandon", "7"]);
    assert!(wrong.one_line(2).contains("leader"), "{}", wrong.err);
    drop(leader);
    let missed = folder.mica(&["doctor", "--config", "leader.toml"]);
    assert_eq!(missed.code, 6, "{}", missed.out);
    assert!(missed.out.lines().any(|line| line.starts_with("fail  server ")), "{}", missed.out);
}

#[test]
fn a_configuration_that_is_wrong_is_found_wrong_and_nothing_else_is_looked_at() {
    let folder = Folder::with_task(1, 2);
    let text = folder.read("leader.toml");
    folder.write("leader.toml", &format!("{text}\nnonsense = 1\n"));
    let wrong = folder.mica(&["doctor", "--config", "leader.toml"]);
    assert_eq!(wrong.code, 3, "{}", wrong.out);
    assert!(wrong.out.contains("fail  config ") && wrong.out.contains("nonsense"), "{}", wrong.out);
    assert!(!wrong.out.lines().any(|line| line.contains("  database  ")), "{}", wrong.out);
}

#[test]
fn a_policy_of_a_later_day_and_what_is_left_of_the_budgets_are_told() {
    let folder = Folder::with_task(free_port(), free_port());
    assert_eq!(folder.mica_briefly("leader"), Some(0));
    let lines = || folder.mica(&["doctor", "--config", "leader.toml"]).out;
    let told = lines();
    let well = "ok    budgets   no budget is spent as far as its warn_at";
    assert!(told.lines().any(|line| line == well), "{told}");
    assert!(!told.contains("  policy  "), "{told}");
    let later = POLICY.replace("version = 1\n", "version = 2\neffective_from = 2199-01-01T00:00:00Z\n");
    folder.write("policy.toml", &later);
    let told = lines();
    let policy = told.lines().find(|line| line.starts_with("warn  policy ")).expect("a line of the policy");
    for said in ["2199-01-01T00:00:00Z", "; wait, or load a version that holds now"] {
        assert!(policy.contains(said), "{policy}");
    }
}

/// The lines of a check, when the command ends with this code.
fn lines(folder: &Folder, role: &str, code: i32) -> Vec<String> {
    let ran = folder.mica(&["doctor", "--config", &format!("{role}.toml")]);
    assert_eq!(ran.code, code, "{}{}", ran.out, ran.err);
    ran.out.lines().map(ToOwned::to_owned).collect()
}

fn has(lines: &[String], start: &str) -> bool {
    lines.iter().any(|line| line.starts_with(start))
}

#[test]
fn a_gateway_and_the_mirror_of_its_relay_are_looked_into() {
    let (folder, gateway, relay) = (Folder::new(), free_port(), free_port());
    let head = |role: &str, port: u16| format!("role = \"{role}\"\nlisten = \"127.0.0.1:{port}\"\n");
    let route = "[[routes]]\nmethod = \"GET\"\nauthority = \"a\"\npath = \"/b\"\n";
    let target = format!("target = \"http://127.0.0.1:{gateway}\"\n");
    let database = "database = \"sqlite:gateway.db\"\n";
    folder.write("gateway.toml", &format!("{}{database}{route}{target}", head("gateway", gateway)));
    let url = format!("gateway_url = \"http://127.0.0.1:{gateway}/\"\n[mirror]\n");
    folder.write("relay.toml", &format!("{}{url}", head("relay", relay)));
    assert!(has(
        &lines(&folder, "gateway", 6),
        "warn  database  there is no database yet; start the server once"
    ));
    assert!(!folder.path("gateway.db").exists(), "doctor makes nothing");

    let gateway = folder.serve("gateway");
    let told = lines(&folder, "gateway", 0);
    for line in [
        "ok    database  the database answers",
        "ok    keys      keys: 1 advertised",
        "ok    keys      the x25519 key that is advertised, ",
        "ok    memory    0 of 500000 requests and 0 of 52428800 bytes of answers are remembered, for ",
    ] {
        assert!(has(&told, line), "{line}\n{told:?}");
    }
    let _relay = folder.serve("relay");
    let deadline = Instant::now() + Duration::from_secs(30);
    while folder.mica(&["doctor", "--config", "relay.toml"]).code == 5 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
    }
    // The history is fetched after the keys.
    let mut told = lines(&folder, "relay", 0);
    while has(&told, "warn  mirror") && Instant::now() < deadline {
        told = lines(&folder, "relay", 0);
    }
    assert!(has(&told, "ok    mirror    the copy of the gateway's keys is "), "{told:?}");
    assert!(told.iter().any(|line| line.ends_with("1 entry, one chain, signed")), "{told:?}");

    drop(gateway);
    let told = lines(&folder, "gateway", 6);
    assert!(has(&told, "ok    memory    ") && has(&told, "fail  server "), "{told:?}");
    folder.write("gateway.db", "this is no database, but it is longer than nothing at all");
    assert!(has(&lines(&folder, "gateway", 3), "fail  database  the database"));
}

#[test]
fn operators_that_nobody_has_named_are_missed_at_relay_and_gateway() {
    let folder = Folder::new();
    let (relay, gateway) = (free_port(), free_port());
    let relay = format!(
        "role = \"relay\"\nlisten = \"127.0.0.1:{relay}\"\ngateway_url = \"http://127.0.0.1:{gateway}/\"\n"
    );
    let gateway =
        format!("role = \"gateway\"\nlisten = \"127.0.0.1:{gateway}\"\ndatabase = \"sqlite:gateway.db\"\n");
    folder.write("edge.token", "of-the-relay\n");
    let trial = "insecure_one_operator = true\n";
    let theirs = "[[relays]]\nname = \"edge\"\ntoken_file = \"edge.token\"\noperator = \"B\"\n";
    for (role, text, further, todo) in [
        ("relay", &relay, "", Some("write operator and gateway_operator")),
        ("relay", &relay, "operator = \"A\"\n", Some("write gateway_operator")),
        ("relay", &relay, "operator = \"A\"\ngateway_operator = \"B\"\n", None),
        ("relay", &relay, trial, None),
        ("gateway", &gateway, "", Some("write operator and [[relays]] with the operator of each")),
        ("gateway", &gateway, &format!("operator = \"A\"\n{theirs}"), None),
        ("gateway", &gateway, trial, None),
    ] {
        folder.write(&format!("{role}.toml"), &format!("{text}{further}"));
        let told = lines(&folder, role, 6);
        let said = told.iter().find(|line| line.starts_with("warn  operators "));
        let said = said.map(|line| line.split_once("; ").expect("what to do").1);
        assert_eq!(said, todo, "{role} {further}");
    }
}
