//! Policy files.

use serde_json::{Value, json};

use crate::world::{Folder, POLICY, free_port};

#[test]
fn a_right_policy_is_ok_and_explained_in_words() {
    let folder = Folder::new();
    folder.write("p.toml", POLICY);
    let ran = folder.mica(&["policy", "check", "p.toml"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines[0], "p.toml: ok (policy counter, version 1)");
    assert!(lines[1].contains("L1 sensitivity 1") && lines[1].contains("scale 1"), "{}", ran.out);
    let ran = folder.mica(&["policy", "explain", "p.toml"]);
    assert_eq!(ran.code, 0);
    assert!(ran.out.contains("epsilon = 1") && ran.out.contains("Not protected"), "{}", ran.out);
    let ran = folder.mica(&["policy", "explain", "p.toml", "-o", "json"]);
    let read: Value = serde_json::from_str(&ran.out).expect("it is JSON");
    let release = &read["releases"][0];
    assert_eq!((&release["release"], &release["privacy_unit"]), (&json!("counter"), &json!("report")));
    assert_eq!(release["deployment"]["dp_variant"]["variant_name"], "Pure DP");
}

#[test]
fn a_warning_stands_in_the_way_until_it_is_allowed() {
    let folder = Folder::new();
    let clients = POLICY.replace("privacy_unit = \"report\"", "privacy_unit = \"client\"").replace(
        "charge = [",
        "contribution = { max_reports_per_batch = 1, batch_window = \"30d\", max_reports_per_window = 9, enforced_by = \"client\" }\ncharge = [",
    );
    folder.write("p.toml", &clients);
    let ran = folder.mica(&["policy", "check", "p.toml"]);
    assert_eq!((ran.code, ran.out.as_str()), (3, ""));
    assert!(ran.err.contains(": W032: ") && ran.err.starts_with("p.toml:"), "{}", ran.err);
    let ran = folder.mica(&["policy", "check", "p.toml", "--allow", "W013"]);
    assert_eq!(ran.code, 3, "another code does not help");
    let ran = folder.mica(&["policy", "check", "p.toml", "--allow", "W032"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("with warnings that are allowed"), "{}", ran.out);
    let ran = folder.mica(&["policy", "check", "p.toml", "-o", "json"]);
    let read: Value = serde_json::from_str(&ran.out).expect("it is JSON");
    assert_eq!(
        (ran.code, &read["ok"], &read["findings"][0]["severity"]),
        (3, &json!(false), &json!("warning"))
    );
}

#[test]
fn only_warnings_that_there_are_can_be_allowed() {
    let folder = Folder::new();
    folder.write("p.toml", POLICY);
    for (code, said) in [
        ("E014", "E014 is an error and cannot be allowed; "),
        ("w032", "there is no warning \"w032\"; did you mean W032?"),
        ("W999", "there is no warning \"W999\"; "),
    ] {
        let ran = folder.mica(&["policy", "check", "p.toml", "--allow", code]);
        assert!(ran.code == 2 && ran.err.contains(said), "{}: {}", ran.code, ran.err);
    }
}

#[test]
fn an_exception_that_is_over_is_found_by_the_date() {
    let folder = Folder::new();
    let open = "action = \"release_without_dp\"\njustification = \"open data\"\nexpires = 2020-12-31";
    folder.write("p.toml", &POLICY.replace("action = \"refuse\"", open));
    let ran = folder.mica(&["policy", "check", "p.toml"]);
    assert_eq!(ran.code, 3);
    assert!(ran.err.contains(": E042: ") && ran.err.contains("expired on 2020-12-31"), "{}", ran.err);
}

#[test]
fn a_policy_is_checked_against_the_tasks_it_is_for() {
    let folder = Folder::with_task(7001, 7002);
    let ran = folder.mica(&["policy", "check", "policy.toml", "--task", "task", "--strict"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    folder.write("other.toml", &POLICY.replace("min_batch_size = 3", "min_batch_size = 4"));
    let ran = folder.mica(&["policy", "check", "other.toml", "--task", "task"]);
    assert!(ran.code == 3 && ran.err.contains(": E044: "), "{}", ran.err);
    folder.write("none.toml", &POLICY.replace("label = \"counter\"", "label = \"elsewhere\""));
    let ran = folder.mica(&["policy", "check", "none.toml", "--task", "task", "--allow", "E041"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let ran = folder.mica(&["policy", "check", "none.toml", "--task", "task", "--allow", "E041", "--strict"]);
    assert!(ran.code == 3 && ran.err.contains(": E041: "), "{}", ran.err);
}

#[test]
fn a_new_version_that_promises_less_ends_with_4_and_says_what() {
    let folder = Folder::new();
    folder.write("old.toml", POLICY);
    folder.write("same.toml", &POLICY.replace("version = 1", "version = 2"));
    let weaker = POLICY.replace("version = 1", "version = 2").replace("epsilon = 10", "epsilon = 20");
    folder.write("weaker.toml", &weaker);
    let ran = folder.mica(&["policy", "diff", "old.toml", "same.toml"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "No guarantee changes.\n"), "{}", ran.err);
    let ran = folder.mica(&["policy", "diff", "old.toml", "weaker.toml"]);
    assert_eq!(ran.code, 4);
    assert!(ran.out.contains("WEAKER  budget \"lifetime\"  epsilon goes from 10 to 20"), "{}", ran.out);
    let ran = folder.mica(&["policy", "diff", "weaker.toml", "old.toml", "-o", "json"]);
    let read: Value = serde_json::from_str(&ran.out).expect("it is JSON");
    assert_eq!((ran.code, &read["weaker"], &read["changes"][0]["weakens"]), (0, &json!(0), &json!(false)));
}

#[test]
fn a_policy_is_checked_against_the_ledger_and_the_tasks_of_a_server_that_runs() {
    let folder = Folder::with_task(free_port(), free_port());
    let check =
        |more: &[&str]| folder.mica(&[&["policy", "check", "--config", "leader.toml"][..], more].concat());
    let before = check(&[]);
    assert_eq!(before.code, 0, "{}", before.err);
    assert!(!folder.path("leader.db").exists(), "a check makes no database");
    let second = POLICY.replace("version = 1", "version = 2");
    folder.write("policy.toml", &second);
    let _leader = folder.serve("leader");
    assert_eq!(check(&[]).code, 0, "the same text again changes nothing");
    for (text, what) in [
        (POLICY.to_owned(), "E050: policy counter v2 is loaded already, and versions only grow"),
        (format!("{second}# other\n"), "E050: policy counter v2 is already loaded with another sha256"),
    ] {
        folder.write("other.toml", &text);
        let refused = check(&["other.toml"]);
        let line = refused.one_line(3);
        assert!(line.starts_with("other.toml:5:11: ") && line.contains(what), "{line}");
    }
    let told: Value = serde_json::from_str(&check(&["other.toml", "-o", "json"]).out).expect("it is JSON");
    assert_eq!((&told["ok"], &told["findings"][0]["code"]), (&json!(false), &json!("E050")), "{told}");
    let dearer = second.replace("version = 2", "version = 3").replace("per_release = 1", "per_release = 2");
    folder.write("policy.toml", &dearer);
    let unserved = check(&[]);
    let line = unserved.one_line(3);
    assert!(line.contains("a task could not be served any more: ") && line.contains("bound to"), "{line}");
    let told: Value = serde_json::from_str(&check(&["-o", "json"]).out).expect("it is JSON");
    assert_eq!(told["unserved"].as_array().map(Vec::len), Some(1), "{told}");
    folder.write("policy.toml", &second.replace("version = 2", "version = 4"));
    for _ in 0..2 {
        assert_eq!(check(&[]).code, 0, "a check loads nothing, so that it may be done again");
    }
    folder.write("policy.toml", &second.replace("version = 2", "version = 3"));
    assert_eq!(check(&[]).code, 0, "version 4 was never loaded");
}

#[test]
fn a_check_allows_what_the_configuration_does_and_asks_who_has_a_policy() {
    let folder = Folder::with_task(1, 2);
    let clients = POLICY.replace("privacy_unit = \"report\"", "privacy_unit = \"client\"").replace(
        "charge = [",
        "contribution = { max_reports_per_batch = 1, batch_window = \"30d\", max_reports_per_window = 9, enforced_by = \"client\" }\ncharge = [",
    );
    folder.write("policy.toml", &clients);
    let ran = folder.mica(&["policy", "check", "--config", "leader.toml"]);
    assert!(ran.one_line(3).contains(": W032: "), "{}", ran.err);
    folder.write("leader.toml", &format!("policy_allow = [\"W032\"]\n{}", folder.read("leader.toml")));
    let ran = folder.mica(&["policy", "check", "--config", "leader.toml"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    folder.write(
        "relay.toml",
        "role = \"relay\"\nlisten = \"127.0.0.1:0\"\ngateway_url = \"http://127.0.0.1:1/\"\n",
    );
    let ran = folder.mica(&["policy", "check", "--config", "relay.toml"]);
    assert!(ran.one_line(2).contains("relay, which has no policy"), "{}", ran.err);
    assert_eq!(folder.mica(&["policy", "check"]).code, 2);
}

#[test]
fn the_schema_that_is_kept_is_the_one_that_is_printed() {
    let ran = Folder::new().mica(&["policy", "schema"]);
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies/schema.json");
    assert_eq!(ran.out, std::fs::read_to_string(kept).expect("the file is there"));
}

#[test]
fn every_mistake_in_a_policy_is_one_line_with_its_place() {
    let folder = Folder::new();
    let wrong =
        POLICY.replace("min_batch_size = 3", "min_batch_sizes = 3").replace("= \"pure\"", "= \"perfect\"");
    folder.write("p.toml", &wrong);
    let ran = folder.mica(&["policy", "check", "p.toml"]);
    assert_eq!(ran.code, 3);
    let place = |text: &str| wrong.lines().position(|line| line.contains(text)).map_or(0, |line| line + 1);
    for line in [place("min_batch_sizes"), place("perfect")] {
        let start = format!("p.toml:{line}:");
        assert!(ran.err.lines().any(|said| said.starts_with(&start) && said.contains("; ")), "{}", ran.err);
    }
    assert!(ran.err.lines().all(|said| said.starts_with("p.toml:")), "{}", ran.err);
}

#[test]
fn the_policies_to_start_from_are_right() {
    let folder = Folder::new();
    let policies = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies");
    for entry in std::fs::read_dir(policies).expect("the folder of policies") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let ran = folder.mica(&["policy", "check", "--allow", "W032", path.to_str().expect("UTF-8")]);
            assert_eq!(ran.code, 0, "{}", ran.err);
        }
    }
}

fn pieces_of_any_length_are_planned_one_by_one(folder: &Folder, hourly: &str) {
    let text = std::fs::read_to_string(hourly).expect("it is there");
    for (length, said, pieces, seconds) in [
        ("5h", "1 release every 5 hours for 28 days", 134, 18_000),
        ("7d", "1 release every 7 days for 28 days", 4, 604_800),
        ("601s", "1 release every 601 seconds for 28 days", 4025, 601),
    ] {
        folder.write(
            "pieces.toml",
            &text.replace("batch_window = \"1h\"", &format!("batch_window = \"{length}\"")),
        );
        let file = "pieces.toml";
        let ran = folder.mica(&["policy", "plan", file, "--for", "28d"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert!(ran.out.contains(said), "{said}: {}", ran.out);
        assert!(ran.out.contains(&format!("{pieces} of {pieces}")), "{pieces}: {}", ran.out);
        let ran = folder.mica(&["policy", "plan", file, "--for", "28d", "-o", "json"]);
        let read: serde_json::Value = serde_json::from_str(&ran.out).expect("it is JSON");
        assert_eq!(read["releases"][0]["one_release_every_seconds"], seconds, "{}", ran.out);
        assert!(read["releases"][0]["releases_per_day"].is_null(), "{}", ran.out);
        assert_eq!(read["releases"][0]["budgets"][0]["asked"], pieces, "{}", ran.out);
    }
    folder.write("weeks.toml", &text.replace("batch_window = \"1h\"", "batch_window = \"7d\""));
    let ran = folder.mica(&["policy", "plan", "weeks.toml", "--for", "3d"]);
    assert!(ran.one_line(2).contains("none begins in the 3 days"), "{}", ran.err);
}

#[test]
fn a_plan_says_how_accurate_how_often_and_for_how_long() {
    let folder = Folder::new();
    let policy = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies/page-load-histogram.toml");
    let ran = folder.mica(&["policy", "plan", policy, "--wanted-half-width", "20"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    for said in ["±55", "30 of 30", "discrete_gaussian is the better choice", "rho_per_release = 0.018"] {
        assert!(ran.out.contains(said), "{said}: {}", ran.out);
    }
    let ran = folder.mica(&["policy", "plan", policy, "--wanted-half-width", "0"]);
    assert!(ran.out.contains("no noise is as narrow as ±0"), "{}", ran.out);
    let ran = folder.mica(&["policy", "plan", policy, "--wanted-half-width", "1"]);
    assert!(ran.out.contains("only one kind of noise is as narrow as ±1"), "{}", ran.out);
    let ran = folder.mica(&["policy", "plan", policy, "--for", "60d", "-o", "json"]);
    let read: serde_json::Value = serde_json::from_str(&ran.out).expect("it is JSON");
    let release = &read["releases"][0];
    assert_eq!(release["now"]["half_width"], 55);
    let epsilon = release["budgets"][0]["days"][59]["epsilon"].as_f64().expect("a number");
    assert!((2.17..2.19).contains(&epsilon), "{epsilon}");
    assert!(release["comparison"]["epsilon"].is_number(), "{release}");
    let ran = folder.mica(&["policy", "plan", policy, "--release", "page-load-histogram", "-o", "svg"]);
    assert!(ran.out.starts_with("<svg") && ran.out.trim_end().ends_with("</svg>"), "{}", ran.out);
    let ran = folder.mica(&["policy", "explain", policy, "-o", "svg"]);
    assert!(ran.one_line(2).contains("only `mica policy plan` draws"), "{}", ran.err);
    let hourly = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies/error-rates.toml");
    let ran = folder.mica(&["policy", "plan", hourly, "--releases-per-day", "1"]);
    let said = ran.one_line(2);
    assert!(said.contains("a batch lies within one hour (UTC); write --releases-per-day 24, or"), "{said}");
    assert!(!said.contains("2024"), "{said}");
    let asked = folder.mica(&["policy", "plan", hourly, "--releases-per-day", "24", "--for", "2d"]);
    let left_out = folder.mica(&["policy", "plan", hourly, "--for", "2d"]);
    assert_eq!((asked.code, &asked.out), (0, &left_out.out), "{}", left_out.err);
    assert!(asked.out.contains("24 releases a day for 2 days"), "{}", asked.out);
    pieces_of_any_length_are_planned_one_by_one(&folder, hourly);
    let ran = folder.mica(&["policy", "plan", policy, "--release", "no-such"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("no release \"no-such\""), "{}", ran.err);
    let ran = folder.mica(&["policy", "plan", policy, "--releases-per-day", "10000"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
}
