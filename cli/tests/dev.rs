//! Runs the binary: a deployment that is kept running, and what it prints is enough to work with it.
#![expect(clippy::unwrap_used, reason = "a test that fails may panic anywhere")]

mod development;

use std::path::Path;
use std::time::Duration;

use development::Dev;
use serde_json::Value;

#[tokio::test]
async fn without_noise_the_totals_of_every_task_are_exact() {
    let cases: [(&[&str], &[&str], &[i128]); 5] = [
        (&["--vdaf", "count"], &["1", "0", "1", "1"], &[3]),
        (&["--vdaf", "sum", "--max", "1000"], &["1000", "0", "17", "25"], &[1_042]),
        (
            &["--vdaf", "sumvec", "--length", "3", "--max", "9"],
            &["1,2,9", "0,0,9", "3,0,0", "0,0,0"],
            &[4, 2, 18],
        ),
        (&["--vdaf", "histogram", "--length", "4"], &["0", "3", "3", "1"], &[1, 1, 0, 2]),
        (
            &["--vdaf", "multihot", "--length", "3", "--max", "2"],
            &["0,1,1", "1,0,0", "0,0,0", "0,1,0"],
            &[1, 2, 1],
        ),
    ];
    for (flags, measurements, totals) in cases {
        let mut dev = Dev::start(&[flags, &["--no-dp", "--min-batch-size", "4"]].concat());
        let batch = dev.report(measurements).await;
        let outcome = dev.collect(batch).await;
        assert_eq!(outcome.values, totals, "{flags:?}");
        assert_eq!(outcome.report_count, 4, "{flags:?}");
        dev.stop();
    }
}

#[tokio::test]
async fn both_drafts_are_spoken() {
    for draft in ["18", "19"] {
        let mut dev = Dev::start(&["--draft", draft, "--vdaf", "count", "--no-dp", "--min-batch-size", "2"]);
        assert_eq!(dev.sheet["task"]["draft"].to_string(), draft);
        let batch = dev.report(&["1", "1", "0"]).await;
        assert_eq!(dev.collect(batch).await.values, [2], "draft {draft}");
        dev.stop();
    }
}

#[tokio::test]
async fn a_deployment_that_is_kept_goes_on_where_it_was_killed() {
    for database in mica_service::testing::databases().await {
        goes_on_where_it_was_killed(&database.url).await;
    }
}

async fn goes_on_where_it_was_killed(database: &str) {
    let home = tempfile::tempdir().unwrap();
    let flags = ["--vdaf", "sum", "--no-dp", "--min-batch-size", "6", "--database", database];
    let mut dev = Dev::start_at_home(home.path(), &flags);
    let batch = dev.report(&["1", "2", "3", "4"]).await;
    let before = dev.sheet.clone();
    dev.kill();
    let mut dev = Dev::start_at_home(home.path(), &flags);
    let same = |mut sheet: Value| {
        sheet.as_object_mut().unwrap().remove("pid");
        sheet
    };
    assert_eq!(same(dev.sheet.clone()), same(before));
    dev.report_at(batch.start(), &["10", "20"]).await;
    let outcome = dev.collect(batch).await;
    assert_eq!((outcome.report_count, outcome.values), (6, vec![40]));
    dev.kill();
    let mut dev = Dev::start_at_home(home.path(), &flags);
    assert_eq!(dev.collect(batch).await.values, [40]);
    dev.stop();
    let folder = match database.strip_prefix("sqlite:") {
        Some(file) => Path::new(file).parent().unwrap().to_owned(),
        None => home.path().join("mica"),
    };
    let mut kept = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let state = kept.find(|path| path.to_string_lossy().ends_with(".state.json")).unwrap();
    let state = std::fs::metadata(state).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&state.permissions()) & 0o777, 0o600);
}

#[test]
fn other_flags_on_a_database_that_is_kept_are_refused_in_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("dev.db").display());
    let mut dev = Dev::start(&["--database", &database]);
    dev.stop();
    let (code, said) = Dev::refused(&["--database", &database, "--time-precision", "3600"]);
    assert_eq!(code, 3);
    assert!(said.contains("time_precision was 60 and is 3600 now"), "{said}");
}

#[test]
fn what_is_not_kept_is_removed_on_sigterm() {
    let mut dev = Dev::start(&[]);
    let database =
        dev.sheet["databases"]["leader"].as_str().unwrap().strip_prefix("sqlite:").unwrap().to_owned();
    assert!(std::path::Path::new(&database).is_file());
    dev.stop();
    assert!(!std::path::Path::new(&database).parent().unwrap().exists());
}

#[test]
fn everything_that_is_documented_is_printed() {
    let mut dev = Dev::start(&[
        "--vdaf",
        "multihot",
        "--length",
        "5",
        "--max",
        "2",
        "--task-interval",
        "1767225600:86400",
    ]);
    let sheet = &dev.sheet;
    let task = &sheet["task"];
    let expected = serde_json::json!({
        "type": "prio3-multihot-count-vec", "length": 5, "chunk_length": task["vdaf"]["chunk_length"], "max_weight": 2
    });
    assert_eq!(task["vdaf"], expected);
    assert_eq!((&task["time_precision"], &task["min_batch_size"]), (&60.into(), &10.into()));
    assert_eq!(task["batch_mode"], "time_interval");
    for (value, length) in [
        (&task["verify_key"], 64),
        (&sheet["collector"]["private_key"], 64),
        (&sheet["policy"]["statement_sha256"], 64),
        (&sheet["collector"]["hpke_config"], 82),
        (&sheet["gateway"]["key_config"], 94),
    ] {
        let text = value.as_str().unwrap();
        assert!(text.len() == length && text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')), "{text}");
    }
    for url in [
        &sheet["relay"],
        &sheet["gateway"]["url"],
        &sheet["leader"]["endpoint"],
        &sheet["helper"]["endpoint"],
    ] {
        assert!(url.as_str().unwrap().starts_with("http://127.0.0.1:"), "{url}");
    }
    for token in ["leader_to_helper", "collector_to_leader"] {
        assert!(sheet["auth"][token].as_str().unwrap().len() >= 32);
    }
    assert!(std::path::Path::new(sheet["policy"]["path"].as_str().unwrap()).is_file());
    assert_eq!(sheet["pid"], dev.pid());
    dev.stop();
}

#[tokio::test]
async fn one_aggregator_runs_alone_against_one_that_somebody_else_runs() {
    let mut helper = Dev::start(&["--only", "helper", "--leader-url", "http://127.0.0.1:9/dap/"]);
    for absent in ["relay", "gateway", "leader"] {
        assert_eq!(helper.sheet.get(absent), None, "{absent}");
    }
    assert_eq!(helper.sheet["databases"].get("leader"), None);
    let configuration = helper.bundle_configuration();
    assert_eq!(configuration.leader_url(), "http://127.0.0.1:9/dap/");
    assert_eq!(Some(configuration.helper_url()), helper.sheet["helper"]["endpoint"].as_str());
    helper.stop();
    let mut leader = Dev::start(&["--only", "leader", "--helper-url", "http://127.0.0.1:9/"]);
    assert_eq!(leader.sheet.get("helper"), None);
    assert!(leader.sheet["relay"].is_string() && leader.sheet["gateway"].is_object());
    leader.stop();
}

#[tokio::test]
async fn the_leader_of_this_binary_works_with_a_helper_that_runs_alone() {
    let port = development::free_port();
    let leader_url = format!("http://127.0.0.1:{port}/");
    let flags = [
        "--only",
        "helper",
        "--leader-url",
        &leader_url,
        "--vdaf",
        "sum",
        "--no-dp",
        "--min-batch-size",
        "3",
    ];
    let mut helper = Dev::start(&flags);
    let mut leader = development::Leader::start(&helper.sheet, port);
    let batch = leader.upload(&helper, &[5, 6, 31]).await;
    let outcome = helper.collect(batch).await;
    assert_eq!((outcome.report_count, outcome.values), (3, vec![42]));
    leader.stop();
    helper.stop();
}

#[test]
fn flags_that_contradict_each_other_are_refused_with_what_to_do() {
    let cases: [(&[&str], i32, &str); 5] = [
        (&["--only", "helper"], 2, "--leader-url"),
        (&["--helper-url", "http://127.0.0.1:9/"], 2, "--only leader"),
        (&["--vdaf", "count", "--length", "3"], 2, "takes no --length"),
        (&["--task-interval", "61:60"], 2, "whole units of 60 s"),
        (&["--database", "mysql://x"], 3, "sqlite: and the path"),
    ];
    for (flags, code, words) in cases {
        let (exit, said) = Dev::refused(flags);
        assert_eq!(exit, code, "{flags:?} {said}");
        assert!(said.contains(words) && said.trim_end().lines().count() == 1, "{flags:?} {said}");
    }
}

#[test]
fn without_json_the_secrets_stay_out_of_sight() {
    let text = Dev::screen(Duration::from_secs(20));
    for words in ["relay ", "leader ", "for development only", "Ctrl-C"] {
        assert!(text.contains(words), "{words}\n{text}");
    }
}
