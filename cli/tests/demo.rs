//! Runs the binary: the demonstration must show what happened, and must have happened as it must.
#![expect(clippy::unwrap_used, reason = "a test that fails may panic anywhere")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use sqlx::{AnyConnection, Connection as _, Row as _};

/// A demonstration of `--task` with the given further flags; its folder is made in `folder`.
fn demo(folder: &Path, flags: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mica"))
        .args(["demo", "--once"])
        .args(flags)
        .env("TMPDIR", folder)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap()
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.lines().count(), 1, "one object and nothing else: {text}");
    serde_json::from_str(&text).unwrap()
}

fn whole(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("{value} is a whole number"))
}

/// Noised totals are within five half-widths of the truth. The noise of both aggregators together, of scale s each, is
/// further away than w with probability e^(-w/s) (1 + w/2s); five half-widths are more than 20 s, so one coordinate
/// fails in less than 3 of 10⁸ runs, and all 20 of them in less than one run in a million.
const HALF_WIDTHS: i64 = 5;

#[test]
fn every_task_gives_totals_near_the_truth_and_is_released_once() {
    every_task(&[]);
}

#[tokio::test]
async fn every_task_does_so_on_a_database_server_too_and_leaves_nothing_on_it() {
    let Some(server) = mica_service::testing::postgres().await else { return };
    every_task(&["--database", &server.url]);
    let mut connection = AnyConnection::connect(&server.url).await.unwrap();
    let left = sqlx::query("SELECT COUNT(*) FROM pg_database WHERE datname LIKE 'mica_demo_%'")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(left.get::<i64, _>(0), 0);
}

fn every_task(database: &[&str]) {
    for task in ["count", "sum", "sumvec", "histogram", "multihot"] {
        let folder = tempfile::tempdir().unwrap();
        let flags = ["--clients", "200", "--json", "--seed", "5", "--task", task];
        let shown = json(&demo(folder.path(), &[&flags, database].concat()));
        assert_eq!(shown["sent"], 212, "{task}");
        assert_eq!(shown["accepted"], 200, "{task}");
        assert_eq!(shown["report_count"], 200, "{task}");
        let rejected =
            serde_json::json!({"report_replayed": 4, "report_too_early": 3, "vdaf_verify_error": 5});
        assert_eq!(shown["rejected"], rejected, "{task}");
        for total in shown["results"].as_array().unwrap() {
            let (value, truth) = (whole(&total["value"]), whole(&total["true"]));
            let half_width = whole(&total["half_width"]);
            assert!(half_width > 0 && truth >= 0, "{task} {total}");
            assert!((value - truth).abs() <= HALF_WIDTHS * half_width, "{task} {total}");
            assert_eq!(total["confidence"], 0.95, "{task}");
        }
        assert_eq!(shown["second_release"]["refused"], true, "{task}");
        let reason = shown["second_release"]["reason"].as_str().unwrap();
        assert!(reason.starts_with("batchOverlap"), "{task} {reason}");
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert!(left.is_empty(), "{task} leaves {left:?}");
    }
}

#[test]
fn each_aggregator_is_charged_once() {
    let folder = tempfile::tempdir().unwrap();
    let shown = json(&demo(folder.path(), &["--clients", "50", "--json", "--epsilon", "1/4"]));
    for aggregator in ["leader", "helper"] {
        let lines: Vec<&Value> = shown["ledger"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|line| line["aggregator"] == aggregator)
            .collect();
        let kinds: Vec<&Value> = lines.iter().map(|line| &line["kind"]).collect();
        assert_eq!(kinds, ["charge", "commit"], "{aggregator}");
        assert_eq!((&lines[0]["amount"], &lines[0]["limit"]), (&"0.25".into(), &"2.5".into()));
        assert_eq!(lines[0]["mechanism"], "discrete_laplace(scale=8)");
    }
}

#[test]
fn the_seed_decides_what_clients_measured_and_not_the_noise() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] =
        [(); 2].map(|()| json(&demo(folder.path(), &["--clients", "100", "--json", "--seed", "11"])));
    let column = |shown: &Value, key: &str| -> Vec<Value> {
        shown["results"].as_array().unwrap().iter().map(|total| total[key].clone()).collect()
    };
    assert_eq!(column(&first, "true"), column(&second, "true"));
    // Eight totals with noise of scale 2 from two sides are all equal in less than one run in a million.
    assert_ne!(column(&first, "value"), column(&second, "value"));
}

#[test]
fn the_screen_tells_the_whole_story_also_in_ascii() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    let flags = ["--clients", "60", "--task", "multihot", "--keep", kept.to_str().unwrap()];
    let output = Command::new(env!("CARGO_BIN_EXE_mica"))
        .args(["demo", "--once"])
        .args(flags)
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let screen = String::from_utf8(output.stdout).unwrap();
    assert!(screen.is_ascii(), "{screen}");
    for line in [
        "accepted 60 - refused 12 (invalid proof 5, replayed 4, too early 3)",
        "both shares noised ok",
        "Who saw what",
        "Guarantee, as every result of this task comes with it:",
        "Not protected:",
        "x refused (batchOverlap",
        "1 of 10 spent in \"demo-lifetime\"",
        "all roles run in ONE process",
    ] {
        assert!(screen.contains(line), "{line}\n{screen}");
    }
    let table: Vec<String> = screen
        .lines()
        .skip_while(|line| !line.starts_with("Who saw what"))
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(table[1], "relay yes no no");
    assert_eq!(table[2], "gateway no yes no");
    assert_eq!(table[3], "leader, helper no yes one share each: random-looking");
    for role in ["relay", "gateway", "leader", "helper"] {
        let log = std::fs::read_to_string(kept.join(format!("{role}.log"))).unwrap();
        assert!(log.contains(&format!("role{{role=\"{role}\"}}")), "{role}: {log}");
    }
    for file in ["leader.db", "helper.db", "gateway.db", "demo-policy.toml"] {
        assert!(kept.join(file).is_file(), "{file}");
    }
}

#[test]
fn it_serves_until_it_is_told_to_stop_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_mica"))
        .args(["demo", "--serve", "--clients", "20"])
        .env("TMPDIR", folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut screen = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("Press Ctrl-C to stop.") {
        assert!(screen.read_line(&mut text).unwrap() > 0, "{text}");
    }
    assert!(child.try_wait().unwrap().is_none(), "it is still there");
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_flag_that_makes_no_sense_is_one_sentence_and_its_number() {
    let folder = tempfile::tempdir().unwrap();
    let full = folder.path().join("full");
    std::fs::create_dir(&full).unwrap();
    std::fs::write(full.join("x"), "").unwrap();
    let cases: [(&[&str], i32, &str); 5] = [
        (&["--epsilon", "lots"], 2, "--epsilon lots: \"epsilon\" in"),
        (&["--clients", "3"], 2, "--clients"),
        (&["--database", "sqlite:x.db"], 2, "--keep"),
        (&["--database", "postgres://nobody@127.0.0.1:1/x"], 6, "cannot reach the database server"),
        (&["--keep", full.to_str().unwrap()], 3, "is not empty"),
    ];
    for (flags, code, words) in cases {
        let output = demo(folder.path(), flags);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{flags:?} {said}");
        assert!(said.contains(words), "{flags:?} {said}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "only the folder of this test is left");
}
