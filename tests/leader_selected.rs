//! Batches of the leader's choice, through relay, gateway, leader, helper and `mica collect`: each run of the command
//! gets the next one, and all of them add up to what was measured.

use std::path::Path;
use std::process::{Command, Output};

use mica_tests::Dev;
use serde_json::Value;

const FLAGS: [&str; 8] =
    ["--no-dp", "--vdaf", "sum", "--max", "1000", "--min-batch-size", "5", "--batch-mode=leader_selected"];

#[tokio::test(flavor = "multi_thread")]
async fn each_run_of_the_command_prints_the_next_batch_and_they_add_up() {
    let dev = Dev::start(FLAGS);
    assert_eq!(dev.told["task"]["batch_mode"], "leader_selected");
    let sample = dev.task.sample(20);
    dev.report_all(&sample.measurements).await;
    // Also over a power cut: nothing is lost, nothing is counted twice.
    let dev = dev.kill_and_restart();
    let file = dev.folder().join("collector.task.json");
    std::fs::write(&file, dev.task.collector().task().to_json().as_bytes()).expect("a file");

    let kept = collected(&file, &["--next", "--keep"]);
    let mut total = 0;
    for batch in 0..4 {
        let printed = collected(&file, &[]);
        assert_eq!(printed["report_count"], 5);
        if batch == 0 {
            assert_eq!(printed, kept, "it was left there");
        }
        total += printed["values"][0].as_i64().expect("a sum");
    }
    assert_eq!(i128::from(total), sample.totals[0]);
    let nothing = run(&file, &["--no-wait"]);
    assert_eq!(nothing.status.code(), Some(5), "{nothing:?}");
    let interval = run(&file, &["--last", "1h"]);
    assert_eq!(interval.status.code(), Some(2), "{interval:?}");
    assert!(String::from_utf8_lossy(&interval.stderr).contains("ask for --next"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_fills_while_the_collector_waits_is_printed() {
    let Some(dev) = Dev::start_on_postgres(FLAGS).await else { return };
    let sample = dev.task.sample(5);
    dev.report_all(&sample.measurements[..4]).await;
    let collector = dev.task.collector();
    let collection = collector.collect_next().await.expect("the leader takes the request");
    dev.report_all(&sample.measurements[4..]).await;
    let waiting = collector.wait(&collection, || ());
    let outcome = tokio::time::timeout(std::time::Duration::from_secs(25), waiting).await;
    let outcome = outcome.expect("a batch in time").expect("it is released");
    assert_eq!((outcome.report_count, outcome.values), (5, sample.totals));
    collector.delete(&collection).await.expect("deleted");
}

fn collected(file: &Path, flags: &[&str]) -> Value {
    let output = run(file, flags);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

fn run(file: &Path, flags: &[&str]) -> Output {
    let mut command = Command::new(mica_tests::mica());
    command.arg("collect").arg(file).args(["-o", "json"]).args(flags);
    if !flags.contains(&"--no-wait") {
        command.args(["--timeout", "25s"]);
    }
    command.output().expect("the program runs")
}
